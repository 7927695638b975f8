"""The live curves: of a refinement's loss, and how they and those of a training are drawn."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def a_label(a_user: Any) -> Iterator[Any]:
    """Where the curve is drawn, on the tab that is open."""
    a_user.ui.tabWidget.currentIndex = 2
    yield a_user.ui.registerCurveLabel
    a_user.ui.tabWidget.currentIndex = 0


def test_a_loss_that_is_not_a_number_leaves_a_gap_and_no_defect(a_label: Any) -> None:
    curve = sys.modules["MedSegLib.lossCurve"].LossCurve(a_label)
    for losses in ([None], [-0.5], [-0.5, None, -0.7], [0.0, 0.0]):
        curve.update(losses, now=True)
        assert a_label.visible == (losses != [None])
    curve.clear()
    assert not a_label.visible


def test_each_grid_has_its_own_piece_of_the_curve_and_its_own_best(
    a_label: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["MedSegLib.lossCurve"]
    draw, drawn = module.drawPlots, []
    monkeypatch.setattr(module, "drawPlots", lambda plots, width: drawn.extend(plots) or draw(plots, width))
    curve = module.LossCurve(a_label)
    curve.update([-0.5, None, -0.9, -0.95, None, -0.6, -0.58], now=True)
    (plot,) = drawn
    assert [list(piece.points) for piece in plot.curves] == [
        [(1.0, -0.5)],
        [(2.0, -0.9), (3.0, -0.95)],
        [(4.0, -0.6), (5.0, -0.58)],
    ]
    assert "best -0.6000" in plot.title


def test_every_curve_leaves_pixels_of_its_color(the_module: Any, tmp_path: Path) -> None:
    from matplotlib.image import imread

    picture = sys.modules["MedSegLib.curvePicture"]
    epochs = [
        {
            "epoch": number,
            "loss": 1.0 / number,
            "validation_loss": 1.2 / number,
            "dice_per_label": {"1": 0.5 + 0.02 * number, "2": None},
        }
        for number in range(1, 21)
    ]
    plots = picture.runPlots(epochs, {"1": (200, 20, 20), "2": (20, 200, 20)})
    path = tmp_path / "curves.png"
    assert picture.drawPlots(plots, 300).save(str(path))
    seen = {tuple(round(255 * float(part)) for part in color[:3]) for row in imread(path) for color in row}
    assert {picture.LOSS_COLOR, picture.VALIDATION_COLOR, (200, 20, 20)} <= seen
    assert (20, 200, 20) not in seen, "a label that was never measured has no curve"


@pytest.mark.parametrize(("value", "expected"), [(0.7, 0.7), (0.71, 1.0), (1.2, 1.5), (12.0, 15.0), (0.0, 1.0)])
def test_axes_end_at_round_numbers(the_module: Any, value: float, expected: float) -> None:
    assert sys.modules["MedSegLib.curvePicture"].niceCeiling(value) == pytest.approx(expected)


def test_long_runs_are_drawn_with_few_points(the_module: Any) -> None:
    picture = sys.modules["MedSegLib.curvePicture"]
    points = [(float(number), 0.5) for number in range(5000)]
    thinned = picture.thinned(points)
    assert len(thinned) <= picture.MOST_POINTS + 1
    assert (thinned[0], thinned[-1]) == (points[0], points[-1])
