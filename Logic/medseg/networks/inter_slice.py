"""Attention between the slices of a stack, the heart of TSFMUNet.

Source: D. Guo and D. Terzopoulos, "A Transformer-Based Network for Anisotropic 3D Medical Image Segmentation"
(conference poster; full paper ICPR 2020). The poster gives the attention formula, the positional encoding and the
statement that the new feature map of a slice is the weighted sum of its own and of its neighbours'. That all slices of
a stack are neighbours, and everything else (heads, projections, residuals, normalisation), is our choice.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch reader expects
from torch import Tensor, nn

AttentionMode = Literal["slice", "location"]
TokenMode = Literal["pooled", "flattened"]
EncodingStyle = Literal["poster", "vaswani"]


def positional_encoding(
    positions: Tensor, width: int, *, style: EncodingStyle = "poster", base: float = 10000.0
) -> Tensor:
    """Return the sinusoidal encoding of slice positions.

    Channel ``i`` of position ``j`` is ``sin(j / base**(i / width))`` for even ``i`` and ``cos(j / base**(e / width))``
    for odd ``i``, with ``e = i`` in the style "poster" (as the poster prints it) and ``e = i - 1`` in the style
    "vaswani" (Vaswani et al. 2017, section 3.5). The base is not given in the paper; 10000 is Vaswani's.

    Parameters
    ----------
    positions
        (..., S) slice indices, or positions in units of a reference spacing.
    width
        Number of channels.

    Returns
    -------
    Tensor
        (..., S, width), float32.
    """
    channel = torch.arange(width, device=positions.device, dtype=torch.float32)
    odd = channel % 2 == 1
    exponent = torch.where(odd, channel - 1, channel) if style == "vaswani" else channel
    angle = positions.to(torch.float32)[..., None] / torch.pow(base, exponent / width)
    return torch.where(odd, torch.cos(angle), torch.sin(angle))


class InterSliceTransformer(nn.Module):
    """One transformer layer over the slices of a stack.

    ``f' = f + Wo(concat_m A_m v_m)``, ``f'' = f' + MLP(LayerNorm(f'))``, with ``A_m = softmax(q_m k_m^T / sqrt(d_k))``.
    The encoding is added to the input of the queries and keys; values stay the feature maps themselves, so that the
    poster's "weighted sum of feature maps" is literal.

    Parameters
    ----------
    channels
        C, the width of the model and of the positional encoding.
    heads
        Number of attention heads; must divide ``channels``.
    mode
        "slice": one weight per pair of slices and head, whole maps are mixed (closest to the poster).
        "location": every in-plane position attends along the slices on its own.
    tokens
        For mode "slice": "pooled" compares the means of the maps (``d_k = C / heads``, independent of the image size),
        "flattened" compares whole maps (``d_k = C / heads * h * w``).
    pe_style, pe_base, encode_values
        The positional encoding; ``encode_values`` adds it to the values too.
    use_positions
        Switches the encoding off altogether (the layer is then equivariant to a permutation of slices).
    radius
        When given, slice ``s`` sees only slices with ``|s - s'| <= radius``.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int = 4,
        mode: AttentionMode = "slice",
        tokens: TokenMode = "pooled",
        pe_style: EncodingStyle = "poster",
        pe_base: float = 10000.0,
        encode_values: bool = False,
        use_positions: bool = True,
        radius: int | None = None,
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"heads ({heads}) must divide channels ({channels})")
        if mode not in ("slice", "location") or tokens not in ("pooled", "flattened"):
            raise ValueError(f"unknown attention mode '{mode}' or token kind '{tokens}'")
        if pe_style not in ("poster", "vaswani"):
            raise ValueError(f"unknown positional encoding '{pe_style}'")
        if radius is not None and radius < 0:
            raise ValueError("radius must be 0 or more")
        self.channels = channels
        self.heads = heads
        self.mode = mode
        self.tokens = tokens
        self.pe_style: EncodingStyle = pe_style
        self.pe_base = pe_base
        self.encode_values = encode_values
        self.use_positions = use_positions
        self.radius = radius
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))

    def forward(self, features: Tensor, positions: Tensor | None = None) -> Tensor:
        """Mix the slices of each stack.

        Parameters
        ----------
        features
            (B, S, C, h, w).
        positions
            (S,), or (B, S) when the stacks differ: positions of the slices; indices 0 .. S-1 when omitted.

        Returns
        -------
        Tensor
            (B, S, C, h, w).
        """
        values, weights = self._attend(features, positions)
        batch, slices, channels, height, width = features.shape
        if self.mode == "slice":
            mixed = torch.einsum("bmst,btmdhw->bsmdhw", weights, values)
        else:
            mixed = torch.einsum("bhwmst,btmdhw->bsmdhw", weights, values)
        mixed = self.out(mixed.reshape(batch * slices, channels, height, width))
        features = features + mixed.reshape(features.shape)
        tokens = features.movedim(2, -1)
        return features + self.mlp(self.norm(tokens)).movedim(-1, 2)

    def attention(self, features: Tensor, positions: Tensor | None = None) -> Tensor:
        """Return the attention weights: which slice informed which.

        Shape (B, heads, S, S) in mode "slice", (B, h, w, heads, S, S) in mode "location"; the last axis sums to 1.
        """
        return self._attend(features, positions)[1]

    def _attend(self, features: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        batch, slices, channels, height, width = features.shape
        encoded = features
        if self.use_positions:
            if positions is None:
                positions = torch.arange(slices, device=features.device)
            encoding = positional_encoding(positions, channels, style=self.pe_style, base=self.pe_base)
            encoded = features + encoding.to(features.dtype).reshape(-1, slices, channels, 1, 1)

        def heads_of(layer: nn.Conv2d, maps: Tensor) -> Tensor:
            flat = layer(maps.reshape(batch * slices, channels, height, width))
            return flat.reshape(batch, slices, self.heads, channels // self.heads, height, width)

        queries, keys = heads_of(self.query, encoded), heads_of(self.key, encoded)
        values = heads_of(self.value, encoded if self.encode_values else features)
        if self.mode == "location":
            scores = torch.einsum("bsmdhw,btmdhw->bhwmst", queries, keys) / math.sqrt(channels // self.heads)
        elif self.tokens == "pooled":
            scores = torch.einsum("bsmd,btmd->bmst", queries.mean((-2, -1)), keys.mean((-2, -1)))
            scores = scores / math.sqrt(channels // self.heads)
        else:
            scores = torch.einsum("bsmdhw,btmdhw->bmst", queries, keys)
            scores = scores / math.sqrt(channels // self.heads * height * width)
        if self.radius is not None:
            index = torch.arange(slices, device=features.device)
            far = (index[:, None] - index[None, :]).abs() > self.radius
            scores = scores.masked_fill(far, -math.inf)
        return values, F.softmax(scores.float(), dim=-1).to(values.dtype)
