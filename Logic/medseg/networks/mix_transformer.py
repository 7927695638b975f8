"""The hierarchical transformer encoder of SegFormer, for 2D and 3D images.

Source: E. Xie et al., "SegFormer: Simple and efficient design for semantic segmentation with transformers" (NeurIPS
2021): overlapping patch embeddings, attention whose keys and values are reduced by a strided convolution, a
feed-forward part with a depth-wise convolution in place of positional encodings. In 3D everything has one axis more,
which is ours.

Tokens are (B, N, C), the voxels of a map (B, C, \\*size) in row-major order.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch reader expects
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

Dims = Literal[2, 3]


def convolution(dims: Dims) -> type[nn.Conv2d] | type[nn.Conv3d]:
    """Return the convolution of so many axes."""
    if dims not in (2, 3):
        raise ValueError(f"images have 2 or 3 axes, not {dims}")
    return nn.Conv2d if dims == 2 else nn.Conv3d


def to_tokens(image: Tensor) -> Tensor:
    """Return a map (B, C, \\*size) as tokens (B, N, C)."""
    return image.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, size: Sequence[int]) -> Tensor:
    """Return tokens (B, N, C) as a map (B, C, \\*size)."""
    return tokens.transpose(1, 2).unflatten(2, tuple(size))


class PatchEmbedding(nn.Module):
    """Overlapping patches: a strided convolution and a layer normalisation.

    Parameters
    ----------
    dims
        2 or 3.
    in_channels, channels
        Of the map that comes in, and of the tokens.
    kernel, stride
        7 and 4 in front of the first stage, 3 and 2 in front of the others; padded by half the kernel.
    """

    def __init__(self, dims: Dims, in_channels: int, channels: int, *, kernel: int = 7, stride: int = 4) -> None:
        super().__init__()
        self.project = convolution(dims)(in_channels, channels, kernel, stride, kernel // 2)
        self.norm = nn.LayerNorm(channels)

    def forward(self, image: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """Return the tokens (B, N, C) of a map (B, in_channels, \\*size), and the size of their map."""
        found = self.project(image)
        return self.norm(to_tokens(found)), tuple(found.shape[2:])


class ReducedAttention(nn.Module):
    """Attention from one set of tokens to another, which a strided convolution makes coarser.

    Parameters
    ----------
    dims, channels
        Of the tokens.
    heads
        Among which the channels are divided.
    reduction
        Edge and stride of the convolution of keys and values; 1: none.
    """

    def __init__(self, dims: Dims, channels: int, *, heads: int = 1, reduction: int = 1) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be divided among {heads} heads")
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.reduce = convolution(dims)(channels, channels, reduction, reduction) if reduction > 1 else None
        self.norm = nn.LayerNorm(channels) if reduction > 1 else None

    def forward(self, queries: Tensor, context: Tensor, size: Sequence[int]) -> Tensor:
        """Return ``softmax(Q K^T / sqrt(d)) V`` for each query.

        Parameters
        ----------
        queries
            (B, M, C).
        context
            (B, N, C), what keys and values are made of.
        size
            Of the map of the context, multiples of the reduction.

        Returns
        -------
        Tensor
            (B, M, C).
        """
        if self.reduce is not None and self.norm is not None:
            context = self.norm(to_tokens(self.reduce(to_map(context, size))))
        key, value = self.key_value(context).chunk(2, -1)
        found = F.scaled_dot_product_attention(*map(self._divided, (self.query(queries), key, value)))
        return self.out(found.transpose(1, 2).flatten(2))

    def _divided(self, tokens: Tensor) -> Tensor:
        """Return (B, heads, N, channels of a head)."""
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


class MixFeedForward(nn.Module):
    """Linear, depth-wise 3-convolution, GELU, linear."""

    def __init__(self, dims: Dims, channels: int, *, ratio: int = 4) -> None:
        super().__init__()
        inner = ratio * channels
        self.widen = nn.Linear(channels, inner)
        self.mix = convolution(dims)(inner, inner, 3, padding=1, groups=inner)
        self.narrow = nn.Linear(inner, channels)

    def forward(self, tokens: Tensor, size: Sequence[int]) -> Tensor:
        """Return (B, N, C) for tokens (B, N, C) of a map of ``size``."""
        mixed = to_tokens(self.mix(to_map(self.widen(tokens), size)))
        return self.narrow(F.gelu(mixed))


class MixBlock(nn.Module):
    """Attention within a map and a feed-forward part, each behind a layer normalisation and beside a short cut."""

    def __init__(self, dims: Dims, channels: int, *, heads: int, reduction: int) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(channels)
        self.attention = ReducedAttention(dims, channels, heads=heads, reduction=reduction)
        self.before_feed_forward = nn.LayerNorm(channels)
        self.feed_forward = MixFeedForward(dims, channels)

    def forward(self, tokens: Tensor, size: Sequence[int]) -> Tensor:
        """Return (B, N, C) for tokens (B, N, C) of a map of ``size``."""
        normed = self.before_attention(tokens)
        tokens = tokens + self.attention(normed, normed, size)
        return tokens + self.feed_forward(self.before_feed_forward(tokens), size)


class MixStage(nn.Module):
    """Blocks at one resolution and a layer normalisation behind them."""

    def __init__(self, dims: Dims, channels: int, *, depth: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(MixBlock(dims, channels, heads=heads, reduction=reduction) for _ in range(depth))
        self.norm = nn.LayerNorm(channels)

    def forward(self, tokens: Tensor, size: Sequence[int]) -> Tensor:
        """Return (B, N, C) for tokens (B, N, C) of a map of ``size``."""
        for block in self.blocks:
            tokens = block(tokens, size)
        return self.norm(tokens)


def initialise(module: nn.Module) -> None:
    """Draw fresh weights as SegFormer does: linear layers from a narrow normal, convolutions by their fan-out."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, (nn.Conv2d, nn.Conv3d)):
            fan_out = math.prod(layer.kernel_size) * layer.out_channels / layer.groups
            nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
