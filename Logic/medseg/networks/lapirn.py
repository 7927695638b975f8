"""Conditional LapIRN: a displacement field from coarse to fine, with the smoothness as an input.

Source: T. Mok and A. Chung, "Conditional Deformable Image Registration with Convolutional Neural Network" (MICCAI
2021), displacement variant, the network that T. Mok et al., "Deformable Medical Image Registration Under Distribution
Shifts with Neural Instance Optimization" (MLMI 2023) optimise for one pair. Layers, widths and the biases of the
conditional normalisation, which start at 0, are as in the authors' public code. The image pyramid is trilinear, as
MLMI 2023 says, and not average pooling. Our choice: the ends of an axis are the same voxel centres at all levels
(``align_corners=True``), where the code enlarges fields with another convention than it reads them with.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch reader expects
from torch import Tensor, nn

from medseg.networks.registration_network import RegistrationNetwork
from medseg.networks.spatial import at_least_float32, normalised_to_voxels, resize_field, warp

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_SMOOTHNESS = 0.4
"""The weight of the regulariser in MLMI 2023, in training and at run time."""

_SLOPE = 0.2
_STYLE = 64
_BLOCKS = 5


class LevelFields(NamedTuple):
    """The field up to one level of the pyramid."""

    displacement: Tensor
    """(B, 3, I / s, J / s, K / s), voxels of this grid; s = 1 at the last level, twice as large at each one before."""
    full: Tensor
    """(B, 3, I, J, K), the same in voxels of the full grid: what warps the moving image in the loss, Eq. 3."""
    residuals: tuple[Tensor, ...]
    """What each level added, coarsest first, on its own grid, in units and channel order of ``grid_sample``."""


class ConditionalLapIRN(RegistrationNetwork):
    """Conditional LapIRN, displacement variant.

    Level l sees both images at scale ``0.5^(levels - l)``, the moving one warped by what the levels before have found,
    and adds a residual of at most ``range_flow``. With the defaults it has 1,222,068 parameters, with 4 start channels
    ("lite") 557,040.

    Parameters
    ----------
    start_channels
        A quarter of the width of all layers: 7, or 4 for the authors' "lite" network.
    levels
        Levels of the pyramid, at least 1; sizes must be multiples of ``2 ** levels``.
    range_flow
        Largest residual of a level, where the whole extent of an axis is 2.

    Raises
    ------
    ValueError
        When a number is too small.
    """

    conditional = True

    def __init__(self, start_channels: int = 7, levels: int = 3, range_flow: float = 0.4) -> None:
        super().__init__()
        if start_channels < 1 or levels < 1 or range_flow <= 0:
            raise ValueError("start_channels and levels must be at least 1, and range_flow above 0")
        width = 4 * start_channels
        self.levels, self.multiple = levels, 2**levels
        # Two images at first; later also the three channels of the field so far.
        self.parts = nn.ModuleList(_Level(2 if level == 0 else 5, width, range_flow) for level in range(levels))

    def forward(self, fixed: Tensor, moving: Tensor, smoothness: float | Tensor | None = None) -> Tensor:
        """Return the displacement (B, 3, I, J, K) in voxels.

        Parameters
        ----------
        fixed, moving
            (B, 1, I, J, K); sizes are multiples of ``multiple``, and not all of them equal to it.
        smoothness
            In [0, 1], a number or one a pair (B,); 0.4 when omitted.

        Raises
        ------
        ValueError
            When shapes, sizes or the smoothness do not fit.
        """
        return self.to_level(self.levels, fixed, moving, smoothness).displacement

    def to_level(
        self, level: int, fixed: Tensor, moving: Tensor, smoothness: float | Tensor | None = None
    ) -> LevelFields:
        """Return the field of levels 1 to ``level``; the levels after are not computed.

        Parameters
        ----------
        level
            1 (coarsest) to ``levels``.
        fixed, moving, smoothness
            At full size, as in ``forward``.

        Raises
        ------
        ValueError
            As ``forward``, and when there is no such level.
        """
        self._check_level(level)
        self.check_pair(fixed, moving)
        size = tuple(fixed.shape[2:])
        if max(size) == self.multiple:
            # One voxel would be left at the coarsest place, and instance normalisation needs two.
            raise ValueError(f"at least one size must be {2 * self.multiple} or more, not {size}")
        condition = _condition(smoothness, fixed)
        field: Tensor | None = None
        embedding: Tensor | None = None
        residuals = []
        for number, part in enumerate(self.parts[:level], start=1):
            at = [n >> (self.levels - number) for n in size]
            f, m = _resized(fixed, at), _resized(moving, at)
            if field is None:
                residual, embedding = part(torch.cat([m, f], dim=1), condition, None)
                field = residual
            else:
                field = _resized(field, at)
                seen = torch.cat([warp(m, normalised_to_voxels(field)), f, field.to(f.dtype)], dim=1)
                residual, embedding = part(seen, condition, embedding)
                field = field + residual
            residuals.append(residual)
        displacement = normalised_to_voxels(field)
        return LevelFields(displacement, resize_field(displacement, size), tuple(residuals))

    def parameters_to_level(self, level: int) -> list[nn.Parameter]:
        """Return the parameters of levels 1 to ``level``: all that the field of ``to_level(level)`` depends on.

        Raises
        ------
        ValueError
            When there is no such level.
        """
        self._check_level(level)
        return list(self.parts[:level].parameters())

    def _check_level(self, level: int) -> None:
        if not 1 <= level <= self.levels:
            raise ValueError(f"level must be 1 to {self.levels}, not {level}")


class ConditionalInstanceNorm(nn.Module):
    """``(1 + gamma) InstanceNorm(x) + beta``, where a linear layer makes gamma and beta of a style vector.

    Parameters
    ----------
    channels
        C of the features.
    style
        Length of the style vector.
    """

    def __init__(self, channels: int, style: int = _STYLE) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm3d(channels)
        self.affine = nn.Linear(style, 2 * channels)
        nn.init.zeros_(self.affine.bias)

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        """Return the features (B, C, I, J, K) normalised as the style (B, S) demands."""
        gamma, beta = self.affine(style)[..., None, None, None].chunk(2, dim=1)
        return (1 + gamma) * self.norm(features) + beta


class _ConditionalBlock(nn.Module):
    """Pre-activation residual block with conditional instance normalisation and its own map from number to style."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (1, _STYLE, _STYLE, _STYLE, _STYLE)
        self.mapping = nn.Sequential(
            *(
                layer
                for before, after in itertools.pairwise(widths)
                for layer in (nn.Linear(before, after), nn.LeakyReLU(_SLOPE))
            )
        )
        self.norm1, self.norm2 = ConditionalInstanceNorm(channels), ConditionalInstanceNorm(channels)
        self.conv1, self.conv2 = _conv(channels, channels), _conv(channels, channels)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        style = self.mapping(condition)
        change = self.conv1(F.leaky_relu(self.norm1(features, style), _SLOPE))
        return features + self.conv2(F.leaky_relu(self.norm2(change, style), _SLOPE))


class _Level(nn.Module):
    """One level: what it sees (B, 2 or 5, ...) to its residual (B, 3, ...) and an embedding (B, C, ...)."""

    def __init__(self, in_channels: int, width: int, range_flow: float) -> None:
        super().__init__()
        self.range_flow = range_flow
        self.encoder = nn.Sequential(_conv(in_channels, width), nn.LeakyReLU(_SLOPE), _conv(width, width))
        self.down = _conv(width, width, stride=2)
        self.blocks = nn.ModuleList(_ConditionalBlock(width) for _ in range(_BLOCKS))
        self.up = nn.ConvTranspose3d(width, width, 2, stride=2, bias=False)
        self.flow = nn.Sequential(_conv(2 * width, width), nn.LeakyReLU(_SLOPE), _conv(width, 3), nn.Softsign())

    def forward(self, seen: Tensor, condition: Tensor, embedding: Tensor | None) -> tuple[Tensor, Tensor]:
        features = self.encoder(seen)
        deep = self.down(features)
        if embedding is not None:
            deep = deep + embedding
        for block in self.blocks:
            deep = F.leaky_relu(block(deep, condition), _SLOPE)
        embedding = self.up(deep)
        return self.range_flow * at_least_float32(self.flow(torch.cat([embedding, features], dim=1))), embedding


def _conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


def _resized(values: Tensor, size: Sequence[int]) -> Tensor:
    if list(values.shape[2:]) == list(size):
        return values
    return F.interpolate(values, size=size, mode="trilinear", align_corners=True)


def _condition(smoothness: float | Tensor | None, like: Tensor) -> Tensor:
    """Return the smoothness as (B, 1)."""
    number = torch.as_tensor(
        DEFAULT_SMOOTHNESS if smoothness is None else smoothness, dtype=like.dtype, device=like.device
    )
    if number.ndim > 1 or (number.ndim == 1 and len(number) not in (1, len(like))):
        raise ValueError(f"smoothness must be one number or one a pair ({len(like)},), not {tuple(number.shape)}")
    if not bool(((number >= 0) & (number <= 1)).all()):
        raise ValueError(f"smoothness must be in 0 to 1, not {number.tolist()}")
    return number.reshape(-1, 1).expand(len(like), 1)
