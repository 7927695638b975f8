"""The worker's hold on its computing process: start it, talk to it, end it, learn why it ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from typing import IO, TYPE_CHECKING, Any

from medseg.backend.processes import TailOfOutput, kill_family, start_process, wait_until_dead
from medseg.errors import DeviceMemoryError, MedSegError, WorkerError, error_from_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SECONDS_FOR_LAST_WORDS = 2.0


class ComputeProcess:
    """One computing process. ``listener(process, message)`` is called from a background thread for each event.

    Two events are added to those that the process sends: ``ready`` also sets :attr:`is_ready`, and ``dead`` comes
    last, when the process and its children are gone.
    """

    def __init__(self, command: Sequence[str], listener: Callable[[ComputeProcess, dict[str, Any]], None]) -> None:
        self._listener = listener
        self._send_lock = threading.Lock()
        self._calls: dict[int, _Call] = {}
        self._last_call = 0
        self.is_ready = False
        self.is_dead = False
        self.versions: dict[str, str] = {}
        self.problem: MedSegError | None = None
        self.details = ""
        self.exit_code: int | None = None
        try:
            self._process = start_process(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            message = f"The computing process could not be started ({error.strerror or error})."
            raise WorkerError(
                message, advice="Restart the program; if it happens again, restart the computer."
            ) from error
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._errors = TailOfOutput(self._process.stderr)
        self._reader = threading.Thread(
            target=self._read, args=(self._process.stdout,), name="medseg-compute-events", daemon=True
        )
        self._reader.start()
        threading.Thread(target=self._await_end, name="medseg-compute-end", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process number."""
        return self._process.pid

    def send(self, op: str, **fields: Any) -> None:
        """Send one message; a dead process is not an error here, its end is told by the event ``dead``."""
        stream = self._process.stdin
        with self._send_lock, contextlib.suppress(OSError, ValueError):
            if stream is not None:
                stream.write(json.dumps({"op": op, **fields}).encode() + b"\n")
                stream.flush()

    def call(self, name: str, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Ask something short and wait for the answer.

        Raises
        ------
        MedSegError
            What the process answers instead, its end, or no answer within ``timeout`` seconds.
        """
        call = _Call()
        with self._send_lock:
            self._last_call += 1
            number = self._last_call
            self._calls[number] = call
        try:
            if not self.is_dead:
                self.send("call", call=number, name=name, request=request)
            if self.is_dead or not call.answered.wait(timeout) or call.answer is None:
                raise WorkerError("The computing process did not answer.", advice="Please try again.")
        finally:
            self._calls.pop(number, None)
        if "error" in call.answer:
            raise error_from_dict(call.answer["error"])
        return dict(call.answer["result"])

    def kill(self) -> None:
        """End the process and its children at once."""
        kill_family(self._process)

    def last_words(self) -> str:
        """Return what the process last wrote on its standard error."""
        return "\n".join(self._errors.lines())

    def cause_of_death(self) -> MedSegError:
        """Return one sentence on why the process ended by itself."""
        code = self.exit_code
        if code == -getattr(signal, "SIGKILL", 9):
            return DeviceMemoryError(
                "The system ended the computing process, most likely because the computer ran out of memory.",
                advice="Close other programs or crop the volume, then try again.",
            )
        return WorkerError(
            f"The computing process ended unexpectedly ({_exit_text(code)}).",
            advice="Please try again; if it happens again, choose another device and send us the report.",
        )

    def _read(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in stream:
                try:
                    message = json.loads(line)
                    event = message["event"]
                except (ValueError, TypeError, KeyError):
                    continue
                self._note(event, message)
                self._listener(self, message)

    def _note(self, event: str, message: dict[str, Any]) -> None:
        if event == "ready":
            self.versions = {"python": message["python"], **message["versions"]}
            self.problem = error_from_dict(message["problem"]) if message["problem"] else None
            self.details = message["details"]
            self.is_ready = True
        elif event == "answer" and message["call"] in self._calls:
            call = self._calls[message["call"]]
            call.answer = message
            call.answered.set()

    def _await_end(self) -> None:
        self.exit_code = wait_until_dead(self._process)
        # What it wrote before its end counts: a result that is complete is not lost by a crash afterwards.
        self._reader.join(_SECONDS_FOR_LAST_WORDS)
        self._errors.lines(wait_seconds=_SECONDS_FOR_LAST_WORDS)
        self.is_dead = True
        for call in list(self._calls.values()):
            call.answered.set()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        self._listener(self, {"event": "dead"})


class _Call:
    def __init__(self) -> None:
        self.answered = threading.Event()
        self.answer: dict[str, Any] | None = None


def _exit_text(code: int | None) -> str:
    if code is None:
        return "for an unknown reason"
    if code >= 0:
        return f"exit code {code}" if os.name != "nt" else f"exit code 0x{code & 0xFFFFFFFF:X}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
