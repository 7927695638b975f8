"""What instances are called: "Thoracic vertebra a", "b", "c" from the head to the feet, each in a colour of its own.

Letters, because numbers would be read as those of anatomy, which nobody has counted here.
"""

from __future__ import annotations

import dataclasses
import re
from string import ascii_lowercase
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.labels.table import LARGEST_VALUE, distinct_color

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.labels import Label
    from medseg.volumes import Geometry


def head_to_feet(instances: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Return the numbers (not 0) of ``instances``, those whose centre of mass lies nearest to the head first.

    Centres at one height (within a micrometre) come from right to left, then from front to back.

    Parameters
    ----------
    instances
        Integers, (k, j, i).
    geometry
        Their grid, in any orientation.
    """
    size = int(instances.max(initial=0)) + 1
    voxels = np.zeros(size)
    sums = np.zeros((size, 3))
    columns = np.arange(instances.shape[2], dtype=np.float64)
    rows = np.arange(instances.shape[1], dtype=np.float64)
    for k, plane in enumerate(instances):
        if not plane.any():
            continue
        flat = plane.ravel()
        here = np.bincount(flat, minlength=size)
        voxels += here
        sums[:, 0] += np.bincount(flat, np.broadcast_to(columns, plane.shape).ravel(), size)
        sums[:, 1] += np.bincount(flat, np.broadcast_to(rows[:, None], plane.shape).ravel(), size)
        sums[:, 2] += here * k
    numbers = np.flatnonzero(voxels)
    numbers = numbers[numbers > 0]
    centres = np.round(geometry.ijk_to_ras_points(sums[numbers] / voxels[numbers, None]), 3)
    return numbers[np.lexsort((-centres[:, 1], -centres[:, 0], -centres[:, 2]))]


def instance_labels(
    group: Label, count: int, first_value: int, *, name: str = "", taken: Sequence[str] = ()
) -> list[Label]:
    """Return labels for the ``count`` instances of ``group``: its codes, names with letters, colours that differ.

    Parameters
    ----------
    group
        The label whose voxels were split.
    first_value
        The value of the first; the others follow.
    name
        What one of them is called; empty: the name of ``group``.
    taken
        Names that are not to be used again; the letters then stand behind a second word ("Rib, part a").

    Raises
    ------
    InputError
        When a value would not fit into a labelmap.
    """
    if first_value + count - 1 > LARGEST_VALUE:
        raise InputError(
            f"'{group.name}' falls into {count} parts, more than a labelmap can number.",
            advice="Remove small parts, for example with a minimum volume.",
        )
    stem = name or group.name
    names = [f"{stem} {letters(place)}" for place in range(count)]
    if set(names) & set(taken):
        names = [f"{stem}, part {letters(place)}" for place in range(count)]
    return [
        dataclasses.replace(group, value=first_value + index, name=text, color=distinct_color(first_value + index))
        for index, text in enumerate(names)
    ]


def letters(place: int) -> str:
    """Return "a" to "z" for the places 0 to 25, then "aa", "ab" and so on."""
    text = ""
    while place >= 0:
        place, letter = divmod(place, len(ascii_lowercase))
        text = ascii_lowercase[letter] + text
        place -= 1
    return text


def group_of(name: str) -> str:
    """Return what an instance is one of: "Left rib" for "Left rib c" and for "Left rib 3".

    A name that ends in neither a number nor one or two small letters is a group of its own.
    """
    return re.sub(r"([\s,#]*\d+|[\s,#]+[a-z]{1,2})$", "", name) or name


def numbered_table(labels: Sequence[Label]) -> LabelTable:
    """Return the table of ``labels``; names that occur twice get their value behind them."""
    seen: set[str] = set()
    unique = []
    for label in labels:
        kept = dataclasses.replace(label, name=f"{label.name} ({label.value})") if label.name in seen else label
        seen.add(kept.name)
        unique.append(kept)
    return LabelTable(unique)
