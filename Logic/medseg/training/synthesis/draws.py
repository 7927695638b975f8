"""Random numbers of one synthetic pair, and smooth fields made of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medseg.networks.spatial import cubic_b_spline

if TYPE_CHECKING:
    from collections.abc import Sequence


class Draws:
    """The random numbers that belong to a seed: the same seed gives the same numbers on the same kind of device.

    Single numbers and small arrays are drawn on the CPU, so that everything but the noise of single voxels is the same
    on all devices.

    Parameters
    ----------
    seed
        Any whole number.
    device
        Where arrays are made, as torch names it.
    """

    def __init__(self, seed: int, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self._few = torch.Generator().manual_seed(seed % 2**63)
        self._many = self._few
        if self.device.type != "cpu":
            self._many = torch.Generator(self.device).manual_seed(seed % 2**63)

    def uniform(self, low: float, high: float) -> float:
        """Return a number between ``low`` and ``high``."""
        return low + (high - low) * float(torch.rand((), generator=self._few))

    def whole(self, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``, both included."""
        return int(torch.randint(low, high + 1, (), generator=self._few))

    def chance(self, probability: float) -> bool:
        """Return true with this probability."""
        return float(torch.rand((), generator=self._few)) < probability

    def order(self, count: int) -> list[int]:
        """Return the numbers from 0 to ``count - 1`` in a random order."""
        return torch.randperm(count, generator=self._few).tolist()

    def numbers(self, count: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return ``count`` numbers between ``low`` and ``high``, on the device."""
        return (low + (high - low) * torch.rand(count, generator=self._few)).to(self.device)

    def noise(self, size: Sequence[int]) -> Tensor:
        """Return white noise of mean 0 and standard deviation 1, on the device."""
        return torch.randn(tuple(size), generator=self._many, device=self.device)

    def smooth(self, size: Sequence[int], step: float, channels: int = 1) -> Tensor:
        """Return smooth random fields (channels, \\*size) around 0: cubic B-splines of white noise.

        Parameters
        ----------
        step
            Voxels from one control point to the next; the grid of control points lies at a random place.
        """
        count = [math.ceil((n - 1) / step) + 4 for n in size]
        values = torch.randn((channels, *count), generator=self._few).to(self.device)
        for axis, (n, points) in enumerate(zip(size, count, strict=True), start=1):
            at = torch.arange(n, dtype=torch.float32) / step + 1 + self.uniform(0, 1)
            weights = cubic_b_spline(at[:, None] - torch.arange(points)).to(self.device)
            values = (values.movedim(axis, -1) @ weights.T).movedim(-1, axis)
        return values.contiguous()
