"""A job as its submitter sees it: cheap to look at from the main thread, filled by a background thread."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from medseg.backend.protocol import FINAL_STATES
from medseg.errors import Cancelled, MedSegError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable


class RemainingTime:
    """Guesses the seconds that are left from how fast the progress went in the last quarter of a minute.

    Silent until it has seen enough, and each phase (a text but for its numbers) is measured anew: the jump of the
    progress when a model is loaded says nothing about the windows after it. The guess is smoothed so that it does not
    flicker (our choice: 0.3 of the new value at each report).
    """

    _WINDOW_SECONDS = 15.0
    _SHORTEST_SECONDS = 1.5
    _FEWEST_REPORTS = 4
    _NEW_SHARE = 0.3

    def __init__(self) -> None:
        self._reports: deque[tuple[float, float]] = deque()
        self._phase = ""
        self._left: float | None = None
        self._told_at = 0.0

    def report(self, progress: float, now: float, phase: str = "") -> None:
        """Take a progress (0 to 1) at the time ``now`` (seconds of any clock) in this ``phase``."""
        if phase != self._phase:
            self._phase = phase
            self._reports.clear()
        if self._reports and progress <= self._reports[-1][1]:
            return
        self._reports.append((now, progress))
        while len(self._reports) > self._FEWEST_REPORTS and now - self._reports[0][0] > self._WINDOW_SECONDS:
            self._reports.popleft()
        (first_time, first_progress), seconds = self._reports[0], now - self._reports[0][0]
        if len(self._reports) < self._FEWEST_REPORTS or seconds < self._SHORTEST_SECONDS:
            return
        fresh = (1.0 - progress) * (now - first_time) / (progress - first_progress)
        before = self.seconds_left(now)
        self._left = fresh if before is None else before + self._NEW_SHARE * (fresh - before)
        self._told_at = now

    def seconds_left(self, now: float) -> float | None:
        """Return the guess for the time ``now``, or None when there is none yet."""
        return None if self._left is None else max(self._left - (now - self._told_at), 0.0)


class Job:
    """A job that was given to a :class:`~medseg.backend.client.WorkerClient`.

    All properties may be read from any thread at any time and never wait. ``state`` is "queued", "running", "done",
    "failed" or "cancelled"; ``text`` says in words what happens; ``seconds_left`` is None as long as nothing sensible
    can be said. After "failed" and "cancelled" ``error`` says why.
    """

    def __init__(
        self,
        what: str,
        canceller: Callable[[Job], None],
        reporter: Callable[[Job], str],
        finisher: Callable[[Job], None] | None = None,
    ) -> None:
        self.id = secrets.token_hex(4)
        self.what = what
        self._canceller = canceller
        self._reporter = reporter
        self._finisher = finisher
        self._lock = threading.Lock()
        self._finished = threading.Event()
        self._state = "queued"
        self._progress = 0.0
        self._text = "Starting the worker…"
        self._remaining = RemainingTime()
        self._error: MedSegError | None = None
        self._log: list[str] = []
        self._figures: dict[str, list[float | None]] = {}
        self._result: Any = None
        self._device = ""
        self._created = time.monotonic()
        self.cancel_requested = threading.Event()
        self.finish_requested = threading.Event()
        self.details = ""
        self.facts: list[str] = []

    @property
    def state(self) -> str:
        """ "queued", "running", "done", "failed" or "cancelled"."""
        return self._state

    @property
    def is_finished(self) -> bool:
        """Whether the state will not change any more."""
        return self._finished.is_set()

    @property
    def progress(self) -> float:
        """0 to 1."""
        return self._progress

    @property
    def text(self) -> str:
        """What happens at the moment, or the error's sentence."""
        return self._text

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the end of a running job, or None."""
        with self._lock:
            return self._remaining.seconds_left(time.monotonic()) if self._state == "running" else None

    @property
    def error(self) -> MedSegError | None:
        """Why the job failed or was cancelled."""
        return self._error

    @property
    def log(self) -> list[str]:
        """The lines of the log so far."""
        with self._lock:
            return list(self._log)

    def figures(self, name: str) -> list[float | None]:
        """Return the values that a number had so far, such as "loss" of a registration, the oldest first."""
        with self._lock:
            return list(self._figures.get(name, ()))

    @property
    def device(self) -> str:
        """Where the result was computed, empty when there is none or it does not say."""
        return self._device

    def poll(self) -> Job:
        """Return the job itself: its properties are always up to date. Never waits."""
        return self

    def cancel(self) -> None:
        """Ask to stop; returns at once. The job is "cancelled", with its memory free, within two seconds."""
        if self.is_finished or self.cancel_requested.is_set():
            return
        self.cancel_requested.set()
        with self._lock:
            self._text = "Cancelling…"
        self._canceller(self)

    def finish_early(self) -> None:
        """Ask to stop soon and to give the best so far; returns at once. What cannot do that goes on to its end."""
        if self.is_finished or self.finish_requested.is_set() or self._finisher is None:
            return
        self.finish_requested.set()
        self._finisher(self)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, at most ``timeout`` seconds; return whether it came. Not for the main thread."""
        return self._finished.wait(timeout)

    def result(self) -> Any:
        """Return what the job gave: a SegmentationResult for "segment", a DerivedVolume for a verb that gives a volume,
        a Registered for one that gives a transform, a dictionary for an estimate; None after :meth:`drop_result`.

        Raises
        ------
        MedSegError
            The job's error, or WorkerError when it is not finished.
        """
        if self._error is not None:
            raise self._error
        if not self.is_finished:
            raise WorkerError("The job is not finished.", advice="Wait until its state is done.")
        return self._result

    def drop_result(self) -> None:
        """Let go of the result, often hundreds of megabytes, when it was made use of and the report is still wanted."""
        with self._lock:
            self._result = None

    def report(self) -> str:
        """Return a text for "copy report": versions, device, interpreter, log, traceback; nothing of the patient."""
        return self._reporter(self)

    # What follows is for the client's background threads.

    def update(self, state: str, progress: float, text: str) -> None:
        """Take over what is known now; a finished job does not change."""
        with self._lock:
            if self._finished.is_set():
                return
            self._state, self._progress = state, progress
            if not self.cancel_requested.is_set():
                self._text = text
            if state == "running":
                self._remaining.report(progress, time.monotonic(), _phase_of(text))

    def say(self, text: str) -> None:
        """Show and log what the client itself does for the job."""
        with self._lock:
            if not self._log or _phase_of(self._text) != _phase_of(text):
                self._log.append(f"{time.monotonic() - self._created:7.1f} s  {text}")
            if not self.cancel_requested.is_set():
                self._text = text

    def add_lines(self, lines: list[str]) -> None:
        """Append lines to the log."""
        with self._lock:
            self._log.extend(lines)

    def add_figures(self, figures: list[tuple[str, float | None]]) -> None:
        """Append figures, pairs of a name and a value."""
        with self._lock:
            for name, value in figures:
                self._figures.setdefault(name, []).append(value)

    def finish(self, state: str, *, error: MedSegError | None = None, details: str = "", result: Any = None) -> None:
        """Bring the job to its end, once."""
        assert state in FINAL_STATES
        with self._lock:
            if self._finished.is_set():
                return
            self._state, self._error, self._result = state, error, result
            self._device = str(getattr(result, "device", ""))
            self.details = details
            self._progress = 1.0 if state == "done" else self._progress
            self._text = {"done": "Done.", "cancelled": "Cancelled."}.get(state, str(error))
            if state == "cancelled" and error is None:
                self._error = Cancelled()
            self._log.append(f"{time.monotonic() - self._created:7.1f} s  {self._text}")
            self._finished.set()


def _phase_of(text: str) -> str:
    """Return a text without its numbers: what stays the same while something is counted."""
    return re.sub(r"\d+", "#", text)
