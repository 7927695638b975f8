"""How nnU-Net v2 prepares images, as data: crop, normalise, resample, in an order of axes of its own.

The numbers come from a ``plans.json``; what is done with them is in :mod:`medseg.segmentation.nnunet_images`. Source:
F. Isensee et al., "nnU-Net" (Nature Methods 2021), and the files that nnU-Net v2 writes.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMES = {
    "ZScoreNormalization": "zscore",
    "CTNormalization": "ct",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "rescale",
    "RGBTo01Normalization": "rgb",
}
"""nnU-Net's names of its normalisations, and ours."""

SMALLEST_DIVISOR = 1e-8
ANISOTROPY = 3.0
"""The ratio of spacings from which an axis is resampled on its own."""


@dataclass(frozen=True)
class Normalisation:
    """How the intensities of one channel are normalised, before resampling, within the crop.

    Attributes
    ----------
    scheme
        ``"zscore"`` (mean 0, standard deviation 1 of the crop), ``"ct"`` (clip to ``low`` and ``high``, subtract
        ``mean``, divide by ``std``: those of the training data), ``"none"``, ``"rescale"`` (0 to 1) or ``"rgb"``
        (divide by 255).
    masked
        With ``"zscore"``: of and at the voxels of the body only (not 0 in some channel, holes filled).
    mean, std, low, high
        In the unit of the image.
    """

    scheme: str
    masked: bool = False
    mean: float = 0.0
    std: float = 1.0
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class Resampling:
    """How a grid is resampled.

    Attributes
    ----------
    order
        Of the spline: 0 nearest, 1 linear, 3 cubic.
    order_z
        The same along the axis of the thick slices, where that is resampled on its own.
    separate
        Whether it is: ``True``, ``False``, or ``None``: when one spacing of either grid is more than ``anisotropy``
        times another.
    keep
        Nothing is resampled; the network sees the image's own voxels.
    """

    order: int = 3
    order_z: int = 0
    separate: bool | None = None
    anisotropy: float = ANISOTROPY
    keep: bool = False

    def separate_axis(self, source: tuple[float, ...], target: tuple[float, ...]) -> int | None:
        """Return the axis that is resampled on its own from spacing ``source`` to ``target`` (mm), or ``None``."""
        deciding = None
        if self.separate is None:
            deciding = next((spacing for spacing in (source, target) if self._is_anisotropic(spacing)), None)
        elif self.separate:
            deciding = source
        if deciding is None:
            return None
        widest = [axis for axis, step in enumerate(deciding) if step == max(deciding)]
        return widest[0] if len(widest) == 1 else None

    def _is_anisotropic(self, spacing: tuple[float, ...]) -> bool:
        return max(spacing) / min(spacing) > self.anisotropy


@dataclass(frozen=True)
class NnunetPreparation:
    """How images become the input of a network of nnU-Net.

    Attributes
    ----------
    canonical
        Whether images are turned to RAS first; else their voxels are taken as they are stored.
    transpose
        The network's axes: which axis of the array (k, j, i) each of them is.
    spacing
        mm along the network's axes; ``None``: the image's own.
    channels
        One normalisation for each image.
    images, scores, labels
        How images, scores and the labels of a first stage are resampled.
    first_stage_values
        The values of a first stage's labels that are further channels of the input, each 0 or 1.
    """

    canonical: bool
    transpose: tuple[int, int, int]
    spacing: tuple[float | None, float | None, float | None]
    channels: tuple[Normalisation, ...]
    images: Resampling
    scores: Resampling
    labels: Resampling
    first_stage_values: tuple[int, ...] = ()

    def with_first_stage(self, values: Iterable[int]) -> NnunetPreparation:
        """Return the same for a network that also takes the labels ``values`` of a first stage."""
        return dataclasses.replace(self, first_stage_values=tuple(values))

    def described_spacing(self) -> tuple[float | None, float | None, float | None]:
        """Return the spacing (mm) along i, j and k of the image as it is stored, as far as it is fixed."""
        by_array_axis = dict(zip(self.transpose, self.spacing, strict=True))
        return by_array_axis[2], by_array_axis[1], by_array_axis[0]

    @property
    def needs_body(self) -> bool:
        """Whether a normalisation asks which voxels are the body."""
        return any(channel.masked for channel in self.channels)
