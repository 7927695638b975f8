"""Tilted, uneven and incomplete stacks: every value lands where its pixel lies in the patient."""

from __future__ import annotations

import statistics
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from medseg.errors import InputError
from medseg.volumes import Volume, read_dicom
from support.dicom import write_series
from support.grids import rotation

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = np.array([7.0, -5.0, 11.0])  # a value that is linear in LPS is kept by linear interpolation


def slope(points: np.ndarray) -> np.ndarray:
    return points @ WEIGHTS + 200


def lps_points(volume: Volume) -> np.ndarray:
    """Return the LPS point (k, j, i, 3) of every voxel."""
    k, j, i = np.indices(volume.shape)
    return volume.geometry.ijk_to_ras_points(np.stack([i, j, k], axis=-1).reshape(-1, 3)).reshape(
        *volume.shape, 3
    ) * np.array([-1, -1, 1])


def raw_value(folder: Path, points: np.ndarray) -> np.ndarray:
    """Return the values of a series at LPS points (N, 3), NaN outside: from its files by pydicom and scipy alone.

    Within the plane of the slice before and of the slice after a point, at the point's place seen along the normal,
    bilinear; between the two, linear.
    """
    slices = [pydicom.dcmread(path) for path in folder.iterdir() if path.suffix == ".dcm"]
    plane = np.array(slices[0].ImageOrientationPatient, dtype=float)
    across, down = plane[:3], plane[3:]
    normal = np.cross(across, down)
    slices.sort(key=lambda image: float(np.dot(image.ImagePositionPatient, normal)))
    depth = np.array([np.dot(image.ImagePositionPatient, normal) for image in slices])
    levels = np.stack([_in_plane(image, points, across, down) for image in slices])
    there = points @ normal
    upper = np.clip(np.searchsorted(depth, there), 1, len(depth) - 1)
    weight = (there - depth[upper - 1]) / (depth[upper] - depth[upper - 1])
    number = np.arange(len(points))
    value = levels[upper - 1, number] * (1 - weight) + levels[upper, number] * weight
    return np.where((weight >= -1e-3) & (weight <= 1 + 1e-3), value, np.nan)


def _in_plane(image: pydicom.Dataset, points: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    offset = points - np.array(image.ImagePositionPatient, dtype=float)
    rows, columns = offset @ down / float(image.PixelSpacing[0]), offset @ across / float(image.PixelSpacing[1])
    pixels = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
    return map_coordinates(pixels, [rows, columns], order=1, mode="constant", cval=np.nan)


@pytest.mark.parametrize("name", ["dicom-ct-uneven-slices", "dicom-ct-gantry-tilt"])
def test_real_series_have_each_value_where_its_pixel_lies(shared_data: Path, name: str) -> None:
    folder = shared_data / name
    volume = read_dicom(folder)
    assert not volume.geometry.is_sheared
    rng = np.random.default_rng(1)
    index = rng.integers(0, volume.shape, (4_000, 3))
    points = lps_points(volume)[tuple(index.T)]
    expected = raw_value(folder, points)
    seen = volume.array[tuple(index.T)]
    known = np.isfinite(expected)
    assert known.mean() > 0.7
    # Half a unit is lost by rounding to whole numbers; the border of a pixel may fall on either side.
    assert np.percentile(np.abs(seen[known] - expected[known]), 99.9) <= 0.6
    assert np.abs(seen[known] - expected[known]).max() < 30
    assert np.ptp(expected[known]) > 1000


def test_the_uneven_series_is_told(shared_data: Path) -> None:
    volume = read_dicom(shared_data / "dicom-ct-uneven-slices")
    assert volume.geometry.spacing[2] == pytest.approx(4.002, abs=0.01)
    assert volume.shape[0] == 37
    told = " ".join(volume.notes)
    for words in ("18.5°", "uneven", "1.081, 4.002, 6.999 mm", "37 even slices"):
        assert words in told


def test_the_series_with_missing_slices_is_told(shared_data: Path) -> None:
    volume = read_dicom(shared_data / "dicom-ct-gantry-tilt")
    assert volume.geometry.spacing[2] == pytest.approx(2.371, abs=0.01)
    assert volume.shape[0] == 26
    told = " ".join(volume.notes)
    for words in ("18.5°", "6 slices are missing", "16.6 mm after slice 3", "1 file beside the slices"):
        assert words in told


def test_the_whole_tilted_field_of_view_is_kept(shared_data: Path) -> None:
    for name in ("dicom-ct-uneven-slices", "dicom-ct-gantry-tilt"):
        volume = read_dicom(shared_data / name)
        for path in (shared_data / name).glob("*.dcm"):
            image = pydicom.dcmread(path, stop_before_pixels=True)
            corner = np.array(image.ImagePositionPatient, dtype=float) * [-1, -1, 1]
            inside = volume.geometry.ras_to_ijk_points(corner)
            assert (inside > -0.51).all()
            assert (inside < np.array(volume.geometry.size) - 0.49).all()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.tuples(*[st.floats(-1, 1)] * 4),
    st.lists(st.floats(0.5, 3.0), min_size=3, max_size=7),
    st.tuples(st.floats(-0.7, 0.7), st.floats(-0.7, 0.7)),
    st.booleans(),
)
def test_a_slope_stays_that_slope_whatever_the_stack(
    tmp_path: Path,
    quaternion: tuple[float, ...],
    gaps: list[float],
    lean: tuple[float, float],
    mixed: bool,
) -> None:
    assume(sum(gaps) < 1.9 * statistics.median_low(gaps) * (len(gaps) + 1))  # else most of the series is missing
    folder = tmp_path / str(sum(1 for _ in tmp_path.iterdir()))
    axes = rotation(quaternion)
    orientation = (*axes[:, 0], *axes[:, 1])
    depth = np.concatenate([[0.0], np.cumsum(gaps)])
    step = axes[:, 2] + lean[0] * axes[:, 0] + lean[1] * axes[:, 1]
    positions = np.array([3.0, -4.0, 5.0]) + depth[:, None] * step
    size, spacing = (16, 14), (0.9, 1.2)
    order = np.random.default_rng(0).permutation(len(positions)) if mixed else np.arange(len(positions))
    write_series(folder, positions[order], value=slope, size=size, orientation=orientation, spacing=spacing)
    volume = read_dicom(folder)

    assert not volume.geometry.is_sheared
    assert volume.geometry.extent_mm[2] - volume.geometry.spacing[2] == pytest.approx(depth[-1], rel=1e-2)
    points = lps_points(volume)
    # Measured is what lies between slices within the pixels of both.
    offset = points - positions[0]
    along = offset @ axes[:, 2]
    covered = np.ones(volume.shape, bool)
    upper = np.clip(np.searchsorted(depth, along - 1e-6), 1, len(depth) - 1)
    for bracket in (upper - 1, upper):
        beside = offset - depth[bracket][..., None] * step
        column, row = beside @ axes[:, 0] / spacing[1], beside @ axes[:, 1] / spacing[0]
        covered &= (column > 0.1) & (column < size[1] - 1.1) & (row > 0.1) & (row < size[0] - 1.1)
    expected = slope(points.reshape(-1, 3)).reshape(volume.shape)
    assert covered.any()
    # Stored and given back as whole numbers, placed within the tolerances of an even stack.
    tolerance = 1.0 + 0.03 * max(gaps) * np.abs(WEIGHTS).sum()
    np.testing.assert_allclose(volume.array[covered], expected[covered], atol=tolerance)


def test_an_uneven_stack_is_exact_where_a_slice_lies(tmp_path: Path) -> None:
    depth = [0.0, 2.0, 4.0, 5.0, 8.0]
    write_series(tmp_path, [(0, 0, z) for z in depth])
    volume = read_dicom(tmp_path)
    assert volume.geometry.spacing == pytest.approx((1, 1, 2))
    raw = [pydicom.dcmread(path).pixel_array for path in sorted(tmp_path.iterdir())]
    for index, number in ((0, 0), (1, 1), (2, 2), (4, 4)):
        np.testing.assert_array_equal(volume.array[index], raw[number])
    np.testing.assert_allclose(volume.array[3], raw[3] + (raw[4].astype(float) - raw[3]) / 3, atol=0.51)


def test_missing_slices_are_counted_and_filled_from_their_neighbours(tmp_path: Path) -> None:
    write_series(tmp_path, [(0, 0, 2.0 * index) for index in (0, 1, 2, 5, 6, 8)], value=slope)
    volume = read_dicom(tmp_path)
    assert volume.shape[0] == 9
    assert volume.notes[0] == (
        "3 slices are missing (a gap of 6 mm after slice 3, 4 mm after slice 5; the others are 2 mm apart)."
    )
    assert "interpolated linearly onto 9 even slices at a distance of 2 mm" in volume.notes[1]
    np.testing.assert_allclose(volume.array, slope(lps_points(volume).reshape(-1, 3)).reshape(volume.shape), atol=1)


def test_a_series_with_more_missing_than_there_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, [(0, 0, z) for z in (0.0, 1, 2, 3, 500, 501, 502)])
    with pytest.raises(InputError, match="7 slices where 503 should be") as caught:
        read_dicom(tmp_path)
    assert "whole series" in caught.value.advice


def test_small_errors_of_positions_are_no_unevenness(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_series(tmp_path, [(0, 0, 2.5 * index + rng.uniform(-0.01, 0.01)) for index in range(20)])
    volume = read_dicom(tmp_path)
    assert volume.notes == ()
    assert volume.geometry.spacing[2] == pytest.approx(2.5, abs=0.01)


def test_a_stack_that_leans_by_a_hair_is_not_resampled_but_placed_right(tmp_path: Path) -> None:
    positions = [(0.0008 * z, 0, z) for z in np.arange(0, 200, 2.0)]
    write_series(tmp_path, positions)
    volume = read_dicom(tmp_path)
    assert volume.notes == ()
    assert not volume.geometry.is_sheared
    last = volume.geometry.ijk_to_ras_points([0, 0, len(positions) - 1])
    np.testing.assert_allclose(last * [-1, -1, 1], positions[-1], atol=1e-6)


def test_a_gantry_tilt_with_even_slices_keeps_their_distance(tmp_path: Path) -> None:
    angle = np.radians(15)
    orientation = (1, 0, 0, 0, np.cos(angle), -np.sin(angle))
    positions = [(0, 0, 3.0 * index) for index in range(10)]
    write_series(tmp_path, positions, value=slope, size=(30, 20), orientation=orientation)
    volume = read_dicom(tmp_path)
    assert volume.geometry.spacing[2] == pytest.approx(3 * np.cos(angle))
    assert volume.shape[0] == 10
    assert "15.0°" in volume.notes[0]
    assert not any("missing" in note or "uneven" in note for note in volume.notes)


def test_pixels_that_no_slice_measured_have_the_lowest_value(tmp_path: Path) -> None:
    angle = np.radians(20)
    orientation = (1, 0, 0, 0, np.cos(angle), -np.sin(angle))
    write_series(tmp_path, [(0, 0, 4.0 * index) for index in range(8)], orientation=orientation, rescale=(1, -1024))
    volume = read_dicom(tmp_path)
    assert volume.array.min() >= -1024
    assert volume.array[0, 0, 0] == volume.array[-1, -1, 0] < -1000


def test_the_order_of_reading_costs_two_slices_of_memory_not_a_second_volume(tmp_path: Path) -> None:
    write_series(tmp_path, [(0.3 * index, 0, 2.0 * index) for index in range(30)], size=(160, 160))
    read_dicom(tmp_path)  # SimpleITK's own import
    tracemalloc.start()
    try:
        volume = read_dicom(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 1.6 * volume.array.nbytes + 2**20
    finally:
        tracemalloc.stop()
