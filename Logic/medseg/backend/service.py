"""The backend's service: volumes, a queue of jobs, one computing process. It knows nothing of HTTP.

The worker of a panel serves it with the standard library (``http_server.py``); any other server can mount the same
object. Every public method is thread-safe, raises :class:`Refusal` for what it does not do, and takes and gives JSON
values, paths and byte streams only.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from medseg.backend.compute_process import ComputeProcess
from medseg.backend.job_record import JobRecord
from medseg.backend.protocol import FINAL_STATES, PROTOCOL
from medseg.backend.verbs import VERBS
from medseg.backend.volume_store import DEFAULT_STORE_BYTES, VolumeStore, is_address
from medseg.errors import Cancelled, InputError, MedSegError, WorkerError, WriteError, error_from_dict
from medseg.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

CANCEL_GRACE_SECONDS = 1.5
START_SECONDS = 300.0
CALL_SECONDS = 60.0
MAXIMUM_QUEUE = 64
KEPT_JOBS = 16
MAXIMUM_VOLUMES_PER_JOB = 8
MAXIMUM_WAIT_SECONDS = 20.0


class Refusal(Exception):  # noqa: N818 - an answer of the service, like an HTTP status
    """What the service answers instead of a result: an HTTP status, an error, and more fields for the client."""

    def __init__(self, status: int, error: MedSegError, **fields: Any) -> None:
        super().__init__(status, str(error))
        self.status = status
        self.error = error
        self.fields = fields


class _NotReady(Exception):  # noqa: N818 - carries an error to the job that waits for the process
    def __init__(self, error: MedSegError, details: str) -> None:
        super().__init__(str(error))
        self.error = error
        self.details = details


class Service:
    """Volumes, jobs and one computing process.

    Parameters
    ----------
    folder
        A private folder for volumes and results.
    compute_command
        The command that starts the computing process.
    verbs
        What the computing process can do.
    idle_minutes
        After this time without a job the computing process, with its warm models, is ended; None keeps it.
    """

    def __init__(
        self,
        folder: Path,
        compute_command: Sequence[str],
        *,
        verbs: Collection[str] = tuple(VERBS),
        idle_minutes: float | None = None,
        store_bytes: int = DEFAULT_STORE_BYTES,
    ) -> None:
        for name in ("volumes", "results"):
            (folder / name).mkdir(mode=0o700, exist_ok=True)
        self._results = folder / "results"
        self.volumes = VolumeStore(folder / "volumes", store_bytes)
        self._command = list(compute_command)
        self._verbs = frozenset(verbs)
        self._idle_seconds = None if idle_minutes is None else idle_minutes * 60.0
        self._changed = threading.Condition()
        self._jobs: dict[str, JobRecord] = {}
        self._queue: deque[JobRecord] = deque()
        self._running: JobRecord | None = None
        self._child: ComputeProcess | None = None
        self._versions: dict[str, str] = {}
        self._idle_since = time.monotonic()
        self._closed = False
        self._dispatcher = threading.Thread(target=self._dispatch, name="medseg-dispatch", daemon=True)
        self._dispatcher.start()

    def health(self) -> dict[str, Any]:
        """Return who answers and what the computing process does: "off", "starting", "idle" or "busy".

        ``versions`` are those of the packages that the last computing process had.
        """
        with self._changed:
            child = self._child
            state = "off" if child is None or child.is_dead else "idle" if child.is_ready else "starting"
            if state == "idle" and self._running is not None:
                state = "busy"
            return {
                "protocol": PROTOCOL,
                "version": VERSION,
                "pid": os.getpid(),
                "queued": len(self._queue),
                "compute": {
                    "state": state,
                    "pid": child.pid if child is not None and state != "off" else None,
                    "versions": dict(self._versions),
                },
            }

    def models(self) -> list[dict[str, Any]]:
        """Return what the library has, one dictionary a model package, broken ones with their error."""
        from medseg.models import ModelLibrary

        library = ModelLibrary()
        found = [package.summary() for package in library.packages()]
        return found + [{"folder": str(folder), "error": error.to_dict()} for folder, error in library.broken()]

    def warm_up(self) -> None:
        """Start the computing process, so that it is ready when the first job comes; returns at once."""
        with self._changed:
            self._idle_since = time.monotonic()
            if not self._closed:
                with contextlib.suppress(WorkerError):
                    self._ensure_child()

    def put_volume(self, address: str, length: int, read: Callable[[int], bytes]) -> None:
        """Store a volume (see :meth:`VolumeStore.put`); one that is there already is read and dropped."""
        if not is_address(address):
            raise Refusal(404, InputError("A volume's address is 64 hexadecimal digits.", advice="Check the program."))
        if address in self.volumes:
            left = length
            while left and (part := read(left)):
                left -= len(part)
            return
        try:
            self.volumes.put(address, length, read)
        except WriteError as error:
            raise Refusal(507, error) from error
        except MedSegError as error:
            raise Refusal(422, error) from error

    def submit(self, request: object) -> dict[str, Any]:
        """Queue a job: {"verb", "model", "options", "volumes": [addresses]}; return its id.

        Raises
        ------
        Refusal
            422 for a request that makes no sense, 409 with ``missing`` for volumes that must be sent (again),
            503 when the queue is full or the service ends.
        """
        record = _checked_request(request, self._verbs)
        with self._changed:
            if self._closed or len(self._queue) >= MAXIMUM_QUEUE:
                error = WorkerError("The worker takes no more jobs now.", advice="Wait for those that are queued.")
                raise Refusal(503, error)
            self.volumes.pin(record.volumes)
            missing = self.volumes.missing(record.volumes)
            if missing:
                self.volumes.unpin(record.volumes)
                raise Refusal(409, InputError("A volume must be sent again.", advice="Try again."), missing=missing)
            self._forget_old_jobs()
            self._jobs[record.id] = record
            self._queue.append(record)
            self._changed.notify_all()
        return {"job": record.id}

    def job(
        self, job_id: str, *, since: int = 0, figures_since: int = 0, revision: int = -1, wait: float = 0.0
    ) -> dict[str, Any]:
        """Return a job's state, its log from line ``since`` on and its figures from number ``figures_since`` on.

        With ``revision`` (from an earlier answer) the answer waits up to ``wait`` seconds for something newer.
        """
        deadline = time.monotonic() + min(max(wait, 0.0), MAXIMUM_WAIT_SECONDS)
        with self._changed:
            record = self._find(job_id)
            while record.revision == revision and record.state not in FINAL_STATES and not self._closed:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            return record.to_dict(since, figures_since)

    def finish(self, job_id: str) -> dict[str, Any]:
        """Ask a queued or running job to end soon with the best that it has; one that has ended stays as it is.

        A verb that works towards its result in steps stops at the next one; any other goes on to its end.
        """
        with self._changed:
            record = self._find(job_id)
            if record.state not in FINAL_STATES and not record.finish_early:
                record.finish_early = True
                if record.sent and self._child is not None:
                    self._child.send("finish", job=record.id)
            return record.to_dict()

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Stop a queued or running job (gone within two seconds); forget a finished one and remove its result."""
        with self._changed:
            record = self._find(job_id)
            if record.state in FINAL_STATES:
                self._forget(record)
            elif record.cancel_time is None:
                record.cancel_time = time.monotonic()
                record.report(None, "Cancelling…")
                if record in self._queue:
                    self._queue.remove(record)
                    self._finish(record, "cancelled", error=Cancelled())
                elif record.sent and self._child is not None:
                    self._child.send("cancel", job=record.id)
                self._changed.notify_all()
            return record.to_dict()

    def result(self, job_id: str) -> Path:
        """Return the file with a finished job's result."""
        with self._changed:
            record = self._find(job_id)
            if record.state == "done":
                return self._result_path(record)
            error = record.error or WorkerError("The job is not finished.", advice="Wait until it is done.")
            raise Refusal(409, error)

    def estimate(self, request: object) -> dict[str, Any]:
        """Return what a run would need: {"model", "geometry", "device"} to seconds, bytes, windows, plan, device."""
        if not isinstance(request, dict):
            raise Refusal(422, _senseless("it is not an object"))
        try:
            child = self._ready_child(None)
            return child.call("estimate", request, CALL_SECONDS)
        except _NotReady as error:
            raise Refusal(500, error.error) from error
        except InputError as error:
            raise Refusal(422, error) from error
        except MedSegError as error:
            raise Refusal(500, error) from error

    def close(self) -> None:
        """End the computing process and refuse everything from now on."""
        with self._changed:
            self._closed = True
            child, self._child = self._child, None
            self._changed.notify_all()
            if child is not None:
                child.kill()
                # Its files can be removed, also on Windows, when it is gone.
                self._changed.wait_for(lambda: child.is_dead, timeout=2.0)

    def _find(self, job_id: str) -> JobRecord:
        record = self._jobs.get(job_id)
        if record is None:
            raise Refusal(404, WorkerError("The worker does not know this job (any more).", advice="Run it again."))
        return record

    def _result_path(self, record: JobRecord) -> Path:
        return self._results / f"{record.id}.result"

    def _forget(self, record: JobRecord) -> None:
        self._jobs.pop(record.id, None)
        with contextlib.suppress(OSError):
            self._result_path(record).unlink(missing_ok=True)

    def _forget_old_jobs(self) -> None:
        finished = [record for record in self._jobs.values() if record.state in FINAL_STATES]
        for record in finished[: max(len(finished) - KEPT_JOBS, 0)]:
            self._forget(record)

    def _finish(self, record: JobRecord, state: str, *, error: MedSegError | None = None, details: str = "") -> None:
        """Bring a job to its final state; the caller holds the lock."""
        if record.state not in FINAL_STATES:
            record.finish(state, error, details)
            self.volumes.unpin(record.volumes)
        self._changed.notify_all()

    def _dispatch(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closed:
                    self._changed.wait(self._seconds_to_unload())
                    self._unload_when_idle()
                if self._closed:
                    return
                record = self._running = self._queue.popleft()
            try:
                self._run(record)
            finally:
                with self._changed:
                    self._running = None
                    self._idle_since = time.monotonic()

    def _seconds_to_unload(self) -> float | None:
        if self._idle_seconds is None or self._child is None:
            return None
        return max(self._idle_since + self._idle_seconds - time.monotonic(), 0.05)

    def _unload_when_idle(self) -> None:
        idle = time.monotonic() - self._idle_since
        if (
            self._child is not None
            and not self._queue
            and self._idle_seconds is not None
            and idle >= self._idle_seconds
        ):
            self._child.kill()
            self._child = None

    def _run(self, record: JobRecord) -> None:
        try:
            child = self._ready_child(record)
        except Cancelled as error:
            with self._changed:
                self._finish(record, "cancelled", error=error)
            return
        except _NotReady as error:
            with self._changed:
                self._finish(record, "failed", error=error.error, details=error.details)
            return
        with self._changed:
            if record.cancel_time is not None:
                self._finish(record, "cancelled", error=Cancelled())
                return
            record.state = "running"
            record.sent = True
            record.report(0.0, "Starting…")
            self._changed.notify_all()
        child.send(
            "job",
            job=record.id,
            verb=record.verb,
            model=record.model,
            options=record.options,
            volumes=[str(self.volumes.path(address)) for address in record.volumes],
            result=str(self._result_path(record)),
            finish=record.finish_early,
        )
        self._await_outcome(record, child)

    def _await_outcome(self, record: JobRecord, child: ComputeProcess) -> None:
        """Wait for the job's end; a cancelled one that does not end in time is ended with its process."""
        with self._changed:
            while record.state not in FINAL_STATES and not child.is_dead:
                left = None
                if record.cancel_time is not None:
                    left = record.cancel_time + CANCEL_GRACE_SECONDS - time.monotonic()
                    if left <= 0:
                        break
                self._changed.wait(left)
            if record.state in FINAL_STATES:
                return
            if not child.is_dead:
                child.kill()
                self._changed.wait_for(lambda: child.is_dead, timeout=5.0)
            if self._child is child:
                self._child = None
            if record.cancel_time is not None:
                self._finish(record, "cancelled", error=Cancelled())
            else:
                self._finish(record, "failed", error=child.cause_of_death(), details=child.last_words())

    def _ensure_child(self) -> ComputeProcess:
        """Return the computing process, starting one when there is none; the caller holds the lock."""
        if self._child is None or self._child.is_dead:
            self._child = ComputeProcess(self._command, self._on_event)
        return self._child

    def _ready_child(self, record: JobRecord | None) -> ComputeProcess:
        """Return the computing process when it is ready; a job that waits for it can be cancelled meanwhile."""
        deadline = time.monotonic() + START_SECONDS
        with self._changed:
            if self._closed:
                raise _NotReady(WorkerError("The worker is ending.", advice="Please try again."), "")
            try:
                child = self._ensure_child()
            except WorkerError as error:
                raise _NotReady(error, "") from error
            if not child.is_ready and record is not None:
                record.report(0.0, "Loading PyTorch…")
                self._changed.notify_all()
            while not child.is_ready and not child.is_dead and time.monotonic() < deadline:
                if record is not None and record.cancel_time is not None:
                    raise Cancelled
                self._changed.wait(1.0)
            self._versions = child.versions or self._versions
            problem = child.problem
            if not child.is_ready:
                problem = child.cause_of_death() if child.is_dead else _too_slow()
            if problem is not None:
                child.kill()
                self._child = None if self._child is child else self._child
                raise _NotReady(problem, child.details or child.last_words())
            self._idle_since = time.monotonic()
            return child

    def _on_event(self, child: ComputeProcess, message: dict[str, Any]) -> None:
        """Take one event of a computing process, in its reader's thread."""
        with self._changed:
            record = self._jobs.get(str(message.get("job")))
            if record is not None and record.state == "running" and child is self._child:
                self._on_job_event(record, message)
            self._changed.notify_all()

    def _on_job_event(self, record: JobRecord, message: dict[str, Any]) -> None:
        event = message["event"]
        if event == "progress" and record.cancel_time is None:
            record.report(float(message["fraction"]), str(message["text"]))
        elif event == "figures":
            record.add_figures((str(name), value) for name, value in message["figures"])
        elif event == "log":
            record.add_line(str(message["line"]))
        elif event in ("done", "failed", "cancelled"):
            if record.cancel_time is not None:
                self._finish(record, "cancelled", error=Cancelled())
            elif event == "failed":
                self._finish(record, "failed", error=error_from_dict(message["error"]), details=str(message["details"]))
            else:
                self._finish(record, event)


def _too_slow() -> WorkerError:
    return WorkerError(
        f"The computing process was not ready after {START_SECONDS:.0f} s.",
        advice="Try again, or choose another Python environment in the settings.",
    )


def _senseless(reason: str) -> InputError:
    message = f"The request cannot be used: {reason}."
    return InputError(message, advice="This is a defect of the program that sent it; please report it.")


def _checked_request(request: object, verbs: Collection[str]) -> JobRecord:
    if not isinstance(request, dict):
        raise Refusal(422, _senseless("it is not an object"))
    verb, model = request.get("verb"), request.get("model")
    options, volumes = request.get("options", {}), request.get("volumes")
    if not isinstance(verb, str) or verb not in verbs or not isinstance(model, str) or not 0 < len(model) <= 4096:
        raise Refusal(422, _senseless("it names no verb and model"))
    if not isinstance(options, dict):
        raise Refusal(422, _senseless("its options are not an object"))
    if not isinstance(volumes, list) or not 1 <= len(volumes) <= MAXIMUM_VOLUMES_PER_JOB:
        raise Refusal(422, _senseless("it names no volumes"))
    if not all(is_address(address) for address in volumes):
        raise Refusal(422, _senseless("a volume's address is 64 hexadecimal digits"))
    return JobRecord(secrets.token_hex(8), verb, model, options, [str(address) for address in volumes])
