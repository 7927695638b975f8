"""Label maps of real anatomy, held in memory as training wants them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from medseg.errors import InputError, RecipeError
from medseg.progress import NO_PROGRESS, Progress
from medseg.volumes import read_labelmap

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from medseg.volumes import Volume

LARGEST_CODES = 255
"""Values of labels are held as places in a table, in unsigned 8-bit integers."""

_LEAST_VOXELS = 30
"""Fewest voxels of a structure whose centre helps to align two maps."""
_LEAST_COMMON = 8
"""Fewest structures from which an affine alignment is computed; below it, the centres are put on each other."""


@dataclass(frozen=True)
class Anatomy:
    """A label map on an isotropic grid, cropped to what is not background.

    Attributes
    ----------
    labels
        (I, J, K) uint8 along the axes of the orientation that was asked for: places in ``codes``.
    codes
        The values of the file, rising; the first is 0, the background. The same for all maps that were read together.
    spacing_mm
        Voxel size.
    centres_mm
        (len(codes), 3) float64: the centre of each structure from the centre of the grid; NaN for one that is too small
        or not there.
    """

    case: str
    labels: Tensor
    codes: tuple[int, ...]
    spacing_mm: float
    centres_mm: Tensor

    def alignment_to(self, other: Anatomy, places: Sequence[int]) -> Tensor:
        """Return the affine map (4x4) from mm of this grid to mm of ``other`` that fits the centres of structures best.

        Least squares over those of ``places`` (in ``codes``) that both have; with fewer than eight, a shift.
        """
        chosen = list(places)
        here, there = self.centres_mm[chosen], other.centres_mm[chosen]
        both = torch.isfinite(here).all(1) & torch.isfinite(there).all(1)
        here, there = here[both], there[both]
        matrix = torch.eye(4, dtype=torch.float64)
        if len(here) == 0:
            return matrix
        if len(here) >= _LEAST_COMMON:
            apart = here - here.mean(0)
            matrix[:3, :3] = torch.linalg.lstsq(apart, there - there.mean(0)).solution.T
        matrix[:3, 3] = there.mean(0) - matrix[:3, :3] @ here.mean(0)
        return matrix


def read_anatomies(
    files: Mapping[str, Path],
    *,
    orientation: str,
    spacing_mm: float,
    ignore: Collection[int] = (),
    progress: Progress = NO_PROGRESS,
) -> list[Anatomy]:
    """Read label maps, bring them to one orientation and voxel size by nearest neighbours, and crop them.

    Parameters
    ----------
    files
        By the name of the case.
    orientation, spacing_mm
        Of the grid; voxels may be finer than the network's, so that two readings of them do not show steps.
    ignore
        Values that become background.

    Raises
    ------
    RecipeError
        When a file cannot be read, holds no label, or they have too many values altogether; every bad file is named.
    """
    problems, arrays, codes = [], {}, {0}
    for number, (case, path) in enumerate(files.items()):
        progress.update(number / len(files), f"Reading label map {number + 1} of {len(files)}: {case}")
        try:
            arrays[case] = _array(read_labelmap(path), orientation, spacing_mm, ignore)
        except InputError as error:
            problems.append(f"{case}: {error.message.rstrip('.')}")
            continue
        codes |= set(np.unique(arrays[case]).tolist())
    if problems:
        raise RecipeError(
            f"{len(problems)} of {len(files)} label maps cannot be used: {'; '.join(problems)}.",
            advice="Repair these files or take them out of the data.",
        )
    if len(codes) > LARGEST_CODES or min(codes) < 0:
        raise RecipeError(
            f"The label maps hold {len(codes)} values from {min(codes)}; at most {LARGEST_CODES} from 0 are taken.",
            advice="Merge labels, or ignore some.",
        )
    table = tuple(sorted(codes))
    return [_anatomy(case, array, table, spacing_mm) for case, array in arrays.items()]


def _array(label: Volume, orientation: str, spacing_mm: float, ignore: Collection[int]) -> np.ndarray:
    """Return the labels (I, J, K) on the grid asked for, cropped."""
    geometry = label.geometry.reoriented(orientation).with_spacing((spacing_mm,) * 3)
    array = label.resample(geometry, interpolation="nearest").array.transpose(2, 1, 0)
    if ignore:
        array = np.where(np.isin(array, list(ignore)), 0, array)
    there = np.argwhere(array > 0)
    if not len(there):
        raise InputError("it holds no label")
    i, j, k = (slice(low, high + 1) for low, high in zip(there.min(0), there.max(0), strict=True))
    return np.ascontiguousarray(array[i, j, k])


def _anatomy(case: str, array: np.ndarray, codes: tuple[int, ...], spacing_mm: float) -> Anatomy:
    labels = np.searchsorted(np.asarray(codes), array).astype(np.uint8)
    counts = np.bincount(labels.ravel(), minlength=len(codes)).astype(np.float64)
    sums = np.empty((len(codes), 3))
    for axis, n in enumerate(labels.shape):
        along = (np.arange(n) - (n - 1) / 2) * spacing_mm
        weights = np.broadcast_to(along.reshape([-1 if axis == d else 1 for d in range(3)]), labels.shape)
        sums[:, axis] = np.bincount(labels.ravel(), weights=weights.ravel(), minlength=len(codes))
    centres = np.full((len(codes), 3), np.nan)
    enough = counts >= _LEAST_VOXELS
    enough[0] = False
    centres[enough] = sums[enough] / counts[enough, None]
    return Anatomy(case, torch.from_numpy(labels), codes, spacing_mm, torch.from_numpy(centres))
