"""Thick copies: the voxels and the grid against SimpleITK, and which labels belong to which thin volume."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import GeometryError, InputError
from medseg.training.thin_thick import Grouping, find_grouping, thick_copy, thick_geometry
from medseg.training.thin_thick.thick import place_labels
from medseg.volumes import Geometry, Volume, read_labelmap, write_labelmap
from support.grids import geometries, numbered, slope

AXES = ("i", "j", "k")


@settings(max_examples=40, deadline=None)
@given(geometry=geometries(largest=8), axis=st.sampled_from(AXES), factor=st.integers(2, 4))
def test_a_thick_copy_is_the_bin_shrinking_of_itk(geometry: Geometry, axis: str, factor: int) -> None:
    volume = numbered(geometry, np.float32)
    index = AXES.index(axis)
    if geometry.size[index] < factor:
        with pytest.raises(InputError, match=f"a thick slice needs {factor}"):
            thick_copy(volume, factor=factor, axis=axis)
        return
    factors = [1, 1, 1]
    factors[index] = factor
    expected = Volume.from_sitk(sitk.BinShrink(volume.to_sitk(), factors))
    found = thick_copy(volume, factor=factor, axis=axis)
    assert found.geometry.is_close(expected.geometry, 1e-6)
    np.testing.assert_allclose(found.array, expected.array, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(geometry=geometries(sheared=True, largest=8), axis=st.sampled_from(AXES))
def test_a_slope_through_space_stays_the_same_slope_on_thick_slices(geometry: Geometry, axis: str) -> None:
    if geometry.size[AXES.index(axis)] < 2:
        return
    thick = thick_copy(slope(geometry), factor=2, axis=axis)
    np.testing.assert_allclose(thick.array, slope(thick.geometry).array, rtol=1e-4, atol=2e-3)


def test_the_first_thick_slice_lies_in_the_middle_of_its_group() -> None:
    volume = numbered(Geometry.from_spacing((9, 2, 2), (1.0, 1.0, 1.5), (0.0, 0.0, 100.0)))
    for factor, middle in ((2, 100.75), (3, 101.5), (4, 102.25)):
        thick = thick_copy(volume, factor=factor)
        assert thick.geometry.origin == pytest.approx((0, 0, middle))
        assert thick.geometry.spacing == pytest.approx((1, 1, 1.5 * factor))
        assert thick.shape == (9 // factor, 2, 2)


def test_a_thickness_in_millimetres_is_rounded_to_whole_slices() -> None:
    volume = numbered(Geometry.from_spacing((20, 3, 3), (0.6, 0.6, 0.625)))
    assert thick_copy(volume, thickness_mm=5.0).geometry.spacing[2] == pytest.approx(5.0)
    assert thick_copy(volume, thickness_mm=3.0).geometry.spacing[2] == pytest.approx(3.125)


def test_intensities_beyond_single_bytes_are_averaged_without_overflow() -> None:
    volume = Volume(np.full((4, 2, 2), 30000, np.int16), Geometry.from_spacing((4, 2, 2)))
    assert (thick_copy(volume, factor=4).array == 30000).all()


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({}, "needs a thickness or a factor"),
        ({"factor": 2, "thickness_mm": 4.0}, "needs a thickness or a factor"),
        ({"factor": 1}, "do not become thicker at 1 slices"),
        ({"thickness_mm": 2.2}, "do not become thicker at 2.2 mm"),
        ({"thickness_mm": float("nan")}, "is no slice thickness"),
        ({"factor": 2, "axis": "z"}, "'z' is no axis"),
        ({"factor": 7}, "has 6 slices of 2 mm along k"),
    ],
)
def test_what_makes_no_thick_copy_is_refused_with_a_sentence(asked: dict, sentence: str) -> None:
    volume = numbered(Geometry.from_spacing((6, 6, 6), (1.0, 1.0, 2.0)))
    with pytest.raises(InputError, match=sentence):
        thick_copy(volume, **asked)


@settings(max_examples=40, deadline=None)
@given(
    geometry=geometries(sheared=True, largest=9),
    axis=st.integers(0, 2),
    factor=st.integers(2, 4),
    first=st.integers(0, 2),
)
def test_the_grid_of_a_thick_copy_is_recognised(geometry: Geometry, axis: int, factor: int, first: int) -> None:
    count = (geometry.size[axis] - first) // factor
    if count < 1:
        return
    grouping = Grouping(axis, factor, first, count)
    found = find_grouping(geometry, thick_geometry(geometry, grouping))
    start = [0, 0, 0]
    start[axis] = first
    assert found == (grouping, tuple(start))


def test_other_grids_are_not_taken_for_thick_copies() -> None:
    thin = Geometry.from_spacing((12, 8, 8), (1.0, 1.0, 1.0))
    for other in (
        thin,
        Geometry.from_spacing((4, 8, 8), (1.0, 1.0, 3.0), (0.0, 0.0, 0.5)),  # between two slices
        Geometry.from_spacing((4, 8, 8), (1.0, 1.0, 3.0), (0.5, 0.0, 1.0)),  # half a voxel aside
        Geometry.from_spacing((5, 8, 8), (1.0, 1.0, 2.5), (0.0, 0.0, 0.75)),  # two and a half slices
        Geometry.from_spacing((4, 4, 8), (1.0, 2.0, 3.0), (0.0, 0.5, 1.0)),  # coarser in two directions
        Geometry.from_spacing((8, 8, 12), (1.0, 1.0, 1.0)),
    ):
        assert find_grouping(thin, other) is None


def drawn_on(thin: Volume, factor: int) -> Volume:
    copy = thick_copy(thin, factor=factor)
    array = np.zeros(copy.shape, np.uint8)
    array[1:3, 2:5, 1:4] = 2
    return Volume(array, copy.geometry)


def a_thin_volume() -> Volume:
    return numbered(Geometry.from_spacing((13, 7, 6), (0.8, 0.9, 1.2), (5.0, -3.0, 40.0), "LPS"))


def test_labels_on_the_whole_thick_copy_stay_where_they_are() -> None:
    thin = a_thin_volume()
    labels = drawn_on(thin, 3)
    placed = place_labels(thin.geometry, labels)
    assert placed.grouping == Grouping(2, 3, 0, 4)
    np.testing.assert_array_equal(placed.array, labels.array)


def test_labels_cropped_to_what_was_drawn_are_put_back() -> None:
    thin = a_thin_volume()
    labels = drawn_on(thin, 3)
    placed = place_labels(thin.geometry, labels.crop((1, 2, 1), (3, 5, 4)))
    np.testing.assert_array_equal(placed.array, labels.array)


def test_labels_padded_beyond_the_volume_are_cut() -> None:
    thin = a_thin_volume()
    labels = drawn_on(thin, 3)
    placed = place_labels(thin.geometry, labels.pad((1, 2, 0), (2, 0, 3)))
    np.testing.assert_array_equal(placed.array, labels.array)


def test_labels_stored_in_another_orientation_are_turned_back() -> None:
    thin = a_thin_volume()
    labels = drawn_on(thin, 4)
    for orientation in ("RAS", "SPL", "AIR"):
        placed = place_labels(thin.geometry, labels.reorient(orientation))
        np.testing.assert_array_equal(placed.array, labels.array)


def test_groups_may_begin_at_another_slice_than_the_first() -> None:
    thin = a_thin_volume()
    labels = drawn_on(thin.crop((1, 0, 0), (13, 7, 6)), 3)
    placed = place_labels(thin.geometry, labels)
    assert placed.grouping == Grouping(2, 3, 1, 4)
    np.testing.assert_array_equal(placed.array, labels.array)


def test_labels_survive_a_file(tmp_path) -> None:
    thin = a_thin_volume()
    labels = drawn_on(thin, 3)
    for name in ("labels.nii.gz", "labels.nrrd"):
        write_labelmap(labels, tmp_path / name)
        placed = place_labels(thin.geometry, read_labelmap(tmp_path / name))
        np.testing.assert_array_equal(placed.array, labels.array)


def test_labels_that_do_not_belong_are_refused_with_a_sentence() -> None:
    thin = a_thin_volume()
    labels = drawn_on(thin, 3)
    with pytest.raises(GeometryError, match="lie on the thin slices already"):
        place_labels(thin.geometry, Volume(np.ones(thin.shape, np.uint8), thin.geometry))
    shifted = thin.geometry.ijk_to_ras.copy()
    shifted[0, 3] += 0.4
    with pytest.raises(GeometryError, match="do not lie on a thick copy of the volume"):
        place_labels(Geometry(thin.shape, shifted), labels)
    with pytest.raises(InputError, match="are empty"):
        place_labels(thin.geometry, labels.with_array(np.zeros_like(labels.array)))
    with pytest.raises(InputError, match="outside the thin volume"):
        place_labels(thin.geometry.cropped((0, 4, 0), (13, 7, 6)), labels)
