"""PE-MED: a network that segments what clicks point at, and repairs it with every further click.

Source: A. Chang et al., "PE-MED: Prompt Enhancement for Interactive Medical Image Segmentation" (MLMI 2023), Eq. 1 to
4. The paper gives the order of the parts and these equations. Not given there and our choice: the widths (those of
SegFormer's MiT-B0), what each prompt embedding is made of, projections and reduced keys and values in the attentions of
PALM (one head for every 32 channels), where the prompts enter when PALM is off, that the head takes the enhanced
features of the finest map, the head's width, the form of TSIP's perceptron, and the square root in the scale of the
attention, which the print lacks. The 3D form, with one axis more everywhere, is ours.

So are the short cuts in PALM-I, without which clicks do not tell where they are. As printed, what looks is replaced by
what it sees: while there is no negative click and no previous mask, the negative prompts are the same everywhere, so
whoever looks with them, or at them, gets the same everywhere, and the sum of Eq. 2 does not depend on the place. A
previous mask changes that by a millionth with fresh weights. Networks that were trained so found nothing at all.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch reader expects
from torch import Tensor, nn

from medseg.networks.click_network import ClickNetwork
from medseg.networks.mix_transformer import (
    Dims,
    MixStage,
    PatchEmbedding,
    ReducedAttention,
    convolution,
    initialise,
    to_map,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROMPTS = 3
"""Positive clicks, negative clicks, previous mask."""
_TSIP_WIDTH, _TSIP_BIAS = 16, -4.0
"""A fresh TSIP adds next to nothing."""


class PEMED(ClickNetwork):
    """Segmentation of one structure from an image, clicks and the previous answer.

    Parameters
    ----------
    in_channels
        Of the image.
    dims
        2 as published, 3 for our 3D form.
    channels, depths, heads, reductions
        Of the four stages.
    head_channels
        Width of the head.
    head_norm
        "batch" as in SegFormer, or "group" (8 groups) for batches of one or two.
    inner_attention, outer_attention
        PALM-I and PALM-O. Without PALM-I the prompts are embedded and do not look at each other; without PALM-O they
        are added to the features; without both they are channels of the image.
    memory
        TSIP: the logits of the previous answer enter the present ones.
    short_cuts
        Of PALM-I, ours (see the module); without them Eq. 1 and 2 are as printed.
    detail_channels
        Ours: with more than 0, a decoder of convolutions takes the head's features from a fourth of the size to the
        full one, beside image and prompts, for structures of a few voxels. As published, the logits are enlarged.
    """

    step = 32
    # The stages are at a fourth, an eighth, a sixteenth and a thirty-second.

    def __init__(
        self,
        in_channels: int = 1,
        *,
        dims: Dims = 2,
        channels: Sequence[int] = (32, 64, 160, 256),
        depths: Sequence[int] = (2, 2, 2, 2),
        heads: Sequence[int] = (1, 2, 5, 8),
        reductions: Sequence[int] = (8, 4, 2, 1),
        head_channels: int = 256,
        head_norm: Literal["batch", "group"] = "batch",
        inner_attention: bool = True,
        outer_attention: bool = True,
        memory: bool = True,
        short_cuts: bool = True,
        detail_channels: int = 0,
    ) -> None:
        super().__init__()
        if not len(channels) == len(depths) == len(heads) == len(reductions) == 4:
            raise ValueError("the encoder has four stages: give four numbers for each")
        self.dims = dims
        self.has_palm = inner_attention or outer_attention
        widths = (in_channels + (0 if self.has_palm else _PROMPTS), *channels)
        self.embeddings = nn.ModuleList(
            PatchEmbedding(dims, before, after, kernel=7 if number == 0 else 3, stride=4 if number == 0 else 2)
            for number, (before, after) in enumerate(itertools.pairwise(widths))
        )
        self.stages = nn.ModuleList(
            MixStage(dims, width, depth=depth, heads=head, reduction=reduction)
            for width, depth, head, reduction in zip(channels, depths, heads, reductions, strict=True)
        )
        finest: dict[str, Any] = {"dims": dims, "channels": channels[0], "reduction": reductions[0]}
        inner: dict[str, Any] = {"enhance": inner_attention, "short_cuts": short_cuts}
        self.inner = PromptAttention(**finest, **inner) if self.has_palm else None
        self.outer = PromptImageAttention(**finest) if outer_attention else None
        self.head = MLPHead(dims, channels, head_channels, head_norm)
        self.memory = AnswerMemory(dims) if memory else None
        seen = in_channels + _PROMPTS
        self.detail = DetailDecoder(dims, seen, head_channels, detail_channels) if detail_channels else None
        initialise(self)
        if self.memory is not None:
            self.memory.start_silent()

    def image_features(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what the image alone decides, which stays the same from click to click.

        The image, and the tokens of the first stage (B, N, C); ``None`` where the prompts enter before that.

        Raises
        ------
        ValueError
            When a size is not a multiple of 32.
        """
        self.check_size(image)
        if not self.has_palm:
            return image, None
        tokens, size = self.embeddings[0](image)
        return image, self.stages[0](tokens, size)

    def refine(
        self,
        features: tuple[Tensor, Tensor | None],
        positive: Tensor,
        negative: Tensor,
        previous: Tensor,
        last_logits: Tensor | None = None,
    ) -> Tensor:
        """Return the logits for the features of an image and prompts; see :meth:`forward`."""
        image, tokens = features
        prompts = torch.cat([positive, negative, previous], 1).to(image.dtype)
        size = tuple(extent // 4 for extent in image.shape[2:])
        if tokens is None:
            tokens, size = self.embeddings[0](torch.cat([image, prompts], 1))
            tokens = self.stages[0](tokens, size)
        elif self.inner is not None:
            enhanced = self.inner(prompts)
            tokens = tokens + enhanced if self.outer is None else self.outer(tokens, enhanced, size)
        maps = [to_map(tokens, size)]
        for embed, stage in zip(self.embeddings[1:], self.stages[1:], strict=True):
            tokens, size = embed(maps[-1])
            maps.append(to_map(stage(tokens, size), size))
        fused = self.head.fused(maps)
        logits = enlarged(self.head.classify(fused), image.shape[2:])
        if self.detail is not None:
            logits = logits + self.detail(torch.cat([image, prompts], 1), fused)
        logits = logits.float()
        if self.memory is None or last_logits is None:
            return logits
        return logits + self.memory(last_logits)


class PromptAttention(nn.Module):
    """PALM-I: positive clicks, negative clicks and all prompts look at each other (Eq. 1 and 2).

    Parameters
    ----------
    dims, channels
        Of the tokens.
    reduction
        Of keys and values.
    enhance
        Without it, the embedding of all prompts is what comes out.
    short_cuts
        What looks is added to what it sees, as in the blocks of a transformer (ours, see the module).
    """

    def __init__(
        self, dims: Dims, channels: int, *, reduction: int, enhance: bool = True, short_cuts: bool = True
    ) -> None:
        super().__init__()
        self.everything = PatchEmbedding(dims, _PROMPTS, channels)
        self.enhance, self.short_cuts = enhance, short_cuts
        if not enhance:
            return
        self.positive, self.negative = PatchEmbedding(dims, 2, channels), PatchEmbedding(dims, 2, channels)
        heads = max(channels // 32, 1)
        self.to_positive, self.to_negative, self.within, self.from_positive, self.from_negative = (
            ReducedAttention(dims, channels, heads=heads, reduction=reduction) for _ in range(5)
        )

    def forward(self, prompts: Tensor) -> Tensor:
        """Return ``E_p`` (B, N, C) of prompts (B, 3, \\*size): positive clicks, negative clicks, previous mask."""
        everything, size = self.everything(prompts)
        if not self.enhance:
            return everything
        positive, _ = self.positive(prompts[:, [0, 2]])
        negative, _ = self.negative(prompts[:, [1, 2]])
        of_positive = self._seen(self.to_positive, negative, positive, size)
        of_negative = self._seen(self.to_negative, positive, negative, size)
        of_everything = self._seen(self.within, everything, everything, size)
        told = self._seen(self.from_positive, of_positive, of_everything, size)
        return told + self._seen(self.from_negative, of_negative, of_everything, size)

    def _seen(self, attention: ReducedAttention, queries: Tensor, context: Tensor, size: Sequence[int]) -> Tensor:
        found: Tensor = attention(queries, context, size)
        return queries + found if self.short_cuts else found


class PromptImageAttention(nn.Module):
    """PALM-O: the features of the image and the prompts look at each other (Eq. 3)."""

    def __init__(self, dims: Dims, channels: int, *, reduction: int) -> None:
        super().__init__()
        heads = max(channels // 32, 1)
        self.to_prompts = ReducedAttention(dims, channels, heads=heads, reduction=reduction)
        self.to_image = ReducedAttention(dims, channels, heads=heads, reduction=reduction)
        self.norm_prompts, self.norm_image = nn.LayerNorm(channels), nn.LayerNorm(channels)

    def forward(self, features: Tensor, prompts: Tensor, size: Sequence[int]) -> Tensor:
        """Return the enhanced features (B, N, C) of features and prompts (B, N, C), both of a map of ``size``."""
        told = features + self.norm_prompts(self.to_prompts(features, prompts, size))
        return told + prompts + self.norm_image(self.to_image(prompts, features, size))


class AnswerMemory(nn.Module):
    """TSIP: ``sigmoid(theta(O))`` of the previous logits O, to be added to the present ones (Eq. 4)."""

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        layer = convolution(dims)
        self.theta = nn.Sequential(layer(1, _TSIP_WIDTH, 1), nn.GELU(), layer(_TSIP_WIDTH, 1, 1))

    def start_silent(self) -> None:
        """Set the last bias so that next to nothing is added at first."""
        last = self.theta[-1]
        assert isinstance(last, (nn.Conv2d, nn.Conv3d))
        nn.init.normal_(last.weight, std=0.02)
        assert last.bias is not None
        nn.init.constant_(last.bias, _TSIP_BIAS)

    def forward(self, logits: Tensor) -> Tensor:
        """Return (B, 1, \\*size), 0 to 1, float32."""
        return torch.sigmoid(self.theta(logits.to(self.theta[0].weight.dtype)).float())


class MLPHead(nn.Module):
    """SegFormer's head: every map to one width, enlarged to the finest, joined, and one logit.

    Parameters
    ----------
    dims
        2 or 3.
    channels
        Of the four maps, the finest first.
    width
        Of each after its linear layer, and of the fusion.
    norm
        "batch" or "group".
    """

    def __init__(self, dims: Dims, channels: Sequence[int], width: int, norm: Literal["batch", "group"]) -> None:
        super().__init__()
        layer = convolution(dims)
        self.project = nn.ModuleList(layer(count, width, 1) for count in channels)
        normalise: nn.Module = nn.GroupNorm(8, width)
        if norm == "batch":
            normalise = nn.BatchNorm2d(width) if dims == 2 else nn.BatchNorm3d(width)
        self.fuse = nn.Sequential(layer(len(channels) * width, width, 1, bias=False), normalise, nn.ReLU())
        self.classify = layer(width, 1, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return logits (B, 1, \\*size of the finest map)."""
        return self.classify(self.fused(maps))

    def fused(self, maps: Sequence[Tensor]) -> Tensor:
        """Return what the logits are made of, (B, width, \\*size of the finest map)."""
        size = maps[0].shape[2:]
        wide = [enlarged(project(found), size) for project, found in zip(self.project, maps, strict=True)]
        return self.fuse(torch.cat(wide, 1))


class DetailDecoder(nn.Module):
    """Convolutions from the features at a fourth of the size to logits at full size, with short cuts (ours).

    Parameters
    ----------
    dims
        2 or 3.
    in_channels
        Of image and prompts.
    width
        Of the features.
    channels
        At full size; twice as many at half of it.
    """

    def __init__(self, dims: Dims, in_channels: int, width: int, channels: int) -> None:
        super().__init__()
        self.at_full = _convolved(dims, in_channels, channels)
        self.at_half = _convolved(dims, channels, 2 * channels, stride=2)
        self.narrow = convolution(dims)(width, 2 * channels, 1)
        self.join_half = _convolved(dims, 4 * channels, 2 * channels)
        self.join_full = _convolved(dims, 3 * channels, channels)
        self.classify = convolution(dims)(channels, 1, 1)

    def forward(self, seen: Tensor, features: Tensor) -> Tensor:
        """Return logits (B, 1, \\*size) of image and prompts, and of features at a fourth of their size."""
        full = self.at_full(seen)
        half = self.at_half(full)
        coarse = enlarged(self.narrow(features), half.shape[2:])
        joined = self.join_half(torch.cat([half, coarse], 1))
        return self.classify(self.join_full(torch.cat([full, enlarged(joined, full.shape[2:])], 1)))


def enlarged(image: Tensor, size: Sequence[int]) -> Tensor:
    """Return a map (B, C, \\*before) on another size, linear in between."""
    mode = "bilinear" if image.ndim == 4 else "trilinear"
    return F.interpolate(image, size=tuple(size), mode=mode, align_corners=False)


def _convolved(dims: Dims, before: int, after: int, *, stride: int = 1) -> nn.Sequential:
    groups = math.gcd(after, 8)
    layer = convolution(dims)(before, after, 3, stride, 1, bias=False)
    return nn.Sequential(layer, nn.GroupNorm(groups, after), nn.ReLU())
