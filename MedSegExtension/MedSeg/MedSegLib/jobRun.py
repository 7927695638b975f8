"""One job of the worker as the panel sees it, from its start to the nodes that it leaves. No widgets."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from medseg.errors import MedSegError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.backend import Job

STOP_SECONDS = 5.0
"""After this long without an answer to a cancel, the worker is ended; it promises to stop within 2 s."""


@dataclass
class Outcome:
    """How a run ended: ``state`` is "done", "failed" or "cancelled"; ``sentence`` is for the user."""

    state: str
    sentence: str
    segmentationNode: Any = None
    tableNode: Any = None
    volumeNode: Any = None
    transformNode: Any = None


class JobRun:
    """A job that was submitted; :meth:`poll`, called often on the main thread, ends it.

    Parameters
    ----------
    job
        What the worker's client gave.
    scene
        The scene that the result is written to.
    watched
        Pairs of a node and what the user reads when it is deleted, which stops the job.
    """

    def __init__(self, job: Job, scene: Any, watched: Sequence[tuple[Any, str]]) -> None:
        self.job = job
        self._scene = scene
        self._watched = [(node, sentence) for node, sentence in watched if node is not None]
        self._stopReason = ""
        self._stopTime = 0.0

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

    def finishEarly(self) -> None:
        """Ask the job to end soon with the best that it has."""
        self.job.finish_early()

    def poll(self) -> Outcome | None:
        """Return how the run ended, or None while it goes on. Writes the nodes when the job is done."""
        for node, sentence in self._watched:
            if not self._scene.IsNodePresent(node):
                self.stop(sentence)
        self.job.poll()
        state = self.job.state
        isOver = state not in ("queued", "running")
        if not isOver and not self.isOverdue:
            return None
        if self._stopReason:
            self.job.drop_result()
            return Outcome("cancelled", self._stopReason)
        if state != "done":
            return Outcome(state, str(self.job.error or _("The worker gave no reason.")))
        if self._scene.IsBatchProcessing():  # a scene is being imported: write when it is whole
            return None
        try:
            return self._write(self.job.result())
        except MedSegError as error:
            return Outcome("failed", str(error))
        finally:
            self.job.drop_result()  # the panel keeps the job for its report

    def _write(self, result: Any) -> Outcome:
        """Write the nodes of a result."""
        raise NotImplementedError
