"""Figures of a registration: how alike the volumes are before and after, and what the transform does to space."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.files import atomic_path
from medseg.metrics import dice_per_label, surface_agreement
from medseg.metrics.deformation import InverseConsistency, deformation_figures
from medseg.registration.transform import SpatialTransform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from medseg.metrics.deformation import DeformationFigures
    from medseg.registration.transform import DisplacementField
    from medseg.volumes import Geometry, Volume

WORST_SHARE = 0.3
"""The share of labels or landmarks that the figures of the worst are a mean of (Learn2Reg's "30 %"; rounded up)."""
_LATTICE = 32
"""Points along an axis at which a transform and its inverse are compared, at most."""


@dataclass(frozen=True)
class LabelFigures:
    """One label of two segmentations: Dice before and after; surface Dice (2 mm) and HD95 (mm) after."""

    dice_before: float
    dice_after: float
    surface_dice: float
    hd95_mm: float


@dataclass(frozen=True)
class OverlapFigures:
    """All labels together: means over the labels; the worst are the 30 % with the lowest Dice, before and after."""

    mean_dice_before: float
    mean_dice_after: float
    worst_dice_before: float
    worst_dice_after: float
    mean_surface_dice: float
    mean_hd95_mm: float


@dataclass(frozen=True)
class DistanceFigures:
    """Target registration errors in mm; the worst are the 30 % that are farthest apart."""

    count: int
    mean_mm: float
    median_mm: float
    largest_mm: float
    worst_mm: float


@dataclass(frozen=True)
class Quality:
    """What is known about a registration; what needs something that was not given is empty.

    Attributes
    ----------
    correlation_before, correlation_after
        Pearson's correlation of the two volumes where both are, on the fixed grid; NaN when nothing overlaps.
    information_before, information_after
        Their mutual information in nats (32 bins).
    deformation
        What the deformable part does to space; ``None`` for a linear transform.
    labels
        By label value.
    landmark_errors_before_mm, landmark_errors_after_mm
        Distance between each landmark of the moving volume and where its counterpart goes, in the order given.
    inverse_error_mm
        The largest distance by which inverse and transform miss each other, when an inverse was asked for.
    """

    correlation_before: float
    correlation_after: float
    information_before: float
    information_after: float
    deformation: DeformationFigures | None = None
    labels: Mapping[int, LabelFigures] = dataclasses.field(default_factory=dict)
    landmark_errors_before_mm: tuple[float, ...] = ()
    landmark_errors_after_mm: tuple[float, ...] = ()
    inverse_error_mm: float | None = None

    @property
    def overlap(self) -> OverlapFigures | None:
        """All labels together; ``None`` without labels. A distance that is not defined enters no mean."""
        if not self.labels:
            return None
        rows = list(self.labels.values())
        before, after = [row.dice_before for row in rows], [row.dice_after for row in rows]
        return OverlapFigures(
            mean_dice_before=_mean(before),
            mean_dice_after=_mean(after),
            worst_dice_before=_mean(_worst(before)),
            worst_dice_after=_mean(_worst(after)),
            mean_surface_dice=_mean([row.surface_dice for row in rows]),
            mean_hd95_mm=_mean([row.hd95_mm for row in rows]),
        )

    @property
    def landmarks_before(self) -> DistanceFigures | None:
        """Target registration error of what was there before; ``None`` without landmarks."""
        return _distances(self.landmark_errors_before_mm)

    @property
    def landmarks_after(self) -> DistanceFigures | None:
        """Target registration error of the transform; ``None`` without landmarks."""
        return _distances(self.landmark_errors_after_mm)

    def with_landmarks(self, transform: SpatialTransform, fixed: np.ndarray, moving: np.ndarray) -> Quality:
        """Return the same with the errors of landmarks (N, 3), before and after the transform."""
        return dataclasses.replace(
            self,
            landmark_errors_before_mm=landmark_errors(SpatialTransform(), fixed, moving),
            landmark_errors_after_mm=landmark_errors(transform, fixed, moving),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON takes them, with those that sum up labels and landmarks; NaN becomes ``None``."""
        content = dataclasses.asdict(self)
        for name in ("overlap", "landmarks_before", "landmarks_after"):
            found = getattr(self, name)
            content[name] = None if found is None else dataclasses.asdict(found)
        return _plain(content)


def likeness(fixed: Volume, moved: Volume, covered: np.ndarray) -> tuple[float, float]:
    """Return correlation and mutual information (nats) of two volumes on one grid, where ``covered``."""
    first, second = (volume.array[covered].astype(np.float64) for volume in (fixed, moved))
    if len(first) < 2 or first.std() == 0 or second.std() == 0:
        return math.nan, math.nan
    correlation = float(np.corrcoef(first, second)[0, 1])
    joint = np.histogram2d(_clipped(first), _clipped(second), bins=32)[0] / len(first)
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    return correlation, float((joint[there] * np.log(joint[there] / apart[there])).sum())


def figures_of_field(displacement: DisplacementField) -> DeformationFigures:
    """Return the figures of a field; they do not depend on the unit, since it is that of the grid."""
    return deformation_figures(displacement.to_voxels()[None])


def figures_of_labels(fixed: Volume, before: Volume, after: Volume) -> dict[int, LabelFigures]:
    """Return the figures of each label that occurs in the fixed segmentation; all three on its grid."""
    found = {}
    values = [int(value) for value in np.unique(fixed.array) if value]
    first, second = (dice_per_label(one.array, fixed.array, values) for one in (before, after))
    for value in values:
        apart = surface_agreement(after.array == value, fixed.array == value, fixed.geometry.spacing[::-1])
        found[value] = LabelFigures(first[value], second[value], apart.surface_dice, apart.hd95_mm)
    return found


def landmark_errors(
    transform: SpatialTransform, fixed_points: np.ndarray, moving_points: np.ndarray
) -> tuple[float, ...]:
    """Return the distance in mm between each moving landmark and where the transform takes the fixed one."""
    apart = np.linalg.norm(transform.apply(fixed_points) - np.asarray(moving_points), axis=1)
    return tuple(float(value) for value in apart)


def inverse_consistency(
    transform: SpatialTransform, inverse: SpatialTransform, fixed: Geometry, moving: Geometry
) -> InverseConsistency:
    """Return how far points of the fixed volume end from where they began, gone by ``transform`` and back.

    Taken on a lattice of at most 32 voxels along each axis of the fixed grid. A point that leaves the moving volume
    does not enter; ``inside`` is the share that stays.
    """
    axes = [np.unique(np.linspace(0, size - 1, min(size, _LATTICE)).round()) for size in fixed.size]
    points = fixed.ijk_to_ras_points(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3))
    there = transform.apply(points)
    index = moving.ras_to_ijk_points(there)
    stays = ((index >= -0.5) & (index <= np.asarray(moving.size) - 0.5)).all(1)
    if not stays.any():
        return InverseConsistency(math.nan, math.nan, 0.0)
    away = np.linalg.norm(inverse.apply(there[stays]) - points[stays], axis=1)
    return InverseConsistency(float(away.mean()), float(np.percentile(away, 95)), float(stays.mean()))


def write_report(path: Path, content: Mapping[str, Any]) -> None:
    """Write figures as JSON."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(_plain(dict(content)), indent=2) + "\n", encoding="utf-8")


def _distances(errors: Sequence[float]) -> DistanceFigures | None:
    if not errors:
        return None
    return DistanceFigures(
        count=len(errors),
        mean_mm=_mean(errors),
        median_mm=float(np.median(errors)),
        largest_mm=max(errors),
        worst_mm=_mean(_worst(errors, largest=True)),
    )


def _worst(values: Sequence[float], *, largest: bool = False) -> list[float]:
    """Return the smallest (or largest) 30 % of the values, at least one."""
    return sorted(values, reverse=largest)[: math.ceil(WORST_SHARE * len(values) - 1e-9)]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _clipped(values: np.ndarray) -> np.ndarray:
    return np.clip(values, *np.percentile(values, [0.1, 99.9]))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
