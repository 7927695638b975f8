"""One answer of a web server, read in a thread of its own so that a server that falls silent can be left."""

from __future__ import annotations

import contextlib
import http.client
import queue
import re
import ssl
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from medseg.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from medseg.progress import Progress

_BLOCK = 1 << 16
_WAITING_BLOCKS = 32
_LOOK_SECONDS = 0.1
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers that say "not now"."""


class BrokenError(Exception):
    """The connection broke, stalled or was turned away for now; trying again may help."""


class RefusedError(Exception):
    """This server does not give the file; trying again does not help."""


class Stream:
    """The answer to a request: what its head says, and its bytes."""

    def __init__(self, status: int, headers: Mapping[str, str], reader: _Reader) -> None:
        self.status = status
        self._headers = headers
        self._reader = reader
        found = re.fullmatch(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18})", headers.get("Content-Range", "").strip())
        self.range_start = int(found[1]) if found and found[1] else None
        self.range_total = int(found[3]) if found else None

    @property
    def length(self) -> int | None:
        """How many bytes follow, when the server says it."""
        text = self._headers.get("Content-Length", "").strip()
        return int(text) if re.fullmatch(r"\d{1,18}", text) else None

    @property
    def validator(self) -> str:
        """The mark of the file's version that a later request may be tied to: a strong ETag, else the date."""
        tag = self._headers.get("ETag", "").strip()
        if tag and not tag.startswith("W/"):
            return tag
        return self._headers.get("Last-Modified", "").strip()

    def blocks(self) -> Iterator[bytes]:
        """Yield the bytes as they come; raise :class:`BrokenError` when they stop coming before the end."""
        while True:
            block = self._reader.next()
            if not block:
                return
            yield block


@contextlib.contextmanager
def open_stream(address: str, headers: Mapping[str, str], seconds: float, progress: Progress) -> Iterator[Stream]:
    """Ask for ``address``; yield the answer when it has status 200, 206 or 416.

    Parameters
    ----------
    seconds
        How long the server may say nothing.
    progress
        Asked several times a second whether the user has cancelled.

    Raises
    ------
    BrokenError
        When there is no connection, or no answer in time.
    RefusedError
        When the server does not give the file, or its certificate cannot be trusted.
    Cancelled
        When the user asked to stop.
    """
    request = urllib.request.Request(  # noqa: S310 - the caller has checked the scheme
        address, headers={"User-Agent": f"medseg/{VERSION}", "Accept-Encoding": "identity", **headers}
    )
    reader = _Reader(request, seconds, progress)
    try:
        status, head = reader.head()
        if status not in (200, 206, 416):
            raise RefusedError(f"the server answers {status}")
        if status == 206 and "Range" not in headers:
            raise RefusedError("the server gives a part of the file when asked for all of it")
        if head.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            raise RefusedError("the server sends the file packed in a way that was not asked for")
        yield Stream(status, head, reader)
    finally:
        reader.leave()


class _Reader:
    """The thread that reads, and the queue by which its findings come."""

    def __init__(self, request: urllib.request.Request, seconds: float, progress: Progress) -> None:
        self._request = request
        self._seconds = seconds
        self._progress = progress
        self._found: queue.Queue[Any] = queue.Queue(maxsize=_WAITING_BLOCKS)
        self._is_left = threading.Event()
        threading.Thread(target=self._read, name="MedSegDownload", daemon=True).start()

    def head(self) -> tuple[int, Mapping[str, str]]:
        status, headers = self._next()
        return status, headers

    def next(self) -> bytes:
        """Return the next bytes, empty at the end."""
        block: bytes = self._next()
        return block

    def leave(self) -> None:
        """Let go of the thread, which ends by itself as soon as the server says something or the time is over."""
        self._is_left.set()

    def _next(self) -> Any:
        deadline = time.monotonic() + self._seconds
        while True:
            self._progress.check()
            try:
                found = self._found.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                if time.monotonic() > deadline:
                    raise self._silence() from None
                continue
            if isinstance(found, Exception):
                raise found
            return found

    def _read(self) -> None:
        try:
            with self._open() as response:
                self._put((response.status, response.headers))
                while not self._is_left.is_set():
                    block = response.read1(_BLOCK)
                    self._put(block)
                    if not block:
                        return
        except Exception as error:  # noqa: BLE001 - carried over to the thread that waits
            self._put(self._silence() if _is_timeout(error) else _reason(error))

    def _silence(self) -> BrokenError:
        return BrokenError(f"the server was silent for {self._seconds:g} s")

    def _open(self) -> Any:
        # Certificates are checked, which is what the standard library does unless it is told otherwise.
        opener = urllib.request.build_opener(_Redirects)
        try:
            return opener.open(self._request, timeout=self._seconds)
        except urllib.error.HTTPError as error:
            if error.code == 416:
                return error
            raise

    def _put(self, found: Any) -> None:
        while not self._is_left.is_set():
            with contextlib.suppress(queue.Full):
                self._found.put(found, timeout=_LOOK_SECONDS)
                return


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a server to other addresses, but never from an encrypted one to one that is not."""

    def redirect_request(  # noqa: PLR0917 - the signature of the standard library
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and (scheme != "http" or urlsplit(req.full_url).scheme == "https"):
            raise RefusedError("the server leads to an address that is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_timeout(error: Exception) -> bool:
    return isinstance(error.reason if isinstance(error, urllib.error.URLError) else error, TimeoutError)


def _reason(error: Exception) -> Exception:
    """Return what the failure means for the download."""
    if isinstance(error, (RefusedError, BrokenError)):
        return error
    if isinstance(error, urllib.error.HTTPError):
        kind = BrokenError if error.code in _PASSING else RefusedError
        return kind(f"the server answers {error.code} {error.reason}".strip())
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return RefusedError(f"its certificate cannot be trusted ({cause.verify_message}); see SSL_CERT_FILE")
    if isinstance(cause, (OSError, http.client.HTTPException)):
        return BrokenError(f"no connection ({getattr(cause, 'strerror', None) or cause or type(cause).__name__})")
    if isinstance(cause, str):
        return BrokenError(f"no connection ({cause})")
    return error
