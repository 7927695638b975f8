"""MPU-Net: a residual 3D U-Net with position attention, attention gates and an output averaged over four scales.

Source: Z. Yu and S. Han, "3D Medical Image Segmentation based on multi-scale MPU-Net" (arXiv 2307.05799). The paper
gives neither widths nor depth, and its description of the whole network is missing; widths, order of layers and
initial weights follow the network that its authors ran, whose parameter count is the printed one (22,557,009, of which
1,049,754 belong to layers that no image passes).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch reader expects
from torch import Tensor, nn

from medseg.networks.attention_gate import AttentionGate
from medseg.networks.attention_row import AttentionRow
from medseg.networks.position_attention import PositionAttention

if TYPE_CHECKING:
    from collections.abc import Sequence

EluAlpha = Literal["one", "as_published"]
GatePlace = Literal["decoder", "skip", "none"]
Normalisation = bool | Literal["instance", "batch"]
_Norm = type[nn.Module]

_SHRINKINGS = 3
_STEP = 2**_SHRINKINGS
_SLOPE = 0.25
"""Slope of a fresh PReLU, for which the initial weights are drawn."""


class MPUNet(nn.Module):
    """Segmentation of 3D images with a view of the whole window at the deepest level.

    All axes are treated alike: the paper's (D, H, W) are our (K, J, I) and nothing changes. Sizes are filled up to
    multiples of 8 by repeating the last voxels (our choice; the authors cut their images to such sizes).

    Parameters
    ----------
    in_channels, out_channels
        Channels of the image; number of classes with background, at least 2. With several channels the residual of the
        first level is their mean (our choice; the paper has one channel).
    widths
        Channels of the six levels; as published by default.
    elu_alpha
        "one", or "as_published": the authors' code passes the number of channels as the alpha of the ELU.
    gate
        What the attention gate multiplies: the "decoder" features (as the authors ran it), the "skip" connection (as
        the text says; its inner width, half the skip's, is our choice), or "none".
    position_attention
        Whether the attention over all voxels is there; without it, the two convolutions around it stay.
    multiscale_block
        Use the text's multi-scale block: two branches of two convolutions each, joined by another. Its place (ours: the
        encoder), kernel sizes, widths and activation are not given in the paper; ours are 3x3x3 with half the width
        and PReLU, a dilation of 2 in the second branch, and 1x1x1 for the fusion.
    multiscale_output
        Average the class probabilities of four decoder levels; else those of the finest level are the output, in
        training too.
    normalise
        Our extension: normalisation behind every 3x3x3 convolution, of which the published network has none in its
        blocks. ``True`` or "instance": instance normalisation, also in place of the published batch normalisation,
        whose statistics of a single case are noise. "batch": batch normalisation everywhere.
    dropout
        Probability of the element-wise dropout in training.
    include_unused
        Also build the layers that the authors build and never use, so that the parameters can be counted.

    Raises
    ------
    ValueError
        When an option is not one of those above.
    """

    gives_probabilities = True
    """In training and in use, not scores; in training the last of its maps is its output."""

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        *,
        widths: Sequence[int] = (16, 32, 64, 128, 256, 512),
        elu_alpha: EluAlpha = "one",
        gate: GatePlace = "decoder",
        position_attention: bool = True,
        multiscale_block: bool = False,
        multiscale_output: bool = True,
        normalise: Normalisation = False,
        dropout: float = 0.2,
        include_unused: bool = False,
    ) -> None:
        super().__init__()
        if len(widths) != 6 or min(widths) < 2:
            raise ValueError("widths must be six numbers of channels, each at least 2")
        if in_channels < 1 or out_channels < 2:
            raise ValueError("in_channels must be at least 1 and out_channels (with background) at least 2")
        if elu_alpha not in ("one", "as_published"):
            raise ValueError(f"elu_alpha must be 'one' or 'as_published', not '{elu_alpha}'")
        if gate not in ("decoder", "skip", "none"):
            raise ValueError(f"gate must be 'decoder', 'skip' or 'none', not '{gate}'")
        if normalise not in (False, True, "instance", "batch"):
            raise ValueError(f"normalise must be true, false, 'instance' or 'batch', not '{normalise}'")
        if not 0 <= dropout < 1:
            raise ValueError("dropout must be at least 0 and below 1")
        self.gate = gate
        self.dropout = dropout
        self.multiscale_output = multiscale_output
        one, two, four, eight, deep, bottom = widths
        norm: _Norm = _InstanceNorm if normalise in (True, "instance") else nn.BatchNorm3d
        inside: _Norm | None = norm if normalise else None
        block = _MultiscaleBlock if multiscale_block else _block_of_two

        self.encoder = nn.ModuleList(
            block(source, target, inside)
            for source, target in ((in_channels, one), (two, two), (four, four), (eight, eight), (deep, deep))
        )
        self.down = nn.ModuleList(
            _down(source, target, shrink=shrink, alpha=target if elu_alpha == "as_published" else 1, norm=norm)
            for source, target, shrink in (
                (one, two, True),
                (two, four, True),
                (four, eight, True),
                (eight, deep, False),
                (deep, bottom, False),
            )
        )
        self.into_attention = _convolution(bottom, deep, norm)
        self.attention = PositionAttention(deep) if position_attention else None
        self.out_of_attention = _convolution(deep, deep, norm)
        self.decoder = nn.ModuleList(
            _block(source, target, 3, inside)
            for source, target in ((eight, deep), (eight + four, eight), (four + two, four), (two + one, two))
        )
        self.up = nn.ModuleList(_up(source, target) for source, target in ((deep, eight), (eight, four), (four, two)))
        decoded, skipped = (deep, eight, four, two), (eight, four, two, one)
        gated = {"decoder": decoded, "skip": skipped, "none": ()}[gate]
        self.gates = nn.ModuleList(
            AttentionGate(channels, guide, max(channels // 2, 1), norm=norm)
            for channels, guide in zip(gated, decoded, strict=False)
        )
        mapped = decoded if multiscale_output else decoded[-1:]
        self.maps = nn.ModuleList(nn.Conv3d(channels, out_channels, 1) for channels in mapped)
        self.unused = nn.ModuleList(_unused(bottom, deep, one, out_channels) if include_unused else [])
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return class probabilities.

        Parameters
        ----------
        image
            (B, C_in, I, J, K), any size.

        Returns
        -------
        Tensor or tuple of Tensor
            (B, n_classes, I, J, K) probabilities: in evaluation the output; in training ``(o1, o2, o3, output)``, the
            maps of the three coarser levels, brought to full size, and the mean of all four (the finest alone is
            supervised through that mean only). Without ``multiscale_output``, the output in both.
        """
        maps = self.scale_maps(image)
        output = maps[-1] if len(maps) == 1 else torch.stack(maps).mean(0)
        if self.training and self.multiscale_output:
            return maps[0], maps[1], maps[2], output
        return output

    def scale_maps(self, image: Tensor) -> list[Tensor]:
        """Return the class probabilities of each decoder level, coarse to fine, (B, n_classes, I, J, K) each."""
        size = image.shape[2:]
        skips, deepest = self._encode(_filled_up(image))
        features = self._decode_first(skips[3], deepest)
        decoded = [features]
        for level in range(3):
            guide = self.up[level](features)
            features = self._decode(level + 1, guide, skips[2 - level])
            decoded.append(features)
        decoded = decoded if self.multiscale_output else decoded[-1:]
        return [
            self._class_map(layer, features, 2 ** (len(decoded) - 1 - level))[..., : size[0], : size[1], : size[2]]
            for level, (layer, features) in enumerate(zip(self.maps, decoded, strict=True))
        ]

    def attention_row(self, image: Tensor, voxel: tuple[int, int, int]) -> AttentionRow:
        """Return where the network looks from ``voxel`` (i, j, k) of ``image`` (1, C, I, J, K).

        The weights are those of the deepest level, one for each 8 x 8 x 8 voxels; the last ones may lie beyond the
        image where its size is no multiple of 8.

        Raises
        ------
        ValueError
            When the network was built without position attention, or the voxel lies outside the image.
        """
        if self.attention is None:
            raise ValueError("this network was built without position attention")
        if not all(0 <= index < size for index, size in zip(voxel, image.shape[2:], strict=True)):
            raise ValueError(f"the voxel {voxel} lies outside an image of {tuple(image.shape[2:])} voxels")
        features = self.into_attention(self._encoded(_filled_up(image))[1])
        i, j, k = voxel
        row = self.attention.row(features, (i // _STEP, j // _STEP, k // _STEP))
        middle = (_STEP - 1) / 2
        return AttentionRow(row[0], (_STEP, _STEP, _STEP), (middle, middle, middle))

    def _encode(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the features of levels 1 to 4 and those behind the position attention."""
        skips, deepest = self._encoded(image)
        deepest = self.into_attention(deepest)
        if self.attention is not None:
            deepest = self.attention(deepest)
        return skips, self.out_of_attention(deepest)

    def _encoded(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        skips = []
        below, shortcut = image, image.mean(1, keepdim=True)
        for level, (block, down) in enumerate(zip(self.encoder, self.down, strict=True)):
            features = block(below) + shortcut
            if level:
                features = self._dropped(features)
            skips.append(features)
            below = shortcut = down(features)
        return skips[:4], below

    def _decode_first(self, skip: Tensor, deepest: Tensor) -> Tensor:
        if self.gate == "skip":
            skip = self.gates[0](skip, deepest)
        features = self.decoder[0](skip) + deepest
        if self.gate == "decoder":
            features = self.gates[0](features, deepest)
        return self._dropped(features)

    def _decode(self, level: int, guide: Tensor, skip: Tensor) -> Tensor:
        if self.gate == "skip":
            skip = self.gates[level](skip, guide)
        features = self.decoder[level](torch.cat([guide, skip], dim=1)) + guide
        if self.gate == "decoder":
            features = self.gates[level](features, guide)
        return self._dropped(features) if level < 3 else features

    def _dropped(self, features: Tensor) -> Tensor:
        return F.dropout(features, self.dropout, self.training)

    @staticmethod
    def _class_map(layer: nn.Module, features: Tensor, scale: int) -> Tensor:
        scores = layer(features)
        if scale > 1:
            scores = F.interpolate(scores, scale_factor=scale, mode="trilinear", align_corners=False)
        return torch.softmax(scores, dim=1)


class _InstanceNorm(nn.InstanceNorm3d):
    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)


class _MultiscaleBlock(nn.Module):
    """Two branches of different reach, fused by a linear 1x1x1 convolution."""

    def __init__(self, source: int, target: int, norm: _Norm | None) -> None:
        super().__init__()
        half = target // 2
        self.near = _block(source, half, 2, norm)
        self.far = _block(source, target - half, 2, norm, dilation=2)
        self.fusion = nn.Conv3d(target, target, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.fusion(torch.cat([self.near(features), self.far(features)], dim=1))


def _block(source: int, target: int, convolutions: int, norm: _Norm | None, *, dilation: int = 1) -> nn.Sequential:
    """``convolutions`` times [3x3x3 convolution, (normalisation,) PReLU of each channel]."""
    layers: list[nn.Module] = []
    for index in range(convolutions):
        layers.append(nn.Conv3d(source if index == 0 else target, target, 3, padding=dilation, dilation=dilation))
        if norm is not None:
            layers.append(norm(target))
        layers.append(nn.PReLU(target))
    return nn.Sequential(*layers)


def _block_of_two(source: int, target: int, norm: _Norm | None) -> nn.Sequential:
    return _block(source, target, 2, norm)


def _convolution(source: int, target: int, norm: _Norm) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(source, target, 3, padding=1), norm(target), nn.PReLU())


def _down(source: int, target: int, *, shrink: bool, alpha: float, norm: _Norm) -> nn.Sequential:
    convolution = nn.Conv3d(source, target, 2, 2) if shrink else nn.Conv3d(source, target, 3, padding=1)
    return nn.Sequential(nn.MaxPool3d(3, 1, 1), convolution, norm(target), nn.ELU(alpha))


def _up(source: int, target: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose3d(source, target, 2, 2), nn.PReLU(target))


def _unused(bottom: int, deep: int, one: int, classes: int) -> list[nn.Module]:
    return [_up(bottom, deep), _block(one // 2, classes, 3, None), nn.Conv3d(classes, classes, 1)]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
        nn.init.kaiming_normal_(module.weight, a=_SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _filled_up(image: Tensor) -> Tensor:
    """Repeat the last voxels up to multiples of 8, and to two positions at least at the deepest level.

    Normalisation needs more than one value.
    """
    wanted = [-(-size // _STEP) * _STEP for size in image.shape[2:]]
    if max(wanted) == _STEP:
        wanted[-1] = 2 * _STEP
    i, j, k = (target - size for target, size in zip(wanted, image.shape[2:], strict=True))
    return F.pad(image, (0, k, 0, j, 0, i), mode="replicate") if i or j or k else image
