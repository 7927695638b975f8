"""The page of a preview: panes, outlines, letters, scale bars and legend, drawn with matplotlib (no display needed)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import patheffects
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medseg.errors import GeometryError
from medseg.files import atomic_path
from medseg.preview.surface import SurfaceView, render_surface

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from medseg.labels import LabelTable
    from medseg.volumes import Volume

_PAPER, _PANE, _INK, _FAINT = "#14171b", "#000000", "#e8eaed", "#9aa0a6"
_UNKNOWN_COLOR = (160, 160, 160)
_LEGEND_ROWS = 25
_PANE_PIXELS = 560


@dataclass(frozen=True)
class Entry:
    """One row of the legend."""

    value: int
    name: str
    color: tuple[int, int, int]
    volume_ml: float


@dataclass(frozen=True)
class Slice:
    """One slice as it is shown: row 0 on top."""

    title: str
    pixels: np.ndarray  # (rows, columns) intensities
    labels: np.ndarray  # (rows, columns) label values
    pixel_mm: tuple[float, float]  # height and width of a pixel
    letters: str  # left, right, top and bottom of the picture


def write_figure(image: Volume, labelmap: Volume, labels: LabelTable, path: str | Path) -> None:
    """Draw the page and write it to ``path``; see :func:`medseg.preview.draw_preview`."""
    if not labelmap.geometry.is_close(image.geometry):
        raise GeometryError(
            "The image and the segmentation do not lie on the same voxel grid.",
            advice="Resample the segmentation onto the image's grid first.",
        )
    upright = labelmap.reorient("LPS")
    entries = legend_entries(upright, labels)
    figure = Figure(figsize=(12, 9), dpi=120, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    window = display_window(image)
    axial, coronal, sagittal = three_slices(image.reorient("LPS"), upright)
    draw_slice(_pane(figure, 0, 0), axial, entries, window)
    draw_slice(_pane(figure, 1, 0), coronal, entries, window)
    draw_slice(_pane(figure, 1, 1), sagittal, entries, window)
    colors = {entry.value: entry.color for entry in entries}
    _draw_surface(_pane(figure, 0, 1), render_surface(upright, colors, width=_PANE_PIXELS, height=_PANE_PIXELS))
    _draw_legend(figure, entries, image.name)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", facecolor=_PAPER)


def legend_entries(labelmap: Volume, labels: LabelTable) -> list[Entry]:
    """Return the labels that occur in ``labelmap``, in the table's order, with their volumes in mL."""
    values, counts = np.unique(labelmap.array, return_counts=True)
    found = {int(value): int(count) for value, count in zip(values, counts, strict=True) if value != 0}
    voxel_ml = labelmap.geometry.voxel_volume_mm3 / 1000.0
    entries = [
        Entry(label.value, label.name, label.color, found.pop(label.value) * voxel_ml)
        for label in labels
        if label.value in found
    ]
    return entries + [
        Entry(value, f"Label {value}", _UNKNOWN_COLOR, count * voxel_ml) for value, count in sorted(found.items())
    ]


def three_slices(image: Volume, labelmap: Volume) -> tuple[Slice, Slice, Slice]:
    """Return the axial, coronal and sagittal slice with the largest labelled area; both volumes are "LPS".

    The patient's right is on the left of the picture (axial, coronal), anterior on the left of the sagittal one, as
    radiologists hold their films. Without any label the middle slices are taken.
    """
    return slices_at(image, labelmap, busiest_slices(labelmap.array != 0))


def busiest_slices(mask: np.ndarray) -> tuple[int, int, int]:
    """Return the indices (k, j, i) of the slices with the largest area of ``mask``; the middle ones without any."""
    areas = [np.count_nonzero(mask, axis=others) for others in ((1, 2), (0, 2), (0, 1))]
    k, j, i = (int(area.argmax()) if area.any() else size // 2 for area, size in zip(areas, mask.shape, strict=True))
    return k, j, i


def slices_at(image: Volume, labelmap: Volume, indices: tuple[int, int, int]) -> tuple[Slice, Slice, Slice]:
    """Return the axial, coronal and sagittal slice with these indices (k, j, i); both volumes are "LPS"."""
    k, j, i = indices
    width, depth, height = (float(step) for step in image.geometry.spacing)
    return (
        Slice(f"Axial {k + 1}", image.array[k], labelmap.array[k], (depth, width), "RLAP"),
        Slice(f"Coronal {j + 1}", image.array[::-1, j], labelmap.array[::-1, j], (height, width), "RLSI"),
        Slice(f"Sagittal {i + 1}", image.array[::-1, :, i], labelmap.array[::-1, :, i], (height, depth), "APSI"),
    )


def display_window(image: Volume) -> tuple[float, float]:
    """Return the intensities shown as black and white: soft tissue for CT, the 0.5th to 99.5th percentile otherwise."""
    values = image.array[:: max(1, image.array.shape[0] // 64)]
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    if image.modality == "CT":
        return -160.0, 240.0
    low, high = np.percentile(values, [0.5, 99.5])
    return float(low), float(high) if high > low else float(low) + 1.0


def scale_bar_mm(extent_mm: float) -> float:
    """Return a round length (1, 2 or 5 times a power of ten) of at most 40 % of ``extent_mm``."""
    power = 10.0 ** np.floor(np.log10(max(0.4 * extent_mm, 1e-3)))
    return float(max(step * power for step in (1, 2, 5) if step * power <= 0.4 * extent_mm + 1e-9))


def _pane(figure: Figure, row: int, column: int) -> Axes:
    """Return one of the four square panes at the left; the rest of the page belongs to the legend."""
    size = (_PANE_PIXELS - 40) / 1080, (_PANE_PIXELS - 40) / 1440
    left, bottom = 0.012 + column * (size[1] + 0.009), 0.012 + (1 - row) * (size[0] + 0.012)
    axes = figure.add_axes((left, bottom, size[1], size[0]))
    axes.set_facecolor(_PANE)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def draw_slice(axes: Axes, shown: Slice, entries: list[Entry], window: tuple[float, float]) -> None:
    """Draw a slice with the outlines of the labels, the directions and a scale bar."""
    rows, columns = shown.pixels.shape
    height, width = rows * shown.pixel_mm[0], columns * shown.pixel_mm[1]
    extent = (0.0, width, height, 0.0)
    axes.imshow(shown.pixels, cmap="gray", vmin=window[0], vmax=window[1], extent=extent, interpolation="bilinear")
    across = (np.arange(-1, columns + 1) + 0.5) * shown.pixel_mm[1]
    down = (np.arange(-1, rows + 1) + 0.5) * shown.pixel_mm[0]
    for entry in entries:
        # The frame of background closes outlines at the border of the picture.
        mask = np.pad((shown.labels == entry.value).astype(float), 1)
        if not mask.any():
            continue
        color = rgb(entry.color)
        axes.contourf(across, down, mask, levels=[0.5, 1.5], colors=[(*color, 0.16)])
        axes.contour(across, down, mask, levels=[0.5], colors=[color], linewidths=1.4)
    # The picture is letter-boxed into the square pane, so letters and bar keep their places.
    reach = max(width, height) / 2
    axes.set_xlim(width / 2 - reach, width / 2 + reach)
    axes.set_ylim(height / 2 + reach, height / 2 - reach)
    axes.set_aspect("equal")
    places = ((0.025, 0.5), (0.975, 0.5), (0.5, 0.97), (0.5, 0.03))
    for letter, (x, y) in zip(shown.letters, places, strict=True):
        write_text(axes, x, y, letter, size=13, weight="bold", ha="center", va="center")
    write_text(axes, 0.02, 0.975, shown.title, size=10, ha="left", va="top")
    _draw_scale_bar(axes, 2 * reach)


def _draw_surface(axes: Axes, view: SurfaceView | None) -> None:
    if view is None:
        write_text(axes, 0.5, 0.5, "Nothing was segmented", size=13, ha="center", va="center")
        return
    rows, columns = view.pixels.shape[:2]
    extent = (0.0, columns * view.pixel_mm, rows * view.pixel_mm, 0.0)
    axes.imshow(view.pixels, extent=extent, interpolation="antialiased")
    axes.set_aspect("equal")
    write_text(axes, 0.02, 0.975, "3D", size=10, ha="left", va="top")
    _draw_scale_bar(axes, columns * view.pixel_mm)
    start = np.array([0.10, 0.09])
    for direction, letter in zip(view.axes, "LPS", strict=True):
        tip = start + 0.06 * direction
        axes.annotate(
            "",
            xy=tuple(tip),
            xytext=tuple(start),
            xycoords="axes fraction",
            arrowprops={"arrowstyle": "-|>", "color": _FAINT, "lw": 1.2, "shrinkA": 0, "shrinkB": 0},
        )
        place = start + 0.085 * direction
        write_text(axes, place[0], place[1], letter, size=10, weight="bold", ha="center", va="center")


def _draw_scale_bar(axes: Axes, extent_mm: float) -> None:
    length = scale_bar_mm(extent_mm)
    right = 0.97
    left = right - length / extent_mm
    axes.plot([left, right], [0.03, 0.03], transform=axes.transAxes, color=_INK, lw=3, solid_capstyle="butt")
    write_text(axes, (left + right) / 2, 0.045, f"{length:g} mm", size=9, ha="center", va="bottom")


def _draw_legend(figure: Figure, entries: list[Entry], title: str) -> None:
    axes = figure.add_axes((0.752, 0.012, 0.236, 0.976))
    axes.axis("off")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    _write_within(axes, 0.0, 0.995, title or "Segmentation", size=13, weight="bold", ha="left", va="top")
    top, step = 0.93, 0.034
    if not entries:
        write_text(axes, 0.0, top, "No segment was found.", size=11, ha="left", va="center")
    shown = entries if len(entries) <= _LEGEND_ROWS else sorted(entries, key=lambda e: -e.volume_ml)[:_LEGEND_ROWS]
    for row, entry in enumerate(shown):
        y = top - row * step
        axes.plot([0.0, 0.06], [y, y], color=rgb(entry.color), lw=9, solid_capstyle="butt")
        write_text(axes, 0.09, y, _shortened(entry.name, 22), size=10.5, ha="left", va="center")
        write_text(axes, 1.0, y, f"{entry.volume_ml:,.1f} mL", size=10.5, ha="right", va="center")
    if len(entries) > len(shown):
        rest = f"and {len(entries) - len(shown)} smaller segments"
        write_text(axes, 0.09, top - len(shown) * step, rest, size=10.5, ha="left", va="center", color=_FAINT)
    write_text(
        axes,
        0.0,
        0.0,
        "Automatic segmentation by MedSeg.\nNot for diagnosis.",
        size=8.5,
        ha="left",
        va="bottom",
        color=_FAINT,
    )


def write_text(axes: Axes, x: float, y: float, text: str, *, size: float, color: str = _INK, **style: Any) -> None:
    """Write a text that can be read on black and on white, at a place in parts of the pane."""
    outline = [patheffects.withStroke(linewidth=2.2, foreground="#000000")]
    axes.text(x, y, text, transform=axes.transAxes, fontsize=size, color=color, path_effects=outline, **style)


def _write_within(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Write a text, shortened until it ends inside the pane."""
    room = axes.get_window_extent().x1
    for length in range(len(text), 0, -1):
        write_text(axes, x, y, _shortened(text, length), **style)
        if axes.texts[-1].get_window_extent().x1 <= room:
            return
        axes.texts[-1].remove()


def rgb(color: tuple[int, int, int]) -> tuple[float, float, float]:
    """Return a colour as matplotlib takes it."""
    return color[0] / 255.0, color[1] / 255.0, color[2] / 255.0


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
