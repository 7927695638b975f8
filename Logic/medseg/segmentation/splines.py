"""Interpolating splines between two grids over the same field of view, one axis at a time.

Both grids fill the same field of view, so output voxel ``o`` of ``m`` lies at ``(o + 1/2) n / m - 1/2`` of ``n`` input
voxels, and the image goes on beyond its ends with its outermost voxels: what ``skimage.transform.resize`` with
``mode="edge"`` and without anti-aliasing does, and so nnU-Net. A spline is linear in the voxels and separable, so an
axis is a band matrix; it is applied in blocks of rows, as products of small dense matrices.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

_POLE = math.sqrt(3.0) - 2.0
_REACH = 16
"""Voxels beyond which a voxel's part in a cubic spline's coefficients, 0.27 to this power, is below 1e-9."""

_ROWS = 48
"""Output voxels of one block (our choice): wide enough for a fast product, narrow enough to leave out most zeros."""


@dataclasses.dataclass(frozen=True, eq=False)
class AxisSpline:
    """One axis: for each block of output voxels, the range of input voxels that it needs and a matrix, float32."""

    input_size: int
    output_size: int
    blocks: tuple[tuple[slice, slice, np.ndarray], ...]

    @classmethod
    def between(cls, input_size: int, output_size: int, order: int) -> AxisSpline:
        """Build the spline of ``order`` 0 (nearest), 1 (linear) or 3 (cubic); raise ``ValueError`` for another."""
        if input_size == output_size:
            return cls(input_size, output_size, ())
        return _spline(input_size, output_size, order)

    @property
    def is_identity(self) -> bool:
        """True when nothing is to be done."""
        return not self.blocks

    def apply(self, array: np.ndarray, axis: int) -> np.ndarray:
        """Return ``array`` (float32) with its ``axis`` resampled; a new array unless nothing is to be done."""
        if self.is_identity:
            return array
        shape = list(array.shape)
        shape[axis] = self.output_size
        out = np.empty(shape, np.float32)
        source, target = array, out
        if axis == array.ndim - 1:
            for rows, columns, matrix in self.blocks:
                target[..., rows] = source[..., columns] @ matrix.T
        else:
            # Rows that follow in memory are one long row of the product.
            lead = math.prod(array.shape[:axis])
            source = array.reshape(lead, array.shape[axis], -1)
            target = out.reshape(lead, self.output_size, -1)
            for rows, columns, matrix in self.blocks:
                np.matmul(matrix, source[:, columns], out=target[:, rows])
        return out


@functools.lru_cache(maxsize=24)
def _spline(input_size: int, output_size: int, order: int) -> AxisSpline:
    position = (np.arange(output_size) + 0.5) * (input_size / output_size) - 0.5
    if order == 0:
        first, weights = np.floor(position + 0.5).astype(np.int64), np.ones((output_size, 1))
    elif order == 1:
        first = np.floor(position).astype(np.int64)
        part = position - first
        weights = np.stack((1.0 - part, part), axis=1)
    elif order == 3:
        first, weights = _cubic(position)
    else:
        message = f"a spline of order {order}"
        raise ValueError(message)
    blocks = []
    for start in range(0, output_size, _ROWS):
        stop = min(start + _ROWS, output_size)
        reached = np.clip(first[start:stop, None] + np.arange(weights.shape[1]), 0, input_size - 1)
        low, high = int(reached.min()), int(reached.max()) + 1
        matrix = np.zeros((stop - start, high - low))
        np.add.at(matrix, (np.arange(stop - start)[:, None], reached - low), weights[start:stop])
        blocks.append((slice(start, stop), slice(low, high), matrix.astype(np.float32)))
    return AxisSpline(input_size, output_size, tuple(blocks))


def _cubic(position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each position the first voxel that it needs, and the weights of it and the following.

    The B-spline's coefficients are the voxels filtered with ``-6 z / (1 - z^2) z^|n|``, z = sqrt(3) - 2 (M. Unser,
    "Splines: A Perfect Fit for Signal and Image Processing", 1999, box 2); four of them are then weighted.
    """
    low = np.floor(position).astype(np.int64)
    part = position - low
    near = np.stack(
        (
            (1.0 - part) ** 3 / 6.0,
            (4.0 - 6.0 * part**2 + 3.0 * part**3) / 6.0,
            (1.0 + 3.0 * part + 3.0 * part**2 - 3.0 * part**3) / 6.0,
            part**3 / 6.0,
        ),
        axis=1,
    )
    filter_ = -6.0 * _POLE / (1.0 - _POLE**2) * _POLE ** np.abs(np.arange(-_REACH, _REACH + 1))
    weights = np.zeros((len(position), 2 * _REACH + 4))
    for offset in range(4):
        weights[:, offset : offset + len(filter_)] += near[:, offset : offset + 1] * filter_
    return low - 1 - _REACH, weights


def resize(
    array: np.ndarray,
    shape: Sequence[int],
    order: int,
    *,
    separate_axis: int | None = None,
    order_separate: int = 0,
    progress: Progress = NO_PROGRESS,
) -> np.ndarray:
    """Return ``array`` (three axes, float32) resampled to ``shape``, kept within its own least and largest value.

    Parameters
    ----------
    order
        Of the spline, 0, 1 or 3.
    separate_axis
        An axis along which slices are resampled each on its own (and kept within its own range), and only then the
        axis itself with ``order_separate``.
    progress
        Asked between slices.

    Returns
    -------
    numpy.ndarray
        float32; ``array`` itself when it has that shape.
    """
    if tuple(shape) == array.shape:
        return array
    orders = [order if axis != separate_axis else order_separate for axis in range(3)]
    splines = [AxisSpline.between(n, m, o) for n, m, o in zip(array.shape, shape, orders, strict=True)]
    first = 0 if separate_axis is None else separate_axis
    across = [axis for axis in range(3) if axis != first]
    between_shape = [array.shape[axis] if axis == first else shape[axis] for axis in range(3)]
    between = np.empty(between_shape, np.float32)
    source, target = np.moveaxis(array, first, 0), np.moveaxis(between, first, 0)
    for number, plane in enumerate(source):
        progress.check()
        flat = np.ascontiguousarray(plane, np.float32)
        turned = splines[across[1]].apply(splines[across[0]].apply(flat, 0), 1)
        target[number] = turned
        if separate_axis is not None and order == 3:
            np.clip(target[number], flat.min(), flat.max(), out=target[number])
    progress.check()
    out = splines[first].apply(between, first)
    if separate_axis is None and order == 3:
        np.clip(out, array.min(), array.max(), out=out)
    return out
