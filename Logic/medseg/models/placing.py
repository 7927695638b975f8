"""Put a complete folder in its place, or leave what was there."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.files import write_error

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def folder_beside(parent: Path) -> Iterator[Path]:
    """Yield a new hidden folder in ``parent`` (made when absent), on the same disk, and remove it in the end.

    Raises
    ------
    WriteError
        When ``parent`` cannot be written to, and for any ``OSError`` in the block.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".medseg-", dir=parent))
    except OSError as error:
        raise write_error(parent, error) from error
    try:
        yield temporary
    except OSError as error:
        raise write_error(parent, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(draft: Path, folder: Path, temporary: Path) -> None:
    """Rename ``draft`` onto ``folder``; what stood there is moved into ``temporary``, and back when that fails."""
    former = temporary / "former"
    if folder.exists():
        folder.rename(former)
    try:
        draft.rename(folder)
    except OSError:
        if former.exists():
            with contextlib.suppress(OSError):
                former.rename(folder)
        raise
