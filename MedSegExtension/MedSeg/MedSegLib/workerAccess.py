"""The worker's client, shared by all parts of the panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from MedSegLib.settings import chooseInterpreter, startupEnvironment

if TYPE_CHECKING:
    from medseg.backend import WorkerClient
    from medseg.backend.interpreter import PythonInterpreter


_shared: WorkerAccess | None = None


def sharedWorker() -> WorkerAccess:
    """Return the one that the panel and the effect of the Segment Editor have in common: one worker for both."""
    global _shared  # noqa: PLW0603 - one for the application
    if _shared is None:
        _shared = WorkerAccess()
    return _shared


class WorkerAccess:
    """Makes the client when a job needs it first, with the Python that the user chose; keeps it for the next job."""

    def __init__(self) -> None:
        self._client: WorkerClient | None = None
        self._interpreter: PythonInterpreter | None = None

    def readyClient(self) -> WorkerClient:
        """Return the client; a change of the Python environment ends the former worker.

        Raises
        ------
        MedSegError
            When the Python environment cannot be used.
        """
        from medseg.backend import WorkerClient

        interpreter = chooseInterpreter()
        if interpreter != self._interpreter:
            self.end()
        if self._client is None:
            self._client = WorkerClient(interpreter, startupEnvironment() if interpreter.foreign else None)
            self._interpreter = interpreter
        return self._client

    def end(self) -> None:
        """End the worker and with it every job that it has."""
        if self._client is not None:
            self._client.stop()
            self._client = None
