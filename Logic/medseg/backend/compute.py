"""The computing process: holds torch and the warm models, does one job at a time, talks to the worker over pipes.

It reads one JSON object a line from its standard input (``job``, ``cancel``, ``finish``, ``call``) and writes one a
line to its standard output (``ready``, ``progress``, ``figures``, ``log``, ``done``, ``failed``, ``cancelled``,
``answer``); volumes and results are files in the worker's private folder. It is a process of its own so that a job that
does not stop, or that takes the process down with it, costs nothing but itself.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import logging
import math
import os
import queue
import re
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from medseg.backend.encoding import open_volume
from medseg.backend.processes import kill_own_family
from medseg.backend.verbs import CALLS, VERBS, Task, Verb, WarmModels, prepare
from medseg.backend.verbs_correction import WarmSessions
from medseg.device import release_memory
from medseg.errors import Cancelled, DeviceMemoryError, MedSegError
from medseg.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SECONDS_BETWEEN_REPORTS = 0.1


class Channel:
    """The way back to the worker: JSON lines, from any thread."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, event: str, **fields: Any) -> None:
        """Write one event; when nobody reads any more, end this process."""
        line = json.dumps({"event": event, **fields}).encode() + b"\n"
        try:
            with self._lock:
                self._stream.write(line)
                self._stream.flush()
        except OSError:
            kill_own_family()


class JobLog(logging.Handler):
    """Sends what MedSeg's modules log during a job to that job's log."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(logging.INFO)
        self._channel = channel
        self.job: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; outside a job there is nobody to read it."""
        if self.job is not None:
            self._channel.send("log", job=self.job, line=f"{record.levelname.lower()}: {record.getMessage()}")


class Computer:
    """Runs verbs. ``verbs`` and ``calls`` are the tables of what there is; ``loader`` imports what they need."""

    def __init__(
        self,
        channel: Channel,
        verbs: Mapping[str, Verb] = VERBS,
        calls: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = CALLS,
        loader: Callable[[], dict[str, str]] = prepare,
    ) -> None:
        self._channel = channel
        self._verbs = verbs
        self._calls = calls
        self._loader = loader
        self._models = WarmModels()
        self._sessions = WarmSessions()
        self._jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._cancelled: set[str] = set()
        self._finishing: set[str] = set()
        self._log = JobLog(channel)

    def run(self, stream: IO[bytes]) -> None:
        """Get ready, then do jobs for ever; the end of ``stream`` ends the process and its children."""
        logger = logging.getLogger("medseg")
        logger.addHandler(self._log)
        logger.setLevel(logging.INFO)
        threading.Thread(target=self._listen, args=(stream,), name="medseg-listen", daemon=True).start()
        problem, details, versions = None, "", {}
        try:
            versions = self._loader()
        except Exception as error:  # noqa: BLE001 - a broken installation may raise anything; it is reported
            problem, details = describe_failure(error)
        # What was imported stays; looking through it again after every job would take a second.
        gc.collect()
        gc.freeze()
        self._channel.send("ready", versions=versions, python=sys.version.split()[0], problem=problem, details=details)
        while True:
            job = self._jobs.get()
            self._do(job)
            # The names of this frame must not keep the last job's volumes alive.
            del job
            release_memory()

    def _listen(self, stream: IO[bytes]) -> None:
        for line in stream:
            message = json.loads(line)
            if message["op"] == "job":
                self._jobs.put(message)
            elif message["op"] == "cancel":
                self._cancelled.add(message["job"])
            elif message["op"] == "finish":
                self._finishing.add(message["job"])
            elif message["op"] == "call":
                # Not in this thread: a cancel must be heard while it runs.
                threading.Thread(target=self._answer, args=(message,), name="medseg-call", daemon=True).start()
        kill_own_family()

    def _answer(self, message: dict[str, Any]) -> None:
        try:
            result = self._calls[message["name"]](message["request"])
        except Exception as error:  # noqa: BLE001 - whatever it is, the asker gets a sentence
            error_fields, details = describe_failure(error)
            self._channel.send("answer", call=message["call"], error=error_fields, details=details)
        else:
            self._channel.send("answer", call=message["call"], result=result)

    def _do(self, message: dict[str, Any]) -> None:
        job = message["job"]
        self._log.job = job
        try:
            outcome = self._compute(message)
        except Cancelled:
            outcome = {"event": "cancelled"}
        except Exception as error:  # noqa: BLE001 - a defect ends the job, not the process
            error_fields, details = describe_failure(error)
            outcome = {"event": "failed", "error": error_fields, "details": details}
        # Outside the except clauses: an exception that is being handled keeps every array of its frames.
        self._log.job = None
        if outcome["event"] != "done":
            with contextlib.suppress(OSError):
                Path(message["result"]).unlink(missing_ok=True)
            release_memory()
        self._cancelled.discard(job)
        self._finishing.discard(job)
        self._channel.send(outcome.pop("event"), job=job, **outcome)

    def _compute(self, message: dict[str, Any]) -> dict[str, Any]:
        job = message["job"]
        if message.get("finish"):
            self._finishing.add(job)
        reporter = Reporter(self._channel, job)
        progress = Progress(reporter.report, lambda: job in self._cancelled)
        progress.check()
        task = Task(
            message["model"],
            message["options"],
            [open_volume(Path(path)) for path in message["volumes"]],
            self._models,
            progress,
            finishing=lambda: job in self._finishing,
            tell=reporter.tell,
            addresses=tuple(Path(path).name for path in message["volumes"]),
            sessions=self._sessions,
        )
        parcel = self._verbs[message["verb"]](task)
        progress.check()
        reporter.flush()
        with Path(message["result"]).open("xb") as file:
            for chunk in parcel.chunks():
                file.write(chunk)
        return {"event": "done"}


class Reporter:
    """Passes on what a job tells: at most ten reports a second and every new phase; figures as often, but all."""

    def __init__(self, channel: Channel, job: str) -> None:
        self._channel = channel
        self._job = job
        self._last_report, self._last_figures, self._phase = 0.0, 0.0, ""
        self._figures: list[tuple[str, float | None]] = []

    def report(self, fraction: float, text: str) -> None:
        """Take a progress (0 to 1) and what happens, in words."""
        now, phase = time.monotonic(), re.sub(r"\d+", "#", text)
        if phase != self._phase or now - self._last_report >= SECONDS_BETWEEN_REPORTS or fraction >= 1.0:
            self._last_report, self._phase = now, phase
            self._channel.send("progress", job=self._job, fraction=fraction, text=text)

    def tell(self, name: str, value: float) -> None:
        """Take a number that changes while the job runs, such as a loss."""
        self._figures.append((name, float(value) if math.isfinite(value) else None))
        if time.monotonic() - self._last_figures >= SECONDS_BETWEEN_REPORTS:
            self.flush()

    def flush(self) -> None:
        """Pass on the figures that are left."""
        if self._figures:
            self._last_figures = time.monotonic()
            self._channel.send("figures", job=self._job, figures=self._figures)
            self._figures = []


def describe_failure(error: BaseException) -> tuple[dict[str, str], str]:
    """Return (what the user reads, what the report holds) for an exception."""
    details = "".join(traceback.format_exception(error))
    if isinstance(error, MedSegError):
        return error.to_dict(), details
    if _is_out_of_memory(error):
        told: MedSegError = DeviceMemoryError(
            "There was not enough memory for this job.",
            advice="Close other programs, crop the volume, or choose the CPU if the GPU was used.",
        )
    elif isinstance(error, OSError) and error.errno is not None:
        told = MedSegError(
            f"The worker could not read or write its files: {error.strerror}.",
            advice="Free some space in the folder for temporary files and try again.",
        )
    else:
        told = MedSegError(
            f"This is a defect of MedSeg ({type(error).__name__}).",
            advice="Please copy the report and send it to the developers.",
        )
    return told.to_dict(), details


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    # torch's allocator for the CPU and ITK's report it as a RuntimeError.
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        phrase in text
        for phrase in ("can't allocate memory", "out of memory", "failed to allocate memory", "bad_alloc")
    )


def main(
    _arguments: Sequence[str] = (),
    *,
    verbs: Mapping[str, Verb] = VERBS,
    calls: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = CALLS,
    loader: Callable[[], dict[str, str]] = prepare,
) -> None:
    """Serve jobs on standard input and output until the input ends."""
    commands = os.fdopen(os.dup(0), "rb")
    events = os.fdopen(os.dup(1), "wb")
    # Whatever a library prints must not get between our lines, and no child may hold our pipes open.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    faulthandler.enable(file=2)
    Computer(Channel(events), verbs, calls, loader).run(commands)
