"""A picture of a segmentation beside the truth: three slices through the place where they differ most."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medseg.errors import GeometryError
from medseg.preview.figure import busiest_slices, display_window, draw_slice, legend_entries, slices_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from medseg.labels import LabelTable
    from medseg.preview.figure import Slice
    from medseg.volumes import Volume

_PAPER = "#14171b"
_TRUTH = "#ffffff"
_MARGIN_MM = 25.0
"""What is shown around the structures."""


def write_comparison(image: Volume, truth: Volume, result: Volume, labels: LabelTable, stream: BinaryIO) -> None:
    """Write a PNG (1440 x 480 pixels): the result filled in the colours of its labels, the truth as white lines.

    Parameters
    ----------
    image, truth, result
        (k, j, i) on one grid of any orientation; ``truth`` and ``result`` hold label values.

    Raises
    ------
    GeometryError
        When the volumes do not share one grid.
    """
    if not (truth.geometry.is_close(image.geometry) and result.geometry.is_close(image.geometry)):
        raise GeometryError(
            "The image and the segmentations do not lie on the same voxel grid.",
            advice="Resample the segmentations onto the image's grid first.",
        )
    window = display_window(image)
    picture, real, found = (_around(volume.reorient("LPS"), truth, result) for volume in (image, truth, result))
    differs = real.array != found.array
    place = busiest_slices(differs if differs.any() else real.array != 0)
    entries = legend_entries(found, labels)
    figure = Figure(figsize=(12, 4), dpi=120, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    panes = zip(slices_at(picture, found, place), slices_at(picture, real, place), strict=True)
    for number, (mine, true) in enumerate(panes):
        axes = figure.add_axes((number / 3 + 0.002, 0.006, 1 / 3 - 0.004, 0.988))
        axes.set_facecolor("#000000")
        axes.set_axis_off()
        draw_slice(axes, mine, entries, window)
        _outline(axes, true)
    figure.savefig(stream, format="png", facecolor=_PAPER)


def _outline(axes: Axes, shown: Slice) -> None:
    """Draw the borders of all labels as thin white lines."""
    rows, columns = shown.labels.shape
    across = (np.arange(-1, columns + 1) + 0.5) * shown.pixel_mm[1]
    down = (np.arange(-1, rows + 1) + 0.5) * shown.pixel_mm[0]
    for value in np.unique(shown.labels[shown.labels != 0]):
        mask = np.pad((shown.labels == value).astype(float), 1)
        axes.contour(across, down, mask, levels=[0.5], colors=[_TRUTH], linewidths=1.0)


def _around(volume: Volume, truth: Volume, result: Volume) -> Volume:
    """Return the part of ``volume`` ("LPS") that holds the structures, with a margin."""
    either = (truth.reorient("LPS").array != 0) | (result.reorient("LPS").array != 0)
    if not either.any():
        return volume
    spacing = volume.geometry.spacing[::-1]
    start, stop = [], []
    for axis, step in enumerate(spacing):
        filled = np.flatnonzero(either.any(axis=tuple(other for other in range(3) if other != axis)))
        margin = round(_MARGIN_MM / step)
        start.append(max(0, int(filled[0]) - margin))
        stop.append(min(either.shape[axis], int(filled[-1]) + 1 + margin))
    return volume.crop(start, stop)
