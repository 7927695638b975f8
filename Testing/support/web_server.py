"""A real web server on this computer that behaves well or badly, one request after another as a test tells it to."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "model.zip"


@dataclass
class Answer:
    """How one request is answered; what is not said is as it should be.

    Attributes
    ----------
    status
        Instead of 200 or 206.
    break_after, stall_after
        Close the connection, or say nothing more, after so many bytes of the body.
    length
        The Content-Length that is claimed; ``False``: none.
    content
        Other bytes than those of the file.
    ignore_range
        Send the whole file whatever was asked for.
    range_text
        The Content-Range that is claimed.
    shift
        Send another part than was asked for: begin so many bytes later, and say so.
    headers
        Added, or in place of the usual ones.
    """

    status: int | None = None
    break_after: int | None = None
    stall_after: int | None = None
    length: int | bool | None = None
    content: bytes | None = None
    ignore_range: bool = False
    range_text: str | None = None
    shift: int = 0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Seen:
    """A request that came."""

    path: str
    headers: dict[str, str]


class WebServer:
    """Serves one file; the first requests are answered as ``answers`` say, all later ones well."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.tags = True
        self.answers: list[Answer] = []
        self.seen: list[Seen] = []
        self.ended = threading.Event()
        self._scheme = "http"
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def root(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._http.server_address[1]}"

    @property
    def address(self) -> str:
        return f"{self.root}/files/{NAME}"

    @property
    def asked_ranges(self) -> list[str | None]:
        """The range that each request asked for, ``None`` for the whole file."""
        return [seen.headers.get("Range") for seen in self.seen]

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'

    def encrypt(self, certificate: Path, key: Path) -> None:
        """Speak HTTPS from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self._scheme = "https"

    def close(self) -> None:
        self.ended.set()
        self._http.shutdown()
        self._http.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.seen.append(Seen(request.path, dict(request.headers.items())))
        how = self.answers.pop(0) if self.answers else Answer()
        content = self.content if how.content is None else how.content
        start = 0 if how.ignore_range else self._start(request)
        status = how.status or (206 if start else 200)
        if start >= len(content) > 0 and how.status is None:
            status, body = 416, b""
        else:
            body = content[start + how.shift :] if status in (200, 206) else b"no"
        headers = {"Content-Length": str(len(body)), "ETag": self.etag if self.tags else ""}
        if status == 206:
            headers["Content-Range"] = f"bytes {start + how.shift}-{len(content) - 1}/{len(content)}"
        if status == 416:
            headers["Content-Range"] = f"bytes */{len(content)}"
        if how.range_text is not None:
            headers["Content-Range"] = how.range_text
        if how.length is not None:
            headers["Content-Length"] = "" if how.length is False else str(how.length)
        request.send_response(status)
        for name, value in {**headers, **how.headers}.items():
            if value:
                request.send_header(name, value)
        if not (headers | how.headers)["Content-Length"]:
            request.send_header("Connection", "close")
            request.close_connection = True
        request.end_headers()
        self._send(request, how, body)

    def _start(self, request: BaseHTTPRequestHandler) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        condition = request.headers.get("If-Range")
        fits = condition is None or (self.tags and condition == self.etag)
        return int(asked[1]) if asked and fits else 0

    def _send(self, request: BaseHTTPRequestHandler, how: Answer, body: bytes) -> None:
        end = next((stop for stop in (how.break_after, how.stall_after) if stop is not None), len(body))
        try:
            request.wfile.write(body[:end])
            request.wfile.flush()
            if how.stall_after is not None:
                self.ended.wait(30.0)
            if how.break_after is not None or how.stall_after is not None:
                request.close_connection = True
                request.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            request.close_connection = True


class Proxy:
    """A proxy for addresses without encryption that sends every request to one server, whatever host was asked for."""

    def __init__(self, server: WebServer) -> None:
        self.asked: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy.asked.append(self.path)
                server.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def forbid_connections(patch: Callable[..., None]) -> list[Any]:
    """Make every attempt to connect an error and return the list in which they are noted."""
    attempts: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> None:
        attempts.append(arguments)
        message = "this test forbids connections"
        raise OSError(message)

    patch("socket.create_connection", refuse)
    return attempts
