"""Label maps of random smooth shapes, which stand for any anatomy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field, field_validator
from torch import Tensor

from medseg.training.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.training.synthesis.draws import Draws

_BODY = 2.6
"""How far from the centre, in units of a third of the size, the surface of a body lies on average."""


class ShapeSection(Section):
    """Random shapes: as many smooth random fields as there are classes, and at each voxel the class of the largest.

    The number of classes and the size of the shapes in mm are drawn from these ranges. With the probability
    ``body_probability`` the shapes lie inside a rounded body, and all outside it is background.
    """

    classes: tuple[Annotated[int, Field(ge=2, le=200)], Annotated[int, Field(ge=2, le=200)]] = (4, 16)
    size_mm: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (15.0, 60.0)
    body_probability: Annotated[float, Field(ge=0, le=1)] = 0.5

    @field_validator("classes", "size_mm")
    @classmethod
    def _rising(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if limits[0] > limits[1]:
            raise ValueError("must be the smallest and the largest value, in this order")
        return limits


def random_shapes(size: Sequence[int], spacing_mm: float, section: ShapeSection, draws: Draws) -> tuple[Tensor, int]:
    """Return a label map (I, J, K), uint8, of random smooth shapes, and the number of its classes, 0 included.

    Whether a class really occurs is left to chance.
    """
    classes = draws.whole(*section.classes)
    step = draws.uniform(*section.size_mm) / spacing_mm
    highest: Tensor | None = None
    labels = torch.zeros(tuple(size), dtype=torch.uint8, device=draws.device)
    for value in range(classes):
        field = draws.smooth(size, step)[0]
        if highest is None:
            highest = field
            continue
        labels[field > highest] = value
        highest = torch.maximum(highest, field)
    if draws.chance(section.body_probability):
        labels = torch.where(labels == 0, classes, labels) * _body(size, draws)
        classes += 1
    return labels, classes


def _body(size: Sequence[int], draws: Draws) -> Tensor:
    """Return where a rounded body with a bumpy surface is, (I, J, K) uint8."""
    distance = torch.zeros(tuple(size), device=draws.device)
    for axis, n in enumerate(size):
        stretch = draws.uniform(0.85, 1.25)
        along = ((torch.arange(n, device=draws.device) - (n - 1) / 2) * (3 * stretch / n)).square()
        distance = distance + along.reshape([-1 if axis == d else 1 for d in range(3)])
    bumps = draws.smooth(size, max(size) / 3)[0]
    return (distance.sqrt() * 2 + 0.6 * bumps < _BODY).to(torch.uint8)
