"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import WriteError

if TYPE_CHECKING:
    from collections.abc import Iterator

REPLACE_SECONDS = 2.0 if os.name == "nt" else 0.0
"""How long a file is waited for that cannot be replaced: on Windows one that another process is just reading."""


def user_folder() -> Path:
    """Return the per-user folder of MedSeg (models, run files): ``MEDSEG_HOME``, else ``~/.medseg``. Not created."""
    override = os.environ.get("MEDSEG_HOME", "").strip()
    return Path(override).expanduser() if override else Path.home() / ".medseg"


def write_error(path: Path, error: OSError) -> WriteError:
    """Turn an ``OSError`` met while writing ``path`` into a sentence with a next step."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WriteError(
            f"The disk is full: {path} was not written.",
            advice="Free some space or choose a folder on another disk; what stood there before is untouched.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return WriteError(f"There is no permission to write {path}.", advice="Choose a folder that you may write to.")
    reason = error.strerror or str(error)
    return WriteError(f"{path} could not be written: {reason}.", advice="Choose another file name or folder.")


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; rename it onto ``path`` when the block ends without an error.

    The temporary name keeps the whole file name, so writers that choose a format by its ending work. On an error the
    temporary file is removed and ``path`` is as it was.

    Raises
    ------
    WriteError
        When the folder does not exist, cannot be written to or the disk is full.
    """
    path = Path(path)
    try:
        folder = Path(tempfile.mkdtemp(prefix=".medseg-", dir=path.parent))
    except OSError as error:
        raise write_error(path, error) from error
    temporary = folder / path.name
    try:
        yield temporary
        _replace(temporary, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        for leftover in folder.iterdir():
            with contextlib.suppress(OSError):
                leftover.unlink()
        with contextlib.suppress(OSError):
            folder.rmdir()


def try_lock(descriptor: int) -> bool:
    """Try to have an open file for this process alone; return whether it has it now, or may go on without.

    The system lets go of it when the file is closed or the process ends. A network folder that knows no locks lets
    everybody go on, so what is written there must bear that.
    """
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True


def remove_file(path: Path) -> None:
    """Remove a file, if it is there; raise ``WriteError`` when that fails."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def _replace(source: Path, target: Path) -> None:
    deadline = time.monotonic() + REPLACE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(PermissionError):
            source.replace(target)
            return
        time.sleep(0.05)
    source.replace(target)
