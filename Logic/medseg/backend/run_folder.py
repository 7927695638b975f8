"""The private folder in which a worker keeps the volumes and results of its run, and nothing after it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "medseg-run-"
_LOCK = "in-use"


class RunFolder:
    """A folder that only this user can read (mode 0700), removed by :meth:`remove`.

    Images of patients lie in it, so what a worker that was ended by force has left behind is removed by the next one:
    a run folder whose lock nobody holds.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        remove_abandoned(parent)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        if os.name == "nt":
            self._lock = (self.path / _LOCK).open("wb")
        else:
            # Locked before it has its name: a lock file that is seen and free belongs to nobody.
            unnamed = self.path / f"{_LOCK}.new"
            self._lock = unnamed.open("wb")
            _try_lock(self._lock.fileno())
            unnamed.rename(self.path / _LOCK)

    def subfolder(self, name: str) -> Path:
        """Return a folder in it, made when it is not there."""
        folder = self.path / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def remove(self) -> None:
        """Remove the folder with all that is in it; safe to call again."""
        self._lock.close()
        shutil.rmtree(self.path, ignore_errors=True)


def remove_abandoned(parent: Path) -> None:
    """Remove the run folders of this user in ``parent`` that no living worker holds."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or not folder.is_dir() or not _is_mine(folder):
                continue
            lock = folder / _LOCK
            # Without a lock file the folder may be one that is being made at this very moment.
            if lock.is_file() and _is_free(lock):
                shutil.rmtree(folder, ignore_errors=True)


def _is_mine(folder: Path) -> bool:
    return os.name == "nt" or folder.stat().st_uid == os.getuid()


def _is_free(lock: Path) -> bool:
    if os.name == "nt":
        # Windows refuses to remove a file that a living process has open.
        lock.unlink()
        return True
    with lock.open("rb+") as file:
        return _try_lock(file.fileno())


def _try_lock(descriptor: int) -> bool:
    if os.name == "nt":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
