"""The section "Compare two segmentations": how well instances are found, and how well they are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from medseg.errors import MedSegError
from MedSegLib.background import BackgroundTask
from MedSegLib.jobSection import Services, StatusLine

if TYPE_CHECKING:
    from medseg.analysis import Panoptic
    from MedSegLib.parameterNode import MedSegParameterNode


class CompareSection:
    """Connects the widgets of the section to the parameter node; needs no worker."""

    def __init__(self, ui: Any, services: Services) -> None:
        self._ui = ui
        self._services = services
        self.status = StatusLine(ui.compareStatusLabel, services.log)
        self.tableNode: Any = None
        self._parameterNode: MedSegParameterNode | None = None
        self._task: BackgroundTask | None = None
        ui.compareButton.connect("clicked(bool)", self.onCompareButton)
        self.update()

    @property
    def isRunning(self) -> bool:
        return self._task is not None

    def setParameterNode(self, parameterNode: MedSegParameterNode | None) -> None:
        """Show the parameters of a node; None while a scene is closed."""
        self._parameterNode = parameterNode

    def sceneIsClosing(self) -> None:
        """Let go of what is about to go; a comparison that goes on is not written."""
        isStopped = self.isRunning
        self.shutDown()
        if isStopped:
            self.status.finish(_("The scene was closed, so the comparison was stopped."))

    def shutDown(self) -> None:
        """The same at the end of the application and for a reload, when there may be no widgets any more."""
        self.tableNode = None
        self._task = None

    def update(self) -> None:
        """Bring the widgets in line with the parameters."""
        obstacle = self._obstacle()
        self._ui.compareButton.enabled = not obstacle
        self._ui.compareButton.toolTip = obstacle or _("Make a table of panoptic quality, one row for each group.")
        view = self._ui.compareTableView
        if view.mrmlTableNode() is not self.tableNode:
            view.setMRMLTableNode(self.tableNode)
            view.resizeColumnsToContents()
        view.setVisible(self.tableNode is not None)

    def onCompareButton(self, _checked: bool = False) -> None:
        """Compare in the background; only what is read of the segments is read here."""
        from medseg.mrml.comparison import comparison_of

        parameters = self._parameterNode
        if parameters is None or self._obstacle():
            return
        segmentationNode, referenceNode = parameters.compareSegmentation, parameters.referenceSegmentation
        try:
            comparison = comparison_of(segmentationNode, referenceNode)
        except MedSegError as error:
            self.status.fail(str(error))
            return
        name = _("{segmentation} compared").format(segmentation=segmentationNode.GetName())
        self.status.say(_("Comparing…"))
        task = self._task = BackgroundTask(
            self._services.poller,
            comparison.qualities,
            lambda found, error: self._onCompared(found, error, task, name, comparison.volume_node),
        )
        self.update()

    def _onCompared(
        self, found: dict[str, Panoptic] | None, error: Exception | None, task: Any, name: str, volumeNode: Any
    ) -> None:
        from medseg.analysis.panoptic import pooled
        from medseg.mrml.comparison import comparison_to_table

        if self._task is not task:  # the scene was closed meanwhile
            return
        self._task = None
        if found is None:
            self.status.failWith(error)
        else:
            scene, whole = slicer.mrmlScene, pooled(found.values())
            place = volumeNode if scene.IsNodePresent(volumeNode) else None
            self.tableNode = comparison_to_table({**found, _("all"): whole}, scene, name, volume_node=place)
            sentence = _("Panoptic quality {pq:.3f}: {found} found, {invented} invented, {missed} missed.")
            self.status.finish(
                sentence.format(
                    pq=whole.pq,
                    found=whole.true_positives,
                    invented=whole.false_positives,
                    missed=whole.false_negatives,
                )
            )
        self.update()

    def _obstacle(self) -> str:
        parameters = self._parameterNode
        if parameters is None or parameters.compareSegmentation is None:
            return _("Choose a segmentation.")
        if parameters.referenceSegmentation is None:
            return _("Choose a reference.")
        if parameters.compareSegmentation is parameters.referenceSegmentation:
            return _("Choose two different segmentations.")
        if self._task is not None:
            return _("Comparing…")
        return ""
