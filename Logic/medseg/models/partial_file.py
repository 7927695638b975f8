"""A file that is there in part, with what is known about the rest."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from medseg.errors import WriteError
from medseg.files import remove_file, try_lock, write_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_STATE = "state.json"
_LOCK = "lock"


class PartialFile:
    """The first bytes of a file, and beside it a note of where they came from.

    The note says the address, the server's mark of the version (ETag or date) and the size of the whole. Bytes without
    a note that can be read are worthless, and count as none.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / name
        self._state_path = folder / _STATE
        self._state = _read(self._state_path)
        if not self._state:
            self.discard()

    @property
    def size(self) -> int:
        """How many bytes are here."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    @property
    def total(self) -> int | None:
        """The size of the whole file in bytes, when the server said it."""
        total = self._state.get("total")
        return total if isinstance(total, int) else None

    @property
    def validator(self) -> str:
        """The server's mark of the version that the bytes belong to, empty when it gave none."""
        return str(self._state.get("validator") or "")

    def describe(self, address: str, validator: str, total: int | None) -> None:
        """Note where the bytes that follow come from.

        Raises
        ------
        WriteError
            When the note cannot be written.
        """
        self._state = {"address": address, "validator": validator, "total": total}
        try:
            self._state_path.write_text(json.dumps(self._state), encoding="utf-8")
        except OSError as error:
            raise write_error(self._state_path, error) from error

    def resuming_headers(self, address: str, *, trusted: bool) -> dict[str, str]:
        """Return the headers of a request for the rest; empty when the file has to be asked for from its start.

        Without a mark of the version, and from another address, only a checksum can tell whether the rest belongs to
        these bytes; ``trusted`` says that there is one.
        """
        if not self.size:
            return {}
        same = self._state.get("address") == address
        if same and self.validator:
            return {"Range": f"bytes={self.size}-", "If-Range": self.validator}
        return {"Range": f"bytes={self.size}-"} if trusted and self.total is not None else {}

    def discard(self) -> None:
        """Forget all of it."""
        self._state = {}
        remove_file(self.path)
        remove_file(self._state_path)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other programs from writing to the folder meanwhile. The system lets go of it when this process ends.

    Raises
    ------
    WriteError
        When another program has it, or the folder cannot be written.
    """
    try:
        stream = (folder / _LOCK).open("ab")
    except OSError as error:
        raise write_error(folder, error) from error
    with stream:
        # Where a network folder knows no locks, two downloads at once are found out by the checksum.
        if not try_lock(stream.fileno()):
            raise WriteError("This file is being downloaded already.", advice="Wait until it is there, or cancel it.")
        yield


def _read(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) else {}
