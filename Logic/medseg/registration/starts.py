"""Which of several alignments makes two volumes more alike, and where else one could begin."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from medseg.progress import NO_PROGRESS, Progress
from medseg.registration.quality import likeness
from medseg.registration.transform import SpatialTransform

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from medseg.volumes import Volume

_FINE_MM, _COARSE_MM = 3.0, 8.0
"""Grids on which alignments are compared, and on which starts are looked for (our choice)."""
_SHIFTS = ((0.0,), (-0.12, 0.0, 0.12), (-0.3, -0.15, 0.0, 0.15, 0.3))
"""Along R, A and S, in sizes of the fixed volume: scans of one region differ most in how high they reach."""
_TURNS_DEGREES = ((-20.0, 0.0, 20.0), (0.0,), (-20.0, 0.0, 20.0))
"""About R, A and S: heads nod and turn."""
_LEAST_SHARE = 0.6
"""Of what a start covers of the fixed volume, what another must cover: what hardly overlaps is soon alike."""


class Judge:
    """Compares what two volumes both show, for any number of transforms, on a coarse grid.

    Parameters
    ----------
    mask
        On the grid of ``fixed``: voxels above 0 are compared.
    coarse
        Whether quick counts more than accurate.
    """

    def __init__(
        self,
        fixed: Volume,
        moving: Volume,
        mask: Volume | None,
        metric: Literal["mutual_information", "correlation"],
        *,
        coarse: bool = False,
    ) -> None:
        step = _COARSE_MM if coarse else _FINE_MM
        grid = fixed.geometry.with_spacing([max(own, step) for own in fixed.geometry.spacing])
        self.fixed, self._moving, self._metric = fixed.resample(grid), moving, metric
        self._mask = None if mask is None else mask.resample(grid, interpolation="nearest").array > 0

    def alike(self, transform: SpatialTransform) -> float:
        """Return mutual information or correlation, the higher the better; minus infinity where nothing can be said."""
        return self.judge(transform)[0]

    def judge(self, transform: SpatialTransform) -> tuple[float, float]:
        """Return how alike the volumes are, and the share of the fixed one (or of its mask) that the moving covers."""
        shown = transform.coverage(self._moving, self.fixed.geometry)
        if self._mask is not None:
            shown &= self._mask
        moved = transform.resample(self._moving, self.fixed.geometry)
        correlation, information = likeness(self.fixed, moved, shown)
        found = information if self._metric == "mutual_information" else correlation
        counted = shown.size if self._mask is None else max(int(self._mask.sum()), 1)
        return (-math.inf if math.isnan(found) else found), float(shown.sum()) / counted


def better_start(
    judge: Judge, found: SpatialTransform, start: SpatialTransform, progress: Progress = NO_PROGRESS
) -> SpatialTransform | None:
    """Return the coarse shift and turn around ``start`` that is more alike than ``found`` is; ``None`` when none is.

    Takes about a minute for volumes of a hundred million voxels, so it tells how far it is.

    Raises
    ------
    Cancelled
        When the user asked to stop.
    """
    geometry = judge.fixed.geometry
    best, (most, _), (_, covered) = None, judge.judge(found), judge.judge(start)
    changes = list(itertools.product(itertools.product(*_SHIFTS), itertools.product(*_TURNS_DEGREES)))
    for number, (shifts, turns) in enumerate(changes):
        progress.update(number / len(changes), "Looking around")
        if not any(shifts) and not any(turns):
            continue
        candidate = _turned(geometry.center_ras, turns, np.array(shifts) * _extent(judge.fixed)).then(start)
        alike, share = judge.judge(candidate)
        if alike > most and share >= _LEAST_SHARE * covered:
            best, most = candidate, alike
    return best


def _extent(volume: Volume) -> np.ndarray:
    """Return the size in mm along R, A and S of a volume, however it lies."""
    geometry = volume.geometry
    corners = [geometry.ijk_to_ras_points(np.array(corner) * (np.array(geometry.size) - 1))
               for corner in itertools.product((0, 1), repeat=3)]  # fmt: skip
    return np.ptp(np.array(corners), axis=0)


def _turned(centre: Sequence[float], degrees: tuple[float, ...], shift: np.ndarray) -> SpatialTransform:
    """Return turns about R, then A, then S through a point, and a shift in mm."""
    linear = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        linear = turn @ linear
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = np.asarray(centre) - linear @ np.asarray(centre) + shift
    return SpatialTransform((matrix,))
