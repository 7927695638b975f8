"""Panoptic quality with the Dice coefficient: how well instances are found, and how well they are drawn.

Source: the metrics of "Vision transformers for segmenting organs and tissues in CT scans of arbitrary imaging ranges"
(Melander and Thånell, Lund 2024): a predicted instance p and a true one g match when Dice(p, g) > 0.5;
``SQ`` = mean Dice of the matches, ``RQ = TP / (TP + FP/2 + FN/2)``, ``PQ = SQ * RQ``.

Dice above 0.5 is an IoU above 1/3 only, so it does not make matches unique as an IoU above 0.5 does: a rib that the
prediction cuts into two equal halves has a Dice of 2/3 with both. Here each instance is matched once at most, in the
order of falling Dice (not given in the paper); the second half is a false positive.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import GeometryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from medseg.volumes import Volume

THRESHOLD = 0.5
_LARGEST_BOX = 64
"""The box that holds two cut-outs has at most so many times the voxels of the larger one."""


@dataclasses.dataclass(frozen=True)
class Match:
    """A predicted and a true instance that are taken for the same, and their Dice coefficient."""

    predicted: int
    true: int
    dice: float


@dataclasses.dataclass(frozen=True)
class Panoptic:
    """The counts from which panoptic quality is made; ``+`` pools cases.

    Attributes
    ----------
    matches
        The true positives.
    false_positives, false_negatives
        Predicted and true instances without a partner.
    """

    matches: tuple[Match, ...] = ()
    false_positives: int = 0
    false_negatives: int = 0

    @property
    def true_positives(self) -> int:
        """Number of matches."""
        return len(self.matches)

    @property
    def sq(self) -> float:
        """Segmentation quality: mean Dice of the matches; NaN without one."""
        return math.fsum(match.dice for match in self.matches) / len(self.matches) if self.matches else math.nan

    @property
    def rq(self) -> float:
        """Recognition quality, the F1 score of the instances; NaN when there is neither a true nor a predicted one."""
        whole = self.true_positives + self.false_positives / 2 + self.false_negatives / 2
        return self.true_positives / whole if whole else math.nan

    @property
    def pq(self) -> float:
        """Panoptic quality, ``sq * rq``: 0 when there are instances and no match, NaN when there is none at all."""
        return self.rq * self.sq if self.matches else self.rq

    def __add__(self, other: Panoptic) -> Panoptic:
        return Panoptic(
            self.matches + other.matches,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
        )


def pooled(parts: Iterable[Panoptic]) -> Panoptic:
    """Return the counts of all ``parts`` together: the quality of a data set is that of its pooled instances.

    (Pooled or averaged over patients: not given in the paper; its row "all classes" is pooled over the groups.)
    """
    return sum(parts, start=Panoptic())


def panoptic_quality(predicted: np.ndarray, true: np.ndarray, *, threshold: float = THRESHOLD) -> Panoptic:
    """Compare two label arrays of one shape in which every value but 0 is an instance.

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    if predicted.shape != true.shape:
        raise ValueError(f"the arrays have different shapes: {predicted.shape} and {true.shape}")
    sizes_predicted, sizes_true, shared = _overlaps(predicted, true)
    candidates = sorted(
        (
            Match(p, g, 2.0 * voxels / (sizes_predicted[p] + sizes_true[g]))
            for (p, g), voxels in shared.items()
            if 2 * voxels > threshold * (sizes_predicted[p] + sizes_true[g])
        ),
        key=lambda match: (-match.dice, match.predicted, match.true),
    )
    matches: list[Match] = []
    used_predicted: set[int] = set()
    used_true: set[int] = set()
    for match in candidates:
        if match.predicted not in used_predicted and match.true not in used_true:
            matches.append(match)
            used_predicted.add(match.predicted)
            used_true.add(match.true)
    return Panoptic(tuple(matches), len(sizes_predicted) - len(matches), len(sizes_true) - len(matches))


def compare_instances(
    predicted: Volume,
    true: Volume,
    groups: Mapping[str, tuple[Iterable[int], Iterable[int]]] | None = None,
) -> dict[str, Panoptic]:
    """Compare two label maps group by group (left ribs, thoracic vertebrae, ...).

    Parameters
    ----------
    predicted, true
        Label maps (k, j, i) on one grid; every value is an instance. Cut-outs of one grid, as 3D Slicer saves
        segmentations, are filled up with background to the box that holds both.
    groups
        For each group the values of its instances in ``predicted`` and in ``true``; an instance is matched within its
        group only. Without it, all values are one group called "all".

    Returns
    -------
    dict
        For each group its counts. Their sum (:func:`pooled`) is the paper's row "all".

    Raises
    ------
    GeometryError
        When the two do not share one grid.
    """
    predicted, true = on_one_grid(predicted, true)
    if groups is None:
        return {"all": panoptic_quality(predicted.array, true.array)}
    return {
        name: panoptic_quality(_only(predicted.array, ours), _only(true.array, theirs))
        for name, (ours, theirs) in groups.items()
    }


def on_one_grid(first: Volume, second: Volume) -> tuple[Volume, Volume]:
    """Return two label maps that are cut-outs of one grid on the box that holds both.

    Raises
    ------
    GeometryError
        When they are not, or lie far apart.
    """
    if first.geometry.is_close(second.geometry):
        return first, second
    offset = first.geometry.offset_of(second.geometry)
    if offset is None:
        raise GeometryError(
            "The two label maps do not lie on one grid.",
            advice="Compare them on the grid of the original image: resample one onto the other (nearest neighbour).",
        )
    ends = list(zip(offset, first.shape, second.shape, strict=True))
    box = [max(o + b, a) - min(o, 0) for o, a, b in ends]
    if math.prod(box) > _LARGEST_BOX * max(first.array.size, second.array.size):
        raise GeometryError("The two label maps lie far apart.", advice="Check that they belong to the same image.")
    return (
        first.pad([max(-o, 0) for o, _, _ in ends], [max(o + b - a, 0) for o, a, b in ends]),
        second.pad([max(o, 0) for o, _, _ in ends], [max(a - o - b, 0) for o, a, b in ends]),
    )


def _only(labels: np.ndarray, values: Iterable[int]) -> np.ndarray:
    keep = np.zeros(int(labels.max(initial=0)) + 1, labels.dtype)
    wanted = [value for value in values if value < len(keep)]
    keep[wanted] = wanted
    return keep[labels]


def _overlaps(predicted: np.ndarray, true: np.ndarray) -> tuple[Counter[int], Counter[int], Counter[tuple[int, int]]]:
    """Return the voxels of each instance of both, and those that two share; slice by slice, without 64-bit copies."""
    base = int(true.max(initial=0)) + 1
    ours: Counter[int] = Counter()
    theirs: Counter[int] = Counter()
    shared: Counter[tuple[int, int]] = Counter()
    for here, there in zip(predicted, true, strict=True):
        pairs, counts = np.unique(here.astype(np.int64) * base + there, return_counts=True)
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            p, g = divmod(pair, base)
            if p:
                ours[p] += count
            if g:
                theirs[g] += count
            if p and g:
                shared[p, g] += count
    return ours, theirs, shared
