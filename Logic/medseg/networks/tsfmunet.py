"""TSFMUNet: a 2D U-Net over the slices of a stack, with a transformer that mixes information between slices.

Source: D. Guo and D. Terzopoulos, "A Transformer-Based Network for Anisotropic 3D Medical Image Segmentation"
(conference poster; full paper ICPR 2020). Given there: attention between the feature maps of the slices with scaled
dot products and a sinusoidal encoding of the slice order. Not given, our choice: depth, widths, normalisation,
activation, where the layer sits (the bottleneck; ``levels`` also puts it on skip connections), heads, residuals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from medseg.networks.convlstm import BidirectionalConvLSTM
from medseg.networks.inter_slice import AttentionMode, EncodingStyle, InterSliceTransformer, TokenMode

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTER_SLICE = ("attention", "convlstm", "none")


def _units(channels_in: int, channels_out: int) -> nn.Sequential:
    """Two times [3x3 convolution, instance normalisation, leaky ReLU]."""
    layers: list[nn.Module] = []
    for source in (channels_in, channels_out):
        layers += [
            nn.Conv2d(source, channels_out, 3, padding=1, bias=False),
            nn.InstanceNorm2d(channels_out, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*layers)


class TSFMUNet(nn.Module):
    """Segmentation of anisotropic volumes: in-plane convolutions, attention between slices.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the image; number of classes with background.
    base, depth
        Width of the first level (32 by default) and number of poolings L (4); level ``l`` has ``base * 2**l`` channels.
    inter_slice
        What lies between the slices: "attention"; or, for the rivals that the poster compares with, "convlstm", a
        :class:`~medseg.networks.convlstm.BidirectionalConvLSTM` in the place of the attention layer, and "none", the 2D
        U-Net. The third rival has other kernels throughout and is :class:`~medseg.networks.UNet3D`.
    attention, tokens, heads, pe_style, pe_base, encode_values, use_positions, radius
        See :class:`~medseg.networks.inter_slice.InterSliceTransformer`; for "attention" only.
    levels
        Skip connections (0 = full resolution) that get an inter-slice layer too.
    slice_axis
        The spatial axis (of I, J, K) along which slices are stacked; the last by default.
    spacing_aware
        Our extension, beyond the poster: positions are millimetres divided by ``reference_spacing`` instead of slice
        indices. The caller sets :attr:`slice_spacing` (mm, one number or one for each stack of the batch) before a
        pass; without it the reference spacing is assumed.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        *,
        base: int = 32,
        depth: int = 4,
        inter_slice: str = "attention",
        attention: AttentionMode = "slice",
        tokens: TokenMode = "pooled",
        heads: int = 4,
        pe_style: EncodingStyle = "poster",
        pe_base: float = 10000.0,
        encode_values: bool = False,
        use_positions: bool = True,
        radius: int | None = None,
        levels: Sequence[int] = (),
        slice_axis: int = -1,
        spacing_aware: bool = False,
        reference_spacing: float = 1.0,
    ) -> None:
        super().__init__()
        if inter_slice not in _INTER_SLICE:
            raise ValueError(f"inter_slice must be one of {', '.join(_INTER_SLICE)}, not '{inter_slice}'")
        if depth < 1 or base < 1:
            raise ValueError("base and depth must be at least 1")
        if slice_axis not in (-3, -2, -1):
            raise ValueError("slice_axis must be -3, -2 or -1")
        if not set(levels) <= set(range(depth)):
            raise ValueError(f"levels must lie in 0 .. {depth - 1}")
        if reference_spacing <= 0:
            raise ValueError("reference_spacing must be positive (mm)")
        self.depth = depth
        self.slice_axis = slice_axis
        self.spacing_aware = spacing_aware
        self.reference_spacing = reference_spacing
        self.slice_spacing: float | Tensor | None = None
        widths = [base * 2**level for level in range(depth + 1)]

        def layer(channels: int) -> nn.Module:
            if inter_slice == "convlstm":
                return BidirectionalConvLSTM(channels)
            return InterSliceTransformer(
                channels,
                heads=heads,
                mode=attention,
                tokens=tokens,
                pe_style=pe_style,
                pe_base=pe_base,
                encode_values=encode_values,
                use_positions=use_positions,
                radius=radius,
            )

        self.encoder = nn.ModuleList(
            _units(in_channels if level == 0 else widths[level - 1], widths[level]) for level in range(depth)
        )
        self.bottleneck = _units(widths[depth - 1], widths[depth])
        self.up = nn.ModuleList(nn.ConvTranspose2d(widths[level + 1], widths[level], 2, 2) for level in range(depth))
        self.decoder = nn.ModuleList(_units(2 * widths[level], widths[level]) for level in range(depth))
        self.head = nn.Conv2d(widths[0], out_channels, 1)
        # The layers of the plain U-Net are made first, so that it draws the same initial weights from the same seed.
        self.inter_slice = None if inter_slice == "none" else layer(widths[depth])
        self.skip_layers = nn.ModuleDict(
            {} if inter_slice == "none" else {str(level): layer(widths[level]) for level in sorted(levels)}
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return class scores.

        Parameters
        ----------
        image
            (B, C_in, I, J, K); any size of at least 1 in each direction.

        Returns
        -------
        Tensor
            (B, n_classes, I, J, K) logits.
        """
        stack = image.movedim(self.slice_axis, 2).transpose(1, 2)
        batch, slices, channels, height, width = stack.shape
        flat = stack.reshape(batch * slices, channels, height, width)
        multiple = 2**self.depth
        # At least two positions must be left at the bottleneck: instance normalisation needs more than one value.
        padded_height = max(-(-height // multiple), 2) * multiple
        padded_width = max(-(-width // multiple), 2) * multiple
        flat = F.pad(flat, (0, padded_width - width, 0, padded_height - height), mode="constant")

        positions = self._positions(slices, image.device)
        skips: list[Tensor] = []
        for level, units in enumerate(self.encoder):
            flat = units(flat)
            skips.append(self._mix(self._skip_layer(level), flat, batch, positions))
            flat = F.max_pool2d(flat, 2)
        flat = self._mix(self.inter_slice, self.bottleneck(flat), batch, positions)
        for level in reversed(range(self.depth)):
            flat = self.decoder[level](torch.cat([skips[level], self.up[level](flat)], dim=1))
        scores = self.head(flat)[..., :height, :width]
        scores = scores.reshape(batch, slices, -1, height, width)
        return scores.transpose(1, 2).movedim(2, self.slice_axis)

    def attention_matrix(self, image: Tensor) -> Tensor:
        """Return which slice informed which at the bottleneck, averaged over heads (and locations): (B, S, S).

        Raises
        ------
        ValueError
            When there is no attention between the slices.
        """
        layer = self.inter_slice
        if not isinstance(layer, InterSliceTransformer):
            raise ValueError("this network has no attention between its slices")  # noqa: TRY004 - its value is wrong
        caught: list[Tensor] = []

        def catch(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            caught.append(layer.attention(*inputs))

        handle = layer.register_forward_pre_hook(catch)
        try:
            self(image)
        finally:
            handle.remove()
        weights = caught[0]
        return weights.mean(1) if weights.ndim == 4 else weights.mean((1, 2, 3))

    def _skip_layer(self, level: int) -> nn.Module | None:
        return self.skip_layers[str(level)] if str(level) in self.skip_layers else None  # noqa: SIM401 - has no get()

    def _positions(self, slices: int, device: torch.device) -> Tensor:
        index = torch.arange(slices, device=device, dtype=torch.float32)
        if not self.spacing_aware or self.slice_spacing is None:
            return index
        spacing = torch.as_tensor(self.slice_spacing, device=device, dtype=torch.float32)
        return spacing[..., None] / self.reference_spacing * index

    @staticmethod
    def _mix(layer: nn.Module | None, flat: Tensor, batch: int, positions: Tensor) -> Tensor:
        if layer is None:
            return flat
        stack = flat.reshape(batch, -1, *flat.shape[1:])
        return layer(stack, positions).reshape(flat.shape)
