"""A picture of a registration: three planes, before and after, as a checkerboard, and the grid that was deformed."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medseg.errors import GeometryError
from medseg.files import atomic_path
from medseg.preview.figure import display_window, scale_bar_mm, slices_at, write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from medseg.preview.figure import Slice
    from medseg.volumes import Geometry, Volume

_PAPER, _PANE, _INK, _FAINT, _GRID = "#14171b", "#000000", "#e8eaed", "#9aa0a6", "#ffc24b"
_HEADINGS = ("Fixed", "Moving before", "Moving after", "Checkerboard", "Deformed grid")
_WIDTH, _TALLEST = 1440, 1500
"""Pixels: the width of the picture, and the most that its three rows may take."""
_GAP, _HEAD, _LINE = 6, 34, 24
_LETTERS = 150
"""Of a line of the caption, which fit into the width."""
_DPI = 120
_MOST_NODES = 200
"""Places along an axis of a slice at which the deformation is looked up."""
_MOST_LINES = 100
_LEAST_COVERED = 1e-3
# Index axes (0 = i) of the columns and rows of the three slices, and whether the rows run down the axis.
_AXES = ((0, 1, False), (0, 2, True), (1, 2, True))


def write_registration(
    fixed: Volume,
    moving: Volume,
    warped: Volume,
    checkerboard: Volume,
    path: str | Path,
    *,
    where: Callable[[np.ndarray], np.ndarray],
    caption: Sequence[str] = (),
) -> None:
    """Write a PNG, 1440 pixels wide: a row for each of three planes through the middle of the fixed volume.

    Its columns are the fixed volume, the moving one where the world frames put it, the moving one after the
    registration, both in turns, and a grid over the fixed volume. The lines of that grid are straight and regular where
    ``where`` leads to and are drawn where they come from, so they show what the registration undid. All panes
    have one scale, in mm also for voxels that are not cubes.

    Parameters
    ----------
    fixed, moving
        (k, j, i), each on a grid of its own.
    warped, checkerboard
        On the grid of ``fixed``; the checkerboard from 0 to 1.
    where
        Takes points (..., 3) in RAS mm of the fixed volume to where they go.
    caption
        Lines below the panes; long ones are broken.

    Raises
    ------
    GeometryError
        When ``warped`` or ``checkerboard`` does not lie on the fixed grid.
    WriteError
        When the file cannot be written.
    """
    if not (warped.geometry.is_close(fixed.geometry) and checkerboard.geometry.is_close(fixed.geometry)):
        raise GeometryError(
            "The warped volume does not lie on the fixed volume's grid.", advice="Resample it onto that grid first."
        )
    untouched, covered = _by_the_world(moving, fixed.geometry)
    of_fixed, of_moving = display_window(fixed), display_window(moving)
    windows = (of_fixed, of_moving, of_moving, (0.0, 1.0), of_fixed)
    upright = [volume.reorient("LPS") for volume in (fixed, untouched, warped, checkerboard)]
    geometry = upright[0].geometry
    slices, rows, columns = geometry.shape
    middle = (slices // 2, rows // 2, columns // 2)
    shown = [slices_at(volume, volume, middle) for volume in (*upright, upright[0])]
    lines = [line for text in caption for line in textwrap.wrap(text, _LETTERS)]
    figure, panes = _page(shown[0], len(lines))
    for row in range(3):
        for column, window in enumerate(windows):
            _draw(panes[row][column], shown[column][row], window)
        _describe(panes[row][0], shown[0][row])
        _draw_grid(panes[row][-1], geometry, row, middle, where)
    if not covered:
        write_text(panes[0][1], 0.5, 0.5, "does not overlap", size=10, ha="center", va="center", color=_FAINT)
    _write_around(figure, panes[0], lines)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", facecolor=_PAPER)


def grid_lines(
    geometry: Geometry, plane: int, middle: Sequence[int], where: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return what the lines of the grid are contours of, on a slice of an "LPS" grid.

    Parameters
    ----------
    plane
        0 axial, 1 coronal, 2 sagittal.
    middle
        (k, j, i) of a voxel in the plane.

    Returns
    -------
    numpy.ndarray, numpy.ndarray, numpy.ndarray, numpy.ndarray
        Places across (C) and down (R) the picture in mm, and for each of them (R, C) the coordinate along the columns'
        and the rows' axis, in mm from the first voxel, of the point that ``where`` leads to.
    """
    across, down, upwards = _AXES[plane]
    size, spacing = geometry.size, geometry.spacing
    # Not quite to the border of the outermost voxels, where a field ends.
    u, v = (np.linspace(-0.49, size[axis] - 0.51, min(2 * size[axis] + 1, _MOST_NODES)) for axis in (across, down))
    index = np.empty((len(v), len(u), 3))
    index[...] = np.asarray(middle[::-1], float)
    index[..., across], index[..., down] = u, v[:, None]
    led = geometry.ras_to_ijk_points(where(geometry.ijk_to_ras_points(index)))
    places = (v if not upwards else size[down] - 1 - v) + 0.5
    return (
        (u + 0.5) * spacing[across],
        places * spacing[down],
        led[..., across] * spacing[across],
        led[..., down] * spacing[down],
    )


def _by_the_world(moving: Volume, grid: Geometry) -> tuple[Volume, bool]:
    """Return the moving volume on the fixed grid, untouched, and whether any of it is there."""
    everywhere = moving.with_array(np.ones(moving.shape, np.uint8)).resample(grid, interpolation="nearest")
    return moving.resample(grid, fill=float(moving.array.min())), bool(everywhere.array.mean() > _LEAST_COVERED)


def _extent(shown: Slice) -> tuple[float, float]:
    """Return width and height in mm."""
    rows, columns = shown.pixels.shape
    return columns * shown.pixel_mm[1], rows * shown.pixel_mm[0]


def _page(slices: Sequence[Slice], lines: int) -> tuple[Figure, list[list[Axes]]]:
    """Return the figure and its panes, row by row; a mm has one length in all of them."""
    extents = [_extent(shown) for shown in slices]
    count = len(_HEADINGS)
    widest = (_WIDTH - (count + 1) * _GAP) / count
    scale = min(widest / max(width for width, _ in extents), _TALLEST / sum(height for _, height in extents))
    heights = [max(round(height * scale), 1) for _, height in extents]
    total = _HEAD + sum(heights) + 3 * _GAP + lines * _LINE + _GAP
    figure = Figure(figsize=(_WIDTH / _DPI, total / _DPI), dpi=_DPI, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    panes, top = [], total - _HEAD
    for (width, _), height in zip(extents, heights, strict=True):
        row = []
        for column in range(count):
            left = _GAP + column * (widest + _GAP) + (widest - width * scale) / 2
            place = (left / _WIDTH, (top - height) / total, width * scale / _WIDTH, height / total)
            axes = figure.add_axes(place)
            axes.set_facecolor(_PANE)
            axes.set_axis_off()
            row.append(axes)
        panes.append(row)
        top -= height + _GAP
    return figure, panes


def _draw(axes: Axes, shown: Slice, window: tuple[float, float]) -> None:
    width, height = _extent(shown)
    extent = (0.0, width, height, 0.0)
    axes.imshow(
        shown.pixels, cmap="gray", vmin=window[0], vmax=window[1], extent=extent, interpolation="bilinear",
        aspect="auto",
    )  # fmt: skip
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def _describe(axes: Axes, shown: Slice) -> None:
    """Write the directions, the name of the slice and a scale bar."""
    width, _ = _extent(shown)
    places = ((0.04, 0.5), (0.96, 0.5), (0.5, 0.955), (0.5, 0.045))
    for letter, (x, y) in zip(shown.letters, places, strict=True):
        write_text(axes, x, y, letter, size=9, weight="bold", ha="center", va="center")
    write_text(axes, 0.03, 0.97, shown.title, size=8, ha="left", va="top")
    length = scale_bar_mm(width)
    axes.plot(
        [0.97 - length / width, 0.97], [0.035, 0.035], transform=axes.transAxes, color=_INK, lw=2.5,
        solid_capstyle="butt",
    )  # fmt: skip
    write_text(axes, 0.97 - length / width / 2, 0.05, f"{length:g} mm", size=7.5, ha="center", va="bottom")


def _draw_grid(
    axes: Axes, geometry: Geometry, plane: int, middle: Sequence[int], where: Callable[[np.ndarray], np.ndarray]
) -> None:
    across, down, *coordinates = grid_lines(geometry, plane, middle, where)
    step = scale_bar_mm(max(geometry.extent_mm) / 7)
    for coordinate in coordinates:
        levels = np.arange(np.ceil(coordinate.min() / step), np.floor(coordinate.max() / step) + 1) * step
        if len(levels):
            levels = levels[:: len(levels) // _MOST_LINES + 1]
            axes.contour(
                across, down, coordinate, levels=levels, colors=[_GRID], linewidths=0.8, linestyles="solid", alpha=0.9
            )


def _write_around(figure: Figure, panes: Sequence[Axes], lines: Sequence[str]) -> None:
    width, height = figure.get_size_inches() * _DPI
    for axes, heading in zip(panes, _HEADINGS, strict=True):
        box = axes.get_position()
        figure.text(
            (box.x0 + box.x1) / 2, 1 - _HEAD / 2 / height, heading, color=_INK, fontsize=10, ha="center", va="center"
        )
    for number, line in enumerate(reversed(lines)):
        bottom = (_GAP + (number + 0.5) * _LINE) / height
        figure.text(2 * _GAP / width, bottom, line, color=_FAINT, fontsize=9.5, ha="left", va="center")
