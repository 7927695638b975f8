"""The box in which a network of clicks sees a scan: a small grid that is laid into it, in any direction and size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch reader expects
from torch import Tensor

from medseg.correction.region import Region

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, eq=False)
class Window:
    """A grid in a scan.

    Attributes
    ----------
    size
        Its voxels along its own three axes.
    centre
        (3,) float64, voxels (k, j, i) of the scan.
    steps
        (3, 3) float64; column n is one step along axis n of the window, in voxels (k, j, i) of the scan.
    """

    size: tuple[int, int, int]
    centre: np.ndarray
    steps: np.ndarray

    @classmethod
    def around(
        cls, centre: np.ndarray, edge_mm: float, spacing: Sequence[float] | np.ndarray, size: Sequence[int]
    ) -> Window:
        """Return a cube of ``edge_mm`` along the axes of a scan with ``spacing`` (k, j, i), mm."""
        k, j, i = (int(n) for n in size)
        steps = np.diag(edge_mm / max(k, j, i) / np.asarray(spacing, np.float64))
        return cls((k, j, i), np.asarray(centre, np.float64), steps)

    @property
    def flat_axis(self) -> int | None:
        """Across which of its axes it is flat, a part of one slice; ``None``: it is not."""
        single = [axis for axis, count in enumerate(self.size) if count == 1]
        return single[0] if len(single) == 1 else None

    def places(self) -> Tensor:
        """Return where its voxels lie, (\\*size, 3) float32, voxels (k, j, i) of the scan."""
        axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in self.size]
        offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        steps = torch.from_numpy(self.steps.T.astype(np.float32).copy())
        return offsets @ steps + torch.from_numpy(self.centre.astype(np.float32))

    def index_of(self, voxels: np.ndarray) -> np.ndarray:
        """Return voxels (N, 3), (k, j, i) of the scan, in voxels of the window, float64."""
        offsets = (np.asarray(voxels, np.float64) - self.centre) @ np.linalg.inv(self.steps).T
        return offsets + (np.asarray(self.size) - 1) / 2

    def region(self, shape: Sequence[int]) -> Region:
        """Return the voxels of a scan of a shape (k, j, i) between the outermost centres of a window along its axes.

        Raises
        ------
        ValueError
            When it lies beside the scan.
        """
        half = np.abs(self.steps) @ ((np.asarray(self.size) - 1) / 2)
        low = np.maximum(np.ceil(self.centre - half - 1e-6), 0).astype(int)
        high = np.minimum(np.floor(self.centre + half + 1e-6) + 1, shape).astype(int)
        return Region((int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2])))

    def read_image(self, image: np.ndarray) -> Tensor:
        """Return what it sees of an image (k, j, i), (1, \\*size) float32; beyond the border the image goes on.

        Where its voxels are larger than those of the scan, they are means over several; in a flat window they are not
        means over several slices.
        """
        part, places = self._part_of(image)
        known = torch.isfinite(part)
        if not known.all():
            part = torch.where(known, part, part[known].median() if known.any() else 0.0)
        for axis, voxels in enumerate(self._reach()):
            # One axis after the other is the same mean, and a tenth of the work.
            reach = min(voxels, (part.shape[2 + axis] - 1) // 2)
            if reach:
                around = [reach if other == axis else 0 for other in range(3)]
                part = F.avg_pool3d(part, [2 * one + 1 for one in around], 1, around, count_include_pad=False)
        return F.grid_sample(part, places, padding_mode="border", align_corners=True)[0]

    def read_mask(self, mask: np.ndarray) -> Tensor:
        """Return what it sees of a mask (k, j, i), (1, \\*size) float32 from 0 to 1; nothing lies beyond the border."""
        part, places = self._part_of(mask)
        return F.grid_sample(part, places, padding_mode="zeros", align_corners=True)[0]

    def put_back(self, found: Tensor, region: Region) -> np.ndarray:
        """Return values (1, \\*size) at the voxels of a region of the scan, float32, linear in between.

        For a window along the axes of the scan, which makes it one axis after the other.

        Raises
        ------
        ValueError
            When it is turned.
        """
        if np.count_nonzero(self.steps - np.diag(np.diag(self.steps))):
            raise ValueError("values of a turned window cannot be put back")
        k, j, i = (self._weights(axis, region) for axis in range(3))
        # As three products of matrices it takes a tenth of the time of reading off millions of places. While a network
        # is trained in half precision, products would be in that too.
        with torch.autocast("cpu", enabled=False):
            values = torch.tensordot(k, found[0].float().cpu(), 1)
            return torch.matmul(torch.matmul(j, values), i.T).numpy()

    def _reach(self) -> list[int]:
        """Return over how many voxels of the scan to each side means are taken, (k, j, i)."""
        if self.flat_axis is not None:
            # Along each axis of the scan by itself: the slices may be ten times as far apart as their voxels.
            in_plane = np.abs(np.delete(self.steps, self.flat_axis, 1))
            return [int(step) // 2 for step in in_plane.max(1)]
        return [int(np.linalg.norm(self.steps, axis=0).min()) // 2] * 3

    def _weights(self, axis: int, region: Region) -> Tensor:
        """Return how much each voxel along an axis of the window counts for each of a region, (region, window)."""
        last = self.size[axis] - 1
        places = np.arange(region.start[axis], region.stop[axis])
        own = np.clip((places - self.centre[axis]) / self.steps[axis, axis] + last / 2, 0, last)
        weights = 1 - np.abs(own[:, None] - np.arange(last + 1))
        return torch.from_numpy(np.maximum(weights, 0).astype(np.float32))

    def _part_of(self, array: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return the part of an array that it reaches, (1, 1, k, j, i), and its places there for ``grid_sample``."""
        grid = self.places()
        flat, shape = grid.reshape(-1, 3), np.asarray(array.shape)
        low = np.clip(np.floor(flat.amin(0).numpy()).astype(int) - 1, 0, shape - 1)
        high = np.clip(np.ceil(flat.amax(0).numpy()).astype(int) + 2, low + 1, shape)
        part = array[tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))]
        last = torch.from_numpy(np.maximum(high - low - 1, 1).astype(np.float32))
        places = (2 * (grid - torch.from_numpy(low.astype(np.float32))) / last - 1).flip(-1)
        return torch.from_numpy(part.astype(np.float32))[None, None], places[None]
