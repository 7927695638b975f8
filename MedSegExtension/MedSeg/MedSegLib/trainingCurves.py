"""The live curves of a training run: a picture in the panel, and a chart of the scene when it is asked for."""

from __future__ import annotations

import time
from html import escape
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from MedSegLib.curvePicture import (
    LOSS_COLOR,
    VALIDATION_COLOR,
    drawPlots,
    labelPoints,
    pictureWidth,
    points,
    runPlots,
)

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.backend.training_process import ProgressReader
    from medseg.mrml.curves import TrainingChart

READ_SECONDS = 2.0
"""How often the file of the epochs is looked at."""

MOST_LABELS = 12
"""With more labels the picture shows their mean only."""


class TrainingCurves:
    """Follows the epochs of one output folder."""

    def __init__(self, picture: Any, legend: Any) -> None:
        self._picture = picture
        self._legend = legend
        self._reader: ProgressReader | None = None
        self._chart: TrainingChart | None = None
        self._lastRead = 0.0
        self._drawnWidth = 0
        self._clear()

    @property
    def hasEpochs(self) -> bool:
        return self._reader is not None and bool(self._reader.epochs)

    def follow(self, output: Path | None) -> None:
        """Show the epochs of the run in ``output``; None shows nothing."""
        from medseg.backend.training_process import ProgressReader

        self.forgetChart()
        self._reader = None if output is None else ProgressReader(output)
        self._clear()
        self.update(now=True)

    def update(self, *, now: bool = False) -> None:
        """Read what is new and show it; does nothing when the last reading was just now."""
        if self._reader is None or (not now and time.monotonic() - self._lastRead < READ_SECONDS):
            return
        self._lastRead = time.monotonic()
        anew, count = self._reader.read()
        if anew or count or (self.hasEpochs and pictureWidth(self._picture) != self._drawnWidth):
            self._draw()
        if self._chart is not None and (anew or count):
            if self._chart.exists:
                self._chart.update(self._reader.epochs)
            else:
                self._chart = None

    def showChart(self, name: str) -> None:
        """Make the chart of the scene, which grows from now on, and show it in a plot view."""
        from medseg.mrml.curves import TrainingChart

        if self._reader is None:
            return
        if self._chart is None or not self._chart.exists:
            self._chart = TrainingChart(slicer.mrmlScene, name, self._reader.labels, self._colors())
            self._chart.update(self._reader.epochs)
        if slicer.app.layoutManager() is not None:
            slicer.modules.plots.logic().ShowChartInLayout(self._chart.chart)

    def forgetChart(self) -> None:
        """Leave the chart as it is: its scene is about to be closed, or another run is shown."""
        self._chart = None

    def _clear(self) -> None:
        self._picture.clear()
        self._picture.setVisible(False)
        self._legend.text = ""
        self._legend.setVisible(False)

    def _draw(self) -> None:
        assert self._reader is not None
        epochs, colors = self._reader.epochs, self._colors()
        if not epochs:
            self._clear()
            return
        self._picture.setVisible(True)
        self._drawnWidth = pictureWidth(self._picture)
        showsLabels = len(colors) <= MOST_LABELS
        self._picture.setPixmap(drawPlots(runPlots(epochs, colors, perLabel=showsLabels), self._drawnWidth))
        self._legend.text = self._legendHtml(epochs, colors if showsLabels else {})
        self._legend.setVisible(True)

    def _legendHtml(self, epochs: list[dict[str, Any]], colors: dict[str, tuple[int, int, int]]) -> str:
        """Return the names of the curves in their colors, with the last values."""
        assert self._reader is not None
        rows = [(LOSS_COLOR, _("Loss"), points(epochs, "loss"))]
        rows.append((VALIDATION_COLOR, _("Validation loss"), points(epochs, "validation_loss")))
        for value, color in colors.items():
            rows.append((color, self._reader.labels[value], labelPoints(epochs, value)))
        if len(colors) != 1:
            rows.append((None, _("Mean Dice"), points(epochs, "validation_dice")))
        entries = []
        for color, name, found in rows:
            if found:
                dot = "" if color is None else f'<span style="color:rgb{color};">&#9632;</span> '
                entries.append(f"{dot}{escape(name)}&nbsp;{found[-1][1]:.3f}")
        return " &nbsp; ".join(entries)

    def _colors(self) -> dict[str, tuple[int, int, int]]:
        assert self._reader is not None
        return {value: _rgb(self._reader.colors.get(value, "")) for value in self._reader.labels}


def _rgb(color: str) -> tuple[int, int, int]:
    try:
        number = int(color.removeprefix("#"), 16)
    except ValueError:
        return 128, 128, 128
    return number >> 16 & 255, number >> 8 & 255, number & 255
