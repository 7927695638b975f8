"""Download a file: resumed where it broke off, from mirrors, through proxies, and checked before anybody sees it.

The standard library does it (``urllib``): `requests` is in 3D Slicer but not in a plain Python environment, and neither
it nor its rivals resume, check or try mirrors, which is the most of what follows. Proxies are those of the
environment (``HTTPS_PROXY``, ``NO_PROXY``) or of the system; certificates are checked against the system's
authorities, or those of ``SSL_CERT_FILE``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from medseg.errors import InputError, ReadError, WriteError
from medseg.files import user_folder, write_error
from medseg.models.http_stream import BrokenError, RefusedError, Stream, open_stream
from medseg.models.partial_file import PartialFile, locked
from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from medseg.models.checksums import Checksum

_LARGEST = 64 << 30
_SPARE = 64 << 20
"""What a download leaves free on the disk, in bytes."""

_OLD_SECONDS = 14 * 86400
_ENOUGH = 1 << 20
"""An attempt that brings this many bytes counts as progress, however it ends."""

_MOST_RESTARTS = 2
_CHECK_FROM = 0.95
"""Where the checksum begins on the progress bar."""


class DownloadError(ReadError):
    """A file that could not be downloaded. What has come stays, so that the next attempt goes on from there."""


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    Attributes
    ----------
    seconds
        Without a byte, before the connection counts as broken.
    attempts
        In a row that bring next to nothing, before the next mirror is tried.
    pause
        Seconds before the second attempt; it doubles with every further one.
    """

    seconds: float = 30.0
    attempts: int = 4
    pause: float = 1.0


PATIENCE = Patience()


@dataclass(frozen=True)
class Remote:
    """A file somewhere else.

    Attributes
    ----------
    addresses
        Where it is, the author's first, then mirrors.
    bytes
        Its size, when it is published.
    checksum
        Its checksum, when one is published.
    """

    addresses: tuple[str, ...]
    bytes: int | None = None
    checksum: Checksum | None = None

    @property
    def name(self) -> str:
        """The name of the file, as the first address has it."""
        name = unquote(urlsplit(self.addresses[0]).path.rstrip("/").rsplit("/", 1)[-1])
        return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")[-120:] or "download"

    def all_addresses(self) -> list[str]:
        """Return the addresses in the order in which they are tried: those of ``MEDSEG_MIRROR`` come first."""
        bases = os.environ.get("MEDSEG_MIRROR", "").split()
        return [*(f"{base.rstrip('/')}/{self.name}" for base in bases), *self.addresses]


def is_offline() -> bool:
    """Say whether the user forbids connections (``MEDSEG_OFFLINE``)."""
    return os.environ.get("MEDSEG_OFFLINE", "").strip().lower() not in ("", "0", "no", "false")


def downloads_folder() -> Path:
    """Return the folder of what is being downloaded, ``downloads`` in the user's folder. Not created."""
    return user_folder() / "downloads"


def check_address(address: str, checksum: Checksum | None) -> None:
    """Refuse an address that is none, and one whose file could be exchanged on its way.

    Raises
    ------
    InputError
        When the address does not begin with ``https://``; ``http://`` is taken with a SHA-256, and on this computer.
    """
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in ("https", "http") or not host or any(ord(mark) <= 32 for mark in address):
        raise InputError(f"'{address[:200]}' is no address of a file.", advice="It begins with https://.")
    is_here = host in ("127.0.0.1", "::1", "localhost")
    if parts.scheme == "http" and not is_here and not (checksum is not None and checksum.proves_origin):
        raise InputError(
            f"{address[:200]} is not encrypted, so the file could be exchanged on its way.",
            advice="Give an address that begins with https://, or the SHA-256 of the file.",
        )


@contextlib.contextmanager
def downloaded(remote: Remote, *, progress: Progress = NO_PROGRESS, patience: Patience | None = None) -> Iterator[Path]:
    """Download a file and yield its path; it is removed when the block ends well, and kept for another try when not.

    What came before an interruption, also in an earlier process, is not downloaded again, provided that the file is
    still the same one there. ``patience`` is ``PATIENCE`` unless another is given.

    Raises
    ------
    InputError
        For an address that is not taken, see :func:`check_address`.
    DownloadError
        When no address gives the file, when it is not the one that the checksum or size describes, or when
        ``MEDSEG_OFFLINE`` forbids it.
    WriteError
        When the disk is full or the folder cannot be written.
    Cancelled
        When the user asked to stop.
    """
    addresses = remote.all_addresses()
    for address in addresses:
        check_address(address, remote.checksum)
    folder = downloads_folder() / hashlib.sha256(remote.addresses[0].encode()).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_old(folder.parent, but=folder)
    except OSError as error:
        raise write_error(folder, error) from error
    with locked(folder):
        file = PartialFile(folder, remote.name)
        _Transfer(remote, file, progress, patience or PATIENCE).run(addresses)
        yield file.path
        file.discard()
    shutil.rmtree(folder, ignore_errors=True)


class _Transfer:
    """One download, from the first address that gives the file."""

    def __init__(self, remote: Remote, file: PartialFile, progress: Progress, patience: Patience) -> None:
        self._remote = remote
        self._file = file
        self._progress = progress.part(0.0, _CHECK_FROM)
        self._checking = progress.part(_CHECK_FROM, 1.0)
        self._patience = patience
        self._total: int | None = remote.bytes
        self._resumed = file.size > 0

    def run(self, addresses: list[str]) -> None:
        if self._is_complete() and self._fits():
            return
        if is_offline():
            raise DownloadError(
                f"{self._remote.name} was not downloaded, since MEDSEG_OFFLINE forbids connections.",
                advice=f"Download {self._remote.addresses[0]} on another computer, bring the file here and install it.",
            )
        reasons = []
        for address in addresses:
            reason = self._try(address)
            if not reason:
                return
            reasons.append(f"{urlsplit(address).hostname}: {reason}")
        raise DownloadError(
            f"{self._remote.name} could not be downloaded ({'; '.join(reasons)}).",
            advice="Check the connection and the proxy (HTTPS_PROXY), then try again; or download "
            f"{self._remote.addresses[0]} with a browser and install the file.",
        )

    def _try(self, address: str) -> str:
        """Get the file from one address; return what speaks against it, empty when all is well."""
        try:
            self._from(address)
        except RefusedError as error:
            return str(error)
        return ""

    def _from(self, address: str) -> None:
        """Get the whole file from one address and check it."""
        failures, restarts = 0, 0
        while True:
            before = self._file.size
            try:
                self._attempt(address)
                if self._fits():
                    return
                self._file.discard()
                # Two halves of different files may have come together, which one more attempt settles.
                if not self._resumed or restarts >= _MOST_RESTARTS:
                    raise RefusedError(self._misfit())
                restarts += 1
                self._resumed = False
            except _ChangedError as error:
                self._file.discard()
                self._resumed = False
                restarts += 1
                if restarts > _MOST_RESTARTS:
                    raise RefusedError(str(error)) from error
            except BrokenError as error:
                failures = 0 if self._file.size - before >= _ENOUGH else failures + 1
                if failures >= self._patience.attempts:
                    raise RefusedError(str(error)) from error
                self._wait(self._patience.pause * 2 ** max(failures - 1, 0))

    def _attempt(self, address: str) -> None:
        """Ask once for what is missing and add it to the file."""
        headers = self._file.resuming_headers(address, trusted=self._remote.checksum is not None)
        if not headers:
            self._file.discard()
        self._resumed = self._resumed or bool(headers)
        offset = self._file.size
        with open_stream(address, headers, self._patience.seconds, self._progress) as stream:
            if stream.status == 416:
                if stream.range_total == offset > 0:
                    return
                raise _ChangedError("the server no longer has the part that is missing")
            if stream.status == 200:
                offset = 0
                self._file.discard()
            self._total = self._agreed_total(stream, offset)
            self._need_space(self._total)
            self._file.describe(address, stream.validator, self._total)
            self._receive(stream)
        if self._total is not None and self._file.size < self._total:
            raise BrokenError(f"the connection ended after {self._file.size} of {self._total} bytes")
        if self._file.size == 0:
            raise RefusedError("the file is empty")

    def _agreed_total(self, stream: Stream, offset: int) -> int | None:
        """Return the size of the whole file after comparing all that is said about it."""
        if stream.status == 206:
            if stream.range_start != offset or stream.range_total is None:
                raise _ChangedError("the server answers with another part than it was asked for")
            if self._file.validator and stream.validator and stream.validator != self._file.validator:
                raise _ChangedError("the file was changed there meanwhile")
            if self._file.total not in (None, stream.range_total):
                raise _ChangedError("the file has another size than before")
            total: int | None = stream.range_total
        else:
            total = stream.length
        if self._remote.bytes is not None and total not in (None, self._remote.bytes):
            raise RefusedError(f"the file has {total} bytes there instead of {self._remote.bytes}")
        return total if total is not None else self._remote.bytes

    def _receive(self, stream: Stream) -> None:
        start, begun = self._file.size, time.monotonic()
        done = start
        try:
            with self._file.path.open("ab") as sink:
                for block in stream.blocks():
                    done += len(block)
                    self._refuse_beyond(done)
                    sink.write(block)
                    self._report(done, (done - start) / max(time.monotonic() - begun, 1e-3))
        except OSError as error:
            # A full disk hurts every other program too, so what has come is given up.
            self._file.discard()
            raise write_error(self._file.path, error) from error

    def _refuse_beyond(self, size: int) -> None:
        if size > (_LARGEST if self._total is None else self._total):
            raise _ChangedError("the server sends more than the file has")

    def _report(self, done: int, speed: float) -> None:
        of = f" of {self._total / 1e6:.1f}" if self._total else ""
        fraction = done / self._total if self._total else 0.0
        self._progress.update(fraction, f"Downloading: {done / 1e6:.1f}{of} MB, {speed / 1e6:.1f} MB/s")

    def _need_space(self, total: int | None) -> None:
        needed = (total or 0) - self._file.size + _SPARE
        free = shutil.disk_usage(self._file.path.parent).free
        if free < needed:
            raise WriteError(
                f"The download needs {needed / 1e6:.0f} MB and the disk of {self._file.path.parent} has only "
                f"{free / 1e6:.0f} MB left.",
                advice="Free some space, or set MEDSEG_HOME to a folder on another disk.",
            )

    def _is_complete(self) -> bool:
        """Whether all is here already, from an attempt whose installation failed, and can be proved to be."""
        total = self._remote.bytes or self._file.total
        return self._remote.checksum is not None and total is not None and self._file.size == total > 0

    def _fits(self) -> bool:
        checksum = self._remote.checksum
        return checksum is None or checksum.fits(self._file.path, self._checking)

    def _misfit(self) -> str:
        title = self._remote.checksum.title if self._remote.checksum else ""
        return f"the file is not the published one: its {title} is another"

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._progress.check()
            time.sleep(min(0.1, max(deadline - time.monotonic(), 0.0)))


class _ChangedError(Exception):
    """What is here and what is there do not belong together; the download begins anew."""


def _remove_old(parent: Path, but: Path) -> None:
    """Remove what nobody went on with for two weeks."""
    for folder in parent.iterdir():
        with contextlib.suppress(OSError):
            if folder != but and folder.is_dir() and time.time() - folder.stat().st_mtime > _OLD_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
