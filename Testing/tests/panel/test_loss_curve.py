"""The live curve of a refinement's loss."""

from __future__ import annotations

import sys
from collections.abc import Iterator
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
