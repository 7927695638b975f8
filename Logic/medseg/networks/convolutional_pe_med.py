"""PE-MED's interaction in a 3D network of convolutions, which learns from few scans what its transformer does not.

Ours: attention between prompts and image (PALM), the answer's memory (TSIP) and the Self-Loop are those of A. Chang et
al., PE-MED (MLMI 2023), Eq. 1 to 4; encoder and decoder are those of a U-Net. On the same samples it had learnt more
after 150 steps than the 3D form with SegFormer's encoder after 1,200 (``Testing/benchmarks/RESULTS.md``).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch reader expects
from torch import Tensor, nn

from medseg.networks.click_network import ClickNetwork
from medseg.networks.mix_transformer import PatchEmbedding, to_map, to_tokens
from medseg.networks.pe_med import AnswerMemory, PromptAttention, PromptImageAttention, enlarged

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROMPTS = 3
"""Positive clicks, negative clicks, previous mask."""
_GROUPS = 8


class ConvolutionalPEMED(ClickNetwork):
    """Segmentation of one structure in 3D.

    Half of the size and below have most of the work; at full size a few channels see image and prompts beside what was
    found there.

    Parameters
    ----------
    in_channels
        Of the image.
    channels
        At a half, a fourth, an eighth and a sixteenth of the size; multiples of 8. PALM works at a fourth.
    detail_channels
        At full size.
    reduction
        Of keys and values in PALM.
    inner_attention, outer_attention, memory, short_cuts
        PALM-I, PALM-O, TSIP and the short cuts of PALM-I, as for :class:`~medseg.networks.PEMED`. Without PALM-O the
        embedded prompts are added to the features.
    """

    dims = 3
    step = 16

    def __init__(
        self,
        in_channels: int = 1,
        *,
        channels: Sequence[int] = (24, 48, 96, 128),
        detail_channels: int = 8,
        reduction: int = 4,
        inner_attention: bool = True,
        outer_attention: bool = True,
        memory: bool = True,
        short_cuts: bool = True,
    ) -> None:
        super().__init__()
        if len(channels) != 4 or any(count % _GROUPS for count in channels):
            raise ValueError(f"channels are four multiples of {_GROUPS}, not {tuple(channels)}")
        half, fourth, eighth, sixteenth = channels
        self.downs = nn.ModuleList(
            _Down(before, after) for before, after in itertools.pairwise((in_channels, *channels))
        )
        has_palm = inner_attention or outer_attention
        self.inner = (
            PromptAttention(3, fourth, reduction=reduction, enhance=inner_attention, short_cuts=short_cuts)
            if has_palm
            else PatchEmbedding(3, _PROMPTS, fourth)
        )
        self.outer = PromptImageAttention(3, fourth, reduction=reduction) if outer_attention else None
        self.prompts_at_half = nn.Conv3d(_PROMPTS, half, 3, 2, 1)
        self.ups = nn.ModuleList(
            _Up(before, after) for before, after in itertools.pairwise((sixteenth, eighth, fourth, half))
        )
        self.to_detail = nn.Conv3d(half, detail_channels, 1)
        self.see = nn.Conv3d(in_channels + _PROMPTS, detail_channels, 3, 1, 1)
        self.refine_detail = nn.Conv3d(detail_channels, detail_channels, 3, 1, 1)
        self.classify = nn.Conv3d(detail_channels, 1, 3, 1, 1)
        self.memory = AnswerMemory(3) if memory else None
        if self.memory is not None:
            self.memory.start_silent()
        # With AMX in bfloat16, a step of training takes four fifths of the time that it takes otherwise.
        self.to(memory_format=torch.channels_last_3d)

    def image_features(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the image, and its features at a half and a fourth of the size.

        Raises
        ------
        ValueError
            When a size is not a multiple of 16.
        """
        self.check_size(image)
        half = self.downs[0](image)
        return image, half, self.downs[1](half)

    def refine(
        self,
        features: tuple[Tensor, Tensor, Tensor],
        positive: Tensor,
        negative: Tensor,
        previous: Tensor,
        last_logits: Tensor | None = None,
    ) -> Tensor:
        """Return the logits for the features of an image and prompts; see :meth:`forward`."""
        image, half, fourth = features
        prompts = torch.cat([positive, negative, previous], 1).to(image.dtype)
        enhanced = self._enhanced(fourth, prompts)
        eighth = self.downs[2](enhanced)
        found = self.ups[0](self.downs[3](eighth), eighth)
        found = self.ups[1](found, enhanced)
        found = self.ups[2](found, half + self.prompts_at_half(prompts))
        detail = enlarged(self.to_detail(found), image.shape[2:])
        detail = F.relu(detail + self.see(torch.cat([image, prompts], 1)))
        detail = F.relu(detail + self.refine_detail(detail))
        logits = self.classify(detail).float()
        if self.memory is None or last_logits is None:
            return logits
        return logits + self.memory(last_logits)

    def _enhanced(self, features: Tensor, prompts: Tensor) -> Tensor:
        """Return features (B, C, \\*size) after they and the prompts have looked at each other."""
        size, told = features.shape[2:], self.inner(prompts)
        embedded = told[0] if isinstance(told, tuple) else told
        if self.outer is None:
            return features + to_map(embedded, size)
        return to_map(self.outer(to_tokens(features), embedded, size), size)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv3d(channels, channels, 3, 1, 1, bias=False) for _ in range(2))
        self.first_norm, self.second_norm = (nn.GroupNorm(_GROUPS, channels) for _ in range(2))

    def forward(self, image: Tensor) -> Tensor:
        within = F.relu(self.first_norm(self.first(image)))
        return F.relu(image + self.second_norm(self.second(within)))


class _Down(nn.Sequential):
    def __init__(self, before: int, after: int) -> None:
        super().__init__(
            nn.Conv3d(before, after, 3, 2, 1, bias=False), nn.GroupNorm(_GROUPS, after), nn.ReLU(), _Residual(after)
        )


class _Up(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.narrow, self.residual = nn.Conv3d(before, after, 1), _Residual(after)

    def forward(self, image: Tensor, finer: Tensor) -> Tensor:
        # Added and not joined: joining copies more than the convolution computes.
        return self.residual(enlarged(self.narrow(image), finer.shape[2:]) + finer)
