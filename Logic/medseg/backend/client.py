"""The client of the worker: used by the panel and by batches. Standard library and numpy only; never blocks a caller.

Everything that takes time (starting the worker, sending volumes, waiting) happens in daemon threads of the client;
the caller looks at :class:`~medseg.backend.job.Job` objects whenever it likes.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from medseg.backend.encoding import Parcel, decode_answer, geometry_to_dict
from medseg.backend.interpreter import PythonInterpreter, find_interpreter
from medseg.backend.job import Job
from medseg.backend.prepared import PreparedVolume
from medseg.backend.protocol import FINAL_STATES
from medseg.backend.report import job_report
from medseg.backend.running_worker import REQUEST_SECONDS, Answer, ConnectionLostError, RunningWorker
from medseg.errors import Cancelled, MedSegError, WorkerError, error_from_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from medseg.volumes import Geometry, Volume

LONG_POLL_SECONDS = 5.0
ESTIMATE_SECONDS = 400.0
"""An estimate may have to wait for the first import of torch."""

LONGEST_CANCEL_SECONDS = 5.0
_UPLOADS_TRIED = 3
_LONGEST_FACT = 2000


class WorkerClient:
    """One worker process and the jobs given to it. Thread-safe.

    Parameters
    ----------
    interpreter
        The Python of the worker; None looks for one (:func:`find_interpreter`) when the worker is started.
    environment
        The variables for a foreign Python (inside Slicer: ``slicer.util.startupEnvironment()``).
    home
        ``MEDSEG_HOME`` for the worker, when it is not that of this process.
    idle_minutes
        After this time without a job the worker gives its memory back, warm models included; None: never.
    script
        A Python file to run instead of the worker module; it must call :func:`medseg.backend.worker.main`.
    """

    def __init__(
        self,
        interpreter: PythonInterpreter | None = None,
        environment: Mapping[str, str] | None = None,
        home: Path | None = None,
        *,
        idle_minutes: float | None = 30.0,
        script: Path | None = None,
    ) -> None:
        self._interpreter = interpreter
        self._environment = dict(environment) if environment is not None else None
        self._home = home
        self._idle_minutes = idle_minutes
        self._script = script
        self._lock = threading.Lock()
        self._start_lock = threading.Lock()
        self._worker: RunningWorker | None = None
        self._generation = 0
        self._jobs: dict[str, Job] = {}
        self._remote_ids: dict[str, tuple[RunningWorker, str]] = {}
        self._versions: dict[str, str] = {}

    @property
    def is_running(self) -> bool:
        """Whether the worker process runs."""
        worker = self._worker
        return worker is not None and worker.is_alive

    @property
    def interpreter(self) -> PythonInterpreter | None:
        """The Python of the worker, when it was given or the worker was started."""
        return self._interpreter

    def start(self) -> None:
        """Start the worker and load torch in the background, so that the first job starts sooner. Returns at once."""
        self._in_background("start", self._warm_up)

    def stop(self) -> None:
        """End the worker; jobs that still run are cancelled. Returns at once; a later job starts a new worker."""
        with self._lock:
            self._generation += 1
            worker, self._worker = self._worker, None
            self._versions = {}
            jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel_requested.set()
            job.finish("cancelled")
        if worker is not None:
            worker.stop()

    def use_interpreter(self, interpreter: PythonInterpreter | None) -> None:
        """Use another Python from now on; a running worker is ended."""
        self.stop()
        with self._lock:
            self._interpreter = interpreter

    def submit(
        self,
        verb: str,
        model: str,
        volumes: Sequence[Volume | Callable[[], Volume] | PreparedVolume],
        options: Mapping[str, Any] | None = None,
    ) -> Job:
        """Give the worker a job; returns at once, also when the worker has yet to be started.

        ``model`` is a name of the library or a folder; ``options`` those of the verb
        (:class:`~medseg.segmentation.SegmentOptions`). Each volume is sent only once. A function that gives a volume
        takes the place of one that takes a while to make; it is called in a thread of the client. One that many jobs
        take is a :class:`~medseg.backend.prepared.PreparedVolume`. The volumes must not be changed until the job has
        ended.
        """
        job = Job(f"{verb} with {_short(model)}", self._cancel, self._report, self._finish_early)
        held = list(volumes)
        request = {"verb": verb, "model": str(model), "options": dict(options or {})}
        self._in_background("job", lambda: self._guarded(job, lambda: self._do_job(job, request, held)), job)
        return job

    def submit_estimate(self, model: str, geometry: Geometry, device: str = "auto") -> Job:
        """Ask what a run would need; returns at once. The job's result is the dictionary of :meth:`estimate`."""
        job = Job(f"estimate for {_short(model)}", self._cancel, self._report)
        self._in_background(
            "estimate", lambda: self._guarded(job, lambda: self._do_estimate(job, model, geometry, device)), job
        )
        return job

    def estimate(self, model: str, geometry: Geometry, device: str = "auto") -> dict[str, Any]:
        """Return what a run would need: ``seconds``, ``memory_bytes``, ``windows``, ``plan``, and the device.

        Waits for the worker; on the main thread use :meth:`submit_estimate`.

        Raises
        ------
        MedSegError
            What keeps the worker from telling.
        """
        job = self.submit_estimate(model, geometry, device)
        job.wait()
        return dict(job.result())

    def models(self) -> list[dict[str, Any]]:
        """Return the models that the worker has (``ModelPackage.summary()`` of each). Waits for the worker."""
        worker = self._running()
        return list(_ask(worker, "GET", "/models").checked()["models"])

    def health(self) -> dict[str, Any]:
        """Return what the worker says about itself (see the protocol). Waits for the worker."""
        return _ask(self._running(), "GET", "/health").checked()

    def _in_background(self, name: str, work: Callable[[], None], job: Job | None = None) -> None:
        if job is not None:
            with self._lock:
                self._jobs[job.id] = job
        threading.Thread(target=work, name=f"medseg-{name}", daemon=True).start()

    def _guarded(self, job: Job, work: Callable[[], Any]) -> None:
        """Do ``work`` for ``job``; whatever happens, the job ends."""
        try:
            job.finish("done", result=work())
        except Cancelled:
            job.finish("cancelled")
        except MedSegError as error:
            state = "cancelled" if job.cancel_requested.is_set() else "failed"
            job.finish(state, error=error if state == "failed" else None, details=job.details or _trace(error))
        except Exception as error:  # noqa: BLE001 - a defect must not leave the panel waiting
            defect = MedSegError(
                f"This is a defect of MedSeg ({type(error).__name__}).",
                advice="Please copy the report and send it to the developers.",
            )
            job.finish("failed", error=defect, details=_trace(error))
        finally:
            with self._lock:
                self._jobs.pop(job.id, None)
                self._remote_ids.pop(job.id, None)

    def _running(self) -> RunningWorker:
        """Return the worker, started when there is none. Waits; only for background threads."""
        with self._lock:
            generation = self._generation
        with self._start_lock:
            with self._lock:
                if self._worker is not None and self._worker.is_alive:
                    return self._worker
                interpreter = self._interpreter
            worker = RunningWorker(
                interpreter or find_interpreter(),
                environment=self._environment,
                home=self._home,
                idle_minutes=self._idle_minutes,
                script=self._script,
            )
            with self._lock:
                if generation == self._generation:
                    self._worker, self._interpreter = worker, worker.interpreter
                    return worker
        worker.stop()
        raise Cancelled

    def _warm_up(self) -> None:
        try:
            _ask(self._running(), "POST", "/warm-up")
        except MedSegError:
            # The first job meets the same problem and has a place to tell it.
            return

    def _do_estimate(self, job: Job, model: str, geometry: Geometry, device: str) -> dict[str, Any]:
        worker = self._running()
        job.update("running", 0.0, "Estimating…")
        fields = {"model": str(model), "geometry": geometry_to_dict(geometry), "device": device}
        return _ask(worker, "POST", "/estimate", fields=fields, timeout=ESTIMATE_SECONDS).checked()

    def _do_job(
        self, job: Job, request: dict[str, Any], given: list[Volume | Callable[[], Volume] | PreparedVolume]
    ) -> Any:
        job.say("Starting the worker…")
        worker = self._running()
        _stop_if_cancelled(job)
        job.say("Preparing the volume…")
        # What is made here for this job alone is given back as soon as it was sent.
        packed = [
            (volume if isinstance(volume, PreparedVolume) else PreparedVolume(volume)).packed() for volume in given
        ]
        volumes, parcels = [volume for volume, _, _ in packed], [parcel for _, parcel, _ in packed]
        addresses = [address for _, _, address in packed]
        job.facts = _facts(volumes, request)
        remote = self._send(job, worker, {**request, "volumes": addresses}, dict(zip(addresses, parcels, strict=True)))
        del parcels, packed
        with self._lock:
            self._remote_ids[job.id] = (worker, remote)
        if job.cancel_requested.is_set():
            self._cancel(job)
        elif job.finish_requested.is_set():
            self._finish_early(job)
        state = self._follow(job, worker, remote)
        if state["state"] == "cancelled":
            raise Cancelled
        if state["state"] == "failed":
            job.details = state["details"]
            raise error_from_dict(state["error"])
        data = _ask(worker, "GET", f"/jobs/{remote}/result")
        if data.status != 200:
            data.checked()
        # A copy that may be written to: whoever gets the labels may want to correct them.
        result = decode_answer(bytearray(data.data), name=volumes[0].name)
        result.notices[:0] = [note for volume in volumes for note in volume.notes]
        _ask(worker, "DELETE", f"/jobs/{remote}")
        return result

    def _send(self, job: Job, worker: RunningWorker, request: dict[str, Any], parcels: dict[str, Parcel]) -> str:
        """Send the volumes that the worker lacks, then the job; return its id there."""
        for _ in range(_UPLOADS_TRIED):
            for address, parcel in parcels.items():
                if _ask(worker, "HEAD", f"/volumes/{address}").status != 200:
                    chunks = _watched(job, parcel)
                    _ask(worker, "PUT", f"/volumes/{address}", chunks=chunks, length=len(parcel)).checked()
            _stop_if_cancelled(job)
            answer = _ask(worker, "POST", "/jobs", fields=request)
            # The worker may have dropped a volume for want of room since it was asked.
            if answer.status != 409:
                return str(answer.checked()["job"])
        raise WorkerError(
            "The worker has no room for the volumes of this job.", advice="Free some space in the temporary folder."
        )

    def _follow(self, job: Job, worker: RunningWorker, remote: str) -> dict[str, Any]:
        """Keep ``job`` up to date until the worker's job has ended; return its last state."""
        revision, since, figures_since, cancelled_at = -1, 0, 0, None
        while True:
            path = f"/jobs/{quote(remote)}?since={since}&figures_since={figures_since}&revision={revision}"
            path += f"&wait_ms={int(LONG_POLL_SECONDS * 1000)}"
            answer = _ask(worker, "GET", path, timeout=LONG_POLL_SECONDS + REQUEST_SECONDS)
            if answer.status == 404 and job.cancel_requested.is_set():
                raise Cancelled
            state = answer.checked()
            revision, since, figures_since = state["revision"], state["log_length"], state["figures_length"]
            job.add_figures(state["figures"])
            job.add_lines(state["log"][:-1] if state["state"] in FINAL_STATES else state["log"])
            if state["state"] != "queued" and not self._versions:
                self._versions = dict(_ask(worker, "GET", "/health").checked()["compute"]["versions"])
            if state["state"] in FINAL_STATES:
                return state
            job.update(state["state"], float(state["progress"]), str(state["text"]))
            if job.cancel_requested.is_set():
                cancelled_at = cancelled_at or time.monotonic()
                if time.monotonic() - cancelled_at > LONGEST_CANCEL_SECONDS:
                    worker.kill()

    def _cancel(self, job: Job) -> None:
        """Pass a cancellation on, in the background; what has not reached the worker ends here and now."""
        with self._lock:
            remote = self._remote_ids.get(job.id)
        if remote is None:
            job.finish("cancelled")
            return
        worker, remote_id = remote

        def tell() -> None:
            try:
                worker.request("DELETE", f"/jobs/{remote_id}", timeout=3.0)
            except ConnectionLostError:
                worker.kill()
                job.finish("cancelled")

        threading.Thread(target=tell, name="medseg-cancel", daemon=True).start()

    def _finish_early(self, job: Job) -> None:
        """Pass on that the best so far will do, in the background; before the worker has the job, it waits."""
        with self._lock:
            remote = self._remote_ids.get(job.id)
        if remote is None:
            return
        worker, remote_id = remote

        def tell() -> None:
            # A worker that is gone is met by the thread that follows the job.
            with contextlib.suppress(ConnectionLostError):
                worker.request("POST", f"/jobs/{remote_id}/finish", timeout=REQUEST_SECONDS)

        threading.Thread(target=tell, name="medseg-finish", daemon=True).start()

    def _report(self, job: Job) -> str:
        worker = self._worker
        return job_report(job, self._interpreter, self._versions, worker.last_words() if worker is not None else "")


def _ask(worker: RunningWorker, method: str, path: str, **options: Any) -> Answer:
    """Ask the worker; a lost connection becomes the sentence that tells the user what has happened."""
    try:
        return worker.request(method, path, **options)
    except ConnectionLostError as error:
        raise worker.cause_of_end() from error


def _watched(job: Job, parcel: Parcel) -> Iterator[bytes | memoryview]:
    """Yield a parcel's pieces; say how far it is, stop when the job is cancelled."""
    sent, total = 0, max(len(parcel), 1)
    for chunk in parcel.chunks():
        _stop_if_cancelled(job)
        job.say(f"Sending the volume: {100 * sent // total} %")
        yield chunk
        sent += len(chunk)


def _stop_if_cancelled(job: Job) -> None:
    if job.cancel_requested.is_set():
        raise Cancelled


def _facts(volumes: Sequence[Volume], request: Mapping[str, Any]) -> list[str]:
    """Return what the report tells of a request: nothing that names a person."""
    facts = [f"Input: {_describe(volume)}" for volume in volumes]
    return [*facts, f"Options: {str(request['options'])[:_LONGEST_FACT]}"] if request["options"] else facts


def _describe(volume: Volume) -> str:
    size = " x ".join(str(number) for number in volume.geometry.size)
    spacing = " x ".join(f"{number:.3g}" for number in volume.geometry.spacing)
    return f"{volume.modality or 'unknown modality'}, {size} voxels, {spacing} mm, {volume.array.dtype}"


def _short(model: str) -> str:
    """Return the name of a model for the report: of a folder only the last part, the others may name a person."""
    return next((part for part in reversed(re.split(r"[/\\]", str(model))) if part), "")


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
