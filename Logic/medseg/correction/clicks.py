"""Clicks, and the maps of them that a network takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RADIUS_VOXELS = 5.0
"""Of the disk around a click on images of 224 voxels, not given in PE-MED; as in K. Sofiiuk et al. (ICIP 2022)."""


@dataclass(frozen=True)
class Click:
    """A place that the user pointed at.

    Attributes
    ----------
    place
        Voxel (k, j, i), or (j, i) in a slice.
    positive
        Whether it belongs to the structure.
    """

    place: tuple[int, ...]
    positive: bool


def click_maps(clicks: Iterable[Click], shape: Sequence[int], radius: float | Sequence[float]) -> np.ndarray:
    """Return the maps of the positive and of the negative clicks.

    Parameters
    ----------
    clicks
        Places within or beyond the image: what of a disk lies in the image is drawn.
    shape
        Of the image, (k, j, i) or (j, i).
    radius
        Of the disks or balls in voxels, one number or one an axis; a click has at least its own voxel.

    Returns
    -------
    ndarray
        (2, \\*shape) float32, 1 in the disks and 0 elsewhere.
    """
    given = list(clicks)
    maps = np.zeros((2, *shape), np.float32)
    radii = np.broadcast_to(np.asarray(radius, np.float64), (len(shape),))
    reach = np.floor(np.maximum(radii, 0)).astype(int)
    axes = np.meshgrid(*(np.arange(-far, far + 1) for far in reach), indexing="ij", sparse=True)
    distance = sum((offset / max(far, 1e-9)) ** 2 for offset, far in zip(axes, radii, strict=True))
    offsets = np.argwhere(np.broadcast_to(distance, tuple(2 * reach + 1)) <= 1) - reach
    for number, positive in enumerate((True, False)):
        centres = np.array([click.place for click in given if click.positive == positive]).reshape(-1, 1, len(shape))
        places = (centres + offsets).reshape(-1, len(shape))
        places = places[((places >= 0) & (places < shape)).all(1)].astype(np.intp)
        maps[number][tuple(places.T)] = 1
    return maps
