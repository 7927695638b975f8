"""Pairs of files that are registered: what belongs to one, tables of many, landmarks."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import InputError, ReadError
from medseg.volumes.folders import stem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from medseg.volumes import Volume

FILES = ("fixed", "moving", "fixed_mask", "moving_mask", "fixed_labels", "moving_labels", "landmarks")
"""The columns of a table of pairs that name files; ``fixed`` and ``moving`` are needed."""
COLUMNS = (*FILES, "name")

LANDMARK_COLUMNS = tuple(f"{side}_{axis}" for side in ("fixed", "moving") for axis in "ras")
_NO_NAME = re.compile(r'[\\/:*?"<>|\x00-\x1f]')


@dataclass(frozen=True)
class Pair:
    """A pair as it was read: volumes, and landmarks as (N, 3) RAS mm of the fixed and of the moving one."""

    name: str
    fixed: Volume
    moving: Volume
    fixed_mask: Volume | None = None
    moving_mask: Volume | None = None
    fixed_labels: Volume | None = None
    moving_labels: Volume | None = None
    landmarks: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True)
class PairFiles:
    """The files of a pair; a volume may be a DICOM folder. ``name`` is that of the folder for its results."""

    name: str
    fixed: Path
    moving: Path
    fixed_mask: Path | None = None
    moving_mask: Path | None = None
    fixed_labels: Path | None = None
    moving_labels: Path | None = None
    landmarks: Path | None = None

    @property
    def paths(self) -> dict[str, Path]:
        """The files that there are, by their column."""
        return {column: path for column in FILES if (path := getattr(self, column)) is not None}

    def read(self) -> Pair:
        """Read everything.

        Raises
        ------
        ReadError
            When a file is not there or is not what it should be.
        """
        from medseg.volumes import read_labelmap, read_volume

        def labels(path: Path | None) -> Volume | None:
            return None if path is None else read_labelmap(path)

        return Pair(
            self.name,
            read_volume(self.fixed),
            read_volume(self.moving),
            labels(self.fixed_mask),
            labels(self.moving_mask),
            labels(self.fixed_labels),
            labels(self.moving_labels),
            None if self.landmarks is None else read_landmarks(self.landmarks),
        )


def pairs_of(
    columns: Sequence[str], rows: Iterable[tuple[int, Mapping[str, str]]], folder: Path
) -> tuple[PairFiles, ...]:
    """Return the pairs of a table.

    Parameters
    ----------
    columns
        Its first line.
    rows
        Number of a line in the file, and its cells by column; an empty cell is a file that there is not.
    folder
        What relative paths start from: the folder of the table.

    Raises
    ------
    InputError
        When a column is unknown or missing, a line lacks a volume, there is no line, or two have one name.
    """
    unknown = [name for name in columns if name not in COLUMNS]
    missing = [name for name in ("fixed", "moving") if name not in columns]
    if unknown or missing:
        which = unknown or missing
        raise InputError(
            f"The table of pairs has {'an unknown' if unknown else 'no'} column {', '.join(which)}.",
            advice=f"It needs fixed and moving, and may have {', '.join(COLUMNS[2:])}.",
        )
    pairs = []
    for line, row in rows:
        for needed in ("fixed", "moving"):
            if not row[needed]:
                raise InputError(f"Line {line} of the table of pairs names no {needed} volume.", advice="Fill it in.")
        paths = {name: folder / row[name] if row.get(name) else None for name in FILES}
        fixed, moving = folder / row["fixed"], folder / row["moving"]
        name = row.get("name") or f"{_stem(moving)}_to_{_stem(fixed)}"
        pairs.append(PairFiles(name, **{**paths, "fixed": fixed, "moving": moving}))  # type: ignore[arg-type]
    if not pairs:
        raise InputError("The table of pairs has no line but the first.", advice="Give one line for each pair.")
    check_names(pair.name for pair in pairs)
    return tuple(pairs)


def series_of(fixed: Path, moving: Sequence[Path]) -> tuple[PairFiles, ...]:
    """Return the pairs of one fixed volume and many moving ones, called after the moving ones.

    Raises
    ------
    InputError
        When two would have one name.
    """
    often = Counter(_stem(path) for path in moving)
    names = [
        f"{path.resolve().parent.name}_{_stem(path)}" if often[_stem(path)] > 1 else _stem(path) for path in moving
    ]
    check_names(names)
    return tuple(PairFiles(name, fixed, path) for name, path in zip(names, moving, strict=True))


def check_names(names: Iterable[str]) -> None:
    """Raise ``InputError`` when results could not lie in folders of these names."""
    counts = Counter(names)
    wrong = [name for name in counts if _NO_NAME.search(name) or name.strip(". ") != name]
    if wrong:
        raise InputError(
            f"'{wrong[0]}' cannot be the name of a folder.", advice="Give the pair a name of letters and digits."
        )
    folded = Counter(name.casefold() for name in counts.elements())  # disks that know no capitals
    twice = sorted({name for name in counts if folded[name.casefold()] > 1})
    if twice:
        raise InputError(
            f"Several pairs are named {', '.join(twice)}, so their results would overwrite each other.",
            advice="Give each a name of its own, in a column 'name' of a table.",
        )


def read_landmarks(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a table (.csv) of corresponding landmarks with the columns :data:`LANDMARK_COLUMNS`, RAS mm.

    Returns
    -------
    numpy.ndarray, numpy.ndarray
        (N, 3) of the fixed and of the moving volume, float64.

    Raises
    ------
    ReadError
        When the file cannot be read, or a column or a number is missing.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [[float(row[name]) for name in LANDMARK_COLUMNS] for row in csv.DictReader(stream)]
    except OSError as error:
        raise ReadError(f"{path} cannot be read: {error.strerror}.", advice="Check the name of the table.") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ReadError(
            f"{path} is not a table of landmarks.",
            advice=f"It needs the columns {', '.join(LANDMARK_COLUMNS)} with numbers.",
        ) from error
    values = np.array(rows, dtype=float).reshape(-1, 6)
    if not len(values) or not np.isfinite(values).all():
        raise ReadError(f"{path} has no landmarks, or some that are not finite numbers.", advice="Save it again.")
    return values[:, :3], values[:, 3:]


def _stem(path: Path) -> str:
    return path.resolve().name if path.is_dir() else stem(path)
