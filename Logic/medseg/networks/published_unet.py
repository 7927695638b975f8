"""The U-Net that the paper of MPU-Net compares with, kept so that its figures can be put in proportion.

Source: Z. Yu and S. Han, "3D Medical Image Segmentation based on multi-scale MPU-Net" (arXiv 2307.05799); the paper
prints the parameter count (2,326,638) alone, the layers follow the network that its authors ran. It has no
normalisation and a tenth of MPU-Net's parameters: a weak baseline, not one to choose for work.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch reader expects
from torch import Tensor, nn

_WIDTHS = (32, 64, 128, 256)
_STEP = 2 ** len(_WIDTHS)


class MPUNetBaseline(nn.Module):
    """Four halvings, skip connections that are added, no normalisation.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the image; number of classes with background.
    """

    gives_probabilities = True
    """In training and in use, not scores; in training the last of its maps is its output."""

    def __init__(self, in_channels: int = 1, out_channels: int = 2) -> None:
        super().__init__()
        if in_channels < 1 or out_channels < 2:
            raise ValueError("in_channels must be at least 1 and out_channels (with background) at least 2")
        down, up = (in_channels, *_WIDTHS), (*_WIDTHS[::-1], out_channels)
        self.encoder = nn.ModuleList(
            nn.Conv3d(source, target, 3, padding=1) for source, target in itertools.pairwise(down)
        )
        self.decoder = nn.ModuleList(
            nn.Conv3d(source, target, 3, padding=1) for source, target in itertools.pairwise(up)
        )
        self.head = nn.Conv3d(out_channels, out_channels, 1)
        self.maps = nn.ModuleList(nn.Conv3d(channels, out_channels, 1) for channels in up[:3])

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return class probabilities of ``image`` (B, C_in, I, J, K), whose sizes are filled up to multiples of 16.

        Returns
        -------
        Tensor or tuple of Tensor
            (B, n_classes, I, J, K): in evaluation the output; in training three auxiliary maps, coarse to fine, and the
            output, which is the last map alone.
        """
        size = image.shape[2:]
        i, j, k = (-extent % _STEP for extent in size)
        features = F.pad(image, (0, k, 0, j, 0, i), mode="replicate") if i or j or k else image
        skips = []
        for convolution in self.encoder:
            features = F.relu(F.max_pool3d(convolution(features), 2))
            skips.append(features)
        levels = [features]
        for index, convolution in enumerate(self.decoder):
            features = F.relu(F.interpolate(convolution(features), scale_factor=2, mode="trilinear"))
            if index < 3:
                features = features + skips[2 - index]
                levels.append(features)
        output = torch.softmax(self.head(features), dim=1)[..., : size[0], : size[1], : size[2]]
        if not self.training:
            return output
        first, second, third = (
            torch.softmax(F.interpolate(layer(level), scale_factor=scale, mode="trilinear"), dim=1)
            for layer, level, scale in zip(self.maps, levels, (16, 8, 4), strict=False)
        )
        return *(part[..., : size[0], : size[1], : size[2]] for part in (first, second, third)), output
