"""What the cases of a data set are like, as far as a recipe depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import InputError, RecipeError
from medseg.progress import NO_PROGRESS, Progress
from medseg.training.checks import described
from medseg.training.pairs import find_pairs
from medseg.training.recipe import DataSection
from medseg.training.starter.patterns import guess_files
from medseg.volumes import read_labelmap, read_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.training.pairs import Pair
    from medseg.training.starter.patterns import Files
    from medseg.volumes import Geometry

_SAMPLE = 20_000
"""Voxels of the structures of a case whose intensities are looked at."""


@dataclass(frozen=True)
class SurveyedCase:
    """One case.

    Attributes
    ----------
    geometry
        The grid of its first image.
    channels
        Number of images.
    lowest
        The least intensity.
    inside
        Intensities of some voxels of the structures.
    voxels
        By value of the label file.
    """

    case: str
    geometry: Geometry
    channels: int
    lowest: float
    inside: np.ndarray
    voxels: dict[int, int]


@dataclass(frozen=True)
class Study:
    """A data set.

    Attributes
    ----------
    folder
        Of the data, or of the table that lists them.
    files
        How its files are named.
    cases
        What they are like.
    has_split
        A table says which of them are kept aside.
    """

    folder: Path
    files: Files
    cases: list[SurveyedCase]
    has_split: bool

    @property
    def values(self) -> list[int]:
        """The values of the label files, rising."""
        return sorted({value for case in self.cases for value in case.voxels})


def study(data: Path, progress: Progress = NO_PROGRESS) -> Study:
    """Find the cases of a folder or of a table, and read every one.

    Raises
    ------
    RecipeError
        When there are none, or as :func:`survey` says.
    """
    files = guess_files(data)
    pairs = find_pairs(data, DataSection(image=files.images or None, label=files.label))
    cases = survey(pairs, progress)
    return Study(data if data.is_dir() else data.parent, files, cases, any(pair.split for pair in pairs))


def survey(pairs: Sequence[Pair], progress: Progress = NO_PROGRESS) -> list[SurveyedCase]:
    """Read every case and return what it is like.

    Raises
    ------
    RecipeError
        Naming every case that cannot be read, lies on another grid than its label or has labels that are not from 1.
    """
    found, problems = [], []
    for number, pair in enumerate(pairs):
        progress.update(number / len(pairs), f"{pair.case} ({number + 1} of {len(pairs)})")
        outcome = _look(pair)
        if isinstance(outcome, str):
            problems.append(f"{pair.case}: {outcome}")
        else:
            found.append(outcome)
    if problems:
        raise RecipeError(
            f"{len(problems)} of {len(pairs)} cases cannot be used: {'; '.join(problems)}.",
            advice="Repair these files or take the cases out of the data.",
        )
    if not any(case.voxels for case in found):
        raise RecipeError("All labels are empty.", advice="Check that the label files are the right ones.")
    return found


def _look(pair: Pair) -> SurveyedCase | str:
    try:
        images = [read_volume(path) for path in pair.images]
        label = read_labelmap(pair.label)
    except InputError as error:
        return f"cannot be read ({error.message.rstrip('.')})"
    image = images[0]
    if not label.geometry.is_close(image.geometry):
        return f"image and label lie on different grids ({described(image.geometry)} and {described(label.geometry)})"
    values, counts = np.unique(label.array, return_counts=True)
    if int(values[0]) < 0:
        return f"the label holds the value {int(values[0])}"
    inside = image.array[label.array > 0]
    return SurveyedCase(
        case=pair.case,
        geometry=image.geometry,
        channels=len(images),
        lowest=float(image.array.min()),
        inside=inside[:: max(1, inside.size // _SAMPLE)].astype(np.float32),
        voxels={int(value): int(count) for value, count in zip(values, counts, strict=True) if value},
    )
