"""The attention gate: features are multiplied by a map that says where they matter.

Source: O. Oktay et al., "Attention U-Net" (2018), in the form of Z. Yu and S. Han, "3D Medical Image Segmentation
based on multi-scale MPU-Net" (arXiv 2307.05799), whose printed sigmoid lacks the minus sign.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch reader expects
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


class AttentionGate(nn.Module):
    """``x * sigmoid(psi(relu(W_x x + W_g g)))``; each of the three maps is a 1x1x1 convolution and a normalisation.

    Parameters
    ----------
    channels
        Channels of the features x that are gated.
    gating_channels
        Channels of the gating features g.
    inner
        Channels of the sum.
    norm
        Makes the normalisation layer for a number of channels; batch normalisation by default.
    """

    def __init__(
        self,
        channels: int,
        gating_channels: int,
        inner: int,
        *,
        norm: Callable[[int], nn.Module] = nn.BatchNorm3d,
    ) -> None:
        super().__init__()
        self.of_features = nn.Sequential(nn.Conv3d(channels, inner, 1), norm(inner))
        self.of_gating = nn.Sequential(nn.Conv3d(gating_channels, inner, 1), norm(inner))
        self.psi = nn.Sequential(nn.Conv3d(inner, 1, 1), norm(1))

    def forward(self, features: Tensor, gating: Tensor) -> Tensor:
        """Return ``features`` (B, C, I, J, K) gated by ``gating`` (B, G, any size, resized to that of the features)."""
        return features * self.coefficients(features, gating)

    def coefficients(self, features: Tensor, gating: Tensor) -> Tensor:
        """Return the map in (0, 1), (B, 1, I, J, K), with which the features are multiplied."""
        guide = self.of_gating(gating)
        if guide.shape[2:] != features.shape[2:]:
            guide = F.interpolate(guide, size=features.shape[2:], mode="trilinear", align_corners=False)
        return torch.sigmoid(self.psi(F.relu(self.of_features(features) + guide)))
