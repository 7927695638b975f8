"""Maps of a registration: volume change, both volumes in turns, their difference, labels brought along."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import GeometryError, InputError
from medseg.registration import DisplacementField, SpatialTransform, maps
from medseg.registration.maps import checkerboard, difference, jacobian_map, warp_labels
from medseg.volumes import Geometry, Volume
from support.registration import a_smooth_warp, a_turn


def an_oblique_grid(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Geometry:
    turned = a_turn(20, (5, -7, 3)).matrix
    return Geometry(shape, turned @ Geometry.from_spacing(shape, spacing).ijk_to_ras)


def a_field_of(matrix: np.ndarray, grid: Geometry) -> DisplacementField:
    """The field of a matrix (3x3): u(x) = (A - I) x."""
    k, j, i = np.indices(grid.shape)
    points = grid.ijk_to_ras_points(np.stack([i, j, k], axis=-1).astype(float))
    return DisplacementField(points @ (matrix - np.eye(3)).T, grid)


def ramp(shape: tuple[int, int, int], spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Volume:
    return Volume(np.arange(math.prod(shape), dtype=np.float32).reshape(shape), Geometry.from_spacing(shape, spacing))


@pytest.mark.parametrize("matrix", [np.diag([1.2, 0.9, 1.0]), np.array([[1, 0.4, 0], [0.1, 1.1, 0], [0, 0, 0.8]])])
def test_the_jacobian_of_a_linear_field_is_its_determinant(matrix: np.ndarray) -> None:
    grid = an_oblique_grid((9, 10, 11), (2.0, 1.5, 4.0))
    found = jacobian_map(a_field_of(matrix, grid), grid)
    assert found.array.dtype == np.float32
    np.testing.assert_allclose(found.array, np.linalg.det(matrix), atol=1e-4)


def test_where_the_field_does_not_reach_volume_is_kept() -> None:
    grid = Geometry.from_spacing((8, 8, 8), (2, 2, 2))
    wide = Geometry.from_spacing((20, 20, 20), (2, 2, 2), origin=(-12, -12, -12))
    found = jacobian_map(a_field_of(np.diag([1.5, 1.0, 1.0]), grid), wide)
    assert found.geometry is wide
    assert found.array[10, 10, 10] == pytest.approx(1.5)
    np.testing.assert_allclose(found.array[:4], 1.0)


def test_a_fold_is_below_zero_and_a_field_of_one_slice_has_a_map() -> None:
    mirrored = a_field_of(np.diag([-0.5, 1.0, 1.0]), Geometry.from_spacing((1, 6, 7), (3, 3, 3)))
    np.testing.assert_allclose(jacobian_map(mirrored, mirrored.geometry).array, -0.5, atol=1e-5)


def test_squares_are_square_in_mm_on_every_plane() -> None:
    fixed = ramp((10, 40, 40), (1.0, 2.0, 5.0))
    dark = np.zeros(fixed.shape, np.float32)
    dark[0, 0, 0] = 1  # a constant volume has no contrast to scale
    found = checkerboard(fixed.with_array(dark), fixed.with_array(1 - dark), squares=8).array
    # The longest axis has 80 mm, so a square has 10 mm: 10, 5 and 2 voxels along i, j, k.
    assert found[0, 0, 0] == 1
    borders = [np.flatnonzero(np.diff(line)).tolist() for line in (found[0, 1], found[0, :, 1], found[:, 1, 1])]
    assert borders == [[9, 19, 29], [4, 9, 14, 19, 24, 29, 34], [1, 3, 5, 7]]
    assert not checkerboard(fixed.with_array(dark * 0), fixed.with_array(dark * 0 + 1)).array.any()


def test_each_volume_is_scaled_by_itself() -> None:
    fixed = ramp((6, 20, 20))
    found = checkerboard(fixed, fixed.with_array(1000 - 3 * fixed.array))
    assert found.array.dtype == np.float32
    assert (found.array.min(), found.array.max()) == (0, 1)
    first = checkerboard(fixed, fixed.with_array(5 * fixed.array + 3))
    np.testing.assert_allclose(first.array, checkerboard(fixed, fixed).array, atol=1e-5)


def test_the_difference_is_that_of_shape_and_not_of_gain() -> None:
    fixed = ramp((6, 20, 20))
    np.testing.assert_allclose(difference(fixed, fixed.with_array(5 * fixed.array + 3)).array, 0, atol=1e-5)
    brighter = fixed.array.copy()
    brighter[3, 10, 10] = fixed.array.max()
    found = difference(fixed, fixed.with_array(brighter)).array
    assert found.argmax() == np.ravel_multi_index((3, 10, 10), fixed.shape)
    assert found.max() > 0.3


def test_voxels_that_are_not_numbers_are_black() -> None:
    fixed = ramp((4, 5, 6))
    spoiled = fixed.array.copy()
    spoiled[0, 0, 0] = np.nan
    assert np.isfinite(difference(fixed, fixed.with_array(spoiled)).array).all()
    assert not difference(
        fixed.with_array(np.full(fixed.shape, np.nan)), fixed.with_array(np.zeros(fixed.shape))
    ).array.any()


def test_two_grids_and_no_squares_are_refused() -> None:
    fixed, other = ramp((4, 5, 6)), ramp((4, 5, 6), (1.0, 1.0, 2.0))
    for show in (checkerboard, difference):
        with pytest.raises(GeometryError, match="same voxel grid"):
            show(fixed, other)
    with pytest.raises(InputError, match="0 squares shows nothing"):
        checkerboard(fixed, fixed, squares=0)


def some_labels(seed: int, count: int = 5) -> Volume:
    """Blocks of labels on an oblique grid, without order."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, count, (5, 6, 7))
    array = coarse.repeat(3, 0).repeat(3, 1).repeat(2, 2).astype(np.int16)
    return Volume(array, an_oblique_grid(array.shape, (2.5, 2.0, 3.0)))


@settings(max_examples=12)
@given(st.integers(0, 1000), st.floats(-40, 40))
def test_the_label_whose_indicator_is_largest_wins(seed: int, degrees: float) -> None:
    labels = some_labels(seed)
    target = Geometry.from_spacing((16, 15, 14), (2.2, 3.1, 2.7), origin=(-4, -8, 0))
    transform = a_smooth_warp(target, 4.0).then(a_turn(degrees, (3, -2, 4)))
    found = warp_labels(labels, transform, target)
    shares = np.stack(
        [
            transform.resample(
                labels.with_array((labels.array == value).astype(np.float32)), target, fill=float(value == 0)
            ).array
            for value in range(5)
        ]
    )
    ordered = np.sort(shares, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-3
    assert clear.mean() > 0.8
    assert found.array.dtype == labels.array.dtype
    assert np.array_equal(found.array[clear], shares.argmax(0)[clear])


def test_slabs_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, transform = some_labels(3), a_turn(15, (2, 1, 0))
    whole = warp_labels(labels, transform, labels.geometry)
    monkeypatch.setattr(maps, "_POINTS", 1)
    assert np.array_equal(warp_labels(labels, transform, labels.geometry).array, whole.array)


def test_labels_that_do_not_move_stay_and_a_tie_goes_to_the_smaller_value() -> None:
    labels = some_labels(1)
    assert np.array_equal(warp_labels(labels, SpatialTransform(), labels.geometry).array, labels.array)
    two = Volume(np.array([[[4, 2]]], np.uint8), Geometry.from_spacing((1, 1, 2)))
    between = Geometry.from_spacing((1, 1, 1), origin=(0.5, 0, 0))
    assert warp_labels(two, SpatialTransform(), between).array.item() == 2


def test_outside_the_moving_volume_there_is_background() -> None:
    labels = Volume(np.full((4, 4, 4), 7, np.uint8), Geometry.from_spacing((4, 4, 4)))
    for rule in ("linear", "nearest"):
        found = warp_labels(labels, a_turn(0, (2, 0, 0)), labels.geometry, rule)
        assert np.array_equal(found.array[0, 0], [7, 7, 0, 0])


def test_nearest_takes_the_voxel_that_lies_next() -> None:
    labels, transform = some_labels(2), a_turn(10, (1, 1, 1))
    expected = transform.resample(labels, labels.geometry, "nearest")
    assert np.array_equal(warp_labels(labels, transform, labels.geometry, "nearest").array, expected.array)
    with pytest.raises(InputError, match="no rule 'cubic'"):
        warp_labels(labels, transform, labels.geometry, "cubic")
