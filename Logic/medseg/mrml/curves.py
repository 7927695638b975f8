"""The curves of a training run as a chart node."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from medseg.mrml.hierarchy import place_beside

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Value = Callable[[Mapping[str, Any]], float | None]

EPOCH_COLUMN = "Epoch"
LOSS_COLUMN = "Loss"
VALIDATION_LOSS_COLUMN = "Validation loss"
MEAN_DICE_COLUMN = "Mean Dice"

_LOSS_COLOR, _VALIDATION_COLOR, _MEAN_COLOR = (41, 128, 185), (230, 126, 34), (128, 128, 128)
_LINE_WIDTH, _MEAN_LINE_WIDTH = 2.0, 3.0


class TrainingChart:
    """A chart of loss and validation Dice in a scene that grows with the run: :meth:`update` only appends.

    The losses of all epochs are in one table, what is measured on the validation cases in another with a row for each
    epoch that was validated: a line has a gap where a value is missing.

    Parameters
    ----------
    scene
        The ``vtkMRMLScene``.
    name
        Of the run; the names of the nodes begin with it.
    labels, colors
        Names and colours (0 to 255) by label value, as text.
    """

    def __init__(
        self,
        scene: Any,
        name: str,
        labels: Mapping[str, str],
        colors: Mapping[str, tuple[int, int, int]],
    ) -> None:
        self._scene = scene
        self._epochs = 0
        self.chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", scene.GenerateUniqueName(f"{name} training"))
        self.chart.SetTitle(f"{name} training")
        self.chart.SetXAxisTitle(EPOCH_COLUMN)
        self.chart.SetYAxisTitle("Loss, Dice")
        losses = {
            LOSS_COLUMN: (_number("loss"), _LOSS_COLOR, _LINE_WIDTH),
        }
        validation = {
            VALIDATION_LOSS_COLUMN: (_number("validation_loss"), _VALIDATION_COLOR, _LINE_WIDTH),
            MEAN_DICE_COLUMN: (_number("validation_dice"), _MEAN_COLOR, _MEAN_LINE_WIDTH),
            **{
                f"{label} Dice": (_dice(value), colors.get(value, _MEAN_COLOR), _LINE_WIDTH)
                for value, label in labels.items()
            },
        }
        self._tables = [
            self._table(f"{name} loss", losses),
            self._table(f"{name} validation", validation),
        ]

    @property
    def exists(self) -> bool:
        """Whether the chart and its tables are still in the scene."""
        nodes = [self.chart, *(node for node, _ in self._tables)]
        return all(self._scene.IsNodePresent(node) for node in nodes)

    def update(self, epochs: Sequence[Mapping[str, Any]]) -> None:
        """Append what is new in ``epochs``, all entries so far; begin anew when they have become fewer."""
        if len(epochs) < self._epochs:
            self._epochs = 0
            for node, _ in self._tables:
                node.GetTable().SetNumberOfRows(0)
        for node, columns in self._tables:
            self._append(node, columns, epochs[self._epochs :])
        self._epochs = len(epochs)

    def remove(self) -> None:
        """Take all nodes out of the scene."""
        series = [self.chart.GetNthPlotSeriesNode(i) for i in range(self.chart.GetNumberOfPlotSeriesNodes())]
        for node in [self.chart, *series, *(table for table, _ in self._tables)]:
            if node is not None and self._scene.IsNodePresent(node):
                self._scene.RemoveNode(node)

    def _table(
        self, name: str, columns: Mapping[str, tuple[Value, tuple[int, int, int], float]]
    ) -> tuple[Any, list[Value]]:
        import vtk

        node = self._scene.AddNewNodeByClass("vtkMRMLTableNode", self._scene.GenerateUniqueName(name))
        modified = node.StartModify()
        for title in (EPOCH_COLUMN, *columns):
            array = vtk.vtkDoubleArray()
            array.SetName(title)
            node.AddColumn(array)
        node.SetUseColumnTitleAsColumnHeader(True)
        node.SetLocked(True)
        node.EndModify(modified)
        place_beside(node, None)
        for title, (_, color, width) in columns.items():
            self._series(node, title, color, width)
        return node, [_number("epoch"), *(value for value, _, _ in columns.values())]

    def _series(self, table: Any, title: str, color: tuple[int, int, int], width: float) -> None:
        series = self._scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", title)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName(EPOCH_COLUMN)
        series.SetYColumnName(title)
        series.SetPlotType(series.PlotTypeScatter)
        series.SetMarkerStyle(series.MarkerStyleNone)
        series.SetLineWidth(width)
        series.SetColor(*(channel / 255 for channel in color))
        self.chart.AddAndObservePlotSeriesNodeID(series.GetID())

    def _append(self, node: Any, columns: Sequence[Value], entries: Sequence[Mapping[str, Any]]) -> None:
        table = node.GetTable()
        modified = node.StartModify()
        for entry in entries:
            values = [column(entry) for column in columns]
            if all(value is None for value in values[1:]):
                continue
            for index, value in enumerate(values):
                table.GetColumn(index).InsertNextValue(math.nan if value is None else value)
        table.Modified()
        node.Modified()
        node.EndModify(modified)


def _number(name: str) -> Value:
    return lambda entry: _finite(entry.get(name))


def _dice(value: str) -> Value:
    return lambda entry: _finite((entry.get("dice_per_label") or {}).get(value))


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
