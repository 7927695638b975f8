"""What is registered, and by what it is known how well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from medseg.volumes import Volume

Measure = Literal["mm", "dice"]
Rival = Literal["syn", "elastix"]


@dataclass(frozen=True)
class Pair:
    """Two volumes of one anatomy.

    Attributes
    ----------
    fixed, moving
        What every method is given.
    fixed_points, moving_points
        (N, 3) RAS mm: places of the fixed volume, and where the moving one shows the same; landmarks, or voxels of the
        body whose counterparts are known because the pair was made. No method sees them.
    fixed_labels, moving_labels
        Segmentations with the same values. No method sees them.
    fixed_mask, moving_mask
        Label maps that every method is given which takes masks.
    """

    fixed: Volume
    moving: Volume
    fixed_points: np.ndarray | None = None
    moving_points: np.ndarray | None = None
    fixed_labels: Volume | None = None
    moving_labels: Volume | None = None
    fixed_mask: Volume | None = None
    moving_mask: Volume | None = None


@dataclass(frozen=True)
class Group:
    """Pairs that share a table.

    Attributes
    ----------
    title, about
        Heading, and what the pairs are and how it is known what is right.
    measure
        "mm": errors of points; "dice": overlap of labels.
    contrasts
        How many contrasts the two volumes of a pair have: Demons compares brightness and takes one only.
    goal
        With which rival the goal of the project is about.
    notes
        What limits the conclusion.
    """

    title: str
    about: str
    measure: Measure
    contrasts: Literal["one", "several"] = "one"
    goal: Rival | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """A pair that is made when it is wanted.

    Attributes
    ----------
    name
        Unlike all others.
    group
        Name of its group.
    build
        Makes the pair, with voxels of at least so many mm (``None``: as they are).
    quick
        Whether a quick run has it.
    """

    name: str
    group: str
    build: Callable[[float | None], Pair]
    quick: bool = False
