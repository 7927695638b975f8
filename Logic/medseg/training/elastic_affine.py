"""Rotation, scaling, shear and a fine elastic change in one, all in voxels of the network's grid.

Source: P. Melander and M. Thanell, "Vision transformers for segmenting organs and tissues in CT scans of arbitrary
imaging ranges" (Lund University 2024:E46), section on training. Their ranges are the defaults; they match MONAI's
``Rand3DElastic``, whose order is kept: elastic offsets first, then ``rotation @ shear @ scale`` of the moved grid.
"""

from __future__ import annotations

from typing import Annotated

import torch
from monai.networks.layers import GaussianFilter
from monai.transforms.utils import create_rotate, create_scale, create_shear
from pydantic import Field, field_validator
from torch import Tensor

from medseg.training.section import Section

_Range = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]
_AxisRanges = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]


class ElasticAffineSection(Section):
    """Ranges of the combined change; each number is drawn uniformly, one for each axis.

    ``rotation`` in radians and ``scale`` (about 1) from minus to plus the number given for I, J, K; ``shear`` factors
    from minus to plus. The elastic offsets are white noise in -1 to 1, smoothed by a Gaussian of ``sigma`` voxels and
    multiplied by ``magnitude`` voxels.
    """

    probability: Annotated[float, Field(ge=0, le=1)] = 0.75
    rotation: _AxisRanges = (0.08, 0.08, 0.08)
    scale: tuple[
        Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]
    ] = (0.1, 0.1, 0.1)
    shear: Annotated[float, Field(ge=0)] = 0.1
    sigma: _Range = (4.0, 8.0)
    magnitude: _Range = (0.0, 100.0)

    @field_validator("sigma", "magnitude")
    @classmethod
    def _rising(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if limits[0] > limits[1]:
            raise ValueError("must be the smallest and the largest value, in this order")
        return limits


def drawn_change(offsets: Tensor, section: ElasticAffineSection, generator: torch.Generator) -> Tensor:
    """Return ``offsets`` (I, J, K, 3), voxels from the middle of the patch, after a change drawn from ``section``."""
    if float(torch.rand((), generator=generator)) >= section.probability:
        return offsets

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    rotation = [uniform(-limit, limit) for limit in section.rotation]
    shear = [uniform(-section.shear, section.shear) for _ in range(6)]
    scale = [1 + uniform(-limit, limit) for limit in section.scale]
    sigma, magnitude = uniform(*section.sigma), uniform(*section.magnitude)
    if magnitude > 0:
        noise = 2 * torch.rand((3, *offsets.shape[:3]), generator=generator) - 1
        offsets = offsets + elastic_offsets(noise, sigma, magnitude)
    return offsets @ affine_matrix(rotation, shear, scale).T


def elastic_offsets(noise: Tensor, sigma: float, magnitude: float) -> Tensor:
    """Return (I, J, K, 3) offsets in voxels from ``noise`` (3, I, J, K), smoothed (zeros outside) and multiplied."""
    if sigma > 0:
        noise = GaussianFilter(3, sigma, truncated=3.0)(noise[None])[0]
    return magnitude * noise.movedim(0, -1)


def affine_matrix(rotation: list[float], shear: list[float], scale: list[float]) -> Tensor:
    """Return the 3x3 matrix of radians about I, J, K, six shear factors (IJ, IK, JI, JK, KI, KJ) and three factors."""
    parts = (create_rotate(3, rotation), create_shear(3, shear), create_scale(3, scale))
    first, second, third = (torch.as_tensor(part, dtype=torch.float32)[:3, :3] for part in parts)
    return first @ second @ third
