"""The section "Thin slices from thick labels": draw on a few thick slices, get a segmentation of the thin ones."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from medseg.errors import InputError, MedSegError
from MedSegLib.jobRun import JobRun, Outcome
from MedSegLib.jobSection import JobSection, Services

if TYPE_CHECKING:
    from medseg.backend import WorkerClient
    from medseg.segmentation import SegmentationResult

_logger = logging.getLogger(__name__)

THIN_ROLE = "MedSegThinVolume"
"""Node reference from a thick copy to the volume that it was made of."""

TABLE_ROLE = "MedSegAgreement"
"""Node reference from a transferred segmentation to the table of its agreement with what was drawn."""

EDITOR_TAG = "SegmentEditor"
"""The singleton tag of the parameter node of Slicer's Segment Editor."""


@dataclass(frozen=True)
class TransferRequest:
    """What was drawn, on what, and how to carry it over."""

    segmentationNode: Any
    thickNode: Any
    thinNode: Any
    options: dict[str, Any] = field(default_factory=dict)

    def begin(self, client: WorkerClient) -> TransferRun:
        """Submit the job.

        Raises
        ------
        MedSegError
            When a volume or the segmentation cannot be used.
        """
        return TransferRun(client, self)


class TransferRun(JobRun):
    """Submits a job on construction and writes the thin segmentation and its table of agreement in the end."""

    def __init__(self, client: WorkerClient, request: TransferRequest) -> None:
        from medseg.mrml import drawn_labels, labelmap_from_segmentation, volume_from_node

        self.request = request
        self._labels = drawn_labels(request.segmentationNode)
        self._drawn = labelmap_from_segmentation(request.segmentationNode, request.thickNode)
        self._agreement: list[Any] = []
        self._comparison: threading.Thread | None = None
        volumes = [volume_from_node(request.thinNode), self._drawn]
        options = {"labels": self._labels, **request.options}
        super().__init__(
            client.submit("transfer", "thin-from-thick", volumes, options),
            request.thinNode.GetScene(),
            [
                (request.thinNode, _("The volume was deleted, so the transfer was stopped.")),
                (request.segmentationNode, _("The drawn segmentation was deleted, so the transfer was stopped.")),
            ],
        )

    def poll(self) -> Outcome | None:
        """Compare the result with what was drawn, which takes a moment, before it is written."""
        if self.job.state == "done" and not self.isStopping:
            if self._comparison is None:
                self._comparison = threading.Thread(target=self._compare, name="MedSegAgreement", daemon=True)
                self._comparison.start()
            if self._comparison.is_alive():
                return None
        return super().poll()

    def _compare(self) -> None:
        from medseg.training.thin_thick import measure_agreement

        try:
            self._agreement = measure_agreement(self.job.result().labelmap, self._drawn)
        except MedSegError:
            # The table is left out; the result says by itself how well it agrees.
            _logger.exception("The result could not be compared with what was drawn")

    def _write(self, result: SegmentationResult) -> Outcome:
        from medseg.mrml import agreement_to_table, segmentation_to_node

        request, scene = self.request, self._scene
        name = _("{segmentation} thin").format(segmentation=request.segmentationNode.GetName())
        node = segmentation_to_node(result, request.thinNode, scene, name=name)
        segmentation = node.GetSegmentation()
        for identifier in segmentation.GetSegmentIDs():
            # A person drew what the computer went on with.
            segmentation.GetSegment(identifier).SetTag("DICOM.SegmentAlgorithmType", "SEMIAUTOMATIC")
        tableNode = None
        if self._agreement:
            names = {label["value"]: label["name"] for label in self._labels}
            title = _("{segmentation} agreement").format(segmentation=node.GetName())
            tableNode = agreement_to_table(self._agreement, names, scene, title, volume_node=request.thinNode)
            node.SetNodeReferenceID(TABLE_ROLE, tableNode.GetID())
        display = request.segmentationNode.GetDisplayNode()
        if display is not None:
            # Both in one place could not be told apart.
            display.SetVisibility(False)
        slicer.util.setSliceViewerLayers(background=request.thinNode)
        sentences = [_("The labels are on the thin slices."), *result.notices]
        return Outcome("done", " ".join(sentences), node, tableNode)


class TransferSection(JobSection):
    """Connects the widgets of the section to the worker and the parameter node."""

    startText = _("Transfer to thin slices")
    startToolTip = _("Make a segmentation of the thin slices from what was drawn on the thick ones.")
    cancelToolTip = _("Stop the transfer; nothing is written.")

    def __init__(self, ui: Any, services: Services) -> None:
        super().__init__(ui.transferButton, ui.transferProgressBar, ui.transferStatusLabel, services)
        self._ui = ui
        ui.transferTableView.setVisible(False)
        ui.makeThickCopyButton.connect("clicked(bool)", self.onMakeButton)
        ui.drawButton.connect("clicked(bool)", self.onDrawButton)

    def update(self) -> None:
        """Bring the widgets in line with the parameters and the run."""
        parameters = self._parameterNode
        self._ui.makeThickCopyButton.enabled = parameters is not None and parameters.inputVolume is not None
        self._ui.drawButton.enabled = self._thickNode() is not None
        table = None if self.lastOutcome is None else self.lastOutcome.tableNode
        view = self._ui.transferTableView
        if view.mrmlTableNode() is not table:
            view.setMRMLTableNode(table)
            view.resizeColumnsToContents()
        view.setVisible(table is not None)
        self.updateButton()

    def onMakeButton(self, _checked: bool = False) -> None:
        """Make the thick copy and an empty segmentation on it, and show both."""
        parameters = self._parameterNode
        if parameters is None:
            return
        try:
            self._make(parameters)
        except MedSegError as error:
            self.status.fail(str(error))
        self.update()

    def onDrawButton(self, _checked: bool = False) -> None:
        """Open the Segment Editor with the thick copy and the segmentation."""
        thickNode = self._thickNode()
        if thickNode is None or self._parameterNode is None:
            return
        slicer.util.setSliceViewerLayers(background=thickNode)
        editorNode = slicer.mrmlScene.GetSingletonNode(EDITOR_TAG, "vtkMRMLSegmentEditorNode")
        if editorNode is None:
            editorNode = slicer.vtkMRMLSegmentEditorNode()
            editorNode.SetSingletonTag(EDITOR_TAG)
            editorNode = slicer.mrmlScene.AddNode(editorNode)
        editorNode.SetAndObserveSegmentationNode(self._parameterNode.thickSegmentation)
        editorNode.SetAndObserveSourceVolumeNode(thickNode)
        slicer.util.selectModule("SegmentEditor")

    def _make(self, parameters: Any) -> None:
        from medseg.mrml import make_thick_copy, place_beside

        scene, volumeNode = slicer.mrmlScene, parameters.inputVolume
        thickNode = make_thick_copy(scene, volumeNode, parameters.thickness)
        thickNode.SetNodeReferenceID(THIN_ROLE, volumeNode.GetID())
        name = scene.GenerateUniqueName(_("{volume} drawn").format(volume=thickNode.GetName()))
        segmentationNode = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        segmentationNode.CreateDefaultDisplayNodes()
        segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(thickNode)
        segmentationNode.SetAndObserveTransformNodeID(thickNode.GetTransformNodeID())
        place_beside(segmentationNode, thickNode)
        parameters.thickSegmentation = segmentationNode
        slicer.util.setSliceViewerLayers(background=thickNode)
        self._services.log.add(f"Thick copy: {parameters.thickness:g} mm")
        self.status.say(_("Press Draw, add a segment for each structure, and draw on the thick slices."))

    def _thickNode(self) -> Any:
        """Return the thick copy that the chosen segmentation was drawn on, None when it is not there."""
        from medseg.mrml.masks import reference_volume

        parameters = self._parameterNode
        if parameters is None or parameters.thickSegmentation is None:
            return None
        return reference_volume(parameters.thickSegmentation)

    def _request(self) -> TransferRequest | None:
        parameters = self._parameterNode
        if parameters is None or self._obstacle():
            return None
        thickNode = self._thickNode()
        # The volume that the copy was made of, whatever is chosen above by now.
        thinNode = thickNode.GetNodeReference(THIN_ROLE) or parameters.inputVolume
        if thinNode is None:
            raise InputError(_("The volume with the thin slices is not there."), advice=_("Choose it as the input."))
        options = {"method": parameters.transferMethod.value, "device": parameters.device.value}
        return TransferRequest(parameters.thickSegmentation, thickNode, thinNode, options)

    def _describe(self, request: TransferRequest) -> str:
        return f"Transfer labels to thin slices: {request.options}"

    def _obstacle(self) -> str:
        parameters = self._parameterNode
        if parameters is None or parameters.thickSegmentation is None:
            return _("Make a thick copy and draw on it.")
        if parameters.thickSegmentation.GetSegmentation().GetNumberOfSegments() == 0:
            return _("Draw at least one segment on the thick copy.")
        if self._thickNode() is None:
            return _("The thick copy that was drawn on is not in the scene.")
        return ""
