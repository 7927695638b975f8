"""Prepared cases within a bound of memory: what does not fit waits on the disk as memory-mapped arrays."""

from __future__ import annotations

import contextlib
import json
import shutil
from typing import TYPE_CHECKING, overload

import numpy as np
import torch

from medseg.errors import WriteError
from medseg.files import atomic_path, write_error
from medseg.training.data import PreparedCase

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_INDEX = "index.json"


class CaseCache:
    """A list of prepared cases: those added first are kept in memory, the others in files below ``folder``.

    A case from the disk is opened anew whenever it is asked for, and the system reads only the parts that a patch
    needs; its own cache of files makes that nearly as fast as memory while there is some to spare. Loader processes
    share these files.

    Parameters
    ----------
    folder
        Made when the first case goes there; removed by :meth:`close`.
    memory_bytes
        What the cases in memory may take; 0 puts every case on the disk.
    """

    def __init__(self, folder: Path, memory_bytes: int) -> None:
        self._folder, self._left = folder, memory_bytes
        self._cases: list[PreparedCase | Path] = []

    def add(self, case: PreparedCase) -> None:
        """Take over a case.

        Raises
        ------
        WriteError
            When it goes to the disk and cannot be written.
        """
        if case.bytes <= self._left:
            self._left -= case.bytes
            self._cases.append(case)
            return
        path = self._folder / f"{len(self._cases):06d}"
        try:
            _write(case, path)
        except OSError as error:
            refused = write_error(path, error)
            raise WriteError(
                refused.message, advice=f"{refused.advice} Cases that do not fit into memory wait there."
            ) from error
        self._cases.append(path)

    def __len__(self) -> int:
        return len(self._cases)

    @overload
    def __getitem__(self, index: int) -> PreparedCase: ...

    @overload
    def __getitem__(self, index: slice) -> CaseView: ...

    def __getitem__(self, index: int | slice) -> PreparedCase | CaseView:
        if isinstance(index, slice):
            return CaseView(self, range(*index.indices(len(self))))
        case = self._cases[index]
        return case if isinstance(case, PreparedCase) else _read(case)

    @property
    def on_disk(self) -> int:
        """How many cases are not in memory."""
        return sum(not isinstance(case, PreparedCase) for case in self._cases)

    def publish(self) -> None:
        """Say that every case is on the disk, for processes that wait for them (:func:`shared`)."""
        with atomic_path(self._folder / _INDEX) as path:
            path.write_text(json.dumps({"cases": len(self)}), encoding="utf-8")

    def close(self) -> None:
        """Let go of the cases and remove their files."""
        self._cases = []
        shutil.rmtree(self._folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._folder.parent.rmdir()  # of several processes; not when it holds anything else


def shared(folder: Path) -> CaseCache | None:
    """Return the cases that another process has published in ``folder``; ``None`` when it has not (yet)."""
    try:
        count = int(json.loads((folder / _INDEX).read_text(encoding="utf-8"))["cases"])
    except (OSError, ValueError, KeyError):
        return None
    cache = CaseCache(folder, 0)
    cache._cases = [folder / f"{number:06d}" for number in range(count)]  # noqa: SLF001
    return cache


class CaseView:
    """Some cases of a cache, by number."""

    def __init__(self, cache: CaseCache, numbers: Sequence[int]) -> None:
        self._cache, self._numbers = cache, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> PreparedCase:
        return self._cache[self._numbers[index]]

    def __iter__(self) -> Iterator[PreparedCase]:
        return (self[index] for index in range(len(self)))


def _write(case: PreparedCase, path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for name in ("image", "label", "instances"):
        tensor = getattr(case, name)
        if tensor is not None:
            np.save(path / f"{name}.npy", tensor.numpy())
    facts = {
        "case": case.case,
        "spacing": case.spacing,
        "foreground": case.foreground,
        "annotated": case.annotated,
        "instances": case.instances is not None,
    }
    torch.save(facts, path / "facts.pt")


def _read(path: Path) -> PreparedCase:
    facts = torch.load(path / "facts.pt", weights_only=True)
    return PreparedCase(
        case=facts["case"],
        image=_mapped(path / "image.npy"),
        label=_mapped(path / "label.npy"),
        spacing=tuple(facts["spacing"]),
        foreground=tuple(facts["foreground"]),
        annotated=facts["annotated"],
        instances=_mapped(path / "instances.npy") if facts["instances"] else None,
    )


def _mapped(path: Path) -> torch.Tensor:
    # "c": writing to the tensor (which torch wants to be possible) would change a private copy, never the file.
    return torch.from_numpy(np.load(path, mmap_mode="c"))
