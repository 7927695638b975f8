"""A training run in a process of its own, which needs nothing from this one but to be alive.

The run is known by its output folder: what it is doing is read from the files that it writes there
(:mod:`medseg.training.run_files`), so that a panel that was reloaded finds it again. Only Python's own library is
imported here.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medseg.backend.interpreter import PythonInterpreter, find_interpreter, worker_environment
from medseg.backend.processes import kill_family, start_process
from medseg.errors import RecipeError, TrainingError, WorkerError
from medseg.files import write_error
from medseg.training.run_files import PROGRESS, STATE, STOP, RunState, read_state, request_stop

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONSOLE = "console.log"
"""What the process writes on its standard output and error, in the output folder."""

NOTE = "NOTE "
"""How a line of the process begins that the user should read."""

_CONSOLE_TAIL_BYTES = 20_000

TrainingStates = Literal["none", "starting", "running", "stopping", "finished", "failed", "cancelled", "interrupted"]
GOING_ON = ("starting", "running", "stopping")


@dataclass(frozen=True)
class TrainingStatus:
    """What a run is doing.

    Attributes
    ----------
    state
        "none": there has been no run in the folder. "interrupted": its process ended without saying so; like a
        cancelled run, it goes on from its last checkpoint when it is started again.
    sentence
        For the user.
    fraction
        0 to 1 of the whole run.
    seconds_left
        ``None`` while not known.
    package, report
        The finished model package and the report, when they are there.
    """

    state: TrainingStates
    sentence: str = ""
    fraction: float = 0.0
    seconds_left: float | None = None
    package: Path | None = None
    report: Path | None = None

    @property
    def is_going_on(self) -> bool:
        """Whether a process works on the run."""
        return self.state in GOING_ON


class TrainingProcess:
    """The run of one output folder: starts it, follows it, ends it. Never waits.

    Parameters
    ----------
    output
        The folder; it need not be there. A run that another panel has started there is found.
    """

    def __init__(self, output: Path) -> None:
        self.output = Path(output)
        self._process: subprocess.Popen[bytes] | None = None
        self._before: tuple[int, ...] = ()
        self._stopping = False

    @property
    def is_own(self) -> bool:
        """Whether the last start was that of this object, and not that of another panel, program or person."""
        return self._process is not None

    def start(
        self,
        recipe: Path,
        data: Path,
        *,
        device: str = "auto",
        interpreter: PythonInterpreter | None = None,
        environment: Mapping[str, str] | None = None,
        script: Path | None = None,
    ) -> None:
        """Start the run, or go on with the one that was stopped here. Returns at once.

        Parameters
        ----------
        recipe, data, device
            As for :func:`medseg.training.run_training`, which checks them in the process.
        interpreter, environment
            As for the worker (:class:`~medseg.backend.WorkerClient`).
        script
            A Python file to run instead of :mod:`medseg.backend.training_run`, with the same arguments.

        Raises
        ------
        TrainingError
            When a run is going on in the folder.
        WriteError
            When the folder cannot be made or written to.
        WorkerError
            When the Python cannot be started.
        """
        if self.status().is_going_on:
            raise TrainingError(
                f"A run is going on in {self.output}.", advice="Wait for its end, stop it, or choose another folder."
            )
        self._before = _signature(self.output / STATE)
        self._stopping = False
        arguments = ["train", str(recipe), str(data), str(self.output), "--device", device]
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            (self.output / STOP).unlink(missing_ok=True)
            with (self.output / CONSOLE).open("wb") as console:
                self._process = start_runner(arguments, console, interpreter, environment, script)
        except OSError as error:
            raise write_error(self.output, error) from error

    def stop(self) -> None:
        """Ask the run to end within a step; its checkpoint stays. Returns at once; call :meth:`status` to see it end.

        Raises
        ------
        WriteError
            When the folder cannot be written to.
        """
        self._stopping = True
        if self._process is not None and self._own_state() is None:
            # It has not begun: there is nothing that it could lose.
            kill_family(self._process)
            return
        try:
            request_stop(self.output)
        except OSError as error:
            raise write_error(self.output, error) from error

    def kill(self) -> None:
        """End the process at once, when it was started here; what was done since the last epoch is lost."""
        if self._process is not None:
            kill_family(self._process)

    def status(self) -> TrainingStatus:
        """Return what the run is doing. Reads one small file."""
        if self._process is not None:
            exit_code = self._process.poll()
            state = self._own_state()
            if state is None:
                return self._before_the_first_state(exit_code)
            alive = exit_code is None
        else:
            state = read_state(self.output)
            if state is None:
                return TrainingStatus("none")
            alive = state.alive
        return self._status(state, alive=alive)

    def _status(self, state: RunState, *, alive: bool) -> TrainingStatus:
        given: dict[str, Any] = {
            "fraction": min(max(state.fraction, 0.0), 1.0),
            "package": _existing(self.output, state.package),
            "report": _existing(self.output, state.report),
        }
        if state.state == "failed":
            return TrainingStatus("failed", f"{state.message} {state.advice}".strip(), **given)
        if state.state != "running":
            return TrainingStatus(state.state, state.message, **given)
        if not alive:
            where = f" in epoch {state.epoch + 1} of {state.epochs}" if state.stage == "training" else ""
            return TrainingStatus(
                "cancelled" if self._stopping else "interrupted",
                f"The run was interrupted{where}. Start it again to go on from its last checkpoint.",
                **given,
            )
        if self._stopping:
            # A process that was just starting removes a request that it takes for an old one.
            with contextlib.suppress(OSError):
                request_stop(self.output)
            return TrainingStatus("stopping", "Stopping after this step…", **given)
        return TrainingStatus("running", state.message, seconds_left=state.eta_seconds, **given)

    def _before_the_first_state(self, exit_code: int | None) -> TrainingStatus:
        if exit_code is None:
            return TrainingStatus("stopping" if self._stopping else "starting", "Starting…")
        if self._stopping:
            return TrainingStatus("cancelled", "The run was stopped before it began.")
        return TrainingStatus("failed", last_sentence(self.output / CONSOLE) or _no_reason(exit_code))

    def _own_state(self) -> RunState | None:
        """Return the state that the process of this object wrote; the file of an earlier run does not count."""
        if _signature(self.output / STATE) == self._before:
            return None
        return read_state(self.output)


@dataclass
class ProgressReader:
    """Reads the lines of ``progress.jsonl`` as they come.

    Attributes
    ----------
    epochs
        The entries of the epochs so far, oldest first (their fields: :mod:`medseg.training.run_files`).
    labels, colors
        Names and colours ("#rrggbb") by label value, as text.
    """

    output: Path
    epochs: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    colors: dict[str, str] = field(default_factory=dict)
    _offset: int = 0
    _file: int = 0

    def read(self) -> tuple[bool, int]:
        """Read what is new; return whether ``epochs`` begins anew, and how many entries came at its end."""
        path = self.output / PROGRESS
        try:
            status = path.stat()
            anew = status.st_size < self._offset or status.st_ino != self._file
            if not anew and status.st_size == self._offset:
                return False, 0
            with path.open("rb") as stream:
                stream.seek(0 if anew else self._offset)
                data = stream.read()
        except OSError:
            forgotten = bool(self.epochs)
            self.epochs, self._offset, self._file = [], 0, 0
            return forgotten, 0
        if anew:
            self.epochs, self._offset, self._file = [], 0, status.st_ino
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        before = len(self.epochs)
        for line in whole.splitlines():
            self._take(line)
        return anew, len(self.epochs) - before

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            return
        if not isinstance(entry, dict):
            return
        if entry.get("kind") == "start":
            self.labels = {str(value): str(name) for value, name in (entry.get("labels") or {}).items()}
            self.colors = {str(value): str(color) for value, color in (entry.get("colors") or {}).items()}
        elif entry.get("kind") == "epoch" and isinstance(entry.get("epoch"), int):
            self.epochs.append(entry)


def start_runner(
    arguments: Sequence[str],
    console: Any,
    interpreter: PythonInterpreter | None = None,
    environment: Mapping[str, str] | None = None,
    script: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start :mod:`medseg.backend.training_run`, which writes to the file ``console`` and ends when this process does.

    Raises
    ------
    WorkerError
        When the Python cannot be started.
    """
    python = interpreter or find_interpreter()
    launch = Path(__file__).with_name("launch.py")
    program = [str(script)] if script is not None else [str(launch), "medseg.backend.training_run"]
    try:
        return start_process(
            [str(python.path), "-u", *program, "--owner", str(os.getpid()), *arguments],
            environment=worker_environment(python, environment),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
        )
    except OSError as error:
        message = f"The training could not be started with {python.path} ({error.strerror or error})."
        raise WorkerError(message, advice="Choose another Python environment in the settings.") from error


def write_recipe(
    recipe: Path,
    data: Path,
    *,
    start_from: str = "",
    interpreter: PythonInterpreter | None = None,
    environment: Mapping[str, str] | None = None,
    script: Path | None = None,
) -> list[str]:
    """Write a recipe that fits the data, with its label table beside it. Waits; not for the main thread.

    Parameters
    ----------
    start_from
        A model that the recipe goes on from, by its name or folder; empty: it trains one from scratch.
    interpreter, environment, script
        As for :meth:`TrainingProcess.start`.

    Returns
    -------
    list of str
        What the user should look at, whole sentences.

    Raises
    ------
    RecipeError
        When the data cannot be used, or not with that model.
    WorkerError
        When the Python cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="medseg-recipe-") as folder:
        path = Path(folder) / CONSOLE
        arguments = ["new", str(recipe), str(data), *([f"--from={start_from}"] if start_from else [])]
        with path.open("wb") as console:
            process = start_runner(arguments, console, interpreter, environment, script)
        if process.wait() != 0:
            raise RecipeError(last_sentence(path) or _no_reason(process.returncode))
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.removeprefix(NOTE) for line in lines if line.startswith(NOTE)]


def last_sentence(console: Path) -> str:
    """Return the last line that a process wrote: the runner says there in one sentence why it failed."""
    try:
        with console.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(stream.tell() - _CONSOLE_TAIL_BYTES, 0))
            lines = stream.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _no_reason(exit_code: int) -> str:
    return f"The training process ended with code {exit_code} before it began. Check the Python environment."


def _signature(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is written or replaced; nothing when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _existing(output: Path, name: str | None) -> Path | None:
    path = output / name if name else None
    return path if path is not None and path.exists() else None
