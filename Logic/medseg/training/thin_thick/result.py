"""A transfer as a segmentation like any other, so that it is measured, shown, sent and written the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.segmentation.results import SegmentationResult
from medseg.segmentation.statistics import measure_segments
from medseg.version import VERSION

if TYPE_CHECKING:
    from medseg.labels import LabelTable
    from medseg.progress import Progress
    from medseg.training.thin_thick.per_case import TransferResult
    from medseg.volumes import Volume

ORIGIN = {"name": "thin-from-thick", "version": VERSION, "weights_sha256": ""}
"""What such a segmentation says it comes from: no model of the library, and this version of MedSeg."""


def as_segmentation(
    result: TransferResult, labels: LabelTable, thin: Volume, *, progress: Progress | None = None
) -> SegmentationResult:
    """Return the labels on the thin slices with names, colours and measurements.

    Parameters
    ----------
    result
        What :func:`medseg.training.thin_thick.transfer` gave for ``thin``.
    labels
        Must name every value of it; others are left out.
    """
    present = set(result.values)
    named = type(labels)([label for label in labels if label.value in present])
    drawn = [row for row in result.agreement if row.drawn_voxels]
    voxels = sum(row.drawn_voxels for row in drawn)
    mean = sum(row.dice * row.drawn_voxels for row in drawn) / voxels if voxels else 1.0
    summary = f"On the thick slices the result agrees with what was drawn with a Dice coefficient of {mean:.2f}."
    return SegmentationResult(
        labelmap=result.labelmap,
        labels=named,
        statistics=measure_segments(result.labelmap, thin, named, progress=progress),
        notices=[*result.notices, summary],
        timings=dict(result.timings),
        device=result.device,
        model=dict(ORIGIN),
    )
