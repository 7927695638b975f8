"""A bad automatic mask to begin with: the border of the truth moved in and out, smoothly, by always the same."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from medseg.correction.region import bounding_box
from medseg.metrics import dice

if TYPE_CHECKING:
    from collections.abc import Sequence

DICE = 0.70
"""Of the bad mask with the truth."""

_ROOM = 0.5
"""The box of the field reaches so many times the largest extent of the structure beyond it."""
_POINTS, _STEP = 32, 8.0
"""The field is made on so many points along the longest edge of its box, of control points so many points apart."""
_HALVINGS = 25


def seed_of(text: str) -> int:
    """Return the seed of a name, the same on every machine."""
    return zlib.crc32(text.encode())


def bad_mask(truth: np.ndarray, spacing: Sequence[float], seed: int, wanted: float = DICE) -> np.ndarray:
    """Return a mask whose Dice with a structure is ``wanted``, as near as voxels allow.

    As the samples of the training are distorted, but in mm, and as far as it takes: so structures of all sizes begin
    equally well.

    Parameters
    ----------
    truth
        (k, j, i) bool, the structure.
    spacing
        Of the voxels along these axes, mm.
    seed
        Of the field that moves the border.

    Returns
    -------
    ndarray
        (k, j, i) bool.

    Raises
    ------
    ValueError
        When the structure is empty.
    """
    from scipy import ndimage

    box = bounding_box(truth)
    if box is None:
        raise ValueError("there is nothing to distort: the structure is empty")
    size_mm = np.asarray(spacing, np.float64)
    reach = np.ceil(_ROOM * float((box.shape * size_mm).max()) / size_mm).astype(int)
    low = np.maximum(np.asarray(box.start) - reach, 0)
    high = np.minimum(np.asarray(box.stop) + reach, truth.shape)
    part = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
    inside = truth[part]
    depth = ndimage.distance_transform_edt(inside, sampling=size_mm)
    depth -= ndimage.distance_transform_edt(~inside, sampling=size_mm)
    field = _field(inside.shape, size_mm, seed)
    least, most = 0.0, float(np.abs(depth).max()) / max(float(np.abs(field).min()), 1e-3)
    for _ in range(_HALVINGS):
        middle = (least + most) / 2
        if dice(depth + middle * field > 0, inside) > wanted:
            least = middle
        else:
            most = middle
    mask = np.zeros(truth.shape, bool)
    mask[part] = depth + least * field > 0
    return mask


def _field(shape: Sequence[int], spacing: np.ndarray, seed: int) -> np.ndarray:
    """Return a smooth random field (k, j, i) between -1 and 1, equally smooth in mm along all axes."""
    import torch
    import torch.nn.functional as F

    from medseg.training.synthesis import Draws

    extent = np.asarray(shape) * spacing
    points = [max(round(_POINTS * float(length / extent.max())), 2) for length in extent]
    coarse = Draws(seed).smooth(points, _STEP)
    with torch.no_grad():
        field = F.interpolate(coarse[None], size=tuple(shape), mode="trilinear", align_corners=True)[0, 0]
    found = field.numpy().astype(np.float64)
    return found / np.abs(found).max()
