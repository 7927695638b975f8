"""What a transform is worth, by the same code for every method.

A method hands back a transform from points of the fixed volume to points of the moving one (RAS mm), and nothing else:
points, labels and folds are taken from that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.metrics import dice_per_label
from medseg.metrics.deformation import folded_share, folded_share_strict
from medseg.registration.quality import landmark_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.registration.pair import Pair
    from medseg.registration import SpatialTransform
    from medseg.volumes import Geometry, Volume

WORST = 0.3
"""Share of the points or structures that count as the worst (T. Mok et al., MLMI 2023: of the cases)."""


@dataclass(frozen=True)
class PointErrors:
    """Distances in mm between where points go and where they belong; ``worst`` is the mean of the worst 30 %."""

    mean: float
    median: float
    p95: float
    worst: float


@dataclass(frozen=True)
class Measured:
    """What is known of one transform on one pair.

    Attributes
    ----------
    points
        ``None`` for a pair without points.
    dice
        By label value, of labels that both volumes have; empty for a pair without labels.
    folded, folded_strict
        Shares of the voxels of the fixed volume, 0 to 1 (see :mod:`medseg.metrics.deformation`).
    """

    points: PointErrors | None
    dice: dict[int, float]
    folded: float
    folded_strict: float


def measure(transform: SpatialTransform, pair: Pair) -> Measured:
    """Return the figures of a transform."""
    points = None
    if pair.fixed_points is not None and pair.moving_points is not None:
        points = point_errors(transform, pair.fixed_points, pair.moving_points)
    dice = {}
    if pair.fixed_labels is not None and pair.moving_labels is not None:
        dice = overlap(transform, pair.fixed_labels, pair.moving_labels)
    return Measured(points, dice, *folds(transform, pair.fixed.geometry))


def point_errors(transform: SpatialTransform, fixed: np.ndarray, moving: np.ndarray) -> PointErrors:
    """Return the errors (mm) of points (N, 3) of the fixed volume, RAS mm, that belong to those of the moving one."""
    apart = np.array(landmark_errors(transform, fixed, moving))
    return PointErrors(
        float(apart.mean()), float(np.median(apart)), float(np.percentile(apart, 95)), mean_of_worst(apart, high=True)
    )


def overlap(transform: SpatialTransform, fixed: Volume, moving: Volume) -> dict[int, float]:
    """Return the Dice coefficient of each label that both have, on the grid of the fixed labels."""
    values = sorted(
        {int(value) for value in np.unique(fixed.array)} & {int(value) for value in np.unique(moving.array)}
    )
    warped = transform.resample(moving, fixed.geometry, "nearest")
    return dice_per_label(warped.array, fixed.array, [value for value in values if value])


def folds(transform: SpatialTransform, geometry: Geometry) -> tuple[float, float]:
    """Return the shares of voxels that fold, by central and by any one-sided differences.

    The transform, its linear part too, is sampled at every voxel of the fixed volume, whatever grid it came on.
    """
    dense = transform.on_grid(geometry).to_voxels()
    return folded_share(dense), folded_share_strict(dense)


def mean_of_worst(values: Sequence[float] | np.ndarray, *, high: bool) -> float:
    """Return the mean of the worst 30 % of some values, at least one of them; ``high``: the largest are the worst.

    NaN when there is no value.
    """
    ranked = np.sort(np.asarray(values, np.float64))
    if not ranked.size:
        return math.nan
    count = max(round(WORST * len(ranked)), 1)
    return float((ranked[-count:] if high else ranked[:count]).mean())
