"""Noise and shading, so that two volumes that were made of one are not alike in every voxel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from medseg.volumes import Geometry, Volume

_CT_NOISE_HU = 15.0
_MR_NOISE, _MR_SHADING = 0.015, 0.15
"""Shares of the 99th percentile, and of the brightness."""


def as_ct(volume: Volume, rng: np.random.Generator) -> Volume:
    """Return a CT with noise, float32; voxels of the lowest value, which lie outside the scan, keep it."""
    array = volume.array.astype(np.float32)
    noisy = array + rng.normal(0, _CT_NOISE_HU, array.shape).astype(np.float32)
    return volume.with_array(np.where(array > array.min(), noisy, array))


def as_mr(volume: Volume, rng: np.random.Generator) -> Volume:
    """Return an MR with a slow change of brightness and the noise of a magnitude image, float32."""
    array = volume.array.astype(np.float32)
    noise = _MR_NOISE * float(np.percentile(array, 99))
    apart = [rng.normal(0, noise, array.shape).astype(np.float32) for _ in range(2)]
    return volume.with_array(np.hypot(array * _shading(volume.geometry, rng) + apart[0], apart[1]))


def _shading(geometry: Geometry, rng: np.random.Generator) -> np.ndarray:
    """Return a factor (k, j, i) that goes up and down by less than one wave over the volume."""
    total = np.zeros(geometry.shape, np.float32)
    axes = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in geometry.shape), indexing="ij", sparse=True)
    for axis in axes:
        total = total + np.sin(np.pi * rng.uniform(0.3, 0.8) * axis + rng.uniform(0, 2 * np.pi)).astype(np.float32)
    return np.exp(_MR_SHADING / 3 * total)
