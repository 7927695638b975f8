"""The service over HTTP on 127.0.0.1, with the standard library only. The protocol is in docs/developer/protocol.md."""

from __future__ import annotations

import contextlib
import hmac
import json
import re
import socket
import threading
import zlib
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from medseg.backend.encoding import CHUNK_BYTES
from medseg.backend.service import Refusal
from medseg.backend.volume_store import MAXIMUM_VOLUME_BYTES
from medseg.errors import InputError, MedSegError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medseg.backend.service import Service

MAXIMUM_JSON_BYTES = 1 << 20
MAXIMUM_CONNECTIONS = 64
SOCKET_SECONDS = 60.0
_DRAINED_BYTES = 1 << 16


class WorkerServer(ThreadingHTTPServer):
    """Serves ``service`` on a free port of 127.0.0.1 to those who know ``token``."""

    daemon_threads = True
    # On Windows the option would let another program listen on our port too.
    allow_reuse_address = False
    request_queue_size = 32

    def __init__(self, service: Service, token: str) -> None:
        if len(token) < 16:
            raise WorkerError("The worker's token is too short.", advice="Start the worker through its client.")
        self.service = service
        self.token = token.encode()
        self._free = threading.BoundedSemaphore(MAXIMUM_CONNECTIONS)
        super().__init__(("127.0.0.1", 0), Handler)
        self.hosts = frozenset({f"127.0.0.1:{self.server_port}", f"localhost:{self.server_port}"})

    def server_bind(self) -> None:
        """Bind without asking the name server for our name, which can take seconds."""
        socket.socket.bind(self.socket, self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, as long as there are not too many."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection and give its place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks is the other side's affair; nothing of it is logged."""


class Handler(BaseHTTPRequestHandler):
    """One connection. Checks who asks, reads what is sent within limits, and hands it to the service."""

    protocol_version = "HTTP/1.1"
    server_version = "MedSeg"
    sys_version = ""
    timeout = SOCKET_SECONDS
    disable_nagle_algorithm = True
    server: WorkerServer

    def do_GET(self) -> None:
        """Answer health, models, a job or its result."""
        self._serve("GET")

    def do_HEAD(self) -> None:
        """Answer whether a volume is stored."""
        self._serve("HEAD")

    def do_PUT(self) -> None:
        """Take a volume."""
        self._serve("PUT")

    def do_POST(self) -> None:
        """Take a job or the question what it would need."""
        self._serve("POST")

    def do_DELETE(self) -> None:
        """Cancel or forget a job."""
        self._serve("DELETE")

    def log_message(self, *_: Any) -> None:
        """Log nothing: an address or a header may tell about a patient."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what the standard library refuses (a malformed request) like everything else, as JSON."""
        del explain
        with contextlib.suppress(ValueError):
            message = message or HTTPStatus(code).phrase
        # What follows a request that could not be parsed has no known length.
        self._unread, self.close_connection = 0, True
        # A request that could not be parsed has set no version; the answer is HTTP/1.1 all the same.
        self.request_version = self.protocol_version
        self.command = getattr(self, "command", None) or "GET"
        self._send_json(code, _error_fields(InputError(f"The request is not valid: {message}.")))

    def _serve(self, method: str) -> None:
        self._unread = 0
        try:
            self._unread = self._content_length()
            self._check_caller()
            self._route(method)
        except Refusal as refusal:
            self._send_json(refusal.status, {**_error_fields(refusal.error), **refusal.fields})
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except MedSegError as error:
            self._send_json(422, _error_fields(error))
        except Exception as error:  # noqa: BLE001 - a defect answers one request and does not end the server
            defect = MedSegError(
                f"This is a defect of MedSeg ({type(error).__name__} in the worker).",
                advice="Please copy the report and send it to the developers.",
            )
            self._send_json(500, _error_fields(defect))

    def _check_caller(self) -> None:
        # A page in a browser that calls us under a name of its own sends that name (DNS rebinding).
        if self.headers.get("Host", "").lower() not in self.server.hosts:
            raise Refusal(421, InputError("This worker answers on 127.0.0.1 only.", advice="Use its own address."))
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        # The standard library reads headers as Latin-1; this gives the bytes that were sent.
        token = given.strip().encode("latin-1", "replace")
        if not hmac.compare_digest(token, self.server.token) or scheme.lower() != "bearer":
            raise Refusal(401, InputError("The token is missing or wrong.", advice="Start the worker again."))

    def _content_length(self) -> int:
        if self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            raise Refusal(411, InputError("A length is needed.", advice="Send the header Content-Length."))
        text = self.headers.get("Content-Length", "0").strip()
        if not re.fullmatch(r"[0-9]{1,15}", text) or len(self.headers.get_all("Content-Length", [])) > 1:
            self.close_connection = True
            raise Refusal(400, InputError("The length is not a number.", advice="Check the header Content-Length."))
        return int(text)

    def _route(self, method: str) -> None:
        path, _, text = self.path.partition("?")
        try:
            query = {key: values[-1] for key, values in parse_qs(text, max_num_fields=8).items()}
        except ValueError as error:
            raise Refusal(400, InputError("The question is too long.", advice="See the protocol.")) from error
        for verb, pattern, action in self._ROUTES:
            match = re.fullmatch(pattern, path)
            if match and verb == method:
                action(self, query, *match.groups())
                return
        known = any(re.fullmatch(pattern, path) for _, pattern, _ in self._ROUTES)
        raise Refusal(
            405 if known else 404, InputError("There is nothing at this address.", advice="See the protocol.")
        )

    def _health(self, _query: dict[str, str]) -> None:
        self._send_json(200, self.server.service.health())

    def _models(self, _query: dict[str, str]) -> None:
        self._send_json(200, {"models": self.server.service.models()})

    def _warm_up(self, _query: dict[str, str]) -> None:
        self.server.service.warm_up()
        self._send_json(202, {})

    def _has_volume(self, _query: dict[str, str], address: str) -> None:
        self._send_json(200 if address in self.server.service.volumes else 404, {})

    def _put_volume(self, _query: dict[str, str], address: str) -> None:
        if self._unread > MAXIMUM_VOLUME_BYTES:
            raise Refusal(413, InputError("The volume is too large.", advice="Crop it or use larger voxels."))
        self.server.service.put_volume(address, self._unread, self._read)
        self._send_json(201, {})

    def _submit(self, _query: dict[str, str]) -> None:
        self._send_json(202, self.server.service.submit(self._read_json()))

    def _estimate(self, _query: dict[str, str]) -> None:
        self._send_json(200, self.server.service.estimate(self._read_json()))

    def _job(self, query: dict[str, str], job: str) -> None:
        asked = {name: _whole(query, name, 0) for name in ("since", "figures_since")}
        revision, wait = _whole(query, "revision", -1), _whole(query, "wait_ms", 0) / 1000.0
        self._send_json(200, self.server.service.job(job, **asked, revision=revision, wait=wait))

    def _finish(self, _query: dict[str, str], job: str) -> None:
        self._send_json(200, self.server.service.finish(job))

    def _cancel(self, _query: dict[str, str], job: str) -> None:
        self._send_json(200, self.server.service.cancel(job))

    def _result(self, _query: dict[str, str], job: str) -> None:
        path = self.server.service.result(job)
        accepted = [part.split(";")[0].strip() for part in self.headers.get("Accept-Encoding", "").split(",")]
        self._send_file(path, compress="deflate" in accepted)

    def _read(self, count: int) -> bytes:
        """Read up to ``count`` bytes of the body, never beyond its end."""
        data = self.rfile.read1(min(count, self._unread, CHUNK_BYTES)) if self._unread else b""
        self._unread -= len(data)
        return data

    def _read_json(self) -> object:
        if self._unread > MAXIMUM_JSON_BYTES:
            raise Refusal(413, InputError("The request is too long.", advice="Send at most a megabyte."))
        data = bytearray()
        while self._unread:
            part = self._read(CHUNK_BYTES)
            if not part:
                raise ConnectionError
            data += part
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise Refusal(400, InputError("The request is not JSON.", advice="Check the program.")) from error

    def _send_json(self, status: int, fields: dict[str, Any]) -> None:
        self._drain()
        data = json.dumps(fields).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self._end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _drain(self) -> None:
        """Read a short rest of the body, so that the connection can go on; a long one ends the connection."""
        if self._unread > _DRAINED_BYTES:
            self.close_connection = True
        while self._unread and not self.close_connection:
            if not self._read(CHUNK_BYTES):
                self.close_connection = True

    def _send_file(self, path: Path, *, compress: bool) -> None:
        self._drain()
        with path.open("rb") as file:
            packed = None
            if compress:
                packer = zlib.compressobj(level=1)
                packed = b"".join([packer.compress(part) for part in iter(lambda: file.read(CHUNK_BYTES), b"")])
                packed += packer.flush()
            length = len(packed) if packed is not None else path.stat().st_size
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(length))
            if packed is not None:
                self.send_header("Content-Encoding", "deflate")
            self._end_headers()
            if packed is not None:
                self.wfile.write(packed)
                return
            for part in iter(lambda: file.read(CHUNK_BYTES), b""):
                self.wfile.write(part)

    def _end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    _JOB = r"/jobs/([0-9a-f]{16})"
    _VOLUME = r"/volumes/([0-9a-f]{64})"
    _ROUTES: tuple[tuple[str, str, Callable[..., None]], ...] = (
        ("GET", r"/health", _health),
        ("GET", r"/models", _models),
        ("POST", r"/warm-up", _warm_up),
        ("HEAD", _VOLUME, _has_volume),
        ("PUT", _VOLUME, _put_volume),
        ("POST", r"/jobs", _submit),
        ("GET", _JOB, _job),
        ("DELETE", _JOB, _cancel),
        ("GET", _JOB + r"/result", _result),
        ("POST", _JOB + r"/finish", _finish),
        ("POST", r"/estimate", _estimate),
    )


def _error_fields(error: MedSegError) -> dict[str, Any]:
    return {"error": error.to_dict()}


def _whole(query: dict[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise Refusal(400, InputError(f'"{name}" is not a whole number.', advice="See the protocol."))
    return int(text)
