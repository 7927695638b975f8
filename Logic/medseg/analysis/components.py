"""Connected components of masks and label maps, and the separation of parts that touch; SimpleITK does the work."""

from __future__ import annotations

from typing import Any

import numpy as np

CONNECTIVITIES = (6, 26)
"""Neighbours of a voxel: across its faces only, or across edges and corners too."""


def connected_components(mask: np.ndarray, connectivity: int = 6) -> np.ndarray:
    """Return the connected components of a mask, int32, numbered from 1 in memory order of their first voxels.

    Parameters
    ----------
    mask
        Three axes, in any order; what is not 0 belongs to it.
    connectivity
        6 keeps parts apart that touch at an edge or a corner, 26 does not.

    Raises
    ------
    ValueError
        When ``connectivity`` is another number.
    """
    import SimpleITK as sitk

    full = _fully(connectivity)
    image = sitk.GetImageFromArray(np.ascontiguousarray(mask != 0).view(np.uint8))
    return sitk.GetArrayFromImage(sitk.ConnectedComponent(image, full)).astype(np.int32, copy=False)


def components_by_value(labels: np.ndarray, connectivity: int = 26) -> np.ndarray:
    """Return the connected parts of equal value in ``labels``, int32, numbered from 1; 0 stays 0.

    Two parts that touch and have different values stay two.
    """
    import SimpleITK as sitk

    full = _fully(connectivity)
    if not labels.any():
        return np.zeros(labels.shape, np.int32)
    image = sitk.GetImageFromArray(np.ascontiguousarray(labels, np.int32))
    mask = sitk.GetImageFromArray(np.ascontiguousarray(labels != 0).view(np.uint8))
    parts = sitk.GetArrayFromImage(sitk.ScalarConnectedComponent(image, mask, 0.0, full))
    return consecutive(parts)


def separated_parts(
    mask: np.ndarray, spacing: tuple[float, float, float], *, neck_mm: float, connectivity: int = 6
) -> np.ndarray:
    """Return the parts of a mask, also those that touch at a neck, int32, numbered from 1 (our choice, in no paper).

    Bones that touch in a mask are connected by a bridge that is thinner than they are. Each voxel of the mask has a
    depth: its distance in mm to the nearest voxel outside. Two parts are separated where the way from the deepest
    point of one to that of the other leads over a place that is shallower than **both** by ``neck_mm`` or more: the
    watersheds of the depth, flooded from basins of at least that depth. A larger value separates less; with an
    infinite one only the connected components are left.

    Parameters
    ----------
    mask
        Axes (k, j, i). The border of the array is no surface: there the scan ends, not the bone.
    spacing
        Voxel size along i, j, k in mm.
    neck_mm
        How much shallower a bridge is than the parts that it connects, in mm, above 0.
    connectivity
        Of the components that are looked into.

    Raises
    ------
    ValueError
        When ``neck_mm`` is not positive or ``connectivity`` is neither 6 nor 26.
    """
    import SimpleITK as sitk

    if not neck_mm > 0:
        raise ValueError(f"neck_mm must be positive, not {neck_mm}")
    components = connected_components(mask, connectivity)
    if components.all():
        return components
    image = sitk.GetImageFromArray((components > 0).view(np.uint8))
    image.SetSpacing(spacing)
    depth = sitk.SignedMaurerDistanceMap(image, insideIsPositive=True, squaredDistance=False, useImageSpacing=True)
    basins = sitk.MorphologicalWatershed(-1.0 * depth, neck_mm, False, _fully(connectivity))
    numbers = sitk.GetArrayFromImage(basins)
    numbers[components == 0] = 0
    return components_by_value(consecutive(numbers), connectivity)


def consecutive(labels: np.ndarray) -> np.ndarray:
    """Return ``labels`` (not negative) renumbered 1, 2, ... in their order, int32; 0 stays 0."""
    present = counts_of(labels) > 0
    present[0] = False
    numbers = np.cumsum(present, dtype=np.int32)
    numbers[~present] = 0
    return numbers[labels]


def touching_ends(labels: np.ndarray) -> np.ndarray:
    """Return the values (not 0) that occur in the first or the last slice of the first axis."""
    values = np.union1d(labels[0], labels[-1])
    return values[values != 0]


def counts_of(labels: np.ndarray) -> np.ndarray:
    """Return how many voxels have each value, int64 (largest value + 1,), without a 64-bit copy of the array."""
    sizes = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    for plane in labels:
        found = np.bincount(plane.ravel())
        sizes[: len(found)] += found
    return sizes


def _fully(connectivity: int) -> Any:
    if connectivity not in CONNECTIVITIES:
        raise ValueError(f"connectivity must be 6 or 26, not {connectivity}")
    return connectivity == 26
