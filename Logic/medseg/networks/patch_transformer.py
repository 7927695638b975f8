"""A segmentation network without a convolution: a transformer over the patches of a block.

Source: C. Gang, "A Novel Convolutional-Free Method for 3D Medical Imaging Segmentation" (arXiv 2502.05396). Given
there: a block is cut into n x n x n patches, each embedded by one matrix; the sine/cosine encoding of the patch order;
post-norm encoder layers; one linear layer as decoder, which predicts the centre patch. Not given in the paper, our
choice: all sizes, the order of the patches (z slowest, x fastest), the bias of the embedding, how the decoder reads the
tokens (``predict``), no dropout, and how blocks slide over a volume.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from medseg.networks.inter_slice import positional_encoding

Prediction = Literal["centre", "flatten", "all"]


class ConvFreeTransformer(nn.Module):
    """Segmentation by a plain transformer encoder over patches; no convolution module anywhere.

    With the defaults it has 45,686,784 parameters. ``features`` is an identity module, there to be hooked: the output
    tokens of the last layer pass through it as maps (B, D, patches along I, J, K), one token for each patch of the
    result.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the image (c); number of classes with background (C).
    block, patches
        Edge W of a block in voxels; number n of patches along it. A patch has the edge ``w = W / n``.
    width, heads, layers, feed_forward
        Token width D; attention heads h; encoder layers k; hidden width of the feed-forward part.
    predict
        "centre": the centre patch from its own token, Linear(D, w^3 C). "flatten": the centre patch from all tokens,
        Linear(n^3 D, w^3 C). "all" (ours, not the paper's): every patch from its own token, and where blocks overlap
        the mean of their scores; blocks move by ``(n + 1) // 2`` patches instead of one, 8 times cheaper for n = 3.
    dropout
        Within the encoder layers, in training.
    blocks_at_once
        Blocks in one pass through the encoder; bounds the memory (about 1.5 MB a block with the defaults).

    Raises
    ------
    ValueError
        When the sizes do not fit together.
    """

    positions: Tensor

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        *,
        block: int = 24,
        patches: int = 3,
        width: int = 1024,
        heads: int = 4,
        layers: int = 7,
        feed_forward: int = 1024,
        predict: Prediction = "centre",
        dropout: float = 0.0,
        blocks_at_once: int = 64,
    ) -> None:
        super().__init__()
        if predict not in ("centre", "flatten", "all"):
            raise ValueError(f"predict must be 'centre', 'flatten' or 'all', not '{predict}'")
        if min(in_channels, out_channels, patches, layers, blocks_at_once) < 1 or block < patches or block % patches:
            raise ValueError("block must be a multiple of patches, and every count at least 1")
        if predict != "all" and patches % 2 == 0:
            raise ValueError("patches must be odd: a block with an even number has no centre patch")
        if width % heads or width % 2:
            raise ValueError("width must be even and a multiple of heads")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.block, self.patches, self.patch = block, patches, block // patches
        self.predict, self.blocks_at_once = predict, blocks_at_once
        tokens, voxels = patches**3, self.patch**3
        self.embedding = nn.Linear(voxels * in_channels, width)
        encoding = positional_encoding(torch.arange(tokens, dtype=torch.float32), width, style="vaswani")
        self.register_buffer("positions", encoding, persistent=False)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, feed_forward, dropout, activation="relu", norm_first=False, batch_first=True
            )
            for _ in range(layers)
        )
        self.features = nn.Identity()
        self.decoder = nn.Linear(width * (tokens if predict == "flatten" else 1), voxels * out_channels)

    def forward(self, image: Tensor) -> Tensor:
        """Return class scores: logits, since the paper's softmax belongs to the loss.

        Parameters
        ----------
        image
            (B, c, I, J, K). In training mode an image of exactly (B, c, W, W, W) is one block a sample, and the result
            is its centre patch (B, C, w, w, w), or the block (B, C, W, W, W) with ``predict="all"``. Any other size,
            and in evaluation mode every size, is tiled: (B, C, I, J, K). Beyond its border the volume is continued by
            reflection, back and forth where it is smaller than the border that a block needs.

        Raises
        ------
        ValueError
            When the image has not five axes or ``in_channels`` channels.
        """
        if image.ndim != 5 or image.shape[1] != self.in_channels:
            raise ValueError(f"the image must be (B, {self.in_channels}, I, J, K), not {tuple(image.shape)}")
        size = image.shape[2:]
        if not (self.training and size == (self.block,) * 3):
            for axis in (2, 3, 4):
                image = image.index_select(axis, self._continued(image.shape[axis]).to(image.device))
        scores = self._scores(self.embedding(self._cut(image)))
        return scores[:, :, : size[0], : size[1], : size[2]]

    def encode(self, tokens: Tensor) -> Tensor:
        """Return the tokens X^k (blocks, n^3, D) that the encoder makes of embedded patches of the same shape."""
        states = tokens + self.positions
        for layer in self.layers:
            states = layer(states)
        return states

    def _stride(self) -> int:
        return (self.patches + 1) // 2 if self.predict == "all" else 1

    def _continued(self, size: int) -> Tensor:
        """Return the voxel for each place of an axis after padding: whole patches, enough for the blocks to slide."""
        wanted = -(-size // self.patch)
        if self.predict == "all":
            before, steps = 0, -(-max(wanted - self.patches, 0) // self._stride())
            total = self.patches + steps * self._stride()
        else:
            before, total = self.patches // 2, wanted + self.patches - 1
        place = torch.arange(-before * self.patch, (total - before) * self.patch)
        if size == 1:
            return torch.zeros_like(place)
        period = 2 * (size - 1)
        place = place % period
        return torch.minimum(place, period - place)

    def _scores(self, grid: Tensor) -> Tensor:
        """Return scores (B, C, voxels along I, J, K) from the embedded patches (B, patches along I, J, K, D)."""
        shape, n = grid.shape[:4], self.patches
        number = torch.arange(shape.numel(), device=grid.device).view(shape)
        # For each block its patches in raster order: unfold puts x, y, z last, and x must run fastest.
        windows = number.unfold(1, n, self._stride()).unfold(2, n, self._stride()).unfold(3, n, self._stride())
        blocks = windows.permute(0, 1, 2, 3, 6, 5, 4).reshape(-1, n**3)
        flat = grid.flatten(0, 3)
        parts = (self.encode(flat[chunk]) for chunk in blocks.split(self.blocks_at_once))
        if self.predict == "all":
            total, count = torch.zeros_like(flat), flat.new_zeros(len(flat), 1)
            for chunk, states in zip(blocks.split(self.blocks_at_once), parts, strict=True):
                total = total.index_add(0, chunk.flatten(), states.flatten(0, 1))
                count.index_add_(0, chunk.flatten(), count.new_ones(chunk.numel(), 1))
            # The decoder is linear: the mean of scores is the score of the mean, and is decoded once.
            return self._paste(self.decoder(self._featured((total / count).unflatten(0, shape))))
        centre = n**3 // 2
        place = windows.shape[:4]
        if self.predict == "centre":
            states = torch.cat([states[:, centre] for states in parts])
            return self._paste(self.decoder(self._featured(states.unflatten(0, place))))
        pairs = [(states[:, centre], self.decoder(states.flatten(1))) for states in parts]
        self._featured(torch.cat([state for state, _ in pairs]).unflatten(0, place))
        return self._paste(torch.cat([scores for _, scores in pairs]).unflatten(0, place))

    def _featured(self, grid: Tensor) -> Tensor:
        return self.features(grid.movedim(-1, 1)).movedim(1, -1)

    def _cut(self, image: Tensor) -> Tensor:
        """(B, c, I, J, K) to patches (B, I/w, J/w, K/w, c w^3)."""
        w = self.patch
        for axis, length in zip((2, 4, 6), image.shape[2:], strict=True):
            image = image.unflatten(axis, (length // w, w))
        return image.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)

    def _paste(self, patches: Tensor) -> Tensor:
        """(B, I/w, J/w, K/w, C w^3) to (B, C, I, J, K)."""
        w = self.patch
        parts = patches.unflatten(-1, (self.out_channels, w, w, w)).permute(0, 4, 1, 5, 2, 6, 3, 7)
        return parts.flatten(6, 7).flatten(4, 5).flatten(2, 3)
