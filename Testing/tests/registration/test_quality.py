"""Figures that sum up labels, landmarks and an inverse, with numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medseg.registration import LabelFigures, Quality, SpatialTransform
from medseg.registration.quality import inverse_consistency
from medseg.volumes import Geometry
from support.registration import a_smooth_warp, a_turn


def test_all_labels_together_have_means_and_a_worst_third() -> None:
    dice = (0.9, 0.5, 0.7, 0.8)
    labels = {
        value: LabelFigures(one / 2, one, 1.0, distance)
        for value, one, distance in zip(range(1, 5), dice, (1.0, math.nan, 2.0, 3.0), strict=True)
    }
    found = Quality(0, 0, 0, 0, labels=labels).overlap
    assert found.mean_dice_after == pytest.approx(0.725)
    assert found.mean_dice_before == pytest.approx(0.3625)
    # 30 % of four labels are two, rounded up.
    assert found.worst_dice_after == pytest.approx(0.6)
    assert found.mean_hd95_mm == pytest.approx(2.0)


def test_landmark_errors_have_mean_median_largest_and_worst() -> None:
    errors = (1.0, 2.0, 3.0, 10.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)
    quality = Quality(0, 0, 0, 0, landmark_errors_before_mm=(9.0,), landmark_errors_after_mm=errors)
    found = quality.landmarks_after
    assert (found.count, found.mean_mm, found.median_mm, found.largest_mm) == (10, 5.5, 5.5, 10.0)
    assert found.worst_mm == pytest.approx(9.0)
    assert quality.landmarks_before.worst_mm == 9.0
    assert quality.to_dict()["landmarks_after"]["largest_mm"] == 10.0


def test_what_was_not_given_is_empty() -> None:
    content = Quality(0.1, math.nan, 0.3, 0.4).to_dict()
    assert content["correlation_after"] is None
    assert content["overlap"] is content["landmarks_before"] is content["landmarks_after"] is None


def test_a_point_that_goes_and_comes_back_is_where_it_was() -> None:
    grid = Geometry.from_spacing((20, 22, 24), (3, 3, 3))
    warp = a_smooth_warp(grid, 4.0)
    inverse, _ = warp.inverse(grid)
    found = inverse_consistency(warp, inverse, grid, grid)
    assert found.mean_mm < 0.05
    assert found.inside > 0.9
    none = inverse_consistency(warp, SpatialTransform(), grid, grid)
    assert none.mean_mm > 1
    assert none.p95_mm > none.mean_mm


def test_points_that_leave_the_moving_volume_do_not_enter() -> None:
    grid = Geometry.from_spacing((10, 10, 10))
    half = inverse_consistency(a_turn(0, (5, 0, 0)), a_turn(0, (-5, 0, 0)), grid, grid)
    assert half.inside == pytest.approx(0.5)
    assert half.mean_mm == pytest.approx(0, abs=1e-9)
    far = inverse_consistency(a_turn(0, (50, 0, 0)), SpatialTransform(), grid, grid)
    assert far.inside == 0
    assert np.isnan(far.mean_mm)
