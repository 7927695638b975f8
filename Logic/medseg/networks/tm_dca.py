"""TM-DCA: two volumes in two transformer streams that look at each other, and a decoder that makes the field.

Source: J. Chen, Y. Liu, Y. He and Y. Du, "Deformable Cross-Attention Transformer for Medical Image Registration" (MLMI
2023). The paper gives the attention (see :mod:`medseg.networks.deformable_cross_attention`) and the outline; sizes and
layers are as in the authors' public code. Our choice: the composition of the time steps is the textbook one, the layers
that make a field start near zero in both heads, features are enlarged with ``align_corners=False``, and what a patch of
2 voxels changes: the last step of the shared decoder then does not enlarge.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch reader expects
from torch import Tensor, nn

from medseg.networks.deformable_cross_attention import (
    CrossAttentionBlock,
    Offsets,
    SelfAttentionBlock,
    check_attention,
)
from medseg.networks.registration_network import Fields, RegistrationNetwork, start_near_zero
from medseg.networks.spatial import BSplineUpsampling, at_least_float32, compose, exponential, warp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Attention = Literal["deformable", "windowed", "self"]
Head = Literal["tvf", "bspline"]

SMALL: Mapping[str, Any] = MappingProxyType({"embed": 48, "depths": (2, 2, 2)})
"""Arguments of :class:`TMDCA` for a network that two CPU cores can run (our choice)."""

_STAGES = 3
_PATCHES = (2, 4)
_STEP_CHANNELS = 16
_CONTROL_CHANNELS = 32


class TMDCA(RegistrationNetwork):
    """Registration by deformable cross-attention.

    The defaults are the published encoder with the paper's offset network and the time-varying head: 29,484,572
    parameters; 28,929,051 with the B-spline head, 283,926,780 with ``offsets="concatenated"`` instead. The network
    holds only for windows of the size that it was built with, on grids of any size: token grids are padded to whole
    windows.

    Parameters
    ----------
    embed
        Channels of the first stage, even, a multiple of ``heads``; doubled by each of the other two.
    depths
        Blocks of the three stages; every second block has shifted windows.
    heads
        Attention heads of all stages.
    window
        Tokens of a window along I, J, K; the defaults are 1/32 of the authors' volumes of 160 x 192 x 224 voxels.
    patch
        Edge in voxels of the patch that becomes a token, 4 or 2; sizes must be multiples of ``4 patch``.
    attention
        "deformable"; "windowed": the same with straight windows, all offsets 0; "self": one stream with the volumes as
        its two channels and self-attention, as TransMorph does, whose blocks have half the parameters.
    offsets
        Offset network of "deformable": "added" as in the paper, "concatenated" as in the authors' released model.
    offset_kernels
        Edge of the offset networks' convolutions in the three stages, odd.
    drop_path
        Stochastic depth of the last block; rises linearly from 0 in the first.
    head
        "tvf": ``steps`` displacements one after the other, each from the volumes as registered so far. "bspline": a
        stationary velocity on control points, whose exponential hardly folds.
    steps
        T of "tvf", 12 in the authors' OASIS network.
    spacing
        Voxels between control points of "bspline".

    Raises
    ------
    ValueError
        When the numbers do not fit together.
    """

    def __init__(
        self,
        *,
        embed: int = 96,
        depths: Sequence[int] = (4, 4, 5),
        heads: int = 8,
        window: Sequence[int] = (5, 6, 7),
        patch: int = 4,
        attention: Attention = "deformable",
        offsets: Offsets = "added",
        offset_kernels: Sequence[int] = (7, 5, 3),
        drop_path: float = 0.3,
        head: Head = "tvf",
        steps: int = 12,
        spacing: int = 3,
    ) -> None:
        super().__init__()
        if head not in ("tvf", "bspline"):
            raise ValueError(f"head must be 'tvf' or 'bspline', not '{head}'")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        self.encoder = TwoStreamEncoder(
            embed=embed,
            depths=depths,
            heads=heads,
            window=window,
            patch=patch,
            attention=attention,
            offsets=offsets,
            offset_kernels=offset_kernels,
            drop_path=drop_path,
        )
        self.multiple = patch * 2 ** (_STAGES - 1)
        self.decoder = _Decoder(embed)
        self.head = _TimeVaryingHead(embed // 2, steps) if head == "tvf" else _BSplineHead(embed // 2, spacing)

    def forward(self, fixed: Tensor, moving: Tensor, smoothness: float | Tensor | None = None) -> Tensor:
        """Return the displacement, as :class:`~medseg.networks.registration_network.RegistrationNetwork` says."""
        return self.fields(fixed, moving, smoothness).displacement

    def fields(self, fixed: Tensor, moving: Tensor, smoothness: float | Tensor | None = None) -> Fields:  # noqa: ARG002
        """Return the displacement and, with the B-spline head, the dense velocity."""
        self.check_pair(fixed, moving)
        features = self.decoder(moving, fixed, self.encoder(moving, fixed))
        return self.head(features, moving, fixed)


class PatchEmbedding(nn.Module):
    """Non-overlapping patches to tokens: a convolution with the patch as kernel and stride, layer normalisation."""

    def __init__(self, in_channels: int, embed: int, patch: int) -> None:
        super().__init__()
        self.projection = nn.Conv3d(in_channels, embed, patch, stride=patch)
        self.norm = nn.LayerNorm(embed)

    def forward(self, image: Tensor) -> Tensor:
        """Return tokens (B, I/p, J/p, K/p, C) of an image (B, channels, I, J, K)."""
        return self.norm(self.projection(image).movedim(1, -1))


class PatchMerging(nn.Module):
    """Eight neighbouring tokens to one of twice the width: layer normalisation of 8C, Linear(8C, 2C) without bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8 * channels)
        self.reduction = nn.Linear(8 * channels, 2 * channels, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (B, I/2, J/2, K/2, 2C) of tokens (B, I, J, K, C) with even I, J, K."""
        for axis in (1, 3, 5):
            tokens = tokens.unflatten(axis, (-1, 2))
        return self.reduction(self.norm(tokens.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4)))


class TwoStreamEncoder(nn.Module):
    """The transformer: three stages of blocks; the streams share embedding and merging, and their results are added.

    With ``attention="self"`` it has one stream. Parameters are those of :class:`TMDCA`.
    """

    def __init__(
        self,
        *,
        embed: int,
        depths: Sequence[int],
        heads: int,
        window: Sequence[int],
        patch: int,
        attention: Attention,
        offsets: Offsets,
        offset_kernels: Sequence[int],
        drop_path: float,
    ) -> None:
        super().__init__()
        if attention not in ("deformable", "windowed", "self"):
            raise ValueError(f"attention must be 'deformable', 'windowed' or 'self', not '{attention}'")
        if offsets not in ("added", "concatenated"):
            raise ValueError(f"offsets must be 'added' or 'concatenated', not '{offsets}'")
        if patch not in _PATCHES:
            raise ValueError(f"patch must be 2 or 4, not {patch}")
        if len(depths) != _STAGES or min(depths) < 1:
            raise ValueError(f"depths must be three numbers of at least 1, not {tuple(depths)}")
        if len(offset_kernels) != _STAGES or any(kernel % 2 == 0 for kernel in offset_kernels):
            raise ValueError(f"offset_kernels must be three odd numbers, not {tuple(offset_kernels)}")
        if embed % 2:
            raise ValueError(f"embed must be even, not {embed}")
        size = check_attention(embed, heads, window)
        self.joined = attention == "self"
        streams = 1 if self.joined else 2
        last = max(sum(depths) - 1, 1)
        self.embedding = PatchEmbedding(2 if self.joined else 1, embed, patch)
        self.stages, self.norms, self.mergings = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for stage, depth in enumerate(depths):
            channels = embed << stage
            if stage:
                self.mergings.append(PatchMerging(channels // 2))
            blocks: list[nn.Module] = []
            for number in range(depth):
                shifted, rate = number % 2 == 1, drop_path * (sum(depths[:stage]) + number) / last
                if self.joined:
                    blocks.append(SelfAttentionBlock(channels, heads, size, shifted=shifted, drop_path=rate))
                    continue
                block = CrossAttentionBlock(
                    channels,
                    heads,
                    size,
                    shifted=shifted,
                    offsets=offsets if attention == "deformable" else None,
                    kernel=offset_kernels[stage],
                    drop_path=rate,
                )
                blocks.append(block)
            self.stages.append(nn.ModuleList(blocks))
            self.norms.append(nn.ModuleList(nn.LayerNorm(channels) for _ in range(streams)))

    def streams(self, moving: Tensor, fixed: Tensor) -> list[tuple[Tensor, ...]]:
        """Return the normalised tokens (B, I', J', K', C) of each stream after each stage, finest first.

        The moving stream comes before the fixed one.
        """
        images = (torch.cat([moving, fixed], dim=1),) if self.joined else (moving, fixed)
        states = tuple(self.embedding(image) for image in images)
        after = []
        for number, (blocks, norms) in enumerate(zip(self.stages, self.norms, strict=True)):
            if number:
                states = tuple(self.mergings[number - 1](state) for state in states)
            for block in blocks:
                states = block(*states)
            after.append(tuple(norm(state) for norm, state in zip(norms, states, strict=True)))
        return after

    def forward(self, moving: Tensor, fixed: Tensor) -> list[Tensor]:
        """Return the features (B, C, I', J', K') of the three stages, finest first: the sum of the streams."""
        return [torch.stack(states).sum(0).movedim(-1, 1) for states in self.streams(moving, fixed)]


class _Up(nn.Module):
    """Features enlarged to the size of a skip connection, joined with it, and two convolutions."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            _normed_conv(in_channels + skip_channels, out_channels), _normed_conv(out_channels, out_channels)
        )

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        if features.shape[2:] != skip.shape[2:]:
            features = F.interpolate(features, size=skip.shape[2:], mode="trilinear", align_corners=False)
        return self.convs(torch.cat([features, skip], dim=1))


class _Decoder(nn.Module):
    """The encoder's features to (B, embed / 2, I / 2, J / 2, K / 2)."""

    def __init__(self, embed: int) -> None:
        super().__init__()
        self.up0 = _Up(4 * embed, 2 * embed, 2 * embed)
        self.up1 = _Up(2 * embed, embed, embed)
        self.up2 = _Up(embed, embed // 2, embed // 2)
        self.pair = nn.Sequential(nn.AvgPool3d(3, stride=2, padding=1), _normed_conv(2, embed // 2))

    def forward(self, moving: Tensor, fixed: Tensor, features: Sequence[Tensor]) -> Tensor:
        fine, middle, coarse = features
        maps = self.up1(self.up0(coarse, middle), fine)
        return self.up2(maps, self.pair(torch.cat([moving, fixed], dim=1)))


class _TimeVaryingHead(nn.Module):
    """T displacements, each from the moving volume as the ones before have warped it; every step has own weights."""

    def __init__(self, channels: int, steps: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(_TimeStep(channels) for _ in range(steps))

    def forward(self, features: Tensor, moving: Tensor, fixed: Tensor) -> Fields:
        displacement: Tensor | None = None
        warped = moving
        for step in self.steps:
            change = step(features, warped, fixed)
            displacement = change if displacement is None else compose(change, displacement)
            warped = warp(moving, displacement)
        if displacement is None:
            raise ValueError("a time-varying field needs at least one step")
        return Fields(displacement, None)


class _TimeStep(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pair = _normed_conv(2, channels)
        self.up = _Up(channels, channels, _STEP_CHANNELS)
        self.flow = nn.Conv3d(_STEP_CHANNELS, 3, 3, padding=1)
        start_near_zero(self.flow)

    def forward(self, features: Tensor, warped: Tensor, fixed: Tensor) -> Tensor:
        return at_least_float32(self.flow(self.up(features, self.pair(torch.cat([warped, fixed], dim=1)))))


class _BSplineHead(nn.Module):
    """A stationary velocity on control points, made dense; the displacement is its exponential."""

    def __init__(self, channels: int, spacing: int) -> None:
        super().__init__()
        self.upsampling = BSplineUpsampling(spacing)
        self.convs = nn.Sequential(
            nn.Conv3d(channels, _CONTROL_CHANNELS, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv3d(_CONTROL_CHANNELS, _CONTROL_CHANNELS, 3, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.flow = nn.Conv3d(_CONTROL_CHANNELS, 3, 3, padding=1)
        for layer in self.convs:
            if isinstance(layer, nn.Conv3d):
                nn.init.kaiming_uniform_(layer.weight, a=0.2)
        start_near_zero(self.flow)

    def forward(self, features: Tensor, moving: Tensor, fixed: Tensor) -> Fields:  # noqa: ARG002
        size = tuple(moving.shape[2:])
        at = self.upsampling.control_size(size)
        control = self.flow(self.convs(F.interpolate(features, size=at, mode="trilinear", align_corners=False)))
        velocity = self.upsampling(control, size)
        return Fields(exponential(velocity), velocity)


def _normed_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, 3, padding=1, bias=False), nn.InstanceNorm3d(out_channels), nn.LeakyReLU()
    )
