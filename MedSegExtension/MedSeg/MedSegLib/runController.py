"""Runs one job at a time and keeps the worker for the next."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from slicer.i18n import tr as _

from MedSegLib.jobRun import JobRun, Outcome
from MedSegLib.workerAccess import WorkerAccess

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.backend import WorkerClient
    from MedSegLib.background import Poller

_logger = logging.getLogger(__name__)


class Request(Protocol):
    """What to compute: knows how to submit itself."""

    def begin(self, client: WorkerClient) -> JobRun:
        """Submit the job."""


class RunController:
    """Owns the current run; everything happens on the main thread.

    Parameters
    ----------
    poller
        Calls the controller while a run goes on.
    onProgress
        Called several times a second while a run goes on.
    onFinished
        Called once at the end of each run, when the next may start already.
    worker
        The worker of the panel; by default one of the controller's own, which ends with it.
    """

    def __init__(
        self,
        poller: Poller,
        onProgress: Callable[[JobRun], None],
        onFinished: Callable[[Outcome], None],
        worker: WorkerAccess | None = None,
    ) -> None:
        self._poller = poller
        self._onProgress = onProgress
        self._onFinished = onFinished
        self._ownsWorker = worker is None
        self._worker = worker or WorkerAccess()
        self._run: JobRun | None = None

    @property
    def isRunning(self) -> bool:
        return self._run is not None

    @property
    def isStopping(self) -> bool:
        return self._run is not None and self._run.isStopping

    def start(self, request: Request) -> JobRun:
        """Start a run and return it; while another goes on, nothing is started and that one is returned.

        Raises
        ------
        MedSegError
            When the input or the Python environment cannot be used.
        """
        if self._run is None:
            self._run = request.begin(self._readyClient())
            self._poller.add(self._poll)
        return self._run

    def stop(self, reason: str) -> None:
        """Cancel the run, if there is one; it ends a little later with ``reason`` as the sentence."""
        if self._run is not None:
            self._run.stop(reason)

    def finishEarly(self) -> None:
        """Let the run, if there is one, end soon with the best that it has."""
        if self._run is not None:
            self._run.finishEarly()

    def abandon(self, reason: str) -> None:
        """Cancel the run and forget it at once: its nodes are gone, and nothing of it may be written."""
        run = self._forgetRun()
        if run is not None:
            run.stop(reason)
            self._letEnd(run)
            self._onFinished(Outcome("cancelled", reason))

    def shutDown(self) -> None:
        """Stop everything, a worker of its own included; for the end of the application and for a reload."""
        run = self._forgetRun()
        if run is not None:
            run.stop(_("MedSeg was closed."))
        if self._ownsWorker:
            self._worker.end()

    def _letEnd(self, run: JobRun) -> None:
        """Keep polling until the job of a forgotten run is over: the client's threads, which cancel it, need that."""

        def poll() -> None:
            if run.job.state not in ("queued", "running") or run.isOverdue:
                self._poller.remove(poll)
                run.job.drop_result()

        self._poller.add(poll)

    def _forgetRun(self) -> JobRun | None:
        run, self._run = self._run, None
        self._poller.remove(self._poll)
        return run

    def _readyClient(self) -> Any:
        return self._worker.readyClient()

    def _poll(self) -> None:
        run = self._run
        if run is None:
            return
        try:
            outcome = run.poll()
        except Exception as error:
            _logger.exception("A run failed")
            run.stop(_("MedSeg has a defect."))
            outcome = Outcome("failed", _("MedSeg has a defect: {error!r}. Please report it.").format(error=error))
        if self._run is not run:
            return
        if outcome is None:
            self._onProgress(run)
            return
        if run.isOverdue:
            self._worker.end()
        self._forgetRun()
        self._onFinished(outcome)
