"""Voxels on their grid: every voxel keeps its place in the patient, and every step can be undone exactly."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from medseg.errors import GeometryError, InputError
from medseg.volumes import Geometry, Volume
from support.grids import ALL_ORIENTATIONS, geometries, numbered, places, slope


@pytest.fixture
def a_small_volume() -> Volume:
    geometry = Geometry.from_spacing((4, 5, 6), (1.0, 1.5, 3.0), (10.0, 20.0, 30.0), "LPS")
    return numbered(geometry, np.int16)


@given(geometries(sheared=True), st.sampled_from(ALL_ORIENTATIONS))
def test_turning_keeps_every_voxel_in_its_place_and_is_undone_exactly(geometry: Geometry, orientation: str) -> None:
    volume = numbered(geometry)
    turned = volume.reorient(orientation)
    there, before = places(turned), places(volume)
    assert there.keys() == before.keys()
    assert all(place == pytest.approx(before[value], abs=1e-5) for value, place in there.items())
    assert turned.array.flags.c_contiguous
    back = turned.reorient(geometry.orientation)
    assert back.geometry == geometry
    np.testing.assert_array_equal(back.array, volume.array)


@pytest.mark.parametrize("orientation", ALL_ORIENTATIONS)
def test_turning_is_that_of_nibabel(a_small_volume: Volume, orientation: str) -> None:
    image = nibabel.Nifti1Image(a_small_volume.array_ijk, a_small_volume.geometry.ijk_to_ras)
    change = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt(nibabel.aff2axcodes(image.affine)),
        nibabel.orientations.axcodes2ornt(tuple(orientation)),
    )
    expected = image.as_reoriented(change)
    turned = a_small_volume.reorient(orientation)
    np.testing.assert_array_equal(turned.array_ijk, np.asarray(expected.dataobj))
    np.testing.assert_allclose(turned.geometry.ijk_to_ras, expected.affine, atol=1e-12)


@pytest.mark.parametrize("orientation", ALL_ORIENTATIONS)
def test_turning_is_that_of_simpleitk(a_small_volume: Volume, orientation: str) -> None:
    expected = Volume.from_sitk(sitk.DICOMOrient(a_small_volume.to_sitk(), orientation))
    turned = a_small_volume.reorient(orientation)
    assert turned.geometry.is_close(expected.geometry, 1e-9)
    np.testing.assert_array_equal(turned.array, expected.array)


@given(geometries(largest=8), st.data())
def test_a_crop_keeps_its_voxels_in_place_and_is_padded_back_exactly(geometry: Geometry, data: st.DataObject) -> None:
    volume = numbered(geometry)
    start = [data.draw(st.integers(0, count - 1)) for count in geometry.shape]
    stop = [data.draw(st.integers(low + 1, count)) for low, count in zip(start, geometry.shape, strict=True)]
    part = volume.crop(start, stop)
    whole = places(volume)
    assert all(place == pytest.approx(whole[value], abs=1e-5) for value, place in places(part).items())
    back = part.pad_to(geometry, -1)
    assert back.geometry == geometry
    box = tuple(slice(low, high) for low, high in zip(start, stop, strict=True))
    np.testing.assert_array_equal(back.array[box], volume.array[box])
    assert np.count_nonzero(back.array != -1) == part.array.size
    np.testing.assert_array_equal(back.crop_to(part.geometry).array, part.array)


@given(geometries(), st.tuples(*[st.integers(0, 4)] * 6))
def test_a_pad_is_cropped_back_exactly(geometry: Geometry, margins: tuple[int, ...]) -> None:
    volume = numbered(geometry)
    padded = volume.pad(margins[:3], margins[3:], value=-7)
    assert int((padded.array == -7).sum()) == padded.array.size - volume.array.size
    back = padded.crop_to(geometry)
    assert back.geometry == geometry
    np.testing.assert_array_equal(back.array, volume.array)


def test_a_crop_does_not_keep_the_whole_volume_in_memory(a_small_volume: Volume) -> None:
    part = a_small_volume.crop((0, 0, 0), (1, 1, 2))
    assert not np.shares_memory(part.array, a_small_volume.array)


def test_a_grid_with_other_voxels_is_no_crop(a_small_volume: Volume) -> None:
    other = a_small_volume.geometry.with_spacing((1.1, 1.5, 3.0))
    with pytest.raises(GeometryError, match="Resample"):
        a_small_volume.crop_to(other)
    with pytest.raises(GeometryError, match="Resample"):
        a_small_volume.pad_to(other)


@pytest.mark.parametrize(("dtype", "value"), [(np.uint8, -1), (np.uint8, 256), (np.int16, 0.5), (np.int16, np.nan)])
def test_a_value_that_the_voxels_cannot_hold_is_refused(a_small_volume: Volume, dtype: type, value: float) -> None:
    volume = a_small_volume.astype(dtype)
    with pytest.raises(InputError, match="cannot be a voxel"):
        volume.pad((1, 1, 1), (1, 1, 1), value)
    with pytest.raises(InputError, match="cannot be a voxel"):
        volume.resample(volume.geometry, "nearest", fill=value)


@given(geometries(), st.sampled_from(["bool", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]))
def test_simpleitk_and_back_gives_the_same_volume(geometry: Geometry, dtype: str) -> None:
    volume = numbered(geometry).astype(dtype)
    back = Volume.from_sitk(volume.to_sitk())
    assert back.geometry.is_close(geometry, 1e-9)
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.array.dtype == (np.uint8 if dtype == "bool" else np.dtype(dtype))


def test_a_sheared_volume_is_not_given_to_itk_as_if_it_were_straight() -> None:
    matrix = np.eye(4)
    matrix[0, 2] = 0.3
    with pytest.raises(GeometryError, match="right angles"):
        Volume(np.zeros((2, 2, 2)), Geometry((2, 2, 2), matrix)).to_sitk()


def test_images_that_are_no_volumes_are_not_taken_from_itk() -> None:
    with pytest.raises(InputError, match="2 axes"):
        Volume.from_sitk(sitk.Image(3, 4, sitk.sitkUInt8))
    with pytest.raises(InputError, match="3 values"):
        Volume.from_sitk(sitk.Image(3, 4, 5, sitk.sitkVectorUInt8))


@given(geometries(sheared=True, largest=5), geometries(sheared=True, largest=5), st.booleans())
def test_resampling_a_slope_gives_the_slope_wherever_there_are_voxels(
    source: Geometry, target: Geometry, straight: bool
) -> None:
    # The target is moved over the source, or most pairs would not meet.
    moved = target.ijk_to_ras.copy()
    moved[:3, 3] += np.array(source.center_ras) - np.array(target.center_ras)
    target = Geometry(target.shape, moved)
    volume, expected = slope(source), slope(target)
    result = volume.resample(target, "linear", fill=np.nan)
    assert result.array.dtype == np.float32
    assert result.geometry == target
    k, j, i = np.indices(target.shape).reshape(3, -1)
    inside = source.ras_to_ijk_points(target.ijk_to_ras_points(np.stack([i, j, k], axis=1)))
    last = np.array(source.size) - 1.0
    covered = ((inside >= 1e-6) & (inside <= last - 1e-6)).all(axis=1).reshape(target.shape)
    np.testing.assert_allclose(result.array[covered], expected.array[covered], rtol=1e-4, atol=2e-3)
    beyond = ((inside < -0.51) | (inside > last + 0.51)).any(axis=1).reshape(target.shape)
    assert np.isnan(result.array[beyond]).all()


@given(geometries(largest=6), st.sampled_from(ALL_ORIENTATIONS))
def test_resampling_onto_the_same_voxels_is_turning(geometry: Geometry, orientation: str) -> None:
    volume = numbered(geometry, np.int16)
    turned = volume.reorient(orientation)
    result = volume.resample(turned.geometry, "nearest", fill=-1)
    np.testing.assert_array_equal(result.array, turned.array)
    assert result.array.dtype == np.int16


def test_linear_resampling_is_that_of_scipy_between_oblique_left_handed_and_sheared_grids() -> None:
    rng = np.random.default_rng(3)
    matrix = np.array([[0.8, 0.1, 0.3, -4], [-0.1, -0.9, 0.2, 5], [0.05, 0.1, 1.9, 2], [0, 0, 0, 1.0]])
    volume = Volume(rng.normal(size=(9, 12, 14)).astype(np.float32), Geometry((9, 12, 14), matrix))
    target = Geometry.from_spacing((7, 10, 11), (0.9, 0.7, 1.3), (-2.0, -4.0, 4.0), "RAS")
    k, j, i = np.indices(target.shape).reshape(3, -1)
    index = volume.geometry.ras_to_ijk_points(target.ijk_to_ras_points(np.stack([i, j, k], axis=1)))
    expected = map_coordinates(volume.array, index[:, ::-1].T, order=1, mode="constant", cval=np.nan)
    expected = expected.reshape(target.shape)
    covered = np.isfinite(expected)
    assert covered.mean() > 0.3
    result = volume.resample(target, "linear").array
    np.testing.assert_allclose(result[covered], expected[covered], atol=1e-4)


def test_bspline_resampling_passes_through_the_voxels(a_small_volume: Volume) -> None:
    volume = a_small_volume.with_array(np.random.default_rng(0).normal(size=a_small_volume.shape).astype(np.float32))
    result = volume.resample(volume.geometry, "bspline")
    np.testing.assert_allclose(result.array, volume.array, atol=1e-4)


def test_an_unknown_interpolation_is_refused(a_small_volume: Volume) -> None:
    with pytest.raises(InputError, match="linear, nearest or bspline"):
        a_small_volume.resample(a_small_volume.geometry, "cubic")  # type: ignore[arg-type]


@pytest.mark.parametrize("array", [np.zeros((3, 4)), np.zeros((2, 3, 4, 5)), np.zeros((3, 4, 5, 3))])
def test_an_array_without_three_axes_is_no_volume(array: np.ndarray) -> None:
    with pytest.raises(InputError, match="axes"):
        Volume(array, Geometry.from_spacing((3, 4, 5)))


@pytest.mark.parametrize("dtype", ["c8", "O", "U3", "M8[s]"])
def test_voxels_must_be_real_numbers(dtype: str) -> None:
    with pytest.raises(InputError, match="real numbers"):
        Volume(np.zeros((3, 4, 5), dtype=dtype), Geometry.from_spacing((3, 4, 5)))


def test_array_and_grid_must_have_the_same_shape() -> None:
    with pytest.raises(GeometryError, match="shape"):
        Volume(np.zeros((5, 4, 3)), Geometry.from_spacing((3, 4, 5)))


def test_arrays_in_foreign_order_are_put_right_and_others_are_not_copied() -> None:
    geometry = Geometry.from_spacing((3, 4, 5))
    mine = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    assert np.shares_memory(Volume(mine, geometry).array, mine)
    foreign = Volume(np.asfortranarray(mine.astype(">f4")), geometry).array
    assert foreign.flags.c_contiguous
    assert foreign.dtype.isnative
    np.testing.assert_array_equal(foreign, mine)


def test_what_a_volume_is_called_goes_with_it(a_small_volume: Volume) -> None:
    volume = Volume(a_small_volume.array, a_small_volume.geometry, name="Heart", modality="MR", notes=("odd",))
    target = volume.geometry.with_spacing((2, 2, 2))
    for other in (
        volume.reorient("RAS"),
        volume.crop((0, 0, 0), (2, 2, 2)),
        volume.pad((1, 1, 1), (1, 1, 1)),
        volume.resample(target),
        volume.astype(np.float32),
    ):
        assert (other.name, other.modality, other.notes) == ("Heart", "MR", ("odd",))
