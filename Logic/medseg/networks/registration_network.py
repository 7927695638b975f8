"""What every registration network has in common, and VoxelMorph in that form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from medseg.networks.spatial import at_least_float32, exponential

if TYPE_CHECKING:
    from collections.abc import Sequence


class Fields(NamedTuple):
    """What a registration network predicts: what warps the moving image, and what a regulariser should see."""

    displacement: Tensor
    """(B, 3, I, J, K), voxels."""
    velocity: Tensor | None
    """(B, 3, I, J, K), voxels for unit time, whose exponential the displacement is; None where there is none."""


class RegistrationNetwork(nn.Module, ABC):
    """A network from two volumes to the displacement field that pulls the moving one back onto the fixed one.

    The field lives on the grid of the fixed volume, in voxels, with channels in the order of the tensor axes (see
    :mod:`medseg.networks.spatial`): ``warp(moving, network(fixed, moving))`` looks like ``fixed``.
    """

    multiple: int
    """Sizes along I, J, K must be multiples of this."""

    conditional: bool = False
    """Whether the network heeds ``smoothness``; the others were trained for one weight of the regulariser."""

    @abstractmethod
    def forward(self, fixed: Tensor, moving: Tensor, smoothness: float | Tensor | None = None) -> Tensor:
        """Return the displacement.

        Parameters
        ----------
        fixed, moving
            (B, 1, I, J, K) on one grid, intensities about 0 to 1; sizes are multiples of ``multiple``.
        smoothness
            0 (follow the images) to 1 (smooth), a number or one a pair (B,); without effect unless ``conditional``.

        Returns
        -------
        Tensor
            (B, 3, I, J, K), voxels, float32 at least.

        Raises
        ------
        ValueError
            When shapes or sizes do not fit.
        """

    def fields(self, fixed: Tensor, moving: Tensor, smoothness: float | Tensor | None = None) -> Fields:
        """Return the displacement and, where it is the exponential of one, the velocity (arguments of ``forward``)."""
        return Fields(self(fixed, moving, smoothness), None)

    def check_pair(self, fixed: Tensor, moving: Tensor) -> None:
        """Raise ValueError unless both are (B, 1, I, J, K) with equal sizes that are multiples of ``multiple``."""
        if fixed.ndim != 5 or fixed.shape[1] != 1 or moving.shape != fixed.shape:
            raise ValueError(
                f"fixed and moving must both be (B, 1, I, J, K), not {tuple(fixed.shape)} and {tuple(moving.shape)}"
            )
        size = tuple(fixed.shape[2:])
        if any(n % self.multiple or n == 0 for n in size):
            raise ValueError(f"sizes must be multiples of {self.multiple}, not {size}; pad both and crop the field")


class VoxelMorph(RegistrationNetwork):
    """VoxelMorph: one U-Net on the pair.

    Source: G. Balakrishnan et al., "VoxelMorph: A Learning Framework for Deformable Medical Image Registration" (IEEE
    TMI 2019); with ``integration_steps`` A. Dalca et al., "Unsupervised Learning of Probabilistic Diffeomorphic
    Registration" (MedIA 2019), without their half-size field. The U-Net is MONAI's; its output, the field, starts near
    zero as in the original and unlike in MONAI.

    Parameters
    ----------
    channels
        Pairs of channels, down and up, of the levels of the U-Net; every pair is one halving.
    unet_out_channels, final_conv_channels
        Channels of the U-Net's result and of the convolutions between it and the field.
    integration_steps
        0: the network predicts the displacement. Else a velocity, and that many squarings make the displacement.

    Raises
    ------
    ValueError
        When the channels do not come in pairs, or ``integration_steps`` is negative.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int] = (16, 32, 32, 32, 32, 32),
        unet_out_channels: int = 32,
        final_conv_channels: Sequence[int] = (16, 16),
        integration_steps: int = 0,
    ) -> None:
        super().__init__()
        from monai.networks.nets import VoxelMorphUNet

        if integration_steps < 0:
            raise ValueError(f"integration_steps must not be negative, not {integration_steps}")
        self.unet = VoxelMorphUNet(3, 2, unet_out_channels, tuple(channels), tuple(final_conv_channels))
        self.integration_steps = integration_steps
        self.multiple = 2 ** (len(channels) // 2)
        start_near_zero([part for part in self.unet.modules() if isinstance(part, nn.Conv3d)][-1])

    def forward(self, fixed: Tensor, moving: Tensor, smoothness: float | Tensor | None = None) -> Tensor:
        """Return the displacement, as :class:`RegistrationNetwork` describes it."""
        return self.fields(fixed, moving, smoothness).displacement

    def fields(self, fixed: Tensor, moving: Tensor, smoothness: float | Tensor | None = None) -> Fields:  # noqa: ARG002
        """Return the displacement and, with ``integration_steps``, the velocity."""
        self.check_pair(fixed, moving)
        field = at_least_float32(self.unet(torch.cat([moving, fixed], dim=1)))
        if not self.integration_steps:
            return Fields(field, None)
        return Fields(exponential(field, self.integration_steps), field)


def start_near_zero(layer: nn.Conv3d) -> None:
    """Set the weights of a layer that predicts a field to N(0, 1e-5) and its bias to 0: training begins at identity."""
    nn.init.normal_(layer.weight, std=1e-5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
