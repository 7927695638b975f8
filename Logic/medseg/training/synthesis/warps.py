"""Random smooth deformations and poses, and reading a label map through them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from medseg.networks.spatial import exponential, resize_field
from medseg.training.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.training.synthesis.draws import Draws

_STEEPEST = 0.5
"""The largest amplitude, as a part of its scale, whose exponential does not fold on a grid (tried, our choice)."""
_POINTS_A_SCALE = 4
"""Voxels between two control points from which a coarse grid shows a field well enough."""
_SQUARINGS = 6


class WarpSection(Section):
    """Random deformations: stationary velocity fields of several scales, integrated, so that nothing folds.

    For each of ``scales_mm``, the distance of its control points, the largest velocity is drawn from 0 to the number of
    ``amplitudes_mm`` in the same place; an amplitude may be at most half of its scale.
    """

    scales_mm: tuple[Annotated[float, Field(gt=0)], ...] = (80.0, 40.0, 20.0)
    amplitudes_mm: tuple[Annotated[float, Field(ge=0)], ...] = (12.0, 8.0, 4.0)

    @model_validator(mode="after")
    def _belong_together(self) -> WarpSection:
        if len(self.scales_mm) != len(self.amplitudes_mm):
            raise ValueError("scales_mm and amplitudes_mm must be equally long")
        if any(high > _STEEPEST * scale for scale, high in zip(self.scales_mm, self.amplitudes_mm, strict=True)):
            raise ValueError("an amplitude may be at most half of its scale, else the deformations fold")
        return self


class PoseSection(Section):
    """Random affine changes about the centre; every number is drawn from minus to plus the one given.

    ``flips`` mirrors the axes of I, J, K that it lists, each with probability 1/2.
    """

    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 15.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.15
    shear: Annotated[float, Field(ge=0, lt=1)] = 0.05
    translation_mm: Annotated[float, Field(ge=0)] = 8.0
    flips: tuple[Annotated[int, Field(ge=0, le=2)], ...] = ()

    @field_validator("flips")
    @classmethod
    def _once(cls, axes: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(axes)) < len(axes):
            raise ValueError("must list an axis once")
        return axes


def random_displacement(size: Sequence[int], spacing_mm: float, section: WarpSection, draws: Draws) -> Tensor:
    """Return a random displacement field without folds, (3, \\*size) in voxels.

    The velocities are integrated by scaling and squaring on half the grid where that shows them well enough, which
    takes an eighth of the time.

    Parameters
    ----------
    size
        Voxels along I, J, K, at least 2 each.
    spacing_mm
        Of the grid.
    """
    finest = min(section.scales_mm, default=math.inf)
    half = finest >= 2 * _POINTS_A_SCALE * spacing_mm and min(size) >= 8
    grid = [math.ceil(n / 2) for n in size] if half else list(size)
    steps = [spacing_mm * (n - 1) / (m - 1) for n, m in zip(size, grid, strict=True)]
    velocity = torch.zeros((3, *grid), device=draws.device)
    for scale, largest in zip(section.scales_mm, section.amplitudes_mm, strict=True):
        part = draws.smooth(grid, scale / max(steps), channels=3)
        amplitude = draws.uniform(0, largest)
        velocity += part * (amplitude / part.square().sum(0).max().sqrt().clamp(min=1e-6))
    velocity /= torch.tensor(steps, device=draws.device).reshape(3, 1, 1, 1)
    return resize_field(exponential(velocity[None], _SQUARINGS), size)[0]


def random_pose(section: PoseSection, draws: Draws) -> Tensor:
    """Return a random affine change about the origin, 4x4 in mm: flips, then scaling, shear, rotation and a shift."""
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = _turn([math.radians(_either(draws, section.rotation_degrees)) for _ in range(3)])
    shear = torch.eye(3, dtype=torch.float64)
    for row, column in ((0, 1), (0, 2), (1, 2)):
        shear[row, column] = _either(draws, section.shear)
    scale = torch.tensor([1 + _either(draws, section.scale) for _ in range(3)], dtype=torch.float64)
    for axis in section.flips:
        scale[axis] *= -1 if draws.chance(0.5) else 1
    matrix[:3, :3] = matrix[:3, :3] @ shear @ torch.diag(scale)
    matrix[:3, 3] = torch.tensor([_either(draws, section.translation_mm) for _ in range(3)], dtype=torch.float64)
    return matrix


def read_labels_at(
    labels: Tensor, labels_spacing_mm: float, pose: Tensor, displacement: Tensor, spacing_mm: float
) -> Tensor:
    """Return a label map as a grid sees it that is deformed first and placed in the map then, by nearest neighbours.

    Both grids are centred at the origin. A voxel at x mm of the new grid reads the map at ``pose(x + u(x))``.

    Parameters
    ----------
    labels
        (I, J, K) whole numbers; 0 is read beyond its borders.
    labels_spacing_mm
        Its voxel size.
    pose
        4x4, mm to mm.
    displacement
        (3, I', J', K') in voxels of the new grid.
    spacing_mm
        The new grid's voxel size.

    Returns
    -------
    Tensor
        (I', J', K'), of the type of ``labels``.
    """
    size, source = tuple(displacement.shape[1:]), torch.tensor(labels.shape, dtype=torch.float64)
    linear = pose[:3, :3] * (spacing_mm / labels_spacing_mm)
    centre = (torch.tensor(size, dtype=torch.float64) - 1) / 2
    start = pose[:3, 3] / labels_spacing_mm + (source - 1) / 2 - linear @ centre
    device = displacement.device
    at = torch.einsum("ac,cijk->aijk", linear.to(device, torch.float32), displacement)
    index = torch.zeros(size, dtype=torch.int64, device=device)
    inside = torch.ones(size, dtype=torch.bool, device=device)
    for axis, count in enumerate(labels.shape):
        place = at[axis]
        for other, n in enumerate(size):
            steps = torch.arange(n, dtype=torch.float64) * linear[axis, other] + (start[axis] if other == 0 else 0)
            shape = [-1 if other == d else 1 for d in range(3)]
            place = place + steps.to(device, torch.float32).reshape(shape)
        rounded = place.round()
        inside &= (rounded >= 0) & (rounded <= count - 1)
        index = index * count + rounded.clamp(0, count - 1).to(torch.int64)
    return torch.take(labels, index) * inside


def _either(draws: Draws, largest: float) -> float:
    return draws.uniform(-largest, largest)


def _turn(angles: Sequence[float]) -> Tensor:
    matrix = torch.eye(3, dtype=torch.float64)
    for axis, angle in enumerate(angles):
        first, second = [(1, 2), (0, 2), (0, 1)][axis]
        turn = torch.eye(3, dtype=torch.float64)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    return matrix
