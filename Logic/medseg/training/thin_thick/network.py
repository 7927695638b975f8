"""The network of the per-case tool: a small U-Net over single slices, whose neighbours are channels."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


def _unit(channels_in: int, channels_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for source in (channels_in, channels_out):
        layers += [
            nn.Conv2d(source, channels_out, 3, padding=1, bias=False),
            # Statistics of the whole training, so that a crop in training and a whole slice in use are scaled alike.
            nn.BatchNorm2d(channels_out, momentum=0.05),
            nn.LeakyReLU(0.1, inplace=True),
        ]
    return nn.Sequential(*layers)


class SliceUNet(nn.Module):
    """Scores (B, out, rows, columns) of slices (B, in, rows, columns) of any size.

    Convolutions stay within the slice, so thin and thick slices, whose distances differ, are the same to it.
    ``features`` is an identity module through which the last maps before the scores pass, there to be hooked.

    Parameters
    ----------
    channels_in, channels_out
        Of the input and of the scores, whose layer begins with zeros.
    widths
        Channels of each level, from full resolution on; each halves the resolution of the one before.
    """

    def __init__(self, channels_in: int, channels_out: int, widths: Sequence[int] = (8, 16, 32)) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            _unit(source, width) for source, width in zip((channels_in, *widths), widths, strict=False)
        )
        self.up = nn.ModuleList(_unit(fine + coarse, fine) for fine, coarse in itertools.pairwise(widths))
        self.features = nn.Identity()
        self.head = nn.Conv2d(widths[0], channels_out, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        rows, columns = image.shape[-2:]
        multiple = 2 ** len(self.up)
        maps = F.pad(image, (0, -columns % multiple, 0, -rows % multiple), mode="replicate")
        skips = []
        for level, unit in enumerate(self.down):
            maps = unit(maps if level == 0 else F.max_pool2d(maps, 2))
            skips.append(maps)
        for level in reversed(range(len(self.up))):
            wider = F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)
            maps = self.up[level](torch.cat([wider, skips[level]], 1))
        return self.head(self.features(maps))[..., :rows, :columns]
