"""Errors, overlap and folds of transforms that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.registration.measure import folds, mean_of_worst, measure, overlap, point_errors
from benchmarks.registration.pair import Pair
from medseg.registration import DisplacementField, SpatialTransform
from medseg.volumes import Geometry, Volume
from support.registration import a_turn

GRID = Geometry.from_spacing((12, 10, 14), (2.0, 3.0, 4.0), orientation="LPS")


def a_shift(*millimetres: float) -> SpatialTransform:
    matrix = np.eye(4)
    matrix[:3, 3] = millimetres
    return SpatialTransform((matrix,))


def a_box(low: int, high: int, value: int = 1) -> Volume:
    array = np.zeros(GRID.shape, np.uint8)
    array[3:9, 3:8, low:high] = value
    return Volume(array, GRID)


def test_errors_are_distances_from_where_the_points_belong():
    fixed = np.zeros((10, 3))
    moving = np.zeros((10, 3))
    moving[:, 1] = np.arange(10)  # 0 to 9 mm away

    errors = point_errors(SpatialTransform(), fixed, moving)

    assert errors.mean == pytest.approx(4.5)
    assert errors.median == pytest.approx(4.5)
    assert errors.p95 == pytest.approx(np.percentile(np.arange(10), 95))
    assert errors.worst == pytest.approx(8.0)  # 7, 8 and 9


def test_the_transform_goes_from_the_fixed_to_the_moving_volume():
    fixed = np.random.default_rng(0).normal(size=(20, 3))
    moving = fixed + np.array([3, 4, 0])
    assert point_errors(a_shift(3, 4, 0), fixed, moving).mean == pytest.approx(0)
    assert point_errors(a_shift(3, 4, 0), fixed, fixed).mean == pytest.approx(5)
    assert point_errors(a_shift(-3, -4, 0), fixed, moving).mean == pytest.approx(10)


def test_labels_are_read_where_the_transform_says():
    fixed, moving = a_box(4, 8), a_box(6, 10)  # two voxels of 2 mm further along i, which is to the left

    assert overlap(SpatialTransform(), fixed, moving) == {1: pytest.approx(0.5)}
    assert overlap(a_shift(-4, 0, 0), fixed, moving) == {1: pytest.approx(1.0)}
    assert overlap(a_shift(4, 0, 0), fixed, moving) == {1: pytest.approx(0.0)}


def test_only_labels_of_both_are_compared():
    both = a_box(4, 8).array + a_box(9, 11, 2).array
    assert set(overlap(SpatialTransform(), Volume(both, GRID), a_box(4, 8))) == {1}


def test_a_linear_transform_folds_nowhere_and_a_mirror_everywhere():
    assert folds(a_turn(20, (5, 5, 5)), GRID) == (0.0, 0.0)
    assert folds(SpatialTransform((np.diag([-1.0, 1.0, 1.0, 1.0]),)), GRID) == (1.0, 1.0)


def test_folds_are_counted_on_the_grid_of_the_fixed_volume():
    """Two planes of voxels change places, seen from a field whose voxels are those of the grid."""
    vectors = np.zeros((*GRID.shape, 3), np.float32)
    vectors[..., 6, 0], vectors[..., 7, 0] = -3.0, 3.0  # i runs to the left, 2 mm a voxel
    found, strict = folds(SpatialTransform((DisplacementField(vectors, GRID),)), GRID)

    # Of the 12 inner planes, 6 and 7 have negative one-sided differences; central ones are -3 / 4 + 1 > 0.
    assert found == 0.0
    assert strict == pytest.approx(2 / 12)


def test_what_a_pair_does_not_have_is_not_measured():
    volume = Volume(np.zeros(GRID.shape, np.float32), GRID)
    found = measure(SpatialTransform(), Pair(volume, volume))
    assert (found.points, found.dice, found.folded) == (None, {}, 0.0)

    points = np.zeros((4, 3))
    pair = Pair(volume, volume, points, points + 1, a_box(4, 8), a_box(4, 8))
    found = measure(SpatialTransform(), pair)
    assert found.points is not None
    assert found.points.mean == pytest.approx(math.sqrt(3))
    assert found.dice == {1: 1.0}


@pytest.mark.parametrize(("count", "worst"), [(1, 1), (2, 1), (3, 1), (10, 3), (51, 15)])
def test_the_worst_are_three_tenths_but_at_least_one(count: int, worst: int):
    values = np.arange(count, dtype=float)
    assert mean_of_worst(values, high=True) == pytest.approx(values[-worst:].mean())
    assert mean_of_worst(values[::-1], high=False) == pytest.approx(values[:worst].mean())


def test_of_nothing_nothing_is_the_worst():
    assert math.isnan(mean_of_worst([], high=True))
