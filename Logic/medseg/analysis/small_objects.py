"""Remove what is too small to be an organ or a bone, but for what the range of the scan may have cut.

Source: the rules for small objects of "Vision transformers for segmenting organs and tissues in CT scans of arbitrary
imaging ranges" (Melander and Thånell, Lund 2024). The paper counts voxels of a grid that differs between patients;
thresholds in mm³ are ours. Arrays have the slices first, head or feet at slice 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.analysis.components import connected_components, counts_of, touching_ends

if TYPE_CHECKING:
    from collections.abc import Mapping


def voxel_threshold(minimum_mm3: float, voxel_mm3: float, minimum_voxels: int = 0) -> float:
    """Return the fewest voxels that an object of at least both sizes has: the larger of the two thresholds."""
    return max(float(minimum_voxels), minimum_mm3 / voxel_mm3)


def remove_small_instances(instances: np.ndarray, minimum_voxels: float, *, keep_ends: bool = True) -> list[int]:
    """Set instances of fewer than ``minimum_voxels`` voxels to 0, in place, and return their numbers.

    An instance is judged as a whole, in however many pieces it is (not given in the paper).

    Parameters
    ----------
    instances
        Integers, (slices, rows, columns), changed in place.
    minimum_voxels
        The fewest voxels that stay.
    keep_ends
        Never remove what touches the first or the last slice: the rest of it may lie outside the scan.
    """
    sizes = counts_of(instances)
    small = (sizes > 0) & (sizes < minimum_voxels)
    small[0] = False
    if keep_ends:
        small[touching_ends(instances)] = False
    _clear(instances, small)
    return np.flatnonzero(small).tolist()


def remove_small_components(
    labels: np.ndarray,
    minimum_voxels: Mapping[int, float],
    *,
    connectivity: int = 26,
    keep_ends: bool = True,
) -> dict[int, int]:
    """Set connected components below their label's threshold to 0, in place; return how many were removed, by label.

    Parameters
    ----------
    labels
        Integers, (slices, rows, columns), changed in place.
    minimum_voxels
        For each label value the fewest voxels of a component that stays; labels that are not named are left alone. In
        the paper: a fifth of the mean volume of the class in the training set.
    connectivity
        6 or 26 neighbours (not given in the paper).
    keep_ends
        Never remove what touches the first or the last slice.
    """
    removed = {}
    for value, fewest in minimum_voxels.items():
        mask = labels == value
        if fewest <= 1 or not mask.any():
            continue
        parts = connected_components(mask, connectivity)
        small = remove_small_instances(parts, fewest, keep_ends=keep_ends)
        if small:
            labels[mask & (parts == 0)] = 0
            removed[value] = len(small)
    return removed


def _clear(labels: np.ndarray, marked: np.ndarray) -> None:
    if marked.any():
        for plane in labels:
            plane[marked[plane]] = 0
