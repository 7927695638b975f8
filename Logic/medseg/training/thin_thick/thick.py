"""Thick copies of a volume, and which thick grid belongs to which thin one. Needs numpy only."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from medseg.errors import GeometryError, InputError
from medseg.volumes import Geometry, Volume

if TYPE_CHECKING:
    from medseg.volumes.geometry import Triple

SliceAxis = Literal["i", "j", "k"]
_AXES: tuple[SliceAxis, ...] = ("i", "j", "k")
_TOLERANCE_VOXELS = 0.02  # files keep positions in single precision: a few hundred mm lose up to 1e-4


@dataclasses.dataclass(frozen=True)
class Grouping:
    """Which thin slices make up the thick ones: slice ``t`` is the mean of ``first + t ratio ... + ratio - 1``.

    Attributes
    ----------
    axis
        Index axis of the thin grid that the slices are stacked along: 0, 1, 2 for i, j, k.
    ratio
        Thin slices a thick one.
    first
        The thin slice that the first group begins with.
    count
        Number of groups.
    """

    axis: int
    ratio: int
    first: int
    count: int

    @property
    def array_axis(self) -> int:
        """The axis in arrays (k, j, i)."""
        return 2 - self.axis

    @property
    def stop(self) -> int:
        """The thin slice behind the last group."""
        return self.first + self.ratio * self.count


def thick_copy(
    volume: Volume, *, thickness_mm: float | None = None, factor: int | None = None, axis: SliceAxis = "k"
) -> Volume:
    """Return ``volume`` with thick slices: means of ``factor`` neighbouring slices (average intensity projection).

    The grid is exact for any orientation, oblique or sheared: the slice distance is ``factor`` times the volume's and
    the first slice lies in the middle of its group, ``(factor - 1) / 2`` slice distances from the volume's first.
    Slices that fill no group, at the end, are left out. This is SimpleITK's ``BinShrink`` along one axis.

    Parameters
    ----------
    volume
        Any numbers.
    thickness_mm, factor
        Give one of the two. A thickness in mm is rounded to a whole number of slices.
    axis
        The index axis across the slices; k for a volume as scanners store it.

    Returns
    -------
    Volume
        float32.

    Raises
    ------
    InputError
        When neither or both of thickness and factor are given, they make no thicker slice, or the volume has fewer
        slices than one thick slice needs.
    """
    if axis not in _AXES:
        raise InputError(f"{axis!r} is no axis of a volume.", advice="Choose i, j or k; slices are mostly along k.")
    index = _AXES.index(axis)
    spacing, slices = volume.geometry.spacing[index], volume.geometry.size[index]
    ratio = _ratio(thickness_mm, factor, spacing)
    groups = slices // ratio
    if groups < 1:
        raise InputError(
            f"The volume has {slices} slices of {spacing:.4g} mm along {axis}, and a thick slice needs {ratio}.",
            advice="Choose a smaller thickness or another axis.",
        )
    place = 2 - index
    thin = np.moveaxis(volume.array, place, 0)
    thick = np.empty((groups, *thin.shape[1:]), np.float32)
    for number in range(groups):
        thick[number] = thin[number * ratio : (number + 1) * ratio].mean(axis=0, dtype=np.float64)
    geometry = thick_geometry(volume.geometry, Grouping(index, ratio, 0, groups))
    return dataclasses.replace(volume, array=np.moveaxis(thick, 0, place), geometry=geometry)


def _ratio(thickness_mm: float | None, factor: int | None, spacing: float) -> int:
    if (thickness_mm is None) == (factor is None):
        raise InputError("A thick copy needs a thickness or a factor.", advice="Give one of the two.")
    if thickness_mm is not None:
        if not (math.isfinite(thickness_mm) and thickness_mm > 0):
            raise InputError(f"{thickness_mm} mm is no slice thickness.", advice="Give a positive number of mm.")
        factor = math.floor(thickness_mm / spacing + 0.5)
    if factor is None or factor != int(factor) or factor < 2:
        asked = f"{factor} slices" if thickness_mm is None else f"{thickness_mm:.4g} mm"
        raise InputError(
            f"Slices of {spacing:.4g} mm do not become thicker at {asked}.",
            advice=f"Give at least {2 * spacing:.4g} mm, which is two slices.",
        )
    return int(factor)


def thick_geometry(thin: Geometry, grouping: Grouping) -> Geometry:
    """Return the grid of the thick slices that ``grouping`` makes on ``thin``."""
    matrix = thin.ijk_to_ras.copy()
    step = thin.ijk_to_ras[:3, grouping.axis]
    matrix[:3, grouping.axis] = grouping.ratio * step
    matrix[:3, 3] += (grouping.first + (grouping.ratio - 1) / 2.0) * step
    shape = list(thin.shape)
    shape[grouping.array_axis] = grouping.count
    return Geometry((shape[0], shape[1], shape[2]), matrix)


def find_grouping(thin: Geometry, thick: Geometry) -> tuple[Grouping, Triple] | None:
    """Return how ``thick`` groups the slices of ``thin``, or ``None`` when it does not.

    The thick grid may be a part of the thick copy (a label map cropped to what was drawn), also one that reaches beyond
    it within the slice. Both must have their axes in the same order and direction.

    Returns
    -------
    tuple
        The groups, counted on the thick grid, and the index (i, j, k) on the thin grid of the thick grid's first voxel
        (along the slice axis: of the first slice of its group).
    """
    between = thin.ras_to_ijk @ thick.ijk_to_ras
    scale = np.diag(between)[:3]
    ratios = np.rint(scale).astype(int)
    turned = np.abs(between[:3, :3] - np.diag(ratios)) @ np.asarray(thick.size)
    grouped = np.flatnonzero(ratios != 1)
    if turned.max() > _TOLERANCE_VOXELS or len(grouped) != 1 or ratios[grouped[0]] < 2:
        return None
    axis = int(grouped[0])
    ratio = int(ratios[axis])
    start = between[:3, 3].copy()
    start[axis] -= (ratio - 1) / 2.0
    whole = np.rint(start).astype(int)
    if np.abs(start - whole).max() > _TOLERANCE_VOXELS:
        return None
    i, j, k = whole.tolist()
    return Grouping(axis, ratio, (i, j, k)[axis], thick.size[axis]), (i, j, k)


@dataclasses.dataclass(frozen=True, eq=False)
class PlacedLabels:
    """Thick labels on the whole thick copy of a thin volume: what was not drawn is background.

    Attributes
    ----------
    array
        (k, j, i) but for the slice axis as the thin volume, label values.
    grouping
        Which thin slices each thick slice covers.
    """

    array: np.ndarray
    grouping: Grouping


def place_labels(thin: Geometry, labels: Volume) -> PlacedLabels:
    """Bring a label map that was drawn on a thick copy onto the whole thick grid of ``thin``.

    Raises
    ------
    GeometryError
        When the label map does not lie on a thick copy of this volume.
    InputError
        When it is empty, or has labels outside the volume.
    """
    turned = labels.reorient(thin.orientation)
    found = find_grouping(thin, turned.geometry)
    if found is None:
        raise _not_a_thick_copy(thin, turned.geometry)
    own, (i, j, k) = found
    axis = own.array_axis
    slices = thin.size[own.axis]
    if not turned.array.any():
        raise InputError(
            "The labels on the thick slices are empty.", advice="Draw at least one structure on the thick copy."
        )
    # The first group that fits into the volume; the drawn grid may begin earlier or later.
    first = own.first % own.ratio
    count = (slices - first) // own.ratio
    shape = list(thin.shape)
    shape[axis] = count
    start = [k, j, i]
    start[axis] = (own.first - first) // own.ratio
    whole = np.zeros(shape, turned.array.dtype)
    target, source = [], []
    for begin, length, room in zip(start, turned.shape, shape, strict=True):
        low, high = max(begin, 0), min(begin + length, room)
        target.append(slice(low, max(high, low)))
        source.append(slice(low - begin, max(high, low) - begin))
    whole[tuple(target)] = turned.array[tuple(source)]
    if np.count_nonzero(whole) != np.count_nonzero(turned.array):
        raise InputError(
            "Some labels lie outside the thin volume.",
            advice="Choose the volume that the thick copy was made from.",
        )
    return PlacedLabels(whole, Grouping(own.axis, own.ratio, first, count))


def _not_a_thick_copy(thin: Geometry, thick: Geometry) -> GeometryError:
    if thin.offset_of(thick) is not None:
        return GeometryError(
            "The labels lie on the thin slices already.",
            advice="Make a thick copy of the volume and draw on its slices.",
        )
    return GeometryError(
        f"The labels (voxels of {_steps(thick)} mm) do not lie on a thick copy of the volume (voxels of"
        f" {_steps(thin)} mm): the grids must agree within the slices, and each thick slice must be the middle of a"
        " whole number of thin ones.",
        advice="Make the thick copy with MedSeg, draw on it and keep it as the segmentation's source volume.",
    )


def _steps(geometry: Geometry) -> str:
    return " x ".join(f"{step:.4g}" for step in geometry.spacing)
