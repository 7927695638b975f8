"""The small files by which others follow a run: ``state.json``, ``progress.jsonl``, and ``stop`` to end it.

They lie in the run's output folder. Nothing but Python's own library is needed to read them, so that a panel can draw
live curves without torch.

The first file is also the run's heartbeat: a thread of the process that writes it touches it every ten seconds. What
has not been touched for two minutes counts as ended, whatever process has its number. So does a run whose computer is
suspended, or whose process is paused, for that long; it counts as alive again ten seconds after it goes on. Whoever
has started another run in the folder meanwhile has two of them there. Computers that share a folder must agree on the
time to within a minute.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import threading
import time
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from medseg.files import atomic_path

STATE, PROGRESS, STOP = "state.json", "progress.jsonl", "stop"

HEARTBEAT_SECONDS, SILENT_SECONDS = 10.0, 120.0
"""Between two signs of life of a run; how long it may give none and still be alive."""

_FORMAT = 1
_LEAST_SECONDS = 1.0
"""Between two states of the same stage: a network folder is not to be written at every step."""
_STOP_SECONDS = 0.5


@dataclass(frozen=True)
class RunState:
    """Where a run is; ``state.json`` holds ``format`` and exactly these fields, but for ``silent_seconds``.

    Attributes
    ----------
    state
        "running", "finished", "failed" or "cancelled"; a process that was killed leaves "running".
    stage
        "checking", "preparing", "training", "evaluating" or "done".
    message, advice
        What the run is doing, or why it failed and the next step.
    fraction
        0 to 1 of the whole run.
    epoch, epochs, step, steps
        Epochs and optimiser steps that are done, also before a resume, and in all (0: not known yet).
    eta_seconds
        Seconds that remain; ``None`` while not known.
    pid, host
        The process that writes, and its machine.
    started, updated
        ISO 8601, UTC.
    resumed_from_epoch
        Epochs that this start of the run found done.
    recipe
        ``package.name`` of the recipe.
    package, report
        Relative to the output folder; ``None`` until written.
    exported
        The absolute path of what ``--export`` asked for; ``None`` until written.
    silent_seconds
        How long ago the run gave its last sign of life when the file was read: the age of the file.
    """

    state: Literal["running", "finished", "failed", "cancelled"] = "running"
    stage: Literal["checking", "preparing", "training", "evaluating", "done"] = "checking"
    message: str = ""
    advice: str = ""
    fraction: float = 0.0
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    eta_seconds: float | None = None
    pid: int = 0
    host: str = ""
    started: str = ""
    updated: str = ""
    resumed_from_epoch: int = 0
    recipe: str = ""
    package: str | None = None
    exported: str | None = None
    report: str | None = None
    silent_seconds: float = 0.0

    @property
    def alive(self) -> bool:
        """Whether another process than this one works on the run: its heart beats and, on this machine, it exists."""
        if self.state != "running" or self.silent_seconds > SILENT_SECONDS:
            return False
        return self.host != socket.gethostname() or (self.pid != os.getpid() and _exists(self.pid))


def read_state(output: Path) -> RunState | None:
    """Return the state of the run in ``output``; ``None`` when there is none that can be read."""
    try:
        silent = time.time() - (output / STATE).stat().st_mtime
        content = json.loads((output / STATE).read_text(encoding="utf-8"))
        known = {field.name for field in fields(RunState)}
        given = {name: value for name, value in content.items() if name in known}
        return RunState(**{**given, "silent_seconds": silent})
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def read_progress(output: Path) -> list[dict[str, Any]]:
    """Return the lines of ``progress.jsonl``, oldest first; a line that is being written is left out."""
    try:
        text = (output / PROGRESS).read_text(encoding="utf-8")
    except OSError:
        return []
    found = []
    for line in text.split("\n")[:-1]:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found


def request_stop(output: Path) -> None:
    """Ask the run in ``output`` to end within a step; nothing but the running epoch is lost.

    Raises
    ------
    OSError
        When the folder cannot be written.
    """
    (output / STOP).touch()


class RunFiles:
    """Writes the files of one run.

    A process that only helps the first one (``writes`` false) looks for ``stop`` and writes nothing.
    """

    def __init__(self, output: Path, *, writes: bool = True) -> None:
        self._output, self._writes = output, writes
        self._written = self._looked = -math.inf
        self._stop = self._begun = False
        self._ended = threading.Event()
        now = _now()
        self._state = RunState(pid=os.getpid(), host=socket.gethostname(), started=now, updated=now)

    @property
    def state(self) -> RunState:
        """The state as it was last told, written or not."""
        return self._state

    def start(self) -> None:
        """Write the first state and let the heart beat; an old request to stop does not hold for this run."""
        if self._writes:
            (self._output / STOP).unlink(missing_ok=True)
            self.update()
            threading.Thread(target=self._beat, name="medseg-heartbeat", daemon=True).start()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(self._output / STATE)

    def update(self, **changes: Any) -> None:
        """Take over ``changes`` (fields of :class:`RunState`) and write them, unless the last writing was just now."""
        stage = self._state.stage, self._state.state
        self._state = RunState(**{**asdict(self._state), **changes, "updated": _now()})
        same = stage == (self._state.stage, self._state.state)
        if same and time.monotonic() - self._written < _LEAST_SECONDS:
            return
        self.flush()

    def flush(self) -> None:
        """Write the state now."""
        if not self._writes:
            return
        self._written = time.monotonic()
        content = {"format": _FORMAT, **asdict(self._state)}
        del content["silent_seconds"]
        with atomic_path(self._output / STATE) as path:
            path.write_text(_json(content, indent=1), encoding="utf-8")

    def stop_requested(self) -> bool:
        """Return whether somebody asked the run to stop, looking at most twice a second."""
        if not self._stop and time.monotonic() - self._looked > _STOP_SECONDS:
            self._looked = time.monotonic()
            self._stop = (self._output / STOP).exists()
        return self._stop

    def end(self, state: Literal["finished", "failed", "cancelled"], message: str, advice: str = "") -> None:
        """Write the last state, and the last line of the progress when this run has begun it."""
        self._ended.set()
        if not self._writes:
            return
        done: dict[str, Any] = {"stage": "done", "fraction": 1.0} if state == "finished" else {}
        self.update(state=state, message=message, advice=advice, eta_seconds=None, **done)
        if self._begun:
            self.append("end", state=state, message=message)
        (self._output / STOP).unlink(missing_ok=True)

    def fail(self, message: str, advice: str = "") -> None:
        """Write that the run has failed; a helping process does so too, because the first one will not know why."""
        self._writes = True
        self.end("failed", message, advice)

    def append(self, kind: str, **entry: Any) -> None:
        """Append a line to ``progress.jsonl``; numbers that are not finite become null."""
        if not self._writes:
            return
        self._begun = True
        line = _json({"kind": kind, "time": _now(), **entry})
        with (self._output / PROGRESS).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def forget_epochs(self, after: int) -> float:
        """Remove the lines of epochs that have to be repeated; return the seconds of those that remain.

        With ``after`` 0 the file begins anew.
        """
        kept = [
            entry
            for entry in (read_progress(self._output) if after else ())
            if entry.get("kind") != "epoch" or entry.get("epoch", 0) <= after
        ]
        if self._writes:
            with atomic_path(self._output / PROGRESS) as path:
                path.write_text("".join(_json(entry) + "\n" for entry in kept), encoding="utf-8")
        seconds = [entry.get("total_seconds") or 0.0 for entry in kept if entry.get("kind") == "epoch"]
        return float(seconds[-1]) if seconds else 0.0


def _json(content: Any, indent: int | None = None) -> str:
    return json.dumps(_finite(content), allow_nan=False, indent=indent, ensure_ascii=False)


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(name): _finite(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    if isinstance(content, float):
        return float(f"{content:.6g}") if math.isfinite(content) else None
    return content


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _exists(pid: int) -> bool:
    """Return whether there is a process with this number, without touching it."""
    if pid <= 0:
        return False
    if os.name == "nt":
        import ctypes

        kernel: Any = getattr(ctypes, "windll").kernel32  # noqa: B009 - mypy on Linux does not know the attribute
        query_limited_information, still_active = 0x1000, 259
        handle = kernel.OpenProcess(query_limited_information, 0, pid)
        if not handle:
            return False
        code = ctypes.c_ulong()
        kernel.GetExitCodeProcess(handle, ctypes.byref(code))
        kernel.CloseHandle(handle)
        return code.value == still_active
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Return whether the process has ended and only its parent has not looked yet (Linux)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return text.rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False
