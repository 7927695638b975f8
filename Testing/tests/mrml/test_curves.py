"""The curves of a training run as a chart node."""

from __future__ import annotations

import math
from typing import Any

import pytest

from medseg.mrml.curves import TrainingChart

LABELS = {"1": "Atrium", "2": "Aorta"}
COLORS = {"1": (200, 0, 0), "2": (0, 0, 200)}


def epoch(number: int, dice: float | None = None) -> dict[str, Any]:
    return {
        "epoch": number,
        "loss": 1.0 / number,
        "validation_loss": None if dice is None else 1.0 - dice,
        "validation_dice": dice,
        "dice_per_label": None if dice is None else {"1": dice, "2": None},
    }


@pytest.fixture
def a_chart(a_scene: Any) -> TrainingChart:
    return TrainingChart(a_scene, "heart", LABELS, COLORS)


def tables(chart: TrainingChart) -> list[Any]:
    found = []
    for index in range(chart.chart.GetNumberOfPlotSeriesNodes()):
        node = chart.chart.GetNthPlotSeriesNode(index).GetTableNode()
        if node not in found:
            found.append(node)
    return found


def column(node: Any, name: str) -> list[float]:
    array = node.GetTable().GetColumnByName(name)
    return [array.GetValue(row) for row in range(array.GetNumberOfTuples())]


def test_every_curve_is_a_series_with_its_name_and_color(a_chart: TrainingChart) -> None:
    series = [a_chart.chart.GetNthPlotSeriesNode(i) for i in range(a_chart.chart.GetNumberOfPlotSeriesNodes())]
    names = [node.GetName() for node in series]
    assert names == ["Loss", "Validation loss", "Mean Dice", "Atrium Dice", "Aorta Dice"]
    assert series[3].GetColor() == pytest.approx((200 / 255, 0, 0))
    assert {node.GetXColumnName() for node in series} == {"Epoch"}
    assert [node.GetYColumnName() for node in series] == names


def test_rows_are_appended_and_a_missing_value_is_no_row_of_the_validation(a_chart: TrainingChart) -> None:
    a_chart.update([epoch(1)])
    a_chart.update([epoch(1), epoch(2, 0.75)])
    loss, validation = tables(a_chart)
    assert column(loss, "Epoch") == [1.0, 2.0]
    assert column(loss, "Loss") == [1.0, 0.5]
    assert column(validation, "Epoch") == [2.0]
    assert column(validation, "Validation loss") == [0.25]
    assert column(validation, "Atrium Dice") == [0.75]
    assert math.isnan(column(validation, "Aorta Dice")[0])
    assert loss.GetNumberOfRows() == 2


def test_only_new_rows_are_written(a_chart: TrainingChart) -> None:
    a_chart.update([epoch(1)])
    loss, _ = tables(a_chart)
    loss.GetTable().GetColumnByName("Loss").SetValue(0, 42.0)
    a_chart.update([epoch(1), epoch(2)])
    assert column(loss, "Loss") == [42.0, 0.5]


def test_a_run_that_repeats_epochs_begins_anew(a_chart: TrainingChart) -> None:
    a_chart.update([epoch(1, 0.1), epoch(2, 0.2), epoch(3, 0.3)])
    a_chart.update([epoch(1, 0.1), epoch(2, 0.9)])
    loss, validation = tables(a_chart)
    assert column(loss, "Epoch") == [1.0, 2.0]
    assert column(validation, "Mean Dice") == [0.1, 0.9]


def test_the_chart_knows_when_it_is_gone_and_leaves_nothing(a_scene: Any, a_chart: TrainingChart) -> None:
    assert a_chart.exists
    a_chart.remove()
    assert not a_chart.exists
    for kind in ("PlotChart", "PlotSeries", "Table"):
        assert a_scene.GetNumberOfNodesByClass(f"vtkMRML{kind}Node") == 0
