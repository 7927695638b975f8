"""Images painted on label maps: contrast, noise, bias field, resolution, field of view."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor

from medseg.models.registration import PERCENTILES
from medseg.training.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.training.synthesis.draws import Draws

_Probability = Annotated[float, Field(ge=0, le=1)]


class Tissue(IntEnum):
    """What a voxel of a CT shows, from dark to bright."""

    AIR = 0
    FAT = 1
    FLUID = 2
    SOFT = 3
    BONE = 4


_HOUNSFIELD = {
    Tissue.AIR: (-1000.0, 0.0, 8.0),
    Tissue.FAT: (-100.0, 25.0, 12.0),
    Tissue.FLUID: (8.0, 8.0, 8.0),
    Tissue.SOFT: (50.0, 25.0, 12.0),
    Tissue.BONE: (750.0, 450.0, 120.0),
}
"""For each tissue its middle, how far a label may lie from it, and the spread within one, in HU (our choice)."""

_SOFT_WINDOW = (-200.0, 350.0)
_SAMPLED = 4
"""Of how many voxels one is looked at for the percentiles."""


class PaintingSection(Section):
    """How images are painted; every probability is per pair or per image.

    Every label gets a mean and a spread of its own. With the probability ``two_contrasts`` they are drawn anew for the
    second image of a pair, which then is like another sequence; with ``ct_probability`` the pair has the contrast of CT
    instead: air, fat, fluid, soft tissue and bone, in this order, of which ``ct_window_probability`` are clipped to a
    window of soft tissue.

    ``strip_probability`` of the pairs lose what is outside the organ, as after skull-stripping, and ``strip_one``
    of them in one image only. ``cut_probability`` of the images end early along an axis, by up to ``cut_share`` of it.
    ``background_probability`` of the images have a background that is not black. ``noise`` is the largest standard
    deviation, where an image is 0 to 1; ``blur_voxels`` that of the largest blur; ``thick_probability`` of the images
    have slices of up to ``thick_voxels`` along a random axis. ``bias`` is the largest logarithm of the bias field and
    ``gamma`` that of the exponent of the intensities.
    """

    two_contrasts: _Probability = 0.5
    ct_probability: _Probability = 0.0
    ct_window_probability: _Probability = 0.3
    strip_probability: _Probability = 0.3
    strip_one: _Probability = 0.05
    cut_probability: _Probability = 0.15
    cut_share: Annotated[float, Field(ge=0, lt=0.5)] = 0.25
    background_probability: _Probability = 0.3
    noise: Annotated[float, Field(ge=0)] = 0.1
    blur_voxels: Annotated[float, Field(ge=0)] = 0.8
    thick_probability: _Probability = 0.3
    thick_voxels: Annotated[float, Field(ge=1)] = 3.0
    bias_probability: _Probability = 0.5
    bias: Annotated[float, Field(ge=0)] = 0.5
    gamma_probability: _Probability = 0.5
    gamma: Annotated[float, Field(ge=0)] = 0.5

    @model_validator(mode="after")
    def _strips_once(self) -> PaintingSection:
        if self.strip_probability + self.strip_one > 1:
            raise ValueError("strip_probability and strip_one are parts of the same pairs and add up to 1 at most")
        return self


class Contrast(NamedTuple):
    """What the labels of an image look like."""

    means: Tensor
    """(labels,) float32."""
    spreads: Tensor
    """(labels,) float32: the standard deviation within each."""
    clip: tuple[float, float] | None = None
    """In the unit of the means; what is darker or brighter is cut off."""


def random_contrast(count: int, draws: Draws, *, black: bool = True) -> Contrast:
    """Return a contrast of ``count`` labels between 0 and 1; with ``black`` the first, the background, is 0."""
    means, spreads = draws.numbers(count), draws.numbers(count, 0.0, 0.12)
    if black:
        means[0] = spreads[0] = 0.0
    return Contrast(means, spreads)


def ct_contrast(tissues: Sequence[Tissue], draws: Draws, *, window: bool = False) -> Contrast:
    """Return the contrast of CT in HU for labels that are of these tissues; the background, the first, is air.

    The order of the tissues is kept whatever is drawn: air, fat, fluid, soft tissue, bone, from dark to bright.
    """
    within = draws.numbers(len(tissues), -1.0, 1.0)
    middles, reaches, spreads = (torch.tensor(row, device=draws.device) for row in _columns(tissues))
    return Contrast(middles + reaches * within, spreads, _SOFT_WINDOW if window else None)


def paint(labels: Tensor, contrast: Contrast, section: PaintingSection, draws: Draws) -> Tensor:
    """Return an image of a label map, 0 to 1 between the percentiles to which volumes are scaled in use.

    Parameters
    ----------
    labels
        (I, J, K) whole numbers below the number of labels of the contrast.

    Returns
    -------
    Tensor
        (I, J, K) float32.
    """
    size, places = tuple(labels.shape), labels.to(torch.int64)
    image = contrast.means[places] + contrast.spreads[places] * draws.noise(size)
    image = _resolved(image, section, draws)
    if draws.chance(section.bias_probability):
        lowest = image.min()
        image = lowest + (image - lowest) * _bias(size, draws.uniform(0, section.bias), draws)
    if contrast.clip is not None:
        image = image.clamp(*contrast.clip)
    image = _scaled(image) + draws.uniform(0, section.noise) * draws.noise(size)
    image = _scaled(image)
    if draws.chance(section.gamma_probability):
        image = image ** math.exp(draws.uniform(-section.gamma, section.gamma))
    return image


def cut(labels: Tensor, section: PaintingSection, draws: Draws) -> Tensor:
    """Return the label map, in some draws with the beginning or the end of an axis made background."""
    if not draws.chance(section.cut_probability):
        return labels
    axis = draws.whole(0, 2)
    count = int(labels.shape[axis] * draws.uniform(0, section.cut_share))
    start = 0 if draws.chance(0.5) else labels.shape[axis] - count
    shortened = labels.clone()
    shortened.narrow(axis, start, count).zero_()
    return shortened


def _columns(tissues: Sequence[Tissue]) -> list[tuple[float, ...]]:
    return list(zip(*(_HOUNSFIELD[tissue] for tissue in tissues), strict=True))


def _resolved(image: Tensor, section: PaintingSection, draws: Draws) -> Tensor:
    """Return the image as a scanner of some resolution gives it: one matrix an axis, blur and thick slices in one."""
    thick = draws.whole(0, 2) if draws.chance(section.thick_probability) else None
    for axis, n in enumerate(image.shape):
        matrix = _blur(n, draws.uniform(0, section.blur_voxels))
        if axis == thick:
            matrix = _thick(n, draws.uniform(1, section.thick_voxels)) @ matrix
        image = (image.movedim(axis, -1) @ matrix.to(image.device).T).movedim(-1, axis)
    return image.contiguous()


def _blur(n: int, sigma: float) -> Tensor:
    """Return the (n, n) matrix of a Gaussian blur, cut off at the border."""
    if sigma < 0.2:
        return torch.eye(n)
    apart = torch.arange(n, dtype=torch.float32)
    weights = torch.exp(-((apart[:, None] - apart) ** 2) / (2 * sigma**2))
    return weights / weights.sum(1, keepdim=True)


def _thick(n: int, thickness: float) -> Tensor:
    """Return the (n, n) matrix of slices of ``thickness`` voxels without gaps, interpolated back linearly."""
    count = max(2, round(n / thickness))
    place = torch.arange(n, dtype=torch.float32)
    middle = (torch.arange(count) + 0.5) * (n / count) - 0.5
    taken = (0.5 + n / count / 2 - (middle[:, None] - place).abs()).clamp(0, 1)
    shown = (1 - (place[:, None] - middle).abs() / (n / count)).clamp(min=0)
    return (shown / shown.sum(1, keepdim=True)) @ (taken / taken.sum(1, keepdim=True))


def _bias(size: tuple[int, ...], strength: float, draws: Draws) -> Tensor:
    field = draws.smooth(size, max(size) / draws.uniform(1.5, 4.0))[0]
    return (field * (strength / field.abs().max().clamp(min=1e-6))).exp()


def _scaled(image: Tensor) -> Tensor:
    """Return the image with the percentiles at 0 and 1, clipped; one that is constant there becomes 0."""
    some = image.flatten()[::_SAMPLED]
    low, high = (some.kthvalue(max(1, round(len(some) * part / 100))).values for part in PERCENTILES)
    return ((image - low) / torch.where(high > low, high - low, 1.0)).clamp(0, 1)
