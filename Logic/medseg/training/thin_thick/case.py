"""One case as the per-case tool works on it: cropped around what was drawn, slices first, intensities scaled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.training.thin_thick.thick import place_labels

if TYPE_CHECKING:
    from medseg.training.thin_thick.thick import Grouping
    from medseg.volumes import Volume

_MARGIN_SLICES = 2  # thick slices kept beyond the labels: the shapes close there
# Grey values are scaled by those in and near the labels: soft tissue keeps its contrast whatever else is in the crop.
_NEAR_PIXELS = 6
_PERCENTILES = (5.0, 95.0)
_SCALED_LIMIT = 2.0


@dataclass(frozen=True, eq=False)
class Case:
    """A thin image and the labels on its thick slices.

    Attributes
    ----------
    image
        (T, rows, columns) float32, -2 to 2: the crop. -1 and 1 are the 5th and 95th percentile near the labels.
    drawn
        (n, rows, columns) class indices on the thick slices: 0, or 1 + the index of the value in ``values``.
    values
        The label values that were drawn, rising.
    first, ratio
        Group ``t`` is thin slices ``first + t ratio ... + ratio - 1`` of the crop. Slices before the first and behind
        the last group are in the crop only at the ends of the volume.
    spacing
        mm between thin slices, rows, columns.
    grouping
        Of the whole volume.
    start
        The crop's first voxel in the whole volume (slice, row, column).
    first_drawn
        The thick slice of the whole volume that is the crop's first.
    """

    image: np.ndarray
    drawn: np.ndarray
    values: tuple[int, ...]
    first: int
    ratio: int
    spacing: tuple[float, float, float]
    grouping: Grouping
    start: tuple[int, int, int]
    first_drawn: int

    @property
    def thick_spacing(self) -> tuple[float, float, float]:
        """mm between thick slices, rows, columns."""
        return self.spacing[0] * self.ratio, self.spacing[1], self.spacing[2]

    def group(self, number: int) -> slice:
        """Return the thin slices of the crop that make up its thick slice ``number``."""
        begin = self.first + number * self.ratio
        return slice(begin, begin + self.ratio)

    def thick_image(self) -> np.ndarray:
        """Return the thick slices (n, rows, columns) of the scaled image."""
        return np.stack([self.image[self.group(number)].mean(0) for number in range(len(self.drawn))])

    def restored(self, classes: np.ndarray, thin: Volume) -> Volume:
        """Return class indices of the crop as label values on the whole grid of ``thin``."""
        table = np.array([0, *self.values])
        kind = np.uint8 if table.max() < 256 else np.uint16 if table.max() < 65536 else np.uint32
        array = np.zeros(thin.shape, kind)
        whole = np.moveaxis(array, self.grouping.array_axis, 0)
        box = tuple(slice(start, start + size) for start, size in zip(self.start, classes.shape, strict=True))
        whole[box] = table.astype(kind)[classes]
        return thin.with_array(array)


def make_case(thin: Volume, labels: Volume, margin_mm: float) -> Case:
    """Crop ``thin`` around the labels that were drawn on its thick copy.

    Raises
    ------
    GeometryError, InputError
        See :func:`medseg.training.thin_thick.thick.place_labels`.
    """
    placed = place_labels(thin.geometry, labels)
    grouping = placed.grouping
    thick = np.moveaxis(placed.array, grouping.array_axis, 0)
    image = np.moveaxis(thin.array, grouping.array_axis, 0)
    in_plane = list(thin.geometry.spacing[::-1])
    slice_mm = in_plane.pop(grouping.array_axis)
    row_mm, column_mm = in_plane

    used = [np.flatnonzero(thick.any(tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    low, high = max(int(used[0][0]) - _MARGIN_SLICES, 0), min(int(used[0][-1]) + _MARGIN_SLICES + 1, grouping.count)
    rows, columns = (
        (max(int(places[0]) - around, 0), min(int(places[-1]) + around + 1, size))
        for places, around, size in zip(
            used[1:], (math.ceil(margin_mm / row_mm), math.ceil(margin_mm / column_mm)), thick.shape[1:], strict=True
        )
    )
    begin = grouping.first + low * grouping.ratio if low else 0
    end = grouping.first + high * grouping.ratio if high < grouping.count else image.shape[0]
    values = tuple(np.unique(thick).tolist())
    values = values[1:] if values[0] == 0 else values
    drawn = thick[low:high, slice(*rows), slice(*columns)]
    first = 0 if low else grouping.first
    crop = image[begin:end, slice(*rows), slice(*columns)].astype(np.float32)
    middle = first + (grouping.ratio - 1) // 2
    near = crop[middle : middle + len(drawn) * grouping.ratio : grouping.ratio][_near(drawn)]
    return Case(
        image=_scaled(crop, *np.percentile(near, _PERCENTILES).tolist()),
        drawn=np.searchsorted(np.array([0, *values]), drawn).astype(np.uint16),
        values=values,
        first=first,
        ratio=grouping.ratio,
        spacing=(slice_mm, row_mm, column_mm),
        grouping=grouping,
        start=(begin, rows[0], columns[0]),
        first_drawn=low,
    )


def _near(drawn: np.ndarray) -> np.ndarray:
    """Return where a label is at most some pixels away in a row or column of its slice."""
    import SimpleITK as sitk

    image: Any = sitk.GetImageFromArray((drawn != 0).astype(np.uint8))
    near = sitk.BinaryDilate(image, [_NEAR_PIXELS, _NEAR_PIXELS, 0], sitk.sitkBox)
    return sitk.GetArrayFromImage(near) != 0


def _scaled(image: np.ndarray, low: float, high: float) -> np.ndarray:
    scale = 2.0 / (high - low) if high > low else 1.0
    image -= np.float32(low)
    image *= np.float32(scale)
    image -= np.float32(1)
    return np.ascontiguousarray(np.clip(image, -_SCALED_LIMIT, _SCALED_LIMIT, out=image))
