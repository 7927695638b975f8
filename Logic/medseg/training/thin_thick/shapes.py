"""The shapes of labels between the slices that they were drawn on: signed distances, interpolated along the slices.

Shape-based interpolation as Raya and Udupa (IEEE Trans. Med. Imaging 1990) introduced it and Herman, Zheng and
Bucholtz (1992) extended it to cubic curves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

REACH = 40.0
"""Distances are cut off here (in pixels): nothing is to be told of a label that is so far away."""

Interpolation = Literal["cubic", "classic"]
_ALL = slice(None)


@dataclass(frozen=True)
class Between:
    """A place between the thick slices ``lower`` and ``lower + 1``, ``share`` (0 to 1) of the way up."""

    lower: int
    share: float

    @property
    def doubt(self) -> float:
        """What the error of interpolation grows with: ``share (1 - share)``, 0 on a thick slice, at most 1/4."""
        return self.share * (1 - self.share)


def places_of_thin_slices(slices: int, first: int, ratio: int, count: int) -> list[Between]:
    """Return where each of ``slices`` thin slices lies between the middles of ``count`` groups.

    The first group begins at thin slice ``first``. Beyond the first and the last middle a slice is at that middle.
    """
    middle = np.clip((np.arange(slices) - first - (ratio - 1) / 2) / ratio, 0, count - 1)
    lower = np.minimum(np.floor(middle).astype(int), max(count - 2, 0))
    return [Between(int(low), float(place - low)) for low, place in zip(lower, middle, strict=True)]


class LabelShapes:
    """Signed distances of labels to their outlines on thick slices, in pixels, positive inside.

    "classic" is the textbook's: the distance within the slice to the outline (which runs half-way between voxels),
    interpolated linearly. A slice without the label has none; there it is the distance in space to the surface between
    voxels, so that a shape closes beyond its last slice.

    "cubic" (ours, chosen by measurement): Catmull-Rom curves through the geometric mean of the distance within the
    slice and the distance in space, so that what appears or ends a slice further counts as near; in a slice without
    the label, twice the latter.

    Parameters
    ----------
    labels
        (n, rows, columns) label values on the thick slices.
    values
        The labels, in the order of the results.
    spacing
        mm between thick slices, rows, columns.
    """

    def __init__(
        self,
        labels: np.ndarray,
        values: Sequence[int],
        spacing: tuple[float, float, float],
        interpolation: Interpolation = "cubic",
        *,
        progress: Progress = NO_PROGRESS,
    ) -> None:
        self.count = labels.shape[0]
        self.shape = labels.shape[1:]
        self._curve = interpolation
        pixel = math.sqrt(spacing[1] * spacing[2])
        steps = (spacing[0] / pixel, spacing[1] / pixel, spacing[2] / pixel)
        self._parts = []
        for number, value in enumerate(values):
            progress.update(number / len(values), "Measuring the labels")
            self._parts.append(_distances(labels == value, steps, blended=interpolation == "cubic"))

    def at(self, place: Between, rows: slice = _ALL, columns: slice = _ALL) -> np.ndarray:
        """Return the distances (labels, rows, columns), float32, at a place between two slices."""
        knots = [min(max(place.lower + step, 0), self.count - 1) for step in (-1, 0, 1, 2)]
        weights = _weights(place.share, self._curve)
        top, bottom, _ = rows.indices(self.shape[0])
        left, right, _ = columns.indices(self.shape[1])
        planes = np.full((len(self._parts), bottom - top, right - left), -REACH, np.float32)
        for plane, (corner, distances) in zip(planes, self._parts, strict=True):
            box = [
                (max(low, start), min(high, start + size))
                for low, high, start, size in zip(
                    (top, left), (bottom, right), corner, distances.shape[1:], strict=True
                )
            ]
            if any(low >= high for low, high in box):
                continue
            (r0, r1), (c0, c1) = box
            here = (slice(r0 - corner[0], r1 - corner[0]), slice(c0 - corner[1], c1 - corner[1]))
            there = (slice(r0 - top, r1 - top), slice(c0 - left, c1 - left))
            plane[there] = sum(
                np.float32(weight) * distances[knot][here].astype(np.float32)
                for weight, knot in zip(weights, knots, strict=True)
                if weight
            )
        return planes

    def near_outlines(self, within: float, most: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Return for each label some places (N, 3) (slice, row, column) at most ``within`` pixels from its outline."""
        found = []
        for (top, left), distances in self._parts:
            places = np.argwhere(np.abs(distances) < within)
            if len(places) > most:
                places = places[np.sort(rng.choice(len(places), most, replace=False))]
            found.append(places + np.array([0, top, left]))
        return found


def _weights(share: float, curve: Interpolation) -> tuple[float, float, float, float]:
    if curve == "classic" or share == 0:
        return 0.0, 1 - share, share, 0.0
    t, tt, ttt = share, share**2, share**3
    return (-t + 2 * tt - ttt) / 2, (2 - 5 * tt + 3 * ttt) / 2, (t + 4 * tt - 3 * ttt) / 2, (-tt + ttt) / 2


def _distances(
    mask: np.ndarray, steps: tuple[float, float, float], *, blended: bool
) -> tuple[tuple[int, int], np.ndarray]:
    """Return the corner (row, column) of a box around the label and its distances (n, rows, columns) there.

    Half precision: a hundredth of a pixel where it matters, and half the memory.
    """
    flat = np.asarray(mask.any(0))
    box = []
    for axis in (0, 1):
        used = np.flatnonzero(np.asarray(flat.any(1 - axis)))
        around = math.ceil(REACH / steps[1 + axis])
        low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        box.append((max(low - around, 0), min(high + around, flat.shape[axis])))
    (r0, r1), (c0, c1) = box
    part = mask[:, r0:r1, c0:c1]
    distances = np.full(part.shape, -REACH, np.float16)
    filled = np.asarray(part.any((1, 2)))
    if filled.any():
        in_space = _signed(part, steps)
        for plane, values, space, drawn in zip(part, distances, in_space, filled, strict=True):
            if not drawn:
                values[:] = np.maximum(2 * space if blended else space, -REACH)
                continue
            within = _signed(plane[None], steps)[0]
            # Both have the sign of the mask.
            found = np.copysign(np.sqrt(np.abs(within * space)), within) if blended else within
            values[:] = np.clip(found, -REACH, REACH)
    return (r0, c0), distances


def _signed(mask: np.ndarray, steps: tuple[float, float, float]) -> np.ndarray:
    """The mean of the distance to the outermost voxels inside and to the innermost outside: zero half-way between."""
    if mask.all():
        return np.full(mask.shape, REACH, np.float32)
    outside, inside = _maurer(mask, steps), _maurer(~mask, steps)
    return (inside - outside) / 2


def _maurer(mask: np.ndarray, steps: tuple[float, float, float]) -> np.ndarray:
    import SimpleITK as sitk

    image: Any = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(steps[::-1])
    found = sitk.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    return sitk.GetArrayFromImage(found)


def classes_of(distances: np.ndarray) -> np.ndarray:
    """Return, from distances or scores (labels, ...), 0 where none is positive, else 1 + the index of the largest."""
    best = distances.argmax(0)
    return np.where(np.take_along_axis(distances, best[None], 0)[0] > 0, best + 1, 0)
