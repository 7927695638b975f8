"""The inverse of a displacement field, on a grid of its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch reader expects
from torch import Tensor

from medseg.registration.transform import DisplacementField, points_of

if TYPE_CHECKING:
    from medseg.volumes import Geometry

_FINER, _MOST_VOXELS = 2.0, 128**3
"""The inverse is not linear between the voxels of the field: half the step is a quarter of the error. The bound keeps
its file below 50 MB."""
_PLAIN = 20
"""Iterations before the steps are halved, which settles where the field stretches by up to four times."""


def inverted(field: DisplacementField, iterations: int, tolerance_mm: float) -> DisplacementField:
    """Return the inverse w of a field u: ``w(z) = -u(z + w(z))``, found by iterating this equation.

    Beyond its grid the field is taken to go on as at its border. The grid of the inverse reaches as far as the field
    leads, and is up to twice as fine.
    """
    grid, vectors = _grid_for(field), field.to_voxels().transpose(0, 3, 2, 1)
    # Displacements and places in the unit of grid_sample, where the grid reaches from -1 to 1: the loop is one call.
    size = np.asarray(field.geometry.size)
    half = np.maximum(size - 1, 1) / 2
    to_mm = torch.from_numpy((half * field.geometry.spacing).astype(np.float32))
    scaled = torch.from_numpy(np.ascontiguousarray(vectors / half[:, None, None, None], np.float32))[None]
    found = np.empty((*grid.shape, 3), np.float32)
    for part, points in points_of(grid):
        index = field.geometry.ras_to_ijk_points(points)
        places = torch.from_numpy(np.where(size > 1, index / half - 1, 0.0).astype(np.float32))
        back = -_sampled(scaled, places)
        for number in range(iterations):
            better = -_sampled(scaled, places + back)
            change = float(((better - back).abs() * to_mm).max())
            back = better if number < _PLAIN else (back + better) / 2
            if change < tolerance_mm:
                break
        found[part] = (back.numpy() * half) @ field.geometry.ijk_to_ras[:3, :3].T
    return DisplacementField(found, grid)


def _grid_for(field: DisplacementField) -> Geometry:
    reach = [math.ceil(far) for far in np.abs(field.to_voxels()).max((1, 2, 3))][::-1]
    grid = field.geometry.padded(reach, reach)
    finer = min(_FINER, (_MOST_VOXELS / np.prod(grid.shape)) ** (1 / 3))
    return grid.with_spacing([step / finer for step in grid.spacing]) if finer > 1 else grid


def _sampled(vectors: Tensor, places: Tensor) -> Tensor:
    """Return vectors (1, 3, K, J, I) at places (k, j, i, 3), each from -1 to 1: linear, beyond the border as at it."""
    found = F.grid_sample(vectors, places[None], padding_mode="border", align_corners=True)
    return found[0].permute(1, 2, 3, 0).contiguous()
