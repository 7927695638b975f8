"""Measure segments: voxels, volume and intensities, in one pass over the image and without a mask for each segment."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import GeometryError
from medseg.files import atomic_path
from medseg.segmentation.results import SegmentStatistics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.labels import LabelTable
    from medseg.progress import Progress
    from medseg.volumes import Volume

STATISTICS_COLUMNS = (
    "segment",
    "label_value",
    "voxels",
    "volume_ml",
    "mean",
    "standard_deviation",
    "minimum",
    "maximum",
)


def measure_segments(
    labelmap: Volume, image: Volume, labels: LabelTable, *, progress: Progress | None = None
) -> list[SegmentStatistics]:
    """Return the statistics of every label of ``labels``, in its order.

    Sums are in float64; the squared deviations of each slice are taken about the slice's own mean and merged (Chan,
    Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979), so that a
    large offset of the intensities does not drown a small deviation.

    Parameters
    ----------
    labelmap
        Integers, (k, j, i).
    image
        Intensities on the same grid.
    labels
        The labels to measure; voxels of other values are left out.

    Raises
    ------
    GeometryError
        When the two volumes do not have the same size.
    """
    if labelmap.array.shape != image.array.shape:
        raise GeometryError(
            f"The labelmap has {labelmap.array.shape} voxels (k, j, i) and the image {image.array.shape}.",
            advice="Resample one onto the grid of the other first.",
        )
    size = max((label.value for label in labels), default=0) + 1
    count = np.zeros(size, np.int64)
    mean, squares = np.zeros(size), np.zeros(size)
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    for label_plane, image_plane in zip(labelmap.array, image.array, strict=True):
        if progress is not None:
            progress.check()
        inside = (label_plane > 0) & (label_plane < size)
        if not inside.any():
            continue
        values = label_plane[inside]
        order = np.argsort(values, kind="stable")
        values, grey = values[order], image_plane[inside][order].astype(np.float64)
        first = np.flatnonzero(np.diff(values, prepend=values.dtype.type(0)))
        found = values[first].astype(np.int64)
        added = np.diff(np.append(first, len(values)))
        plane_mean = np.add.reduceat(grey, first) / added
        plane_squares = np.add.reduceat((grey - np.repeat(plane_mean, added)) ** 2, first)
        total = count[found] + added
        step = plane_mean - mean[found]
        squares[found] += plane_squares + step**2 * count[found] * added / total
        mean[found] += step * added / total
        count[found] = total
        low[found] = np.minimum(low[found], np.minimum.reduceat(grey, first))
        high[found] = np.maximum(high[found], np.maximum.reduceat(grey, first))
    voxel_ml = labelmap.geometry.voxel_volume_mm3 / 1000.0
    return [
        SegmentStatistics(
            label.value,
            label.name,
            int(count[label.value]),
            float(count[label.value] * voxel_ml),
            *_intensities(label.value, count, mean, squares, low, high),
        )
        for label in labels
    ]


def _intensities(value: int, count: np.ndarray, *sums: np.ndarray) -> tuple[float, float, float, float]:
    if count[value] == 0:
        return math.nan, math.nan, math.nan, math.nan
    mean, squares, low, high = (float(array[value]) for array in sums)
    return mean, math.sqrt(squares / max(count[value] - 1, 1)), low, high


def write_statistics_csv(path: str | Path, statistics: Sequence[SegmentStatistics]) -> None:
    """Write a table with a row for each segment (UTF-8, commas, :data:`STATISTICS_COLUMNS`; NaN is an empty cell).

    Raises
    ------
    WriteError
        When the file cannot be written; what stood there before is untouched.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(STATISTICS_COLUMNS)
    for entry in statistics:
        numbers = (entry.volume_ml, entry.mean, entry.std, entry.minimum, entry.maximum)
        cells = ["" if math.isnan(number) else f"{number:.6g}" for number in numbers]
        writer.writerow([entry.name, entry.value, entry.voxels, *cells])
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="\n")
