"""The voxel grid: 48 orientations, oblique, anisotropic, left-handed, sheared, and back again to the last bit."""

from __future__ import annotations

import dataclasses
import pickle

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import GeometryError
from medseg.volumes import Geometry
from support.grids import ALL_ORIENTATIONS, geometries

MATRIX = np.array([[2.0, 0, 0, 5], [0, 3, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])


@pytest.fixture
def a_plain_grid() -> Geometry:
    return Geometry((3, 4, 5), MATRIX)


def test_there_are_48_orientations_and_each_is_found_again() -> None:
    assert len(set(ALL_ORIENTATIONS)) == 48
    for orientation in ALL_ORIENTATIONS:
        geometry = Geometry.from_spacing((3, 4, 5), (0.7, 0.8, 2.5), (11.0, -22.0, 33.0), orientation)
        assert geometry.orientation == orientation
        assert geometry.spacing == (0.7, 0.8, 2.5)
        assert geometry.origin == (11.0, -22.0, 33.0)
        assert geometry.is_left_handed == (np.linalg.det(geometry.ijk_to_ras) < 0)


@given(geometries(sheared=False))
def test_orientation_letters_are_those_of_nibabel_and_so_of_monai(geometry: Geometry) -> None:
    assert geometry.orientation == "".join(nibabel.aff2axcodes(geometry.ijk_to_ras))


@given(geometries(sheared=True))
def test_orientation_letters_of_sheared_grids_are_those_of_nibabel(geometry: Geometry) -> None:
    assert geometry.orientation == "".join(nibabel.aff2axcodes(geometry.ijk_to_ras))


def test_derived_numbers_of_a_plain_grid(a_plain_grid: Geometry) -> None:
    assert a_plain_grid.size == (5, 4, 3)
    assert a_plain_grid.spacing == (2.0, 3.0, 4.0)
    assert a_plain_grid.origin == (5.0, 6.0, 7.0)
    assert a_plain_grid.extent_mm == (10.0, 12.0, 12.0)
    assert a_plain_grid.center_ras == (9.0, 10.5, 11.0)
    assert a_plain_grid.voxel_volume_mm3 == pytest.approx(24.0)
    assert not a_plain_grid.is_left_handed
    assert not a_plain_grid.is_sheared
    np.testing.assert_array_equal(a_plain_grid.direction, np.eye(3))


@given(geometries(sheared=True))
def test_volume_of_a_sheared_voxel_is_the_determinant(geometry: Geometry) -> None:
    assert geometry.voxel_volume_mm3 == pytest.approx(abs(np.linalg.det(geometry.ijk_to_ras[:3, :3])))


@given(geometries(sheared=True))
def test_a_sheared_grid_is_known_as_such(geometry: Geometry) -> None:
    assert geometry.is_sheared


@given(geometries())
def test_a_grid_with_right_angles_is_not_sheared(geometry: Geometry) -> None:
    assert not geometry.is_sheared


@given(geometries(), st.integers(0, 10), st.integers(0, 10), st.integers(0, 10))
def test_points_are_those_of_simpleitk(geometry: Geometry, i: int, j: int, k: int) -> None:
    image = sitk.Image(geometry.size, sitk.sitkUInt8)
    spacing, origin, direction = geometry.to_lps()
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    left, posterior, superior = image.TransformContinuousIndexToPhysicalPoint([i, j, k])
    np.testing.assert_allclose(geometry.ijk_to_ras_points([i, j, k]), [-left, -posterior, superior], atol=1e-9)


@given(geometries(sheared=True))
def test_points_go_to_world_and_back(geometry: Geometry) -> None:
    points = np.array([[0.0, 0, 0], [1.5, -2, 3], [100, 50, 25]])
    there = geometry.ijk_to_ras_points(points)
    np.testing.assert_allclose(geometry.ras_to_ijk_points(there), points, atol=1e-8)
    np.testing.assert_allclose(geometry.ras_to_ijk @ geometry.ijk_to_ras, np.eye(4), atol=1e-9)


@given(geometries())
def test_numbers_for_itk_give_the_same_grid_back(geometry: Geometry) -> None:
    spacing, origin, direction = geometry.to_lps()
    assert Geometry.from_lps(geometry.shape, spacing, origin, direction).is_close(geometry, 1e-9)


@given(geometries(sheared=True), st.sampled_from(ALL_ORIENTATIONS))
def test_turning_and_turning_back_gives_the_same_bits(geometry: Geometry, orientation: str) -> None:
    turned = geometry.reoriented(orientation)
    assert turned.orientation == orientation
    assert turned.reoriented(geometry.orientation) == geometry


def test_a_grid_between_two_orientations_is_turned_back_too() -> None:
    half = np.sqrt(0.5)
    matrix = np.array([[half, 0, -half, 1], [half, 0, half, 2], [0, 2, 0, 3], [0, 0, 0, 1]])
    geometry = Geometry((3, 4, 5), matrix)
    for orientation in ALL_ORIENTATIONS:
        turned = geometry.reoriented(orientation)
        assert turned.orientation == orientation
        assert turned.reoriented(geometry.orientation) == geometry


@given(geometries(), st.tuples(*[st.integers(0, 5)] * 6))
def test_padding_and_cropping_gives_the_same_bits(geometry: Geometry, margins: tuple[int, ...]) -> None:
    before, after = margins[:3], margins[3:]
    padded = geometry.padded(before, after)
    stop = tuple(low + count for low, count in zip(before, geometry.shape, strict=True))
    assert padded.cropped(before, stop) == geometry
    assert padded.offset_of(geometry) == before


@given(geometries(), st.lists(st.sampled_from(ALL_ORIENTATIONS), min_size=1, max_size=6), st.integers(1, 4))
def test_a_long_way_there_and_back_gives_the_same_bits(geometry: Geometry, way: list[str], margin: int) -> None:
    grid = geometry
    for orientation in way:
        grid = grid.reoriented(orientation).padded((margin,) * 3, (margin,) * 3)
    for _ in way:
        grid = grid.cropped((margin,) * 3, tuple(count - margin for count in grid.shape))
    assert grid.reoriented(geometry.orientation) == geometry


@given(geometries(sheared=True), st.sampled_from(ALL_ORIENTATIONS))
def test_turning_keeps_every_corner_in_its_place(geometry: Geometry, orientation: str) -> None:
    def sorted_corners(grid: Geometry) -> list[tuple[float, ...]]:
        return sorted(tuple(point) for point in np.round(grid.corners_ras(), 5) + 0.0)

    assert sorted_corners(geometry.reoriented(orientation)) == sorted_corners(geometry)


@given(geometries(largest=40), st.tuples(*[st.floats(0.3, 5.0)] * 3))
def test_a_new_spacing_covers_the_same_field_of_view(geometry: Geometry, spacing: tuple[float, ...]) -> None:
    finer = geometry.with_spacing(spacing)
    np.testing.assert_allclose(finer.spacing, spacing)
    np.testing.assert_allclose(finer.center_ras, geometry.center_ras, atol=1e-9)
    np.testing.assert_allclose(finer.direction, geometry.direction, atol=1e-12)
    for new, old, step in zip(finer.extent_mm, geometry.extent_mm, spacing, strict=True):
        assert abs(new - old) <= step / 2 + 1e-6 or new == pytest.approx(step)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.diag([1.0, 1, 0, 1]), "singular"),
        (np.array([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "singular"),
        (np.diag([1.0, np.nan, 1, 1]), "finite"),
        (np.diag([1.0, np.inf, 1, 1]), "finite"),
        (np.diag([1.0, 1e300, 1, 1]), "no sense"),
        (np.diag([1.0, 1e-300, 1, 1]), "singular|no sense"),
        (np.diag([1.0, 1, 1, 2]), "last row"),
        (np.eye(3), "4x4"),
        ("eye", "numbers"),
    ],
)
def test_a_matrix_that_spans_no_grid_is_refused(matrix: object, words: str) -> None:
    with pytest.raises(GeometryError, match=words) as caught:
        Geometry((3, 4, 5), matrix)  # type: ignore[arg-type]
    assert caught.value.advice


@pytest.mark.parametrize("shape", [(0, 1, 1), (1, -1, 1), (1, 1), (1, 1, 1, 1), (1.5, 1, 1), "abc", None])
def test_a_shape_that_is_no_volume_is_refused(shape: object) -> None:
    with pytest.raises(GeometryError):
        Geometry(shape, np.eye(4))  # type: ignore[arg-type]


@pytest.mark.parametrize("orientation", ["", "RA", "RRS", "RAX", "RASI", "rl s", None])
def test_letters_that_are_no_orientation_are_refused(a_plain_grid: Geometry, orientation: str) -> None:
    with pytest.raises(GeometryError, match="orientation"):
        a_plain_grid.reoriented(orientation)


@pytest.mark.parametrize("box", [((0, 0, 0), (3, 4, 6)), ((-1, 0, 0), (3, 4, 5)), ((1, 1, 1), (1, 2, 2))])
def test_a_box_that_leaves_the_grid_is_refused(
    a_plain_grid: Geometry, box: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    with pytest.raises(GeometryError, match="box"):
        a_plain_grid.cropped(*box)


def test_padding_by_less_than_nothing_is_refused(a_plain_grid: Geometry) -> None:
    with pytest.raises(GeometryError, match="padded"):
        a_plain_grid.padded((0, 0, -1), (0, 0, 0))


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, -1, 1), (1, 1, np.nan), (1, 1)])
def test_a_spacing_that_is_none_is_refused(a_plain_grid: Geometry, spacing: tuple[float, ...]) -> None:
    with pytest.raises(GeometryError, match="spacing"):
        a_plain_grid.with_spacing(spacing)


def test_the_matrix_cannot_be_changed_from_outside(a_plain_grid: Geometry) -> None:
    mine = np.eye(4)
    geometry = Geometry((1, 1, 1), mine)
    mine[0, 3] = 99.0
    assert geometry.origin == (0.0, 0.0, 0.0)
    for array in (a_plain_grid.ijk_to_ras, a_plain_grid.ras_to_ijk, a_plain_grid.direction):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 99.0


def test_grids_are_equal_when_their_numbers_are(a_plain_grid: Geometry) -> None:
    twin = Geometry((3, 4, 5), MATRIX)
    assert twin == a_plain_grid
    assert hash(twin) == hash(a_plain_grid)
    moved = MATRIX.copy()
    moved[0, 3] += 1e-6
    assert Geometry((3, 4, 5), moved) != a_plain_grid
    assert Geometry((3, 4, 5), moved).is_close(a_plain_grid)
    assert Geometry((3, 4, 6), MATRIX) != a_plain_grid
    assert not Geometry((3, 4, 6), MATRIX).is_close(a_plain_grid)


def test_a_small_turn_of_a_large_grid_is_not_close() -> None:
    large = Geometry((500, 500, 500), np.eye(4))
    turned = np.eye(4)
    turned[0, 1] = 1e-5
    assert not Geometry((500, 500, 500), turned).is_close(large)
    assert Geometry((2, 2, 2), turned).is_close(Geometry((2, 2, 2), np.eye(4)))


def test_a_grid_with_a_replaced_matrix_forgets_where_it_came_from(a_plain_grid: Geometry) -> None:
    moved = dataclasses.replace(a_plain_grid.reoriented("LPS"), ijk_to_ras=MATRIX)
    assert moved.orientation == "RAS"
    assert moved.reoriented("LPS").reoriented("RAS") == moved


def test_a_pickled_grid_comes_back_and_is_still_read_only(a_plain_grid: Geometry) -> None:
    back = pickle.loads(pickle.dumps(a_plain_grid.reoriented("LPS")))
    assert back == a_plain_grid.reoriented("LPS")
    assert not back.ijk_to_ras.flags.writeable


def test_the_description_says_what_a_person_wants_to_know(a_plain_grid: Geometry) -> None:
    text = repr(a_plain_grid.reoriented("LAS"))
    assert "5 x 4 x 3" in text
    assert "2 x 3 x 4 mm" in text
    assert "LAS" in text
    assert "left-handed" in text
