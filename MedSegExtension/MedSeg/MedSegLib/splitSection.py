"""The section "Split into instances": one segment of all bones becomes a segmentation with a segment a bone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from MedSegLib.choices import Choices
from MedSegLib.jobRun import JobRun, Outcome
from MedSegLib.jobSection import JobSection, Services

if TYPE_CHECKING:
    from medseg.backend import WorkerClient
    from medseg.segmentation import SegmentationResult


@dataclass(frozen=True)
class SplitRequest:
    """Which segment to split, and how (options of the worker's verb)."""

    segmentationNode: Any
    segmentID: str
    options: dict[str, Any] = field(default_factory=dict)

    def begin(self, client: WorkerClient) -> SplitRun:
        """Submit the job.

        Raises
        ------
        MedSegError
            When the segment cannot be taken as a mask.
        """
        return SplitRun(client, self)


class SplitRun(JobRun):
    """Submits a job on construction and writes the segmentation of the instances in the end."""

    def __init__(self, client: WorkerClient, request: SplitRequest) -> None:
        from medseg.mrml.masks import segment_mask

        self.request = request
        self._source = segment_mask(request.segmentationNode, request.segmentID)
        options = {"value": 1, "name": self._source.name, "terminology": self._source.terminology, **request.options}
        super().__init__(
            client.submit("split_instances", "instances", [self._source.mask], options),
            request.segmentationNode.GetScene(),
            [(request.segmentationNode, _("The segmentation was deleted, so splitting it was stopped."))],
        )

    def _write(self, result: SegmentationResult) -> Outcome:
        from medseg.mrml import place_beside, segmentation_to_node

        segmentationNode, source = self.request.segmentationNode, self._source
        volumeNode = source.volume_node if self._scene.IsNodePresent(source.volume_node) else None
        name = _("{segment} instances").format(segment=source.name)
        node = segmentation_to_node(result, volumeNode, self._scene, name=name)
        if volumeNode is None:
            node.SetAndObserveTransformNodeID(segmentationNode.GetTransformNodeID())
            place_beside(node, segmentationNode)
        display = segmentationNode.GetDisplayNode()
        if display is not None:
            # Both in one place would hide the instances.
            display.SetSegmentVisibility(self.request.segmentID, False)
        count = node.GetSegmentation().GetNumberOfSegments()
        found = _("1 instance was found.") if count == 1 else _("{count} instances were found.").format(count=count)
        return Outcome("done", " ".join([found, *result.notices]), node)


class SplitSection(JobSection):
    """Connects the widgets of the section to the worker and the parameter node."""

    startText = _("Split into instances")
    startToolTip = _("Make a segmentation with one segment for each instance, called a, b, c from head to feet.")
    cancelToolTip = _("Stop splitting; nothing is written.")

    def __init__(self, ui: Any, services: Services) -> None:
        super().__init__(ui.splitButton, ui.splitProgressBar, ui.splitStatusLabel, services)
        self._ui = ui
        self._segments = Choices(ui.splitSegmentComboBox, self._onSegmentChosen)

    def update(self) -> None:
        """Bring the widgets in line with the parameters and the run."""
        parameters = self._parameterNode
        names: dict[str, str] = {}
        if parameters is not None and parameters.splitSegmentation is not None:
            from medseg.mrml.masks import segment_names

            names = segment_names(parameters.splitSegmentation)
            if names and parameters.splitSegmentID not in names:
                parameters.splitSegmentID = next(iter(names))
        self._segments.show(names, "" if parameters is None else parameters.splitSegmentID)
        splitsTouching = parameters is not None and parameters.splitTouching
        self._ui.neckSpinBox.enabled = splitsTouching
        self._ui.neckLabel.enabled = splitsTouching
        self.updateButton()

    def _request(self) -> SplitRequest | None:
        parameters = self._parameterNode
        if parameters is None or self._obstacle():
            return None
        return SplitRequest(
            parameters.splitSegmentation,
            parameters.splitSegmentID,
            {
                "method": "watershed" if parameters.splitTouching else "components",
                "connectivity": parameters.connectivity.value,
                "neck_mm": parameters.neckDepth,
                "minimum_mm3": parameters.minimumVolume,
                "keep_ends": parameters.keepEnds,
            },
        )

    def _describe(self, request: SplitRequest) -> str:
        return f"Split a segment into instances: {request.options}"

    def _obstacle(self) -> str:
        parameters = self._parameterNode
        if parameters is None or parameters.splitSegmentation is None:
            return _("Choose a segmentation.")
        if parameters.splitSegmentID not in self._segments.keys:
            return _("Choose a segment.")
        return ""

    def _onSegmentChosen(self, identifier: str) -> None:
        if self._parameterNode is not None:
            self._parameterNode.splitSegmentID = identifier
        self.updateButton()
