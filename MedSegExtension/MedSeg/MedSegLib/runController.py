"""Runs one segmentation at a time and keeps the worker for the next."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from MedSegLib.segmentationRun import Outcome, RunRequest, SegmentationRun
from MedSegLib.settings import chooseInterpreter, startupEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.backend import WorkerClient
    from medseg.backend.interpreter import PythonInterpreter
    from MedSegLib.background import Poller

_logger = logging.getLogger(__name__)


class RunController:
    """Owns the worker's client and the current run; everything happens on the main thread.

    Parameters
    ----------
    poller
        Calls the controller while a run goes on.
    onProgress
        Called several times a second while a run goes on.
    onFinished
        Called once at the end of each run, when the next may start already.
    """

    def __init__(
        self, poller: Poller, onProgress: Callable[[SegmentationRun], None], onFinished: Callable[[Outcome], None]
    ) -> None:
        self._poller = poller
        self._onProgress = onProgress
        self._onFinished = onFinished
        self._client: WorkerClient | None = None
        self._interpreter: PythonInterpreter | None = None
        self._run: SegmentationRun | None = None

    @property
    def isRunning(self) -> bool:
        return self._run is not None

    @property
    def isStopping(self) -> bool:
        return self._run is not None and self._run.isStopping

    def start(self, request: RunRequest) -> SegmentationRun:
        """Start a run and return it; while another goes on, nothing is started and that one is returned.

        Raises
        ------
        MedSegError
            When the volume or the Python environment cannot be used.
        """
        if self._run is None:
            self._run = SegmentationRun(self._readyClient(), request)
            self._poller.add(self._poll)
        return self._run

    def stop(self, reason: str) -> None:
        """Cancel the run, if there is one; it ends a little later with ``reason`` as the sentence."""
        if self._run is not None:
            self._run.stop(reason)

    def abandon(self, reason: str) -> None:
        """Cancel the run and forget it at once: its nodes are gone, and nothing of it may be written."""
        run = self._forgetRun()
        if run is not None:
            run.stop(reason)
            self._letEnd(run)
            self._onFinished(Outcome("cancelled", reason))

    def shutDown(self) -> None:
        """Stop everything, the worker included; for the end of the application and for a reload."""
        run = self._forgetRun()
        if run is not None:
            run.stop(_("MedSeg was closed."))
        self._endWorker()

    def _letEnd(self, run: SegmentationRun) -> None:
        """Keep polling until the job of a forgotten run is over: the client's threads, which cancel it, need that."""

        def poll() -> None:
            if run.job.state not in ("queued", "running") or run.isOverdue:
                self._poller.remove(poll)

        self._poller.add(poll)

    def _forgetRun(self) -> SegmentationRun | None:
        run, self._run = self._run, None
        self._poller.remove(self._poll)
        return run

    def _endWorker(self) -> None:
        if self._client is not None:
            self._client.stop()
            self._client = None

    def _readyClient(self) -> Any:
        from medseg.backend import WorkerClient

        interpreter = chooseInterpreter()
        if interpreter != self._interpreter:
            self._endWorker()
        if self._client is None:
            self._client = WorkerClient(interpreter, startupEnvironment() if interpreter.foreign else None)
            self._interpreter = interpreter
        return self._client

    def _poll(self) -> None:
        run = self._run
        if run is None:
            return
        try:
            outcome = run.poll()
        except Exception as error:
            _logger.exception("A segmentation run failed")
            run.stop(_("MedSeg has a defect."))
            outcome = Outcome("failed", _("MedSeg has a defect: {error!r}. Please report it.").format(error=error))
        if self._run is not run:
            return
        if outcome is None:
            self._onProgress(run)
            return
        if run.isOverdue:
            self._endWorker()
        self._forgetRun()
        self._onFinished(outcome)
