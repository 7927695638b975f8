"""What a network of clicks makes of the brightness of an image, in training and in use."""

from __future__ import annotations

import torch
from torch import Tensor

_LOW, _HIGH = 0.005, 0.995
_ROUNDING = 1e-6
_MOST = 2**20
"""Voxels of which quantiles are taken; PyTorch takes no more than 16 million."""


def normalised(image: Tensor) -> Tensor:
    """Return an image with its extremes cut off, mean 0 and standard deviation 1, float32.

    It is the region around the clicks that is normalised, not the whole volume: there the window shows what the user
    tells apart, in CT as in MR.

    Parameters
    ----------
    image
        Any shape, at least two voxels; a constant one becomes 0.
    """
    values = image.float()
    seen = values.flatten()
    seen = seen[:: max(len(seen) // _MOST, 1)]
    low, high = torch.quantile(seen, torch.tensor([_LOW, _HIGH], device=values.device))
    clipped = values.clamp(low, high)
    spread = clipped.std()
    # Of a constant image, rounding leaves a mean and a deviation that are not quite what they should be.
    least = _ROUNDING * torch.maximum(low.abs(), high.abs())
    return torch.where(spread > least, (clipped - clipped.mean()) / spread.clamp(min=1e-30), 0.0)
