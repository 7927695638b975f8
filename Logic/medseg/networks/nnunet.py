"""The two U-Nets that nnU-Net v2 plans: plain convolutions, and a residual encoder with a plain decoder.

Sources: F. Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation"
(Nature Methods 2021), and "nnU-Net Revisited" (MICCAI 2024) for the residual encoder; its blocks are those of ResNet-D
(T. He et al., "Bag of Tricks for Image Classification with Convolutional Neural Networks", CVPR 2019). The names of the
parameters are those that nnU-Net's checkpoints use, each once, so that their tensors fit without a table. Dropout has
no parameters and does nothing when a network is used, so there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Sizes = int | Sequence[int]

NORMS = ("InstanceNorm", "BatchNorm")
ACTIVATIONS = ("LeakyReLU", "ReLU", "ELU", "GELU", "SiLU")


class _Maker:
    """Makes the layers of one network: all have the same dimensions, normalisation and activation."""

    def __init__(
        self,
        spatial_dims: int,
        *,
        bias: bool,
        norm: str | None,
        norm_arguments: Mapping[str, Any] | None,
        activation: str | None,
        activation_arguments: Mapping[str, Any] | None,
        activation_first: bool = False,
    ) -> None:
        if spatial_dims not in (2, 3):
            raise ValueError("spatial_dims must be 2 or 3")
        if norm is not None and norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(NORMS)} or None, not {norm!r}")
        if activation is not None and activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)} or None, not {activation!r}")
        self.dims, self.bias, self.activation_first = spatial_dims, bias, activation_first
        self._norm = None if norm is None else getattr(nn, f"{norm}{spatial_dims}d")
        self._norm_arguments = dict(norm_arguments or {})
        self._activation = None if activation is None else getattr(nn, activation)
        self._activation_arguments = dict(activation_arguments or {})
        self._conv: Callable[..., nn.Module] = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        self._up: Callable[..., nn.Module] = nn.ConvTranspose2d if spatial_dims == 2 else nn.ConvTranspose3d
        self._pool: Callable[..., nn.Module] = nn.AvgPool2d if spatial_dims == 2 else nn.AvgPool3d

    def sizes(self, size: Sizes) -> tuple[int, ...]:
        given = (size,) * self.dims if isinstance(size, int) else tuple(size)
        if len(given) != self.dims or min(given) < 1:
            raise ValueError(f"{size} does not give {self.dims} sizes of at least 1")
        return given

    def conv(self, source: int, target: int, kernel: Sizes, stride: Sizes, *, bias: bool) -> nn.Module:
        kernel = self.sizes(kernel)
        padding = [(width - 1) // 2 for width in kernel]
        return self._conv(source, target, kernel, self.sizes(stride), padding, bias=bias)

    def up(self, source: int, target: int, stride: Sizes) -> nn.Module:
        return self._up(source, target, self.sizes(stride), self.sizes(stride), bias=self.bias)

    def pool(self, stride: Sizes) -> nn.Module:
        return self._pool(self.sizes(stride), self.sizes(stride))

    def norm(self, channels: int) -> nn.Module | None:
        return None if self._norm is None else self._norm(channels, **self._norm_arguments)

    def activation(self) -> nn.Module:
        return nn.Identity() if self._activation is None else self._activation(**self._activation_arguments)


class _ConvNorm(nn.Module):
    """Convolution, normalisation and, unless it is the end of a residual branch, activation."""

    def __init__(
        self,
        make: _Maker,
        source: int,
        target: int,
        kernel: Sizes,
        stride: Sizes = 1,
        *,
        bias: bool | None = None,
        active: bool = True,
    ) -> None:
        super().__init__()
        self.conv = make.conv(source, target, kernel, stride, bias=make.bias if bias is None else bias)
        self.norm = make.norm(target)
        self.nonlin = make.activation() if active else nn.Identity()
        self._activation_first = make.activation_first

    def forward(self, features: Tensor) -> Tensor:
        features = self.conv(features)
        if self.norm is None:
            return self.nonlin(features)
        return self.norm(self.nonlin(features)) if self._activation_first else self.nonlin(self.norm(features))


class _Convs(nn.Module):
    """Several of these in a row; the first one has the stride."""

    def __init__(self, make: _Maker, channels: tuple[int, int], *, kernel: Sizes, stride: Sizes, count: int) -> None:
        super().__init__()
        source, target = channels
        self.convs = nn.Sequential(
            *(
                _ConvNorm(make, source if index == 0 else target, target, kernel, stride if index == 0 else 1)
                for index in range(count)
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.convs(features)


class _Residual(nn.Module):
    """Two convolutions beside a skip that averages over the stride and then, where channels change, projects."""

    def __init__(self, make: _Maker, source: int, target: int, kernel: Sizes, stride: Sizes) -> None:
        super().__init__()
        self.conv1 = _ConvNorm(make, source, target, kernel, stride)
        self.conv2 = _ConvNorm(make, target, target, kernel, active=False)
        self.nonlin2 = make.activation()
        steps: list[nn.Module] = [make.pool(stride)] if max(make.sizes(stride)) > 1 else []
        if source != target:
            steps.append(_ConvNorm(make, source, target, 1, bias=False, active=False))
        self.skip = nn.Sequential(*steps)

    def forward(self, features: Tensor) -> Tensor:
        return self.nonlin2(self.conv2(self.conv1(features)) + self.skip(features))


class _Blocks(nn.Module):
    """Residual blocks in a row; the first one has the stride."""

    def __init__(self, make: _Maker, channels: tuple[int, int], *, kernel: Sizes, stride: Sizes, count: int) -> None:
        super().__init__()
        source, target = channels
        self.blocks = nn.Sequential(
            *(
                _Residual(make, source if index == 0 else target, target, kernel, stride if index == 0 else 1)
                for index in range(count)
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.blocks(features)


class _Encoder(nn.Module):
    def __init__(self, stages: Sequence[nn.Module], stem: nn.Module | None = None) -> None:
        super().__init__()
        if stem is not None:
            self.stem = stem
        self.stages = nn.Sequential(*stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        features = self.stem(image) if hasattr(self, "stem") else image
        found = []
        for stage in self.stages:
            features = stage(features)
            found.append(features)
        return found


class _Decoder(nn.Module):
    """From the coarsest features upwards: transposed convolution, the features of the encoder beside it, convolutions.

    Only the segmentation layer of the finest stage is kept; the others serve deep supervision in training.
    """

    def __init__(
        self,
        make: _Maker,
        *,
        widths: Sequence[int],
        kernels: Sequence[Sizes],
        strides: Sequence[Sizes],
        counts: Sequence[int],
        classes: int,
    ) -> None:
        super().__init__()
        levels = range(len(widths) - 1, 0, -1)
        self.transpconvs = nn.ModuleList(make.up(widths[level], widths[level - 1], strides[level]) for level in levels)
        self.stages = nn.ModuleList(
            _Convs(make, (2 * widths[level - 1], widths[level - 1]), kernel=kernels[level - 1], stride=1, count=count)
            for level, count in zip(levels, counts, strict=True)
        )
        last = len(widths) - 2
        self.seg_layers = nn.ModuleDict({str(last): make.conv(widths[0], classes, 1, 1, bias=True)})

    def forward(self, found: list[Tensor]) -> Tensor:
        features = found.pop()
        for upwards, stage in zip(self.transpconvs, self.stages, strict=True):
            features = stage(torch.cat((upwards(features), found.pop()), dim=1))
        (head,) = self.seg_layers.values()
        return head(features)


class PlainConvUNet(nn.Module):
    """nnU-Net's U-Net of plain convolutions.

    Parameters
    ----------
    spatial_dims
        2 or 3.
    in_channels, out_channels
        Channels of the image; classes with background, or regions.
    features, kernel_sizes, strides, blocks
        For each stage from fine to coarse: channels, kernel, the stride that leads into it, number of convolutions.
        Kernels and strides are numbers or one number an axis.
    decoder_convs
        Convolutions of each stage of the decoder, from coarse to fine; one less than there are stages.
    bias
        Whether convolutions have one (that of the last layer always has).
    norm, norm_arguments
        "InstanceNorm", "BatchNorm" or ``None``, and its keyword arguments.
    activation, activation_arguments
        One of :data:`ACTIVATIONS` or ``None``, and its keyword arguments.
    activation_first
        Activation before normalisation.

    Raises
    ------
    ValueError
        When the lists have different lengths, or a name is not known.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        features: Sequence[int],
        kernel_sizes: Sequence[Sizes],
        strides: Sequence[Sizes],
        blocks: Sequence[int],
        decoder_convs: Sequence[int],
        bias: bool = False,
        norm: str | None = None,
        norm_arguments: Mapping[str, Any] | None = None,
        activation: str | None = None,
        activation_arguments: Mapping[str, Any] | None = None,
        activation_first: bool = False,
    ) -> None:
        super().__init__()
        _check_lengths(features, kernel_sizes, strides, blocks, decoder_convs)
        make = _Maker(
            spatial_dims,
            bias=bias,
            norm=norm,
            norm_arguments=norm_arguments,
            activation=activation,
            activation_arguments=activation_arguments,
            activation_first=activation_first,
        )
        sources = [in_channels, *features[:-1]]
        self.encoder = _Encoder(
            [
                nn.Sequential(_Convs(make, (source, target), kernel=kernel, stride=stride, count=count))
                for source, target, kernel, stride, count in zip(
                    sources, features, kernel_sizes, strides, blocks, strict=True
                )
            ]
        )
        self.decoder = _Decoder(
            make,
            widths=features,
            kernels=kernel_sizes,
            strides=strides,
            counts=decoder_convs,
            classes=out_channels,
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return scores (B, out_channels, ...) of ``image`` (B, in_channels, ...) of the same size.

        Sizes must be multiples of the product of the strides.
        """
        return self.decoder(self.encoder(image))


class ResidualEncoderUNet(nn.Module):
    """nnU-Net's U-Net with an encoder of residual blocks (ResNet-D).

    Parameters
    ----------
    stem_channels
        Channels of the convolution before the first stage; ``None``: those of the first stage.
    blocks
        Residual blocks of each stage.

    The other parameters are those of :class:`PlainConvUNet`, and so are the errors.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        features: Sequence[int],
        kernel_sizes: Sequence[Sizes],
        strides: Sequence[Sizes],
        blocks: Sequence[int],
        decoder_convs: Sequence[int],
        bias: bool = False,
        norm: str | None = None,
        norm_arguments: Mapping[str, Any] | None = None,
        activation: str | None = None,
        activation_arguments: Mapping[str, Any] | None = None,
        stem_channels: int | None = None,
    ) -> None:
        super().__init__()
        _check_lengths(features, kernel_sizes, strides, blocks, decoder_convs)
        make = _Maker(
            spatial_dims,
            bias=bias,
            norm=norm,
            norm_arguments=norm_arguments,
            activation=activation,
            activation_arguments=activation_arguments,
        )
        stem = features[0] if stem_channels is None else stem_channels
        sources = [stem, *features[:-1]]
        self.encoder = _Encoder(
            [
                _Blocks(make, (source, target), kernel=kernel, stride=stride, count=count)
                for source, target, kernel, stride, count in zip(
                    sources, features, kernel_sizes, strides, blocks, strict=True
                )
            ],
            stem=_Convs(make, (in_channels, stem), kernel=kernel_sizes[0], stride=1, count=1),
        )
        self.decoder = _Decoder(
            make,
            widths=features,
            kernels=kernel_sizes,
            strides=strides,
            counts=decoder_convs,
            classes=out_channels,
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return scores (B, out_channels, ...) of ``image`` (B, in_channels, ...) of the same size."""
        return self.decoder(self.encoder(image))


def _check_lengths(
    features: Sequence[int],
    kernel_sizes: Sequence[Sizes],
    strides: Sequence[Sizes],
    blocks: Sequence[int],
    decoder_convs: Sequence[int],
) -> None:
    stages = len(features)
    if stages < 2 or {len(kernel_sizes), len(strides), len(blocks)} != {stages} or len(decoder_convs) != stages - 1:
        raise ValueError(
            "features, kernel_sizes, strides and blocks must have one entry a stage, decoder_convs one less, and"
            " there must be at least two stages"
        )
