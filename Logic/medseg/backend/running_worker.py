"""The client's hold on its worker process: start it, ask it over HTTP, end it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import secrets
import shutil
import subprocess
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from medseg.backend.interpreter import PythonInterpreter, check_interpreter, worker_environment
from medseg.backend.processes import TailOfOutput, kill_family, start_process, wait_until_dead
from medseg.backend.protocol import PROTOCOL, TOKEN_VARIABLE
from medseg.backend.run_folder import PREFIX
from medseg.errors import MedSegError, WorkerError, error_from_dict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

START_SECONDS = 90.0
STOP_SECONDS = 5.0
REQUEST_SECONDS = 60.0
"""The end of a worker is noticed at once; this is for one that hangs, and a busy machine must not look like that."""


class ConnectionLostError(Exception):
    """The worker did not answer, or broke off."""


class Answer:
    """What the worker answered: ``status``, ``data`` and, for JSON, :meth:`json`."""

    def __init__(self, status: int, data: bytes) -> None:
        self.status = status
        self.data = data

    def json(self) -> dict[str, Any]:
        """Return the JSON object.

        Raises
        ------
        WorkerError
            When it is none.
        """
        try:
            fields = json.loads(self.data)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise WorkerError("The worker's answer makes no sense.", advice="Please try again.")
        return fields

    def checked(self) -> dict[str, Any]:
        """Return the JSON object, or raise the error that it holds."""
        fields = self.json() if self.data else {}
        if self.status >= 400:
            raise error_from_dict(fields.get("error") or {"kind": "WorkerError", "message": "The worker refused."})
        return fields


class RunningWorker:
    """A worker process that has said that it is ready. Its constructor waits for that; not for the main thread."""

    def __init__(
        self,
        interpreter: PythonInterpreter,
        *,
        environment: Mapping[str, str] | None = None,
        home: Path | None = None,
        idle_minutes: float | None = None,
        script: Path | None = None,
    ) -> None:
        self.interpreter = interpreter
        self.token = secrets.token_urlsafe(32)
        self.ended = threading.Event()
        self.exit_code: int | None = None
        self._stopped = False
        variables = worker_environment(interpreter, environment)
        variables[TOKEN_VARIABLE] = self.token
        if home is not None:
            variables["MEDSEG_HOME"] = str(home)
        self._process = self._start(variables, script, idle_minutes)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._errors = TailOfOutput(self._process.stderr)
        greeting = self._await_greeting(self._process.stdout, environment)
        self.port = int(greeting["port"])
        self.pid = int(greeting["pid"])
        self.folder = Path(str(greeting["folder"]))
        self.python = str(greeting["python"])
        threading.Thread(target=self._await_end, name="medseg-worker-end", daemon=True).start()

    def _start(
        self, variables: dict[str, str], script: Path | None, idle_minutes: float | None
    ) -> subprocess.Popen[bytes]:
        launch = Path(__file__).with_name("launch.py")
        arguments = [str(script)] if script is not None else [str(launch), "medseg.backend.worker"]
        arguments += ["--owner", str(os.getpid())]
        if idle_minutes is not None:
            arguments += ["--idle-minutes", str(idle_minutes)]
        try:
            process = start_process(
                [str(self.interpreter.path), "-u", *arguments],
                environment=variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            message = f"The worker could not be started with {self.interpreter.path} ({error.strerror or error})."
            raise WorkerError(message, advice="Choose another Python environment in the settings.") from error
        # The line tells the worker that its standard input really comes from here (see watch_owner).
        with contextlib.suppress(OSError):
            assert process.stdin is not None
            process.stdin.write(b"owner\n")
            process.stdin.flush()
        return process

    def _await_greeting(self, stream: IO[bytes], environment: Mapping[str, str] | None) -> dict[str, Any]:
        greetings: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=_read_greeting, args=(stream, greetings), name="medseg-greeting", daemon=True).start()
        try:
            greeting = greetings.get(timeout=START_SECONDS)
        except queue.Empty:
            greeting = None
        if greeting is not None and greeting["medseg_worker"] == PROTOCOL:
            return greeting
        kill_family(self._process)
        self._process.wait()
        self._raise_cannot_start(environment)
        raise AssertionError

    def _raise_cannot_start(self, environment: Mapping[str, str] | None) -> None:
        report = check_interpreter(self.interpreter, environment=environment)
        if report.problems:
            raise WorkerError("The background worker could not be started.", advice=report.problems[0])
        last = self._errors.lines(wait_seconds=1.0)[-1:]
        message = f"The background worker could not be started with {self.interpreter.path}."
        error = WorkerError(message, advice="Choose another Python environment in the settings, or restart.")
        raise error from RuntimeError(" ".join(last))

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return not self.ended.is_set()

    def request(
        self,
        method: str,
        path: str,
        *,
        fields: dict[str, Any] | None = None,
        chunks: Iterable[bytes | memoryview] | None = None,
        length: int = 0,
        timeout: float = REQUEST_SECONDS,
    ) -> Answer:
        """Send one request on a connection of its own and return the answer.

        Raises
        ------
        ConnectionLostError
            When the worker is gone, does not answer in time or breaks off.
        """
        # Not urllib: it would ask for a proxy.
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        headers = {"Authorization": f"Bearer {self.token}"}
        body: bytes | Iterable[bytes | memoryview] | None = None
        if fields is not None:
            body = json.dumps(fields).encode()
            headers["Content-Type"] = "application/json"
        elif chunks is not None:
            body = chunks
            headers["Content-Length"] = str(length)
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            return Answer(response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionLostError(str(error)) from error
        finally:
            connection.close()

    def cause_of_end(self) -> MedSegError:
        """Return one sentence for a job whose worker did not answer any more."""
        if self.ended.wait(STOP_SECONDS):
            return WorkerError(
                "The background worker ended unexpectedly.", advice="Please try again; it is started anew."
            )
        self.kill()
        return WorkerError("The background worker did not answer.", advice="Please try again; it is started anew.")

    def last_words(self) -> str:
        """Return what the worker last wrote on its standard error."""
        return "\n".join(self._errors.lines())

    def stop(self) -> None:
        """Let the worker end, in the background; it is ended by force when it does not."""
        self._stopped = True
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        threading.Thread(target=self._make_sure, name="medseg-worker-stop", daemon=True).start()

    def kill(self) -> None:
        """End the worker at once. Its computing process ends by itself when the worker is gone."""
        kill_family(self._process)

    def _make_sure(self) -> None:
        if not self.ended.wait(STOP_SECONDS):
            self.kill()

    def _await_end(self) -> None:
        self.exit_code = wait_until_dead(self._process)
        # A worker that was ended by force could not remove the images; its computing process may need a moment.
        if self.folder.name.startswith(PREFIX) and self.folder.is_dir():
            shutil.rmtree(self.folder, ignore_errors=True)
        self.ended.set()


def _read_greeting(stream: IO[bytes], greetings: queue.Queue[dict[str, Any] | None]) -> None:
    """Pass on the worker's first line; a launcher may have written others before. Then keep the pipe empty."""
    with contextlib.suppress(OSError, ValueError):
        for line in stream:
            with contextlib.suppress(ValueError):
                fields = json.loads(line)
                if isinstance(fields, dict) and "medseg_worker" in fields:
                    greetings.put(fields)
    greetings.put(None)
