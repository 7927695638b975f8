"""Two sets of instances compared, as a segmentation that shows where: found, invented, missed."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np

from medseg.analysis.components import counts_of
from medseg.analysis.panoptic import Panoptic, compare_instances, on_one_grid, pooled
from medseg.labels import Label, LabelTable
from medseg.labels.codes import TISSUE
from medseg.progress import NO_PROGRESS, Progress
from medseg.segmentation.results import SegmentationResult, SegmentStatistics
from medseg.segmentation.splitting import ORIGIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from medseg.volumes import Volume

FOUND, INVENTED, MISSED = 1, 2, 3
LABELS = LabelTable(
    [
        Label(FOUND, "Found instances", (90, 180, 90), TISSUE, TISSUE),
        Label(INVENTED, "Invented instances", (220, 120, 60), TISSUE, TISSUE),
        Label(MISSED, "Missed instances", (70, 120, 220), TISSUE, TISSUE),
    ]
)


def instance_agreement(
    predicted: Volume,
    true: Volume,
    groups: Mapping[str, tuple[Iterable[int], Iterable[int]]] | None = None,
    *,
    progress: Progress = NO_PROGRESS,
) -> SegmentationResult:
    """Compare instances by panoptic quality (:func:`medseg.analysis.compare_instances`) and show where they agree.

    Parameters
    ----------
    predicted, true, groups
        As :func:`medseg.analysis.compare_instances`.
    progress
        May cancel between the groups.

    Returns
    -------
    SegmentationResult
        Its labelmap has the voxels of matched instances (of either side), of predicted ones without a partner, and of
        true ones without a partner. The figures are its notices: one for each group, and one for all together.

    Raises
    ------
    GeometryError
        When the two do not share one grid.
    Cancelled
        When the user asked to stop.
    """
    begun = time.perf_counter()
    predicted, true = on_one_grid(predicted, true)
    sides = groups if groups is not None else {"All": (_values(predicted.array), _values(true.array))}
    labels = np.zeros(predicted.shape, np.uint8)
    notices, parts = [], []
    for index, (name, (ours, theirs)) in enumerate(sides.items()):
        progress.update(index / len(sides), f"Comparing {name}")
        mine, other = list(ours), list(theirs)
        found = compare_instances(predicted, true, {name: (mine, other)})[name]
        matched = {match.predicted for match in found.matches}, {match.true for match in found.matches}
        _paint(labels, true.array, [value for value in other if value not in matched[1]], MISSED)
        _paint(labels, predicted.array, [value for value in mine if value not in matched[0]], INVENTED)
        _paint(labels, true.array, matched[1], FOUND)
        _paint(labels, predicted.array, matched[0], FOUND)
        notices.append(_sentence(name, found))
        parts.append(found)
    if len(parts) > 1:
        notices.append(_sentence("All together", pooled(parts)))
    counts = counts_of(labels)
    voxels = np.pad(counts, (0, len(LABELS) + 1 - len(counts)))
    voxel_ml = predicted.geometry.voxel_volume_mm3 / 1000.0
    progress.update(1.0, "Done")
    return SegmentationResult(
        labelmap=predicted.with_array(labels),
        labels=LABELS,
        statistics=[
            SegmentStatistics(
                each.value, each.name, int(voxels[each.value]), float(voxels[each.value] * voxel_ml), *[math.nan] * 4
            )
            for each in LABELS
        ],
        notices=notices,
        timings={"other": time.perf_counter() - begun},
        model=dict(ORIGIN),
    )


def _values(array: np.ndarray) -> list[int]:
    values = np.flatnonzero(counts_of(array))
    return [int(value) for value in values if value]


def _paint(labels: np.ndarray, instances: np.ndarray, values: Iterable[int], label: int) -> None:
    chosen = np.zeros(int(instances.max(initial=0)) + 1, bool)
    chosen[[value for value in values if value < len(chosen)]] = True
    for plane, numbers in zip(labels, instances, strict=True):
        plane[chosen[numbers]] = label


def _sentence(name: str, found: Panoptic) -> str:
    figures = ", ".join(
        f"{what} {value:.3f}"
        for what, value in (("PQ", found.pq), ("SQ", found.sq), ("RQ", found.rq))
        if not math.isnan(value)
    )
    counts = f"{found.true_positives} found, {found.false_positives} invented, {found.false_negatives} missed"
    return f"{name}: {figures or 'no instance'} ({counts})."
