"""Volumes that clients have sent, by their SHA-256: each once, the least recently used leave first."""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import shutil
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from medseg.backend.encoding import CHUNK_BYTES, VOLUME_DTYPES, read_layout
from medseg.errors import InputError
from medseg.files import write_error

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

_ADDRESS = re.compile(r"[0-9a-f]{64}")
MAXIMUM_VOLUME_BYTES = 8 << 30
DEFAULT_STORE_BYTES = 8 << 30
_KEPT_FREE_BYTES = 256 << 20


def is_address(text: object) -> bool:
    """Return whether ``text`` has the form of a volume's address."""
    return isinstance(text, str) and _ADDRESS.fullmatch(text) is not None


class VolumeStore:
    """Parcels of volumes as files of a private folder, at most ``limit_bytes`` together. Thread-safe.

    A volume that is pinned (a queued or running job needs it) is not removed, whatever the limit.
    """

    def __init__(self, folder: Path, limit_bytes: int = DEFAULT_STORE_BYTES) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._pins: dict[str, int] = {}

    def __contains__(self, address: str) -> bool:
        with self._lock:
            if address not in self._sizes:
                return False
            self._sizes.move_to_end(address)
            return True

    def path(self, address: str) -> Path:
        """Return the file of a volume."""
        return self._folder / f"{address}.volume"

    def missing(self, addresses: Collection[str]) -> list[str]:
        """Return the addresses that are not stored, in order."""
        return [address for address in addresses if address not in self]

    def pin(self, addresses: Collection[str]) -> None:
        """Keep these volumes until :meth:`unpin`."""
        with self._lock:
            for address in addresses:
                self._pins[address] = self._pins.get(address, 0) + 1

    def unpin(self, addresses: Collection[str]) -> None:
        """Undo one :meth:`pin`."""
        with self._lock:
            for address in addresses:
                count = self._pins.get(address, 0) - 1
                if count > 0:
                    self._pins[address] = count
                else:
                    self._pins.pop(address, None)
            self._make_room(0)

    def put(self, address: str, length: int, read: Callable[[int], bytes]) -> None:
        """Store the volume that ``read`` gives (``length`` bytes); it must be what ``address`` says.

        Raises
        ------
        InputError
            When it is no volume, has another length or another SHA-256; nothing is stored then.
        WriteError
            When the disk is full.
        """
        layout, head = read_layout(read, kind="volume", dtypes=VOLUME_DTYPES, limit=MAXIMUM_VOLUME_BYTES)
        if layout.parcel_bytes != length:
            raise InputError(
                f"A volume of {layout.parcel_bytes} bytes was announced with {length} bytes.",
                advice="This is a defect of the program that sent it; please report it.",
            )
        with self._lock:
            self._make_room(length)
        temporary = self._folder / f".{secrets.token_hex(8)}.part"
        try:
            digest = _copy(head, length, read, temporary)
            if digest != address:
                raise InputError("A volume was damaged on its way to the worker.", advice="Please try again.")
            with self._lock:
                temporary.replace(self.path(address))
                self._sizes[address] = length
                self._sizes.move_to_end(address)
        except OSError as error:
            raise write_error(self._folder, error) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _make_room(self, needed: int) -> None:
        """Remove least recently used volumes until ``needed`` bytes fit; the caller holds the lock."""
        for address in list(self._sizes):
            full = sum(self._sizes.values()) + needed > self._limit
            if not full and shutil.disk_usage(self._folder).free >= needed + _KEPT_FREE_BYTES:
                return
            if address in self._pins:
                continue
            # Windows does not remove a file that the computing process still maps; it goes with the run folder.
            with contextlib.suppress(OSError):
                self.path(address).unlink(missing_ok=True)
            del self._sizes[address]


def _copy(head: bytes, length: int, read: Callable[[int], bytes], path: Path) -> str:
    """Write ``head`` and what follows to ``path``; return the SHA-256 of all of it."""
    digest = hashlib.sha256(head)
    left = length - len(head)
    with path.open("xb") as file:
        file.write(head)
        while left:
            part = read(min(left, CHUNK_BYTES))
            if not part:
                raise InputError("A volume did not arrive whole.", advice="Please try again.")
            file.write(part)
            digest.update(part)
            left -= len(part)
    return digest.hexdigest()
