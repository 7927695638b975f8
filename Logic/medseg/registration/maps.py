"""Volumes that show a registration: the Jacobian, the two images in one, their difference, labels brought along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medseg.errors import GeometryError, InputError
from medseg.metrics.deformation import jacobian_determinant
from medseg.volumes import Volume

if TYPE_CHECKING:
    from medseg.registration.transform import DisplacementField, SpatialTransform
    from medseg.volumes import Geometry

_LOWEST, _HIGHEST = 0.5, 99.5
"""Percentiles that become 0 and 1."""
_POINTS = 1 << 17
"""Voxels whose labels are worked out at a time."""
_TIE = 1e-6
"""Parts of a voxel that differ by no more than this are equal."""


def jacobian_map(field: DisplacementField, target: Geometry) -> Volume:
    """Return the determinant of the Jacobian of ``x + u(x)`` on a grid: 1 keeps volume, 2 doubles it, below 0 folds.

    Taken by central differences on the field's own grid, in between linear; it does not depend on units.

    Parameters
    ----------
    field
        u; of a registration its deformable part, without the linear one.
    target
        The grid of the map, usually that of the fixed volume.

    Returns
    -------
    Volume
        (k, j, i) float32; 1 where the field does not reach, since nothing moves there.
    """
    u = field.to_voxels()
    # Along an axis of one voxel the field is the same everywhere.
    thick = np.pad(u, [(0, 0), *((0, int(size == 1)) for size in u.shape[1:])], mode="edge")
    found = jacobian_determinant(thick)[tuple(slice(size) for size in u.shape[1:])]
    return Volume(found.transpose(2, 1, 0), field.geometry).resample(target, "linear", fill=1.0)


def checkerboard(fixed: Volume, warped: Volume, squares: int = 8) -> Volume:
    """Return the two volumes in turns, as on a chessboard: edges that go on from square to square are aligned.

    Parameters
    ----------
    fixed, warped
        (k, j, i) on one grid. Each is scaled by itself to 0 to 1, from its 0.5th to its 99.5th percentile.
    squares
        Along the longest axis of the volume. Their edges have one length in mm on all axes, so that every plane along
        the axes shows squares, also when voxels are not cubes.

    Returns
    -------
    Volume
        float32, 0 to 1, on the grid of ``fixed``; the first square is of the fixed volume.

    Raises
    ------
    GeometryError
        When the volumes do not share one grid.
    InputError
        When ``squares`` is less than 1.
    """
    if squares < 1:
        raise InputError(f"A checkerboard of {squares} squares shows nothing.", advice="Give a number from 1.")
    first, second = _scaled_pair(fixed, warped)
    edge = max(fixed.geometry.extent_mm) / squares
    numbers = [
        np.floor((np.arange(size) + 0.5) * step / edge).astype(np.int64)
        for size, step in zip(fixed.geometry.size, fixed.geometry.spacing, strict=True)
    ]
    i, j, k = numbers
    odd = (k[:, None, None] + j[:, None] + i) % 2 == 1
    return fixed.with_array(np.where(odd, second, first))


def difference(fixed: Volume, warped: Volume) -> Volume:
    """Return the warped volume minus the fixed one; of use for two volumes of one modality.

    Parameters
    ----------
    fixed, warped
        (k, j, i) on one grid, scaled as for :func:`checkerboard`.

    Returns
    -------
    Volume
        float32, -1 to 1; above 0 where the warped volume is brighter.

    Raises
    ------
    GeometryError
        When the volumes do not share one grid.
    """
    first, second = _scaled_pair(fixed, warped)
    return fixed.with_array(second - first)


def warp_labels(
    labels: Volume, transform: SpatialTransform, target: Geometry, rule: Literal["nearest", "linear"] = "linear"
) -> Volume:
    """Return a label map of the moving volume as it lies on a grid in the space of the fixed one.

    Parameters
    ----------
    labels
        Whole numbers (k, j, i), 0 for background.
    transform
        From points of the fixed volume to points of the moving one.
    rule
        "linear": the indicator of every label is interpolated linearly and the largest wins (the smaller value where
        two are equal), which gives smooth borders; "nearest" takes the voxel that lies next.

    Returns
    -------
    Volume
        Of the type of ``labels``, 0 where the moving volume does not reach.

    Raises
    ------
    InputError
        When there is no such rule.
    """
    if rule == "nearest":
        return transform.resample(labels, target, "nearest")
    if rule != "linear":
        raise InputError(f"There is no rule '{rule}' to warp labels.", advice="Choose nearest or linear.")
    found = np.zeros(target.shape, labels.array.dtype)
    # ITK moves the points, which is quicker.
    way = transform.to_sitk()  # with a copy of its fields, so not for each slab
    slices, rows, columns = target.shape
    step = max(_POINTS // (rows * columns), 1)
    for start in range(0, slices, step):
        stop = min(start + step, slices)
        slab = target.cropped((start, 0, 0), (stop, rows, columns))
        found[start:stop] = _largest_share(labels.array, labels.geometry.ras_to_ijk_points(_moved(slab, way)))
    return Volume(found, target, name=labels.name, modality=labels.modality)


def _scaled_pair(fixed: Volume, warped: Volume) -> tuple[np.ndarray, np.ndarray]:
    if not warped.geometry.is_close(fixed.geometry):
        raise GeometryError(
            "The fixed and the warped volume do not lie on the same voxel grid.",
            advice="Resample the warped volume onto the fixed one's grid first.",
        )
    return _scaled(fixed.array), _scaled(warped.array)


def _scaled(array: np.ndarray) -> np.ndarray:
    values = array.astype(np.float32)
    known = values[np.isfinite(values)]
    if not known.size:
        return np.zeros_like(values)
    low, high = (float(value) for value in np.percentile(known, [_LOWEST, _HIGHEST]))
    if high <= low:
        low, high = float(known.min()), float(known.max())
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return np.nan_to_num(scaled, nan=0.0).astype(np.float32)


def _moved(grid: Geometry, transform: Any) -> np.ndarray:
    """Return where a SimpleITK transform takes the voxels (k, j, i) of a grid, (k, j, i, 3) RAS mm."""
    import SimpleITK as sitk

    spacing, origin, direction = grid.to_lps()
    image = sitk.TransformToDisplacementField(transform, sitk.sitkVectorFloat64, grid.size, origin, spacing, direction)
    k, j, i = np.meshgrid(*(np.arange(size) for size in grid.shape), indexing="ij")
    points = grid.ijk_to_ras_points(np.stack([i, j, k], axis=-1).astype(np.float64))
    return np.asarray(points + sitk.GetArrayFromImage(image) * [-1.0, -1.0, 1.0])


def _largest_share(labels: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the label with the largest share of the eight voxels around each place (..., 3), voxels (i, j, k).

    The share of a label is its indicator, interpolated. It is not 0 only for the labels of these eight, so no other
    label is looked at, however many there are.
    """
    size = np.asarray(labels.shape[::-1])
    flat = index.reshape(-1, 3)
    found = np.zeros(len(flat), labels.dtype)
    inside = np.flatnonzero(((flat >= -0.5) & (flat < size - 0.5)).all(1))
    place = np.clip(flat[inside], 0, size - 1)
    low = np.minimum(np.floor(place).astype(np.int64), np.maximum(size - 2, 0))
    corners = np.array(list(np.ndindex(2, 2, 2)))
    near = np.minimum(low + corners[:, None], size - 1)
    seen = labels[near[..., 2], near[..., 1], near[..., 0]]
    found[inside] = seen[0]
    mixed = np.flatnonzero((seen != seen[0]).any(0))
    if mixed.size:
        part = (place - low)[mixed]
        weights = np.where(corners[:, None] == 1, part, 1 - part).prod(-1)
        seen = seen[:, mixed]
        shares = np.stack([(weights * (seen == own)).sum(0) for own in seen])
        wins = shares >= shares.max(0) - _TIE
        largest = seen.max(0)
        found[inside[mixed]] = np.where(wins, seen, largest).min(0)
    return found.reshape(index.shape[:-1])
