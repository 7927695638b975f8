"""One run of the verb Segment: from a volume node, through the worker, to a segmentation node. No widgets."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from medseg.errors import MedSegError

if TYPE_CHECKING:
    from medseg.backend import Job, WorkerClient
    from medseg.models import ModelPackage
    from medseg.segmentation import SegmentationResult

TABLE_ROLE = "MedSegVolumetry"
"""Node reference from a segmentation to its table, so that writing the one again renews the other."""

STOP_SECONDS = 5.0
"""After this long without an answer to a cancel, the worker is ended; it promises to stop within 2 s."""


@dataclass(frozen=True)
class RunRequest:
    """What to segment, with what, and where to put it."""

    volumeNode: Any
    package: ModelPackage
    outputNode: Any = None
    device: str = "auto"
    show3D: bool = False
    makeTable: bool = True


@dataclass
class Outcome:
    """How a run ended: ``state`` is "done", "failed" or "cancelled"; ``sentence`` is for the user."""

    state: str
    sentence: str
    segmentationNode: Any = None
    tableNode: Any = None


class SegmentationRun:
    """Submits a job on construction; :meth:`poll`, called often on the main thread, ends it.

    Raises
    ------
    MedSegError
        On construction, when the volume cannot be segmented.
    """

    def __init__(self, client: WorkerClient, request: RunRequest) -> None:
        from medseg.mrml import volume_from_node

        volume = volume_from_node(request.volumeNode)
        self.request = request
        self._scene = request.volumeNode.GetScene()
        self._stopReason = ""
        self._stopTime = 0.0
        # The folder, not the name: the worker may look for models in other places than this process.
        options = {"device": request.device}
        self.job: Job = client.submit("segment", str(request.package.folder), [volume], options)

    @property
    def isStopping(self) -> bool:
        return bool(self._stopReason)

    @property
    def isOverdue(self) -> bool:
        """Whether the worker was asked to stop and has not answered for far too long."""
        return self.isStopping and time.monotonic() - self._stopTime > STOP_SECONDS

    def stop(self, reason: str) -> None:
        """Cancel the job; ``reason`` is what the user reads. The first reason counts."""
        if not self._stopReason:
            self._stopReason = reason
            self._stopTime = time.monotonic()
            self.job.cancel()

    def poll(self) -> Outcome | None:
        """Return how the run ended, or None while it goes on. Writes the nodes when the job is done."""
        self._checkNodes()
        self.job.poll()
        state = self.job.state
        isOver = state not in ("queued", "running")
        if self._stopReason:
            return Outcome("cancelled", self._stopReason) if isOver or self.isOverdue else None
        if not isOver:
            return None
        if state != "done":
            return Outcome(state, str(self.job.error or _("The worker gave no reason.")))
        if self._scene.IsBatchProcessing():  # a scene is being imported: write when it is whole
            return None
        try:
            return self._write(self.job.result())
        except MedSegError as error:
            return Outcome("failed", str(error))

    def _checkNodes(self) -> None:
        if not self._scene.IsNodePresent(self.request.volumeNode):
            self.stop(_("The input volume was deleted, so the segmentation was stopped."))
        elif self.request.outputNode is not None and not self._scene.IsNodePresent(self.request.outputNode):
            self.stop(_("The output segmentation was deleted, so the segmentation was stopped."))

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
