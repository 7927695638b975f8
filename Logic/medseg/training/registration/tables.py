"""Real pairs that a researcher brings: a table of volumes, aligned already, with or without label maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from medseg.errors import InputError, RecipeError
from medseg.registration.transform import SpatialTransform
from medseg.registration.working_grid import working_pair
from medseg.training.pairs import SPLITS
from medseg.training.synthesis import SyntheticPair
from medseg.training.synthesis.anatomy import LARGEST_CODES
from medseg.training.tables import read_table
from medseg.volumes import read_labelmap, read_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.progress import Progress
    from medseg.training.pairs import Split
    from medseg.training.registration.recipe import RegistrationRecipe
    from medseg.training.registration.sources import TableSource
    from medseg.training.synthesis import Draws
    from medseg.training.tables import Table
    from medseg.volumes import Geometry, Volume

_COLUMNS = ("fixed", "moving")
_LABELS = ("fixed_label", "moving_label")


@dataclass(frozen=True)
class RealPair:
    """A pair on the network's grid, as large as its fixed volume, at least as large as the recipe's grid.

    Attributes
    ----------
    images, labels
        Two (I, J, K) each, float32 and uint8 (places in a table that the pairs share).
    scored, values
        Places of the labels that count, and the values of the files that they stand for.
    size
        The recipe's grid.
    """

    case: str
    split: Split
    images: tuple[Tensor, Tensor]
    labels: tuple[Tensor, Tensor]
    scored: tuple[int, ...]
    values: tuple[int, ...]
    size: tuple[int, int, int]

    def cropped(self, draws: Draws | None, flips: Sequence[int]) -> SyntheticPair:
        """Return a part as large as the recipe's grid, the same of all: at a random place, or in the middle."""
        box = []
        for have, want in zip(self.images[0].shape, self.size, strict=True):
            start = (have - want) // 2 if draws is None else draws.whole(0, have - want)
            box.append(slice(start, start + want))
        turned = [axis for axis in flips if draws is not None and draws.chance(0.5)]
        fixed, moving, fixed_labels, moving_labels = (
            tensor[tuple(box)].flip(turned) for tensor in (*self.images, *self.labels)
        )
        return SyntheticPair(fixed, moving, fixed_labels, moving_labels, self.scored)


@dataclass(frozen=True)
class _Row:
    case: str
    split: Split | None
    images: tuple[Path, Path]
    labels: tuple[Path, Path] | None


def read_real_pairs(
    path: Path, source: TableSource, recipe: RegistrationRecipe, named: set[int], progress: Progress
) -> list[RealPair]:
    """Return the pairs of a table, prepared as the pipeline prepares them in use.

    Parameters
    ----------
    named
        The values of the recipe's label table; empty when it has none.

    Raises
    ------
    RecipeError
        When the table or a file cannot be used; every bad line and every bad pair is named.
    """
    if not path.is_file():
        raise RecipeError(f"There is no table of pairs {path}.", advice="Give one (.csv) with --data.")
    rows = _rows(read_table(path))
    splits = _splits(rows, source, recipe.seed)
    prepared, problems = [], []
    for number, row in enumerate(rows):
        progress.update(number / len(rows), f"Reading pair {number + 1} of {len(rows)}: {row.case}")
        try:
            prepared.append(_prepared(row, recipe))
        except InputError as error:
            problems.append(f"{row.case}: {error.message.rstrip('.')}")
    if problems:
        raise RecipeError(
            f"{len(problems)} of {len(rows)} pairs cannot be trained on: {'; '.join(problems)}.",
            advice="Repair these files or take the pairs out of the table.",
        )
    codes = sorted({0}.union(*(np.unique(array).tolist() for _, arrays in prepared for array in arrays)))
    if len(codes) > LARGEST_CODES or codes[0] < 0:
        raise RecipeError(
            f"The label maps of the pairs hold {len(codes)} values from {codes[0]}; at most {LARGEST_CODES} from 0"
            " are taken.",
            advice="Merge labels.",
        )
    wanted = set(source.scored) if source.scored is not None else named or set(codes)
    values = tuple(code for code in codes if code and code in wanted)
    scored = tuple(codes.index(value) for value in values)
    table = np.asarray(codes)
    return [
        RealPair(
            row.case,
            split,
            (images[0], images[1]),
            tuple(torch.from_numpy(np.searchsorted(table, array).astype(np.uint8)) for array in arrays),
            scored if row.labels else (),
            values if row.labels else (),
            recipe.grid.size,
        )
        for row, split, (images, arrays) in zip(rows, splits, prepared, strict=True)
    ]


def _rows(table: Table) -> list[_Row]:
    missing = [column for column in _COLUMNS if column not in table.columns]
    if missing:
        raise RecipeError(
            f"The table of pairs {table.path} needs the columns 'fixed' and 'moving' and has"
            f" {', '.join(table.columns)}.",
            advice="Name the columns fixed, moving and, if you like, fixed_label, moving_label, case and split.",
        )
    rows, problems = [], []
    for line, row in table.rows:
        files = {column: row.get(column, "") for column in (*_COLUMNS, *_LABELS)}
        problems += [f"line {line} lacks a file in the column {column}" for column in _COLUMNS if not files[column]]
        if bool(files[_LABELS[0]]) != bool(files[_LABELS[1]]):
            problems.append(f"line {line} has a label map for one of the two volumes only")
        paths = {column: table.path.parent / name for column, name in files.items() if name}
        problems += [f"line {line}: {files[column]} does not exist" for column, p in paths.items() if not p.exists()]
        split = SPLITS.get(row["split"].lower()) if row.get("split") else None
        if row.get("split") and split is None:
            problems.append(f"line {line}: '{row['split']}' is not a split")
        if not problems:
            labels = (paths[_LABELS[0]], paths[_LABELS[1]]) if files[_LABELS[0]] else None
            rows.append(_Row(row.get("case") or f"line {line}", split, (paths["fixed"], paths["moving"]), labels))
    if problems:
        raise RecipeError(
            f"The table of pairs {table.path} cannot be used: {'; '.join(problems)}.",
            advice="Paths are relative to the table; splits are 'training' and 'validation'.",
        )
    if not rows:
        raise RecipeError(f"The table of pairs {table.path} has no line.", advice="Add a line for each pair.")
    return rows


def _splits(rows: Sequence[_Row], source: TableSource, seed: int) -> list[Split]:
    if any(row.split for row in rows):
        return [row.split or "training" for row in rows]
    if source.folds == 1:
        return ["training"] * len(rows)
    aside = set(np.random.default_rng(seed).permutation(len(rows))[:: source.folds].tolist())
    return ["validation" if number in aside else "training" for number in range(len(rows))]


def _prepared(row: _Row, recipe: RegistrationRecipe) -> tuple[tuple[Tensor, Tensor], tuple[np.ndarray, np.ndarray]]:
    """Return images and label values (I, J, K) of a pair on the network's grid."""
    fixed, moving = (read_volume(path) for path in row.images)
    pair = working_pair(
        fixed,
        moving,
        SpatialTransform(),
        spacing_mm=recipe.grid.spacing,
        multiple=1,
        preprocessing=recipe.preprocessing,
    )
    images = (_filled(pair.fixed[0, 0], recipe.grid.size), _filled(pair.moving[0, 0], recipe.grid.size))
    if row.labels is None:
        none = np.zeros(images[0].shape, np.uint8)
        return images, (none, none)
    first, second = (_on_grid(read_labelmap(path), pair.geometry, recipe.grid.size) for path in row.labels)
    return images, (first, second)


def _on_grid(label: Volume, geometry: Geometry, size: tuple[int, int, int]) -> np.ndarray:
    array = label.resample(geometry, interpolation="nearest").array.transpose(2, 1, 0)
    return _filled(torch.from_numpy(array.astype(np.int32)), size).numpy()


def _filled(image: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Return the image with zeros around it until it is as large as the grid."""
    pads = []
    for have, want in zip(reversed(image.shape), reversed(size), strict=True):
        lacking = max(want - have, 0)
        pads += [lacking // 2, lacking - lacking // 2]
    return torch.nn.functional.pad(image, pads).contiguous()
