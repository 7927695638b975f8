"""Split a segment into its instances and give it back like any other segmentation, so that it is shown and written."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from medseg.analysis import SplitOptions, split_instances
from medseg.analysis.components import counts_of
from medseg.progress import NO_PROGRESS, Progress
from medseg.segmentation.results import SegmentationResult, SegmentStatistics
from medseg.segmentation.statistics import measure_segments
from medseg.version import VERSION

if TYPE_CHECKING:
    from medseg.labels import Label
    from medseg.volumes import Volume

ORIGIN = {"name": "instances", "version": VERSION, "weights_sha256": ""}
"""What such a result says it comes from: no model, and this version of MedSeg."""


def split_segment(
    labelmap: Volume,
    label: Label,
    options: SplitOptions | None = None,
    *,
    image: Volume | None = None,
    progress: Progress = NO_PROGRESS,
) -> SegmentationResult:
    """Split the voxels of ``label`` into instances (:func:`medseg.analysis.split_instances`).

    Parameters
    ----------
    labelmap
        Integers, (k, j, i), any orientation.
    label
        Whose voxels are split; name and codes are handed on.
    image
        When given, on the same grid: intensities are measured in it; without it they are NaN.

    Raises
    ------
    InputError
        When there is no such voxel, or nothing is left.
    GeometryError
        When the image has another number of voxels.
    Cancelled
        When the user asked to stop.
    """
    begun = time.perf_counter()
    found = split_instances(labelmap, label, options, progress=progress.part(0.0, 0.9))
    if image is not None:
        statistics = measure_segments(found.labelmap, image, found.labels, progress=progress)
    else:
        voxels = counts_of(found.labelmap.array)
        voxel_ml = labelmap.geometry.voxel_volume_mm3 / 1000.0
        statistics = [
            SegmentStatistics(
                each.value, each.name, int(voxels[each.value]), float(voxels[each.value] * voxel_ml), *[math.nan] * 4
            )
            for each in found.labels
        ]
    progress.update(1.0, "Done")
    return SegmentationResult(
        labelmap=found.labelmap,
        labels=found.labels,
        statistics=statistics,
        notices=list(found.notices),
        timings={"other": time.perf_counter() - begun},
        model=dict(ORIGIN),
    )
