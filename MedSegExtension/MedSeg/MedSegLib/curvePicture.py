"""A small picture of the curves of a run, drawn into a pixmap."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

if TYPE_CHECKING:
    from collections.abc import Sequence

SCALE = 2
"""Pixels of the picture for each of the panel: sharp on any screen, and lines of one pixel can be made thicker."""

PLOT_HEIGHT = 96
GAP = 10
LEFT, RIGHT, TOP, BOTTOM = 38, 8, 16, 16
TEXT_PIXELS = 10

DEFAULT_WIDTH = 340

MOST_POINTS = 200
"""Of a curve; the picture is drawn on the main thread, and is hardly wider."""

GRAY = (128, 128, 128)
"""Reads on light and on dark panels."""

LOSS_COLOR, VALIDATION_COLOR, MEAN_COLOR = (41, 128, 185), (230, 126, 34), (128, 128, 128)


@dataclass(frozen=True)
class Curve:
    """Points (epoch or iteration, value) in a color; a value that is missing is left out."""

    color: tuple[int, int, int]
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Plot:
    """Curves over the same axes; ``top`` is the largest value of the axis, None for the largest of the curves.

    ``across`` says what is counted along the other axis, by default epochs.
    """

    title: str
    curves: Sequence[Curve] = field(default_factory=tuple)
    top: float | None = None
    bottom: float = 0.0
    across: str = ""


def runPlots(
    epochs: Sequence[dict[str, Any]], colors: dict[str, tuple[int, int, int]], *, perLabel: bool = True
) -> list[Plot]:
    """Return the plots of a run: the losses, and the validation Dice of each label."""
    losses = [
        Curve(LOSS_COLOR, points(epochs, "loss")),
        Curve(VALIDATION_COLOR, points(epochs, "validation_loss")),
    ]
    dice = [
        Curve(color, [(x, y) for x, y in labelPoints(epochs, value)])
        for value, color in (colors.items() if perLabel else ())
    ]
    if not any(curve.points for curve in dice):
        dice = [Curve(MEAN_COLOR, points(epochs, "validation_dice"))]
    return [Plot(_("Loss"), losses), Plot(_("Validation Dice"), dice, 1.0)]


def points(epochs: Sequence[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    """Return (epoch, value) where the entry of an epoch has a value."""
    return [(float(entry["epoch"]), float(entry[name])) for entry in epochs if _isNumber(entry.get(name))]


def labelPoints(epochs: Sequence[dict[str, Any]], value: str) -> list[tuple[float, float]]:
    """Return (epoch, Dice) of a label value."""
    found = []
    for entry in epochs:
        dice = (entry.get("dice_per_label") or {}).get(value)
        if _isNumber(dice):
            found.append((float(entry["epoch"]), float(dice)))
    return found


def _isNumber(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def pictureWidth(picture: Any) -> int:
    """Return how wide the picture in a label may be: the label is as wide as it, what holds the label as the panel."""
    width = picture.parent().width if picture.parent() is not None else DEFAULT_WIDTH
    return max(200, min(int(width) - 24, 600))


def drawPlots(plots: Sequence[Plot], width: int) -> Any:
    """Return a pixmap of the plots, one below the other, ``width`` pixels of the panel wide."""
    height = len(plots) * (TOP + PLOT_HEIGHT + BOTTOM) + (len(plots) - 1) * GAP
    pixmap = qt.QPixmap(width * SCALE, height * SCALE)
    pixmap.fill(qt.QColor(0, 0, 0, 0))
    painter = qt.QPainter()
    painter.begin(pixmap)
    painter.setRenderHint(qt.QPainter.Antialiasing)
    font = qt.QFont()
    font.setPixelSize(TEXT_PIXELS * SCALE)
    painter.setFont(font)
    last = max((x for plot in plots for curve in plot.curves for x, _y in curve.points), default=1.0)
    try:
        for number, plot in enumerate(plots):
            offset = number * (TOP + PLOT_HEIGHT + BOTTOM + GAP)
            _drawPlot(painter, plot, width, offset, max(last, 2.0))
    finally:
        painter.end()
    pixmap.setDevicePixelRatio(SCALE)
    return pixmap


def _drawPlot(painter: Any, plot: Plot, width: int, offset: int, lastEpoch: float) -> None:
    left, right = LEFT * SCALE, (width - RIGHT) * SCALE
    top, bottom = (offset + TOP) * SCALE, (offset + TOP + PLOT_HEIGHT) * SCALE
    lowest, highest = plot.bottom, plot.top
    if highest is None:
        highest = niceCeiling(max((y for curve in plot.curves for _x, y in curve.points), default=1.0))

    def place(x: float, y: float) -> tuple[int, int]:
        share = min(max((y - lowest) / (highest - lowest), 0.0), 1.0)
        along = (x - 1.0) / (lastEpoch - 1.0)
        return round(left + along * (right - left)), round(bottom - share * (bottom - top))

    painter.setPen(qt.QColor(*GRAY))
    painter.drawText(left, top - 5 * SCALE, plot.title)
    for share in (0.0, 0.5, 1.0):
        value = lowest + share * (highest - lowest)
        _x, y = place(1.0, value)
        painter.setPen(qt.QColor(*GRAY, 255 if share == 0.0 else 90))
        painter.drawLine(left, y, right, y)
        painter.setPen(qt.QColor(*GRAY))
        painter.drawText(2 * SCALE, y + 4 * SCALE, f"{value:.3g}")
    baseline = bottom + 12 * SCALE
    painter.drawText(left, baseline, "1")
    text = f"{lastEpoch:.0f}"
    painter.drawText(right - round(0.62 * TEXT_PIXELS * SCALE * len(text)), baseline, text)
    across = plot.across or _("Epoch")
    painter.drawText((left + right) // 2 - round(0.27 * TEXT_PIXELS * SCALE * len(across)), baseline, across)
    for curve in plot.curves:
        painter.setPen(qt.QColor(*curve.color))
        _drawCurve(painter, [place(x, y) for x, y in thinned(curve.points)])


def _drawCurve(painter: Any, corners: Sequence[tuple[int, int]]) -> None:
    # A pen has one pixel; the same line again below itself makes it thicker.
    for (x1, y1), (x2, y2) in itertools.pairwise(corners):
        painter.drawLine(x1, y1, x2, y2)
        painter.drawLine(x1, y1 + 1, x2, y2 + 1)
    if len(corners) == 1:
        x, y = corners[0]
        painter.drawEllipse(x - SCALE, y - SCALE, 2 * SCALE, 2 * SCALE)


def thinned(found: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Return at most :data:`MOST_POINTS` of the points, evenly spread, the last one among them."""
    step = math.ceil(len(found) / MOST_POINTS)
    return found if step <= 1 else [*found[:-1:step], found[-1]]


def niceCeiling(value: float) -> float:
    """Return the smallest of 1, 1.5, 2, 3, 5, 7 times a power of ten that is not below ``value``."""
    if not value > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((step * power for step in (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if step * power >= value), 10.0 * power)
