"""One run of the verb Segment: from a volume node, through the worker, to a segmentation node. No widgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from medseg.errors import MedSegError
from MedSegLib.jobRun import JobRun, Outcome

if TYPE_CHECKING:
    from medseg.backend import WorkerClient
    from medseg.models import ModelPackage
    from medseg.segmentation import SegmentationResult

__all__ = ["Outcome", "RunRequest", "SegmentationRun"]

TABLE_ROLE = "MedSegVolumetry"
"""Node reference from a segmentation to its table, so that writing the one again renews the other."""


@dataclass(frozen=True)
class RunRequest:
    """What to segment, with what, and where to put it."""

    volumeNode: Any
    package: ModelPackage
    outputNode: Any = None
    device: str = "auto"
    show3D: bool = False
    makeTable: bool = True

    def begin(self, client: WorkerClient) -> SegmentationRun:
        """Submit the job.

        Raises
        ------
        MedSegError
            When the volume cannot be segmented.
        """
        return SegmentationRun(client, self)


class SegmentationRun(JobRun):
    """Submits a job on construction and writes the segmentation and its table in the end.

    Raises
    ------
    MedSegError
        On construction, when the volume cannot be segmented.
    """

    def __init__(self, client: WorkerClient, request: RunRequest) -> None:
        from medseg.mrml import volume_from_node

        volume = volume_from_node(request.volumeNode)
        self.request = request
        # The folder, not the name: the worker may look for models in other places than this process.
        options = {"device": request.device}
        super().__init__(
            client.submit("segment", str(request.package.folder), [volume], options),
            request.volumeNode.GetScene(),
            (
                (request.volumeNode, _("The input volume was deleted, so the segmentation was stopped.")),
                (request.outputNode, _("The output segmentation was deleted, so the segmentation was stopped.")),
            ),
        )

    def _write(self, result: SegmentationResult) -> Outcome:
        from medseg.mrml import create_closed_surface, segmentation_to_node, statistics_to_table

        request, scene = self.request, self._scene
        node = segmentation_to_node(
            result,
            request.volumeNode,
            scene,
            segmentations_logic=slicer.modules.segmentations.logic(),
            node=request.outputNode,
        )
        sentences = [self._summary(result), *result.notices]
        tableNode = None
        if request.makeTable:
            tableNode = statistics_to_table(
                result.statistics,
                scene,
                _("{segmentation} volumetry").format(segmentation=node.GetName()),
                node.GetNodeReference(TABLE_ROLE),
                volume_node=request.volumeNode,
                intensity_unit="HU" if _isCT(request.volumeNode) else "",
            )
            node.SetNodeReferenceID(TABLE_ROLE, tableNode.GetID())
        if request.show3D and node.GetSegmentation().GetNumberOfSegments():
            try:
                create_closed_surface(node)
            except MedSegError as error:
                sentences.append(str(error))
        return Outcome("done", " ".join(sentences), node, tableNode)

    def _summary(self, result: SegmentationResult) -> str:
        seconds = sum(value for name, value in result.timings.items() if name in ("imports", "network", "other"))
        missing = [entry.name for entry in result.statistics if entry.voxels == 0]
        if missing and len(missing) == len(result.labels):
            return _("Nothing was found. Check that the model fits the volume.")
        device = _("the CPU") if result.device == "cpu" else _("the GPU ({name})").format(name=result.device)
        text = _("Finished in {seconds:.0f} s on {device}.").format(seconds=max(seconds, 1.0), device=device)
        if missing:
            text += " " + _("Not found: {names}.").format(names=", ".join(missing))
        return text


def _isCT(volumeNode: Any) -> bool:
    from medseg.mrml.volumes import modality_of

    return bool(modality_of(volumeNode) == "CT")
