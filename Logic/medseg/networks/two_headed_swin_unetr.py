"""SwinUNETR-V2 with a second decoder: one Swin transformer, class scores and instance embeddings.

Source: P. Melander and M. Thanell, "Vision transformers for segmenting organs and tissues in CT scans of arbitrary
imaging ranges" (Lund University 2024:E46), section on SwinUNETR-V2; the network itself is MONAI's. Not given there, our
choice: everything after the features of the transformer belongs to one decoder, also the residual blocks on the skip
connections. With the published sizes the transformer has 18,637,362 parameters, a path of 37 channels 54,126,421, one
of 32 channels 54,126,176, all together 126,889,959.
"""

from __future__ import annotations

import importlib.util
import inspect
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from medseg.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

_DIVISOR = 32
"""The first patches of 2x2x2 and four mergings halve the image five times."""


class TwoHeadedSwinUNETR(nn.Module):
    """SwinUNETR-V2 with two decoder paths on one shared transformer.

    The defaults are the published network. Sizes along I, J, K must be multiples of 32, and not all of them 32.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the image; number of classes with background.
    embedding_channels
        Length of the embedding of a voxel.
    feature_size
        Width of the first patches' embedding; a multiple of 12.
    depths, num_heads
        Transformer blocks and attention heads of the four stages.
    window_size
        Patches of an attention window along each axis; MONAI before 1.5 knows 7 only.
    drop_rate
        Dropout in the transformer (0.2 as published, whose places are not given).
    use_checkpoint
        Compute the transformer's activations again in the backward pass instead of keeping them.

    Raises
    ------
    ModelError
        When the package einops is missing, which MONAI's transformer needs without installing it.
    ValueError
        When a number does not fit MONAI's network.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 37,
        *,
        embedding_channels: int = 32,
        feature_size: int = 48,
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        drop_rate: float = 0.2,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if importlib.util.find_spec("einops") is None:
            raise ModelError(
                "The network TwoHeadedSwinUNETR needs the Python package einops, which is not installed here.",
                advice="Install it: pip install einops.",
            )
        shared: dict[str, Any] = {
            "in_channels": in_channels,
            "feature_size": feature_size,
            "depths": tuple(depths),
            "num_heads": tuple(num_heads),
            "drop_rate": drop_rate,
            "use_checkpoint": use_checkpoint,
        }
        first = _swin_unetr(out_channels, window_size, shared)
        self.swinViT = first.swinViT
        self.normalize = bool(first.normalize)
        self.semantic = _Path(first)
        self.instance = _Path(_swin_unetr(embedding_channels, window_size, shared))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return class scores and embeddings.

        Parameters
        ----------
        image
            (B, C, I, J, K), sizes multiples of 32.

        Returns
        -------
        (Tensor, Tensor)
            (B, out_channels, I, J, K) logits; (B, embedding_channels, I, J, K), neither activated nor normalised.

        Raises
        ------
        ValueError
            When a size is not a multiple of 32, or all are 32.
        """
        if any(size % _DIVISOR for size in image.shape[2:]):
            raise ValueError(f"sizes must be multiples of {_DIVISOR}, not {tuple(image.shape[2:])}")
        if max(image.shape[2:]) == _DIVISOR:
            # One voxel would be left at the deepest level, and instance normalisation needs two.
            raise ValueError(f"at least one size must be {2 * _DIVISOR} or more, not {tuple(image.shape[2:])}")
        features = self.swinViT(image.contiguous(), self.normalize)
        return self.semantic(image, features), self.instance(image, features)


class _Path(nn.Module):
    """All of a SwinUNETR that comes after its transformer."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        for name, part in whole.named_children():
            if name != "swinViT":
                self.add_module(name, part)

    def forward(self, image: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Return (B, channels, I, J, K) for the image and the transformer's five feature maps, finest first."""
        skips = [
            self.encoder1(image),
            self.encoder2(features[0]),
            self.encoder3(features[1]),
            self.encoder4(features[2]),
            features[3],
        ]
        maps = self.encoder10(features[4])
        for up, skip in zip(
            (self.decoder5, self.decoder4, self.decoder3, self.decoder2, self.decoder1), reversed(skips), strict=True
        ):
            maps = up(maps, skip)
        return self.out(maps)


def _swin_unetr(out_channels: int, window_size: int, shared: dict[str, Any]) -> nn.Module:
    from monai.networks.nets import SwinUNETR

    known = inspect.signature(SwinUNETR).parameters
    arguments = {**shared, "out_channels": out_channels, "use_v2": True, "spatial_dims": 3}
    if "img_size" in known:
        # Before MONAI 1.5 an argument without effect but for a check of its own; later it is gone.
        arguments["img_size"] = (_DIVISOR,) * 3
    if "window_size" in known:
        arguments["window_size"] = window_size
    elif window_size != 7:
        raise ValueError("this version of MONAI has attention windows of 7 patches only")
    return SwinUNETR(**arguments)
