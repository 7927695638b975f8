"""The tab "Correct": a segmentation, a segment, and the way to the effect MedSeg of the Segment Editor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from medseg.errors import MedSegError
from MedSegLib.choices import Choices
from MedSegLib.jobSection import Services, StatusLine

if TYPE_CHECKING:
    from MedSegLib.parameterNode import MedSegParameterNode

EDITOR, EFFECT = "SegmentEditor", "MedSeg"
"""The module, and the effect in it."""


class CorrectSection:
    """Connects the widgets of the section to the parameter node and to the Segment Editor."""

    def __init__(self, ui: Any, services: Services) -> None:
        self._ui = ui
        self.status = StatusLine(ui.correctStatusLabel, services.log)
        self._segments = Choices(ui.correctSegmentComboBox, self._onSegmentChosen)
        self._parameterNode: MedSegParameterNode | None = None
        self._followed: Any = None
        ui.correctButton.connect("clicked(bool)", self.onCorrectButton)
        ui.newSegmentButton.connect("clicked(bool)", self.onNewSegmentButton)
        ui.newSegmentNameLineEdit.connect("returnPressed()", self.onNewSegmentButton)

    def setParameterNode(self, parameterNode: MedSegParameterNode | None) -> None:
        """Show the parameters of a node; None while a scene is closed."""
        self._parameterNode = parameterNode
        self._followed = None if parameterNode is None else _idOf(parameterNode.correctSegmentation)

    def sceneIsClosing(self) -> None:
        """Say no more what was said of segments that are about to go."""
        self.status.say("")

    def shutDown(self) -> None:
        """Nothing goes on here."""

    def update(self) -> None:
        """Bring the widgets in line with the parameters; segments and volume follow the segmentation."""
        parameters = self._parameterNode
        names: dict[str, str] = {}
        reference: Any = None
        if parameters is not None:
            names, reference = self._follow(parameters)
        self._segments.show(names, "" if parameters is None else parameters.correctSegmentID)
        ui = self._ui
        ui.correctSegmentComboBox.enabled = bool(names)
        ui.correctVolumeSelector.enabled = reference is None
        ui.correctVolumeSelector.toolTip = (
            _("The volume that is looked at.")
            if reference is None
            else _("The volume that the segmentation was drawn on.")
        )
        obstacle = self._obstacle()
        ui.correctButton.enabled = not obstacle
        ui.correctButton.toolTip = obstacle or _("Open the Segment Editor with this segment and the effect MedSeg.")
        volumeMissing = self._volumeMissing()
        ui.newSegmentButton.enabled = not volumeMissing
        ui.newSegmentButton.toolTip = volumeMissing or _("Add an empty segment, and point at what belongs to it.")

    def onCorrectButton(self, _checked: bool = False) -> None:
        """Open the Segment Editor with the segment and the effect."""
        parameters = self._parameterNode
        if parameters is None or self._obstacle():
            return
        try:
            openEditor(parameters.correctSegmentation, parameters.correctVolume, parameters.correctSegmentID)
            self.status.say("")
        except MedSegError as error:
            self.status.fail(str(error))

    def onNewSegmentButton(self, _checked: bool = False) -> None:
        """Add an empty segment, in a new segmentation when none is chosen, and open the Segment Editor with it."""
        from medseg.mrml.training_cases import add_segment, add_segmentation

        parameters = self._parameterNode
        if parameters is None or self._volumeMissing():
            return
        try:
            editorWithEffect()  # else an empty segment would stay behind that nobody can draw
            volumeNode = parameters.correctVolume
            if parameters.correctSegmentation is None:
                parameters.correctSegmentation = add_segmentation(volumeNode)
            segmentationNode = parameters.correctSegmentation
            parameters.correctSegmentID = add_segment(segmentationNode, self._ui.newSegmentNameLineEdit.text)
            self._ui.newSegmentNameLineEdit.text = ""
            self.update()
            openEditor(segmentationNode, volumeNode, parameters.correctSegmentID)
            self.status.say("")
        except MedSegError as error:
            self.status.fail(str(error))

    def _follow(self, parameters: MedSegParameterNode) -> tuple[dict[str, str], Any]:
        """Choose what is not chosen yet or not there any more; return the segments and the segmentation's volume."""
        from medseg.mrml.masks import reference_volume, segment_names

        segmentationNode = parameters.correctSegmentation
        names = {} if segmentationNode is None else segment_names(segmentationNode)
        reference = None if segmentationNode is None else reference_volume(segmentationNode)
        if segmentationNode is not None and parameters.correctSegmentID not in names:
            first = next(iter(names), "")
            if parameters.correctSegmentID != first:
                parameters.correctSegmentID = first
        volumeNode = reference
        if segmentationNode is None:
            volumeNode = parameters.correctVolume or parameters.inputVolume
        elif reference is None and self._followed == segmentationNode.GetID():
            volumeNode = parameters.correctVolume  # the user's choice; that of another segmentation would be a guess
        self._followed = _idOf(segmentationNode)
        if parameters.correctVolume is not volumeNode:
            parameters.correctVolume = volumeNode
        return names, reference

    def _obstacle(self) -> str:
        parameters = self._parameterNode
        if parameters is None or parameters.correctSegmentation is None:
            return _("Choose a segmentation, or begin a new segment below.")
        if parameters.correctSegmentID not in self._segments.keys:
            return _("The segmentation has no segment. Begin one below.")
        return self._volumeMissing()

    def _volumeMissing(self) -> str:
        parameters = self._parameterNode
        if parameters is None or parameters.correctVolume is not None:
            return "" if parameters is not None else _("Choose a volume.")
        if parameters.correctSegmentation is not None:
            return _("The segmentation does not say which volume it belongs to. Choose the volume.")
        return _("Choose a volume.")

    def _onSegmentChosen(self, identifier: str) -> None:
        if self._parameterNode is not None:
            self._parameterNode.correctSegmentID = identifier
        self.update()


def _idOf(node: Any) -> str | None:
    return None if node is None else str(node.GetID())


def editorWithEffect() -> Any:
    """Return the widget of the Segment Editor.

    Raises
    ------
    MedSegError
        When there is no main window to show it in, or it does not know the effect MedSeg.
    """
    if slicer.util.mainWindow() is None:
        raise MedSegError(
            _("Slicer runs without a main window, so there is no Segment Editor to draw in."),
            advice=_("Start Slicer with its window, or use medseg correct in a terminal."),
        )
    editor = slicer.util.getModuleWidget(EDITOR).editor
    if editor.effectByName(EFFECT) is None:
        raise MedSegError(
            _("The Segment Editor does not know the effect MedSeg."),
            advice=_("Restart Slicer; if that does not help, install the extension MedSeg again."),
        )
    return editor


def openEditor(segmentationNode: Any, volumeNode: Any, segmentID: str) -> None:
    """Show the Segment Editor with a segment selected, its volume as the source, and the effect MedSeg active.

    Raises
    ------
    MedSegError
        As :func:`editorWithEffect`; the module that is shown stays the same then.
    """
    editor = editorWithEffect()
    slicer.util.setSliceViewerLayers(background=volumeNode)
    if segmentationNode.GetDisplayNode() is None:
        segmentationNode.CreateDefaultDisplayNodes()
    display = segmentationNode.GetDisplayNode()
    display.SetVisibility(True)
    # The editor asks whether to show a hidden segment at the first click, which would be lost.
    display.SetSegmentVisibility(segmentID, True)
    slicer.util.selectModule(EDITOR)
    # In this order: a segmentation brings its first segment and its volume along, and ends the effect.
    editor.setSegmentationNode(segmentationNode)
    editor.setSourceVolumeNode(volumeNode)
    editor.setCurrentSegmentID(segmentID)
    editor.setActiveEffectByName(EFFECT)
