"""How much work the networks of nnU-Net are, from their arguments alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def work_per_voxel(target: str, arguments: Mapping[str, Any]) -> float:
    """Return about how many multiplications one of these networks does for a voxel of its window.

    Only the convolutions count. ``target`` ends in the name of the class, ``arguments`` are those of its constructor.
    """
    features, kernels = arguments["features"], [_volume(arguments, size) for size in arguments["kernel_sizes"]]
    strides = [_volume(arguments, size) for size in arguments["strides"]]
    residual = target.endswith("ResidualEncoderUNet")
    work, voxels, source = 0.0, 1.0, arguments["in_channels"]
    share = []
    if residual:
        work += kernels[0] * source * features[0]
        source = features[0]
    for width, kernel, stride, count in zip(features, kernels, strides, arguments["blocks"], strict=True):
        voxels /= stride
        layers = 2 * count - 1 if residual else count - 1
        work += voxels * kernel * (source * width + layers * width * width)
        source = width
        share.append(voxels)
    for level, count in zip(range(len(features) - 1, 0, -1), arguments["decoder_convs"], strict=True):
        width = features[level - 1]
        work += share[level] * strides[level] * features[level] * width
        work += share[level - 1] * kernels[level - 1] * (2 * width * width + (count - 1) * width * width)
    return work + features[0] * arguments["out_channels"]


def _volume(arguments: Mapping[str, Any], size: int | Sequence[int]) -> int:
    return size ** arguments["spatial_dims"] if isinstance(size, int) else math.prod(size)
