"""The 3D U-Net that TSFMUNet is compared with: the same widths and units, with kernels that reach across slices.

Source of the comparison: D. Guo and D. Terzopoulos, "A Transformer-Based Network for Anisotropic 3D Medical Image
Segmentation" (conference poster; full paper ICPR 2020), which does not describe its 3D U-Net. The architecture is that
of :class:`~medseg.networks.TSFMUNet` with every 3x3 kernel a 3x3x3 kernel (our choice).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def _units(channels_in: int, channels_out: int) -> nn.Sequential:
    """Two times [3x3x3 convolution, instance normalisation, leaky ReLU]."""
    layers: list[nn.Module] = []
    for source in (channels_in, channels_out):
        layers += [
            nn.Conv3d(source, channels_out, 3, padding=1, bias=False),
            nn.InstanceNorm3d(channels_out, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet3D(nn.Module):
    """A 3D U-Net whose layers between slices are baked into its kernels.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the image; number of classes with background.
    base, depth
        Width of the first level (32 by default) and number of poolings (4); level ``l`` has ``base * 2**l`` channels.
    pool_slices_from
        The first pooling (0 = that of the first level) that also halves the number of slices; those before it pool
        in the plane only. ``None``, the default: none does, so that as many slices reach the bottleneck as in TSFMUNet.
    slice_axis
        The spatial axis (of I, J, K) along which slices are stacked; the last by default.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        *,
        base: int = 32,
        depth: int = 4,
        pool_slices_from: int | None = None,
        slice_axis: int = -1,
    ) -> None:
        super().__init__()
        if depth < 1 or base < 1:
            raise ValueError("base and depth must be at least 1")
        if slice_axis not in (-3, -2, -1):
            raise ValueError("slice_axis must be -3, -2 or -1")
        if pool_slices_from is not None and not 0 <= pool_slices_from < depth:
            raise ValueError(f"pool_slices_from must lie in 0 .. {depth - 1}, or be none")
        self.slice_axis = slice_axis
        first = depth if pool_slices_from is None else pool_slices_from
        # Strides along (height, width, slices) of each level's pooling.
        self.strides = [(2, 2, 1 if level < first else 2) for level in range(depth)]
        widths = [base * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(
            _units(in_channels if level == 0 else widths[level - 1], widths[level]) for level in range(depth)
        )
        self.bottleneck = _units(widths[depth - 1], widths[depth])
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(widths[level + 1], widths[level], stride, stride)
            for level, stride in enumerate(self.strides)
        )
        self.decoder = nn.ModuleList(_units(2 * widths[level], widths[level]) for level in range(depth))
        self.head = nn.Conv3d(widths[0], out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return class scores (logits), (B, n_classes, I, J, K), for an image (B, C_in, I, J, K) of any size."""
        maps = image.movedim(self.slice_axis, -1)
        height, width, slices = maps.shape[-3:]
        in_plane = 2 ** len(self.strides)
        through = 2 ** sum(stride[2] == 2 for stride in self.strides)
        # At least two positions must be left at the bottleneck: instance normalisation needs more than one value.
        padding = [
            max(-(-height // in_plane), 2) * in_plane - height,
            max(-(-width // in_plane), 2) * in_plane - width,
            -(-slices // through) * through - slices,
        ]
        maps = F.pad(maps, (0, padding[2], 0, padding[1], 0, padding[0]))
        skips: list[Tensor] = []
        for units, stride in zip(self.encoder, self.strides, strict=True):
            skips.append(units(maps))
            maps = F.max_pool3d(skips[-1], stride)
        maps = self.bottleneck(maps)
        for level in reversed(range(len(self.strides))):
            maps = self.decoder[level](torch.cat([skips[level], self.up[level](maps)], dim=1))
        return self.head(maps)[..., :height, :width, :slices].movedim(-1, self.slice_axis)
