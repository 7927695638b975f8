"""Whole pairs: which labels, which two deformations, which paint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import Tensor

from medseg.training.section import Section
from medseg.training.synthesis.painting import Contrast, Tissue, ct_contrast, cut, paint, random_contrast
from medseg.training.synthesis.shapes import random_shapes
from medseg.training.synthesis.warps import PoseSection, WarpSection, random_displacement, random_pose, read_labels_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.training.synthesis.anatomy import Anatomy
    from medseg.training.synthesis.draws import Draws
    from medseg.training.synthesis.painting import PaintingSection
    from medseg.training.synthesis.shapes import ShapeSection

_MARGIN = 1.3
"""How much larger than the grid the map is from which shapes are read, so that deformations find something there."""
_SHAPE_TISSUES = (Tissue.FAT, Tissue.SOFT, Tissue.SOFT, Tissue.BONE)
"""Of which one is drawn for each class of shapes in a CT (our choice)."""


class GridSection(Section):
    """The grid of the network: voxels along I, J, K in training, their size in mm, and the directions of the axes.

    In use the grid may have another size; voxels and axes stay.
    """

    size: tuple[Annotated[int, Field(ge=8)], Annotated[int, Field(ge=8)], Annotated[int, Field(ge=8)]]
    spacing: Annotated[float, Field(ge=0.1, le=20)]
    orientation: str = "RAS"


class PairSection(Section):
    """How the two images of a pair differ in space.

    Both lie in a random pose ``pose``; ``misaligned`` is what an affine alignment leaves of the second one's, and
    ``warps`` deforms each of them by a field of its own.
    """

    pose: PoseSection = PoseSection()
    misaligned: PoseSection = PoseSection(rotation_degrees=4.0, scale=0.04, shear=0.02, translation_mm=3.0)
    warps: WarpSection = WarpSection()
    two_subjects: Annotated[float, Field(ge=0, le=1)] = 0.5


@dataclass(frozen=True)
class SyntheticPair:
    """Two images and what they show.

    Attributes
    ----------
    fixed, moving
        (I, J, K) float32, 0 to 1.
    fixed_labels, moving_labels
        (I, J, K) uint8; equal numbers are equal structures.
    scored
        Numbers of the structures whose overlap says how good a registration is: what a reader of the images could see.
    """

    fixed: Tensor
    moving: Tensor
    fixed_labels: Tensor
    moving_labels: Tensor
    scored: tuple[int, ...]


def pair_of_anatomies(
    first: Anatomy,
    second: Anatomy,
    draws: Draws,
    *,
    grid: GridSection,
    section: PairSection,
    painting: PaintingSection,
    scored: Sequence[int],
    outside: Sequence[int],
    tissues: Sequence[Tissue],
    painted_as: Sequence[int] | None = None,
) -> SyntheticPair:
    """Return a pair painted on one label map (``first`` and ``second`` the same) or on two that are aligned.

    Parameters
    ----------
    grid
        Its axes are those of the anatomies.
    scored, outside
        Places in their ``codes``: the structures that count, and what skull-stripping takes away; the centres of the
        former align two maps.
    tissues
        Of each place, for CT.
    painted_as
        For each place the one whose paint it gets; ``None``: each its own.
    """
    pose = random_pose(section.pose, draws)
    pose[:3, 3] += _middle(first, scored)
    other = first.alignment_to(second, scored) @ pose @ random_pose(section.misaligned, draws)
    labels = [
        read_labels_at(
            anatomy.labels.to(draws.device),
            anatomy.spacing_mm,
            place,
            random_displacement(grid.size, grid.spacing, section.warps, draws),
            grid.spacing,
        )
        for anatomy, place in ((first, pose), (second, other))
    ]
    return _painted(labels, painting, draws, scored=scored, outside=outside, tissues=tissues, painted_as=painted_as)


def pair_of_shapes(
    draws: Draws, *, grid: GridSection, shapes: ShapeSection, section: PairSection, painting: PaintingSection
) -> SyntheticPair:
    """Return a pair painted on one label map of random shapes."""
    spacing = grid.spacing
    labels, classes = random_shapes([round(_MARGIN * n) for n in grid.size], spacing, shapes, draws)
    straight = section.pose.model_copy(update={"translation_mm": 0.0})
    pose = random_pose(straight, draws)
    poses = (pose, pose @ random_pose(section.misaligned, draws))
    read = [
        read_labels_at(labels, spacing, place, random_displacement(grid.size, spacing, section.warps, draws), spacing)
        for place in poses
    ]
    tissues = [Tissue.AIR, *(_SHAPE_TISSUES[draws.whole(0, 3)] for _ in range(classes - 1))]
    return _painted(read, painting, draws, scored=range(1, classes), outside=(), tissues=tissues)


def _painted(
    labels: Sequence[Tensor],
    section: PaintingSection,
    draws: Draws,
    *,
    scored: Sequence[int],
    outside: Sequence[int],
    tissues: Sequence[Tissue],
    painted_as: Sequence[int] | None = None,
) -> SyntheticPair:
    fixed, moving = (cut(one, section, draws) for one in labels)
    ct = draws.chance(section.ct_probability)
    if outside and not ct:
        fixed, moving = _stripped(fixed, moving, section, draws, outside)
    contrasts = _contrasts(tissues, section, draws, ct=ct)
    if painted_as is not None:
        which = torch.tensor(painted_as, device=fixed.device)
        contrasts = [Contrast(one.means[which], one.spreads[which], one.clip) for one in contrasts]
    images = [paint(one, contrast, section, draws) for one, contrast in zip((fixed, moving), contrasts, strict=True)]
    if ct:
        # Structures of one tissue look alike there: no reader could tell them apart.
        table = torch.tensor([int(tissue) for tissue in tissues], dtype=torch.uint8, device=fixed.device)
        fixed, moving = (table[one.to(torch.int64)] for one in (fixed, moving))
        scored = sorted({int(tissue) for tissue in tissues} - {int(Tissue.AIR)})
    return SyntheticPair(images[0], images[1], fixed, moving, tuple(scored))


def _contrasts(tissues: Sequence[Tissue], section: PaintingSection, draws: Draws, *, ct: bool) -> list[Contrast]:
    if ct:
        window = draws.chance(section.ct_window_probability)
        one = ct_contrast(tissues, draws, window=window)
        return [one, one]
    both = draws.chance(section.two_contrasts)
    black = [not draws.chance(section.background_probability) for _ in range(2)]
    first = random_contrast(len(tissues), draws, black=black[0])
    return [first, random_contrast(len(tissues), draws, black=black[1]) if both else first]


def _stripped(
    fixed: Tensor, moving: Tensor, section: PaintingSection, draws: Draws, outside: Sequence[int]
) -> tuple[Tensor, Tensor]:
    drawn = draws.uniform(0, 1)
    both = drawn < section.strip_probability
    one = not both and drawn < section.strip_probability + section.strip_one
    kept = torch.ones(256, dtype=torch.uint8, device=fixed.device)
    kept[list(outside)] = 0
    first = one and draws.chance(0.5)
    if both or first:
        fixed = fixed * kept[fixed.to(torch.int64)]
    if both or (one and not first):
        moving = moving * kept[moving.to(torch.int64)]
    return fixed, moving


def _middle(anatomy: Anatomy, places: Sequence[int]) -> Tensor:
    """Return the mean of the centres of structures, mm: what the grid is to show."""
    centres = anatomy.centres_mm[list(places)]
    there = centres[torch.isfinite(centres).all(1)]
    return there.mean(0) if len(there) else torch.zeros(3, dtype=torch.float64)
