"""Where a prompt may change voxels, and what a segment is afterwards: what was pointed at, and as before elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.correction.prompts import Plane
    from medseg.volumes import Geometry

Voxel = tuple[int, int, int]


@dataclass(frozen=True)
class Region:
    """A box of voxels.

    Attributes
    ----------
    start, stop
        The first voxel, and the one behind the last, (k, j, i).

    Raises
    ------
    ValueError
        When it is empty.
    """

    start: Voxel
    stop: Voxel

    def __post_init__(self) -> None:
        if any(stop <= start for start, stop in zip(self.start, self.stop, strict=True)):
            raise ValueError(f"a region from {self.start} to {self.stop} is empty")

    @classmethod
    def around(cls, voxels: np.ndarray, geometry: Geometry, margin_mm: float) -> Region:
        """Return the box that reaches so far beyond voxels (N, 3), (k, j, i), cut off at the border of the grid.

        Raises
        ------
        InputError
            When there is no voxel: the prompt lies beside the volume.
        """
        if not len(voxels):
            raise InputError(
                "A prompt lies outside of the volume.",
                advice="Place it on the volume, or choose the volume that it lies on.",
            )
        reach = np.ceil(margin_mm / np.asarray(geometry.spacing[::-1])).astype(np.int64)
        low = np.clip(voxels.min(0) - reach, 0, np.asarray(geometry.shape) - 1)
        high = np.clip(voxels.max(0) + reach, low, np.asarray(geometry.shape) - 1)
        return cls(_triple(low), _triple(high + 1))

    def joined(self, other: Region | None) -> Region:
        """Return the smallest box around this and another one."""
        if other is None:
            return self
        return Region(_triple(np.minimum(self.start, other.start)), _triple(np.maximum(self.stop, other.stop)))

    def common(self, other: Region) -> Region:
        """Return the box of the voxels that lie in this and in another one; there must be some."""
        return Region(_triple(np.maximum(self.start, other.start)), _triple(np.minimum(self.stop, other.stop)))

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """What cuts it out of an array (k, j, i)."""
        k, j, i = (slice(start, stop) for start, stop in zip(self.start, self.stop, strict=True))
        return k, j, i

    @property
    def shape(self) -> Voxel:
        """Its voxels along (k, j, i)."""
        return _triple(np.subtract(self.stop, self.start))

    def bounds_ras(self, geometry: Geometry) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the lowest and the highest R, A, S in mm that a voxel of it reaches."""
        corners = geometry.cropped(self.start, self.stop).corners_ras()
        # From the centres of the outer voxels to their faces.
        reach = (np.abs(geometry.direction) * np.asarray(geometry.spacing)).sum(1) / 2
        return tuple((corners.min(0) - reach).tolist()), tuple((corners.max(0) + reach).tolist())

    def framed(self, mark: Mark) -> Region:
        """Return the part that lies in a frame, but for the directions in which the frame is flat."""
        low, high = mark.voxels.min(0), mark.voxels.max(0) + 1
        flat = high - low == 1
        return Region(_triple(np.where(flat, self.start, low)), _triple(np.where(flat, self.stop, high)))

    def local(self, voxels: np.ndarray) -> np.ndarray:
        """Return those of voxels (N, 3) that lie in it, counted from its first voxel."""
        inside = ((voxels >= self.start) & (voxels < self.stop)).all(1)
        return voxels[inside] - np.asarray(self.start)


def bounding_box(mask: np.ndarray) -> Region | None:
    """Return the smallest box around what is not 0 in (k, j, i); ``None`` when there is nothing."""
    low, high, part = [], [], mask
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        found = np.flatnonzero(part.any(axis=others))
        if not len(found):
            return None
        low.append(int(found[0]))
        high.append(int(found[-1]) + 1)
        # The other axes need not look at the rest.
        part = part[(slice(None),) * axis + (slice(low[-1], high[-1]),)]
    return Region(_triple(low), _triple(high))


@dataclass(frozen=True, eq=False)
class Mark:
    """What a prompt says of voxels.

    Attributes
    ----------
    voxels
        (N, 3), (k, j, i).
    positive
        Whether they belong to the segment.
    is_frame
        They hold the segment, and some belong to it and some do not: what a positive box says.
    plane
        The slices in which they were marked; ``None``: not known. See :class:`~medseg.correction.prompts.Prompt`.
    """

    voxels: np.ndarray
    positive: bool
    is_frame: bool = False
    plane: Plane | None = None

    @property
    def middle(self) -> np.ndarray:
        """(3,) float64, (k, j, i)."""
        return (self.voxels.min(0) + self.voxels.max(0)) / 2


def merged(
    before: np.ndarray,
    proposal: np.ndarray,
    region: Region,
    marks: Sequence[Mark] = (),
    allowed: np.ndarray | None = None,
) -> np.ndarray:
    """Return the part of a segment that lies in a region, after a correction.

    It is the proposal, but for what was pointed at, the later prompt winning over the earlier one, and but for voxels
    that must not be changed, which win over both.

    Parameters
    ----------
    before
        (k, j, i) bool, the whole segment.
    proposal
        Bool, of the region's shape.
    marks
        Of all prompts in their order; those beside the region do nothing.
    allowed
        (k, j, i) bool, where voxels may be changed; ``None``: everywhere.

    Returns
    -------
    ndarray
        Bool, of the region's shape, new.
    """
    part = np.array(proposal, dtype=bool)
    for mark in marks:
        if not mark.is_frame:
            part[tuple(region.local(mark.voxels).T)] = mark.positive
    return part if allowed is None else np.where(allowed[region.slices], part, before[region.slices])


def _triple(values: Sequence[int] | np.ndarray) -> Voxel:
    k, j, i = (int(value) for value in values)
    return k, j, i
