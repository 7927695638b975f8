"""Linear interpolation between two voxel grids that share their axes, one axis at a time.

Used in both directions: intensities from the input grid to the network grid, scores from the network grid to the
input grid. What lies outside the outermost voxel centres takes their value (MONAI's ``border``).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import GeometryError
from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from medseg.volumes import Geometry

_TOLERANCE_VOXELS = 1e-4


@dataclasses.dataclass(frozen=True, eq=False)
class AxisSampling:
    """For each output voxel of one axis, the two input voxels that it lies between.

    ``lower``, ``upper`` are int64 and ``weight`` is float32, all of length ``output_size``: the value is
    ``(1 - weight) * input[lower] + weight * input[upper]``.
    """

    input_size: int
    output_size: int
    lower: np.ndarray
    upper: np.ndarray
    weight: np.ndarray

    @classmethod
    def linear(cls, input_size: int, output_size: int, scale: float, offset: float) -> AxisSampling:
        """Build the sampling for output voxels at the input positions ``offset + scale * index``."""
        position = np.clip(offset + scale * np.arange(output_size), 0.0, input_size - 1.0)
        nearest = np.rint(position)
        position = np.where(np.abs(position - nearest) < _TOLERANCE_VOXELS, nearest, position)
        lower = np.floor(position).astype(np.int64)
        weight = (position - lower).astype(np.float32)
        upper = np.where(weight > 0, lower + 1, lower)
        return cls(input_size, output_size, lower, upper, weight)

    @classmethod
    def nearest(cls, input_size: int, output_size: int) -> AxisSampling:
        """Build the sampling that takes the nearest voxel of a grid over the same field of view; the upper on a tie."""
        position = (np.arange(output_size) + 0.5) * (input_size / output_size) - 0.5
        # Computed as scipy does it, rounding included, which decides where a voxel lies halfway between two.
        lower = np.clip(np.floor(position + 0.5).astype(np.int64), 0, input_size - 1)
        return cls(input_size, output_size, lower, lower, np.zeros(output_size, np.float32))

    @property
    def is_identity(self) -> bool:
        """True when the output voxels are the input voxels."""
        same = self.input_size == self.output_size and np.array_equal(self.lower, np.arange(self.output_size))
        return same and self.is_selection

    @property
    def is_selection(self) -> bool:
        """True when each output voxel is one input voxel, so nothing is to be interpolated."""
        return not self.weight.any()


def sampling_between(source: Geometry, target: Geometry) -> tuple[AxisSampling, AxisSampling, AxisSampling]:
    """Return for the axes i, j, k how ``target``'s voxels lie between those of ``source``.

    Raises
    ------
    GeometryError
        When the two grids do not share their axes.
    """
    matrix = np.linalg.solve(source.ijk_to_ras, target.ijk_to_ras)
    scale, offset = np.diag(matrix)[:3], matrix[:3, 3]
    turned = np.abs(matrix[:3, :3] - np.diag(scale)) * np.asarray(target.size)
    if turned.max() > _TOLERANCE_VOXELS or scale.min() <= 0:
        raise GeometryError("The two grids are turned against each other.", advice="Resample one onto the other first.")
    axes = [
        AxisSampling.linear(n_in, n_out, float(a), float(b))
        for n_in, n_out, a, b in zip(source.size, target.size, scale, offset, strict=True)
    ]
    return axes[0], axes[1], axes[2]


def sample_intensities(
    array: np.ndarray,
    sampling: tuple[AxisSampling, AxisSampling, AxisSampling],
    out: np.ndarray,
    *,
    progress: Progress = NO_PROGRESS,
) -> None:
    """Interpolate ``array`` (k, j, i) linearly into ``out`` (k, j, i), float32.

    ``sampling`` is in the order i, j, k. One slice at a time: no second volume is held. Not low-pass filtered when the
    target grid is coarser, as MONAI's ``Spacing`` does not (networks have been trained on such images).
    """
    across, down, through = sampling
    for index in range(through.output_size):
        progress.check()
        low, high, weight = through.lower[index], through.upper[index], through.weight[index]
        plane = array[low].astype(np.float32)
        if weight > 0:
            plane += weight * (array[high].astype(np.float32) - plane)
        plane = _along(plane, down, axis=0)
        out[index] = _along(plane, across, axis=1)


def _along(plane: np.ndarray, sampling: AxisSampling, axis: int) -> np.ndarray:
    if sampling.is_identity:
        return plane
    low = plane.take(sampling.lower, axis=axis)
    if sampling.is_selection:
        return low
    high = plane.take(sampling.upper, axis=axis)
    high -= low
    high *= sampling.weight[:, None] if axis == 0 else sampling.weight
    high += low
    return high
