"""Where a prompt may change voxels, and what a segment is afterwards: what was pointed at, and as before elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

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

    def local(self, voxels: np.ndarray) -> np.ndarray:
        """Return those of voxels (N, 3) that lie in it, counted from its first voxel."""
        inside = ((voxels >= self.start) & (voxels < self.stop)).all(1)
        return voxels[inside] - np.asarray(self.start)


@dataclass(frozen=True, eq=False)
class Mark:
    """The voxels (N, 3), (k, j, i), that a prompt marks, and whether they belong to the segment."""

    voxels: np.ndarray
    positive: bool


def merged(
    before: np.ndarray,
    proposal: np.ndarray,
    region: Region,
    marks: Sequence[Mark] = (),
    allowed: np.ndarray | None = None,
) -> np.ndarray:
    """Return the segment after a correction.

    Outside of the region it is what it was. Inside it is the proposal, but for what was pointed at, the later prompt
    winning over the earlier one, and but for voxels that must not be changed, which win over both.

    Parameters
    ----------
    before
        (k, j, i) bool, the segment.
    proposal
        Bool, of the region's shape.
    marks
        Of all prompts in their order; those beside the region do nothing.
    allowed
        (k, j, i) bool, where voxels may be changed; ``None``: everywhere.

    Returns
    -------
    ndarray
        (k, j, i) bool, new.
    """
    part = np.array(proposal, dtype=bool)
    for mark in marks:
        part[tuple(region.local(mark.voxels).T)] = mark.positive
    after = np.array(before, dtype=bool)
    if allowed is not None:
        part = np.where(allowed[region.slices], part, after[region.slices])
    after[region.slices] = part
    return after


def _triple(values: np.ndarray) -> Voxel:
    k, j, i = (int(value) for value in values)
    return k, j, i
