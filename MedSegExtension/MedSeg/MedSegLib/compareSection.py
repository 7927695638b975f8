"""The section "Compare two segmentations": how well instances are found, and how well they are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from medseg.errors import InputError, MedSegError
from MedSegLib.background import BackgroundTask
from MedSegLib.jobSection import Services, StatusLine
from MedSegLib.labelReading import LabelReading, readLabels

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
        parameters = self._parameterNode
        if parameters is None or self._obstacle():
            return
        segmentationNode, referenceNode = parameters.compareSegmentation, parameters.referenceSegmentation
        try:
            volumeNode = _volumeOf(segmentationNode, referenceNode)
            groups = _groupsOf(segmentationNode, referenceNode)
            readings = [readLabels(node, volumeNode) for node in (segmentationNode, referenceNode)]
        except MedSegError as error:
            self.status.fail(str(error))
            return
        name = _("{segmentation} compared").format(segmentation=segmentationNode.GetName())
        self.status.say(_("Comparing…"))
        task = self._task = BackgroundTask(
            self._services.poller,
            lambda: _compare(readings, groups),
            lambda found, error: self._onCompared(found, error, task, name, volumeNode),
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


Groups = dict[str, tuple[list[int], list[int]]]
"""Label values of the instances in the segmentation and in the reference, by the group that they belong to."""


def _compare(readings: list[LabelReading], groups: Groups) -> dict[str, Panoptic]:
    """Compare what was read; touches neither Qt nor MRML."""
    from medseg.analysis import compare_instances

    predicted, true = (reading.labelmap() for reading in readings)
    return compare_instances(predicted, true, groups)


def _volumeOf(segmentationNode: Any, referenceNode: Any) -> Any:
    """Return the volume on whose grid the segmentations are compared.

    Raises
    ------
    InputError
        When it is not in the scene.
    """
    from medseg.mrml.masks import reference_volume

    volumeNode = reference_volume(referenceNode) or reference_volume(segmentationNode)
    if volumeNode is None:
        raise InputError(
            _("The volume that the segmentations were made on is not in the scene."),
            advice=_("Load it, and choose it as the source geometry of the reference in the Segmentations module."),
        )
    return volumeNode


def _groupsOf(segmentationNode: Any, referenceNode: Any) -> Groups:
    """Return the groups of instances; an instance is compared within its group, whatever its letter.

    Raises
    ------
    InputError
        When a segmentation has no segment.
    """
    from medseg.analysis.naming import group_of
    from medseg.mrml import label_values
    from medseg.mrml.masks import segment_names

    groups: Groups = {}
    for side, node in enumerate((segmentationNode, referenceNode)):
        names = segment_names(node)
        if not names:
            sentence = _("'{segmentation}' has no segment.").format(segmentation=node.GetName())
            raise InputError(sentence, advice=_("Choose another segmentation."))
        for identifier, value in label_values(node).items():
            groups.setdefault(group_of(names[identifier]), ([], []))[side].append(value)
    return groups
