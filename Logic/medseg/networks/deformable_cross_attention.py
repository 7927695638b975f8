"""Cross-attention between two volumes in windows, those of the reference bent by learned offsets (DW-MCA).

Source: J. Chen, Y. Liu, Y. He and Y. Du, "Deformable Cross-Attention Transformer for Medical Image Registration" (MLMI
2023), Eq. 2, whose query matrix is printed as U_k and must be another one. The kernels and layers of the offset
networks, the range of the offsets, the slice of channels that a head samples and what the streams share are as in the
authors' public code. Our choice, other than in that code: each axis is normalised by its own length and beyond the
border the outermost token is read; tokens are sampled before they are padded and rolled, so that an offset reaches
neither the padding nor, across the seam, the other side of the volume; the attention does not look at padding.

Tokens are (B, I, J, K, C), channels last.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch reader expects
from torch import Tensor, nn

from medseg.networks.spatial import at_least_float32, warp

if TYPE_CHECKING:
    from collections.abc import Sequence

Offsets = Literal["added", "concatenated"]

_APART = -100.0
"""Added to the logit of a pair that must not see each other, as in Swin."""

_OFFSET_STD = 1e-5


@dataclass(frozen=True)
class Windows:
    """The cut of a token grid into windows, for one grid, window and shift (three numbers each, in tokens)."""

    grid: tuple[int, int, int]
    window: tuple[int, int, int]
    shift: tuple[int, int, int]

    @classmethod
    def of(cls, tokens: Tensor, window: tuple[int, int, int], *, shifted: bool) -> Windows:
        """Return the windows for tokens (B, I, J, K, C), shifted by ``window // 2`` on the axes that have several."""
        i, j, k = (int(n) for n in tokens.shape[1:4])
        shift = tuple(w // 2 if shifted and n > w else 0 for n, w in zip((i, j, k), window, strict=True))
        return cls((i, j, k), window, (shift[0], shift[1], shift[2]))

    @property
    def padded(self) -> tuple[int, ...]:
        """The grid, each axis enlarged to a multiple of the window."""
        return tuple(math.ceil(n / w) * w for n, w in zip(self.grid, self.window, strict=True))

    def cut(self, tokens: Tensor) -> Tensor:
        """Return the windows (B * number, N, C) of tokens (B, I, J, K, C), N the tokens of one window."""
        after = [p - n for p, n in zip(self.padded, self.grid, strict=True)]
        if any(after):
            tokens = F.pad(tokens, (0, 0, 0, after[2], 0, after[1], 0, after[0]))
        if any(self.shift):
            tokens = tokens.roll([-s for s in self.shift], dims=(1, 2, 3))
        for axis, (length, w) in zip((1, 3, 5), zip(self.padded, self.window, strict=True), strict=True):
            tokens = tokens.unflatten(axis, (length // w, w))
        return tokens.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6).flatten(0, 3)

    def paste(self, windows: Tensor) -> Tensor:
        """Return the tokens (B, I, J, K, C) of windows (B * number, N, C): the inverse of ``cut``."""
        count = [p // w for p, w in zip(self.padded, self.window, strict=True)]
        tokens = windows.unflatten(1, self.window).unflatten(0, (-1, *count))
        tokens = tokens.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(5, 6).flatten(3, 4).flatten(1, 2)
        if any(self.shift):
            tokens = tokens.roll(self.shift, dims=(1, 2, 3))
        i, j, k = self.grid
        return tokens[:, :i, :j, :k]

    def apart(self, device: torch.device) -> Tensor | None:
        """Return (number, N, N), true where two tokens of a window are no neighbours; None when all of them are.

        Apart are tokens that the roll has brought together from two ends of an axis, and tokens from the padding.
        """
        if self.padded == self.grid and not any(self.shift):
            return None
        region = torch.zeros(1, *self.grid, 1, device=device)
        for axis, (length, s) in enumerate(zip(self.grid, self.shift, strict=True), start=1):
            # The first s tokens are rolled behind the last ones.
            behind = (torch.arange(length, device=device) < s).float() * 2**axis
            region = region + behind.reshape([-1 if d == axis else 1 for d in range(5)])
        # The padding is filled with 0, so that it becomes a region of its own.
        region = self.cut(region + 1)[..., 0]
        return region[:, :, None] != region[:, None, :]


class RelativeBias(nn.Module):
    """One learned number for each head and each relative place of two tokens in a window.

    Parameters
    ----------
    window
        Tokens of a window along I, J, K.
    heads
        Attention heads.
    """

    index: Tensor

    def __init__(self, window: tuple[int, int, int], heads: int) -> None:
        super().__init__()
        span = [2 * w - 1 for w in window]
        self.table = nn.Parameter(torch.empty(math.prod(span), heads))
        nn.init.trunc_normal_(self.table, std=0.02)
        place = torch.tensor(list(itertools.product(*(range(w) for w in window))))
        away = place[:, None] - place[None, :] + torch.tensor(window) - 1
        index = (away[..., 0] * span[1] + away[..., 1]) * span[2] + away[..., 2]
        self.register_buffer("index", index, persistent=False)

    def forward(self, windows: Windows, batch: int) -> Tensor:
        """Return what is added to the logits, mask included: (1, heads, N, N), or (B * number, heads, N, N)."""
        bias = self.table[self.index].permute(2, 0, 1)[None]
        apart = windows.apart(bias.device)
        if apart is None:
            return bias
        return (bias + _APART * apart[:, None].to(bias.dtype)).repeat(batch, 1, 1, 1)


class AddedOffsets(nn.Module):
    """Offset network of the paper: on the sum of both streams, a convolution by heads, then one of single tokens.

    Conv3d(C, heads, kernel, groups = heads), layer normalisation, GELU, Conv3d(heads, 3 heads, 1), no biases. The last
    starts at N(0, 1e-5), so that training starts from plain windowed cross-attention (our choice: the code leaves
    PyTorch's start, which gives large random offsets).

    Parameters
    ----------
    channels, heads
        C of the tokens; heads, at least 2, since the normalisation of one channel is always 0.
    kernel
        Edge of the convolution in tokens, odd.
    """

    def __init__(self, channels: int, heads: int, kernel: int) -> None:
        super().__init__()
        if heads < 2:
            raise ValueError("offsets from added streams need at least 2 heads")
        self.by_heads = nn.Conv3d(channels, heads, kernel, padding=kernel // 2, groups=heads, bias=False)
        self.norm = nn.LayerNorm(heads)
        self.by_tokens = nn.Conv3d(heads, 3 * heads, 1, bias=False)
        nn.init.normal_(self.by_tokens.weight, std=_OFFSET_STD)

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        """Return (B, 3 heads, I, J, K), unbounded, of tokens (B, I, J, K, C) of both streams."""
        features = self.by_heads((own + other).movedim(-1, 1))
        return self.by_tokens(F.gelu(self.norm(features.movedim(1, -1))).movedim(-1, 1))


class ConcatenatedOffsets(nn.Sequential):
    """Offset network of the authors' released model: full convolutions of both streams side by side.

    Conv3d(2C, C, kernel), Conv3d(C, C / 2, kernel), each with batch normalisation and ReLU, Conv3d(C / 2, 3 heads, 1);
    no biases, all convolutions start at N(0, 1e-5). Not light: 6.3 million weights in the first for C = 96, kernel 7.

    Parameters
    ----------
    channels, heads, kernel
        As for :class:`AddedOffsets`; one head is enough.
    """

    def __init__(self, channels: int, heads: int, kernel: int) -> None:
        inner = max(channels // 2, 1)
        super().__init__(
            nn.Conv3d(2 * channels, channels, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm3d(channels),
            nn.ReLU(),
            nn.Conv3d(channels, inner, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm3d(inner),
            nn.ReLU(),
            nn.Conv3d(inner, 3 * heads, 1, bias=False),
        )
        for layer in self:
            if isinstance(layer, nn.Conv3d):
                nn.init.normal_(layer.weight, std=_OFFSET_STD)

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        """Return (B, 3 heads, I, J, K), unbounded, of tokens (B, I, J, K, C) of both streams."""
        return super().forward(torch.cat([own, other], dim=-1).movedim(-1, 1))


class Stream(nn.Module):
    """What one volume has for itself in a block: normalisations, projections, perceptron and offset network.

    Parameters
    ----------
    channels, heads
        C of the tokens, a multiple of the attention heads.
    offsets, kernel
        Offset network with which the other stream looks at this one, None for straight windows; its kernel.
    """

    def __init__(self, channels: int, heads: int, offsets: Offsets | None, kernel: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key_value = nn.Linear(channels, 2 * channels, bias=False)
        self.projection = nn.Linear(channels, channels)
        self.perceptron = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.offsets: nn.Module | None = None
        if offsets is not None:
            network = AddedOffsets if offsets == "added" else ConcatenatedOffsets
            self.offsets = network(channels, heads, kernel)

    def displacement(self, own: Tensor, other: Tensor) -> Tensor:
        """Return the offsets (B, heads, 3, I, J, K) in tokens, each within half the grid: ``n / 2 tanh(network)``.

        Parameters
        ----------
        own, other
            Normalised tokens (B, I, J, K, C) of this stream and of the other.
        """
        grid = own.shape[1:4]
        if self.offsets is None:
            return own.new_zeros(len(own), self.heads, 3, *grid)
        raw = at_least_float32(self.offsets(own, other)).unflatten(1, (self.heads, 3))
        return torch.tanh(raw) * raw.new_tensor([n / 2 for n in grid]).reshape(3, 1, 1, 1)

    def bent(self, own: Tensor, other: Tensor) -> Tensor:
        """Return the tokens of this stream as the other sees them: sampled at ``p + offset``, a head at a time."""
        return own if self.offsets is None else sample(own, self.displacement(own, other))

    def attend(self, queries: Tensor, windows: Tensor, bias: Tensor) -> Tensor:
        """Return (W, N, C): what queries (W, N, C) find in these windows (W, N, C), projected."""
        key, value = self.key_value(windows).chunk(2, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (queries, key, value))
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        return self.projection(found.transpose(1, 2).flatten(2))


class CrossAttentionBlock(nn.Module):
    """Both streams look at each other in windows: attention, then a perceptron, each added to its input.

    In stream M the moving volume is the base, which gives keys and values, and the fixed one the reference, bent, which
    gives queries; in stream F the other way round. Both start from the states at the input of the block. The streams
    share the relative bias only.

    Parameters
    ----------
    channels, heads, window
        C of the tokens; attention heads; tokens of a window along I, J, K.
    shifted
        Move the windows by half a window, rounded down, on the axes that have more than one.
    offsets
        "added" (the paper), "concatenated" (the authors' released model), None for straight windows.
    kernel
        Edge of the offset network's convolutions in tokens.
    drop_path
        Chance, in training, that a sample skips an addition.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window: tuple[int, int, int],
        *,
        shifted: bool = False,
        offsets: Offsets | None = "added",
        kernel: int = 3,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.window, self.shifted = window, shifted
        self.bias = RelativeBias(window, heads)
        self.of_moving = Stream(channels, heads, offsets, kernel)
        self.of_fixed = Stream(channels, heads, offsets, kernel)
        self.drop_path = DropPath(drop_path)

    def forward(self, moving: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor]:
        """Return the new tokens of both streams, (B, I, J, K, C) as those given."""
        of_moving, of_fixed = self.of_moving, self.of_fixed
        m, f = of_moving.norm1(moving), of_fixed.norm1(fixed)
        windows = Windows.of(m, self.window, shifted=self.shifted)
        bias = self.bias(windows, len(m))
        asked_of_m = of_fixed.query(windows.cut(of_fixed.bent(f, m)))
        asked_of_f = of_moving.query(windows.cut(of_moving.bent(m, f)))
        moving = moving + self.drop_path(windows.paste(of_moving.attend(asked_of_m, windows.cut(m), bias)))
        fixed = fixed + self.drop_path(windows.paste(of_fixed.attend(asked_of_f, windows.cut(f), bias)))
        moving = moving + self.drop_path(of_moving.perceptron(of_moving.norm2(moving)))
        fixed = fixed + self.drop_path(of_fixed.perceptron(of_fixed.norm2(fixed)))
        return moving, fixed


class SelfAttentionBlock(nn.Module):
    """A Swin block of one stream, the rival of :class:`CrossAttentionBlock`; its parameters are named there."""

    def __init__(
        self,
        channels: int,
        heads: int,
        window: tuple[int, int, int],
        *,
        shifted: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.window, self.shifted = window, shifted
        self.bias = RelativeBias(window, heads)
        self.stream = Stream(channels, heads, None, 1)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor) -> tuple[Tensor]:
        """Return the new tokens, (B, I, J, K, C) as those given."""
        stream = self.stream
        windows = Windows.of(tokens, self.window, shifted=self.shifted)
        cut = windows.cut(stream.norm1(tokens))
        found = stream.attend(stream.query(cut), cut, self.bias(windows, len(tokens)))
        tokens = tokens + self.drop_path(windows.paste(found))
        return (tokens + self.drop_path(stream.perceptron(stream.norm2(tokens))),)


class DropPath(nn.Module):
    """In training, set all of a sample to 0 with the chance ``rate`` and divide the others by ``1 - rate``."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"the rate of dropped paths must be in 0 to 1, 1 excluded, not {rate}")
        self.rate = rate

    def forward(self, values: Tensor) -> Tensor:
        """Return the values (B, ...), some samples dropped."""
        if not (self.training and self.rate):
            return values
        kept = torch.rand([len(values)] + [1] * (values.ndim - 1), device=values.device) >= self.rate
        return values * (kept.to(values.dtype) / (1 - self.rate))


def sample(tokens: Tensor, offsets: Tensor) -> Tensor:
    """Return tokens read at shifted places, trilinear, every head its own slice of the channels with its own offsets.

    Parameters
    ----------
    tokens
        (B, I, J, K, C).
    offsets
        (B, heads, 3, I, J, K), tokens along I, J, K; head h moves the channels ``h C / heads`` to
        ``(h + 1) C / heads``.

    Returns
    -------
    Tensor
        (B, I, J, K, C).
    """
    batch, heads = offsets.shape[:2]
    slices = tokens.movedim(-1, 1).unflatten(1, (heads, -1)).flatten(0, 1)
    moved = warp(slices, offsets.flatten(0, 1))
    return moved.unflatten(0, (batch, heads)).flatten(1, 2).movedim(1, -1)


def check_attention(channels: int, heads: int, window: Sequence[int]) -> tuple[int, int, int]:
    """Return the window as three numbers, or raise ValueError when channels, heads and window do not fit together."""
    if len(window) != 3 or min(window) < 1:
        raise ValueError(f"window must be three numbers of at least 1, not {tuple(window)}")
    if heads < 1 or channels < heads or channels % heads:
        raise ValueError(f"the number of channels, {channels}, must be a multiple of the heads, {heads}")
    return int(window[0]), int(window[1]), int(window[2])
