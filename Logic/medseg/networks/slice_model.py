"""The slice model: a transformer whose tokens are whole axial slices, with one or two convolutional decoders.

Source: P. Melander and M. Thanell, "Vision transformers for segmenting organs and tissues in CT scans of arbitrary
imaging ranges" (Lund University 2024:E46), section on the slice model. Not given there, our choice: the layer
normalisation of feature maps (one group over channels and voxels), the leak of 0.01, pre-norm transformer layers with
GELU, dropout in the transformer layers only, the first convolution of a decoder (it takes all tapped tokens, although
the text has 170 input channels everywhere), no copy of the image after the last up-sampling, and a shallow branch for
each decoder. With these, one decoder of 37 classes makes 128,758,125 parameters, with a second of 16 channels
159,746,977.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

MapNorm = Literal["layer", "instance"]


class _Convolution(nn.Sequential):
    """3x3x3 convolution, normalisation, leaky ReLU."""

    def __init__(self, channels_in: int, channels_out: int, norm: MapNorm, slope: float) -> None:
        normalisation: nn.Module = nn.GroupNorm(1, channels_out)
        if norm == "instance":
            normalisation = nn.InstanceNorm3d(channels_out, affine=True)
        super().__init__(
            nn.Conv3d(channels_in, channels_out, 3, padding=1), normalisation, nn.LeakyReLU(slope, inplace=True)
        )


class SliceAttention(nn.Module):
    """One transformer layer over the slices: attention, then a two-layer perceptron, each with a residual.

    ``softmax(Q K^T / sqrt(d)) V`` per head with ``d = width / heads``; dropout after the attention's projection and
    after both layers of the perceptron.

    Parameters
    ----------
    width, heads, hidden
        Width of a token, number of heads (must divide it), width of the perceptron's hidden layer.
    dropout
        Probability of dropout.
    pre_norm
        Normalise before each of the two steps, as ViT and UNETR do; otherwise after each residual.
    """

    def __init__(
        self, width: int, *, heads: int = 8, hidden: int = 1024, dropout: float = 0.2, pre_norm: bool = True
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"attention_heads ({heads}) must divide width ({width})")
        self.heads = heads
        self.pre_norm = pre_norm
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, S, width) for tokens of that shape."""
        if self.pre_norm:
            tokens = tokens + self._attend(self.norm1(tokens))
            return tokens + self.mlp(self.norm2(tokens))
        tokens = self.norm1(tokens + self._attend(tokens))
        return self.norm2(tokens + self.mlp(tokens))

    def _attend(self, tokens: Tensor) -> Tensor:
        batch, slices, width = tokens.shape
        queries, keys, values = self.qkv(tokens).reshape(batch, slices, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        return self.drop(self.out(mixed.transpose(1, 2).reshape(batch, slices, width)))


class _Decoder(nn.Module):
    """From one point per slice to full resolution, and the head; axes (slices, rows, columns)."""

    def __init__(
        self,
        *,
        image_channels: int,
        token_channels: int,
        width: int,
        blocks: int,
        shallow_width: int,
        final_width: int,
        out_channels: int,
        projection: bool,
        norm: MapNorm,
        slope: float,
    ) -> None:
        super().__init__()

        def convolution(channels_in: int, channels_out: int) -> nn.Module:
            return _Convolution(channels_in, channels_out, norm, slope)

        self.projection = nn.Conv3d(token_channels, width, 1) if projection else None
        first = width if projection else token_channels
        self.blocks = nn.ModuleList(
            nn.Sequential(
                convolution(first if number == 0 else width + image_channels, width),
                convolution(width, width),
                nn.ConvTranspose3d(width, width, (1, 2, 2), (1, 2, 2)),
            )
            for number in range(blocks)
        )
        shallow = [convolution(image_channels if number == 0 else shallow_width, shallow_width) for number in range(4)]
        self.shallow = nn.Sequential(*shallow)
        final = [convolution(width + shallow_width if number == 0 else final_width, final_width) for number in range(4)]
        self.final = nn.Sequential(*final)
        self.head = nn.Conv3d(final_width, out_channels, 1)

    def forward(self, tokens: Tensor, image: Tensor) -> Tensor:
        """Return (B, out_channels, S, n, n) for tokens (B, token_channels, S, 1, 1) and the image (B, C, S, n, n)."""
        maps = tokens if self.projection is None else self.projection(tokens)
        for number, block in enumerate(self.blocks):
            if number:
                factor = image.shape[-1] // maps.shape[-1]
                maps = torch.cat([maps, F.avg_pool3d(image, (1, factor, factor))], 1)
            maps = block(maps)
        return self.head(self.final(torch.cat([maps, self.shallow(image)], 1)))


class SliceModel(nn.Module):
    """Segmentation of a stack of slices, each seen as one token; optionally with an embedding for each voxel.

    The defaults are the published network. Axes of images and results are (I, J, K) with the slices along K; whether
    K runs from head to feet is the preprocessing's business.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the image; number of classes with background.
    embedding_channels
        When given, a second decoder gives each voxel an embedding of this length (16 as published).
    slices
        Number of slices, which the learned positions fix (64).
    plane
        Voxels of a slice along I and along J, which the slice embedding fixes (128); a power of 2.
    stem_width, stem_poolings
        Channels of the six convolutions before the embedding, and how many in-plane poolings lie between them (2: after
        the second and the fourth).
    width, attention_heads, mlp_width
        Of the transformer layers.
    taps
        The layers, counted from 1, whose tokens go to the decoders together; the last is the number of layers.
    decoder_width, shallow_width, final_width
        Channels of the decoder blocks, of the branch on the original image and of the last convolutions.
    dropout
        In the transformer layers.
    norm
        Of feature maps: "layer" over channels and voxels of a case, or "instance" over the voxels of each channel.
    slope
        Of the leaky ReLU.
    pre_norm
        See :class:`SliceAttention`.
    projection
        Bring the tapped tokens to ``decoder_width`` by a 1x1x1 convolution before the first block, which saves 17
        million parameters a decoder (not in the paper).
    interpolate_positions
        Take another number of slices than ``slices``, with the learned positions interpolated (not in the paper).

    Raises
    ------
    ValueError
        When sizes, taps or heads do not fit each other.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 37,
        *,
        embedding_channels: int | None = None,
        slices: int = 64,
        plane: int = 128,
        stem_width: int = 21,
        stem_poolings: int = 2,
        width: int = 1024,
        attention_heads: int = 8,
        mlp_width: int = 1024,
        taps: Sequence[int] = (3, 6, 9, 12),
        decoder_width: int = 170,
        shallow_width: int = 42,
        final_width: int = 84,
        dropout: float = 0.2,
        norm: MapNorm = "layer",
        slope: float = 0.01,
        pre_norm: bool = True,
        projection: bool = False,
        interpolate_positions: bool = False,
    ) -> None:
        super().__init__()
        if plane < 2 or plane & (plane - 1):
            raise ValueError(f"plane must be a power of 2, not {plane}")
        if not 0 <= stem_poolings <= 2 or plane >> stem_poolings < 1:
            raise ValueError("stem_poolings must be 0, 1 or 2 and leave at least one voxel of the plane")
        if not taps or list(taps) != sorted(set(taps)) or min(taps) < 1:
            raise ValueError(f"taps must be rising numbers of layers from 1, not {tuple(taps)}")
        if norm not in ("layer", "instance"):
            raise ValueError(f"norm must be 'layer' or 'instance', not '{norm}'")
        self.plane = plane
        self.slices = slices
        self.taps = tuple(taps)
        self.interpolate_positions = interpolate_positions
        stem: list[nn.Module] = []
        for number in range(6):
            stem.append(_Convolution(in_channels if number == 0 else stem_width, stem_width, norm, slope))
            if number in (1, 3) and number // 2 < stem_poolings:
                stem.append(nn.MaxPool3d((1, 2, 2)))
        self.stem = nn.Sequential(*stem)
        self.embedding = nn.Conv3d(stem_width, width, (1, plane >> stem_poolings, plane >> stem_poolings))
        self.positions = nn.Parameter(0.02 * torch.randn(1, slices, width))
        self.layers = nn.ModuleList(
            SliceAttention(width, heads=attention_heads, hidden=mlp_width, dropout=dropout, pre_norm=pre_norm)
            for _ in range(self.taps[-1])
        )

        def decoder(channels: int) -> _Decoder:
            return _Decoder(
                image_channels=in_channels,
                token_channels=width * len(self.taps),
                width=decoder_width,
                blocks=plane.bit_length() - 1,
                shallow_width=shallow_width,
                final_width=final_width,
                out_channels=channels,
                projection=projection,
                norm=norm,
                slope=slope,
            )

        self.semantic = decoder(out_channels)
        self.instance = None if embedding_channels is None else decoder(embedding_channels)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return class scores, with a second decoder also embeddings.

        Parameters
        ----------
        image
            (B, C, plane, plane, slices).

        Returns
        -------
        Tensor or (Tensor, Tensor)
            (B, out_channels, I, J, K) logits; (B, embedding_channels, I, J, K), neither activated nor normalised.

        Raises
        ------
        ValueError
            When the image has another size than the network was made for.
        """
        if tuple(image.shape[2:4]) != (self.plane, self.plane):
            raise ValueError(f"slices must have {self.plane} x {self.plane} voxels, not {tuple(image.shape[2:4])}")
        stack = image.permute(0, 1, 4, 3, 2).contiguous()
        tokens = self._tapped(stack)
        scores = self.semantic(tokens, stack).permute(0, 1, 4, 3, 2)
        if self.instance is None:
            return scores
        return scores, self.instance(tokens, stack).permute(0, 1, 4, 3, 2)

    def _tapped(self, stack: Tensor) -> Tensor:
        """Return the tokens after the tapped layers, (B, width * taps, S, 1, 1), of a stack (B, C, S, n, n)."""
        tokens = self.embedding(self.stem(stack))[..., 0, 0].transpose(1, 2)
        tokens = tokens + self._positions(stack.shape[2])
        tapped = []
        for number, layer in enumerate(self.layers, start=1):
            tokens = layer(tokens)
            if number in self.taps:
                tapped.append(tokens)
        return torch.cat(tapped, 2).transpose(1, 2)[..., None, None]

    def _positions(self, slices: int) -> Tensor:
        if slices == self.slices:
            return self.positions
        if not self.interpolate_positions:
            raise ValueError(f"the network was made for {self.slices} slices, not {slices}")
        return F.interpolate(self.positions.transpose(1, 2), slices, mode="linear", align_corners=True).transpose(1, 2)
