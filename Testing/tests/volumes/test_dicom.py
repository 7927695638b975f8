"""DICOM folders: slices sorted and rescaled, oddities told, everything else refused in a sentence."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.errors import InputError, ReadError
from medseg.volumes import Volume, find_series, read_dicom, read_volume
from support.dicom import AXIAL, CORONAL, PATIENT, SAGITTAL, write_series, write_slice
from support.grids import rotation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

EVEN = [(-5.0, 7.0, 2.5 * index) for index in range(8)]


def turned(quaternion: Sequence[float]) -> tuple[tuple[float, ...], np.ndarray]:
    """Return the six numbers of an image orientation, and the normal."""
    axes = rotation(tuple(quaternion))
    return (*axes[:, 0], *axes[:, 1]), axes[:, 2]


def by_simpleitk(paths: Sequence[Path]) -> Volume:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in paths])
    return Volume.from_sitk(reader.Execute())


def test_an_even_series_is_what_simpleitk_reads(tmp_path: Path) -> None:
    paths = write_series(tmp_path, EVEN, spacing=(0.8, 0.6), rescale=(1, -1024))
    volume = read_dicom(tmp_path)
    expected = by_simpleitk(paths)
    assert volume.geometry.is_close(expected.geometry)
    np.testing.assert_array_equal(volume.array, expected.array)
    assert volume.array.dtype.kind == "i"
    assert (volume.name, volume.modality, volume.notes) == ("Thin", "CT", ())
    np.testing.assert_array_equal(read_volume(tmp_path).array, volume.array)


@pytest.mark.parametrize("order", [[7, 6, 5, 4, 3, 2, 1, 0], [3, 1, 7, 0, 2, 6, 5, 4]])
def test_slices_are_sorted_by_where_they_lie(tmp_path: Path, order: list[int]) -> None:
    write_series(tmp_path / "sorted", EVEN, value=lambda points: points @ [3, 5, 7])
    write_series(tmp_path / "mixed", [EVEN[index] for index in order], value=lambda points: points @ [3, 5, 7])
    first, second = read_dicom(tmp_path / "sorted"), read_dicom(tmp_path / "mixed")
    np.testing.assert_array_equal(first.array, second.array)
    assert first.geometry == second.geometry
    assert second.notes == ()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.tuples(*[st.floats(-1, 1)] * 4), st.booleans(), st.floats(0.5, 6))
def test_oblique_series_are_where_simpleitk_sees_them(
    tmp_path: Path, quaternion: tuple[float, ...], backwards: bool, step: float
) -> None:
    folder = tmp_path / str(sum(1 for _ in tmp_path.iterdir()))
    orientation, normal = turned(quaternion)
    start = np.array([10.0, -20.0, 30.0])
    positions = [start + index * step * normal for index in range(5)]
    paths = write_series(
        folder, positions[::-1] if backwards else positions, orientation=orientation, spacing=(0.7, 1.3), modality="MR"
    )
    volume = read_dicom(folder)
    expected = by_simpleitk(paths[::-1] if backwards else paths)
    assert volume.geometry.is_close(expected.geometry)
    np.testing.assert_array_equal(volume.array, expected.array)
    assert volume.notes == ()
    assert volume.modality == "MR"


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, CORONAL])
def test_planes_of_every_kind_grow_along_their_normal(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    normal = np.cross(orientation[:3], orientation[3:])
    write_series(tmp_path, [normal * index * 2.0 for index in range(4)], orientation=orientation)
    geometry = read_dicom(tmp_path).geometry
    np.testing.assert_allclose(geometry.direction[:, 2], normal * [-1, -1, 1], atol=1e-9)
    assert geometry.spacing == pytest.approx((1.0, 1.0, 2.0))


def test_each_slice_is_rescaled_by_its_own_numbers(tmp_path: Path) -> None:
    paths = write_series(
        tmp_path,
        EVEN,
        modality="PT",
        value=lambda points: 0 * points[:, 0] + 100,
        tags=lambda number: {"RescaleSlope": 0.5 + number, "RescaleIntercept": number},
    )
    volume = read_dicom(tmp_path)
    assert volume.array.dtype == np.float32
    expected = [100 * (0.5 + number) + number for number in range(len(paths))]
    np.testing.assert_allclose(volume.array[:, 0, 0], expected)
    assert np.ptp(volume.array, axis=(1, 2)).max() == 0


def test_types_that_differ_between_slices_hold_every_value(tmp_path: Path) -> None:
    write_series(
        tmp_path,
        EVEN[:3],
        value=lambda points: 0 * points[:, 0] + 30_000,
        tags=lambda number: {"RescaleSlope": [1, 3, 1][number]},
    )
    np.testing.assert_array_equal(read_dicom(tmp_path).array[:, 0, 0], [30_000, 90_000, 30_000])


def test_two_series_in_a_folder_are_listed_and_one_can_be_chosen(tmp_path: Path) -> None:
    write_series(tmp_path, EVEN, name="a")
    write_series(tmp_path, EVEN[:3], name="b", series="1.2.4", SeriesDescription="Scout", SeriesNumber=1, modality="MR")
    with pytest.raises(InputError, match=r"2 DICOM series: 'Scout' .MR, 3 images.; 'Thin' .CT, 8 images.") as caught:
        read_volume(tmp_path)
    assert "folder of its own" in caught.value.advice
    assert [(series.uid, series.slices) for series in find_series(tmp_path)] == [("1.2.4", 3), ("1.2.3", 8)]
    assert read_dicom(tmp_path, "1.2.4").modality == "MR"
    with pytest.raises(ReadError, match=r"no DICOM series with the UID 9\.9"):
        read_dicom(tmp_path, "9.9")


def test_slices_of_several_orientations_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path, EVEN)
    write_series(tmp_path, [(0, 0, 0)], orientation=SAGITTAL, name="scout")
    with pytest.raises(InputError, match="2 orientations: 8 axial, 1 sagittal"):
        read_volume(tmp_path)


def test_slices_of_several_sizes_or_pixel_spacings_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "sizes", EVEN)
    write_series(tmp_path / "sizes", [(0, 0, 50)], size=(8, 8), name="other")
    with pytest.raises(InputError, match="different sizes: 8 of 10 x 12 pixels, 1 of 8 x 8"):
        read_volume(tmp_path / "sizes")
    write_series(tmp_path / "steps", EVEN)
    write_series(tmp_path / "steps", [(-5, 7, 20)], spacing=(1.1, 1.1), name="other")
    with pytest.raises(InputError, match="different pixel spacings"):
        read_volume(tmp_path / "steps")


def test_several_volumes_in_one_series_are_refused_and_told_apart(tmp_path: Path) -> None:
    write_series(tmp_path, [*EVEN, *EVEN], modality="MR", tags=lambda n: {"EchoTime": "4.6" if n < 8 else "9.2"})
    with pytest.raises(InputError, match=r"16 images at 8 positions.*echo time \(4\.6 ms, 9\.2 ms\)") as caught:
        read_volume(tmp_path)
    assert caught.value.advice


def test_a_slice_that_was_made_twice_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, [*EVEN, EVEN[3]])
    with pytest.raises(InputError, match="9 images at 8 positions"):
        read_volume(tmp_path)


def test_a_file_that_lies_there_twice_is_read_once(tmp_path: Path) -> None:
    paths = write_series(tmp_path, EVEN)
    expected = read_dicom(tmp_path)
    (tmp_path / "copy of a slice.dcm").write_bytes(paths[3].read_bytes())
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.array, expected.array)
    assert volume.notes == ("1 file is a copy of another and was left out.",)


def test_other_files_are_left_out_and_told(tmp_path: Path) -> None:
    write_series(tmp_path, EVEN)
    (tmp_path / "notes.txt").write_text("a note")
    (tmp_path / ".hidden").write_text("unseen")
    write_slice(tmp_path / "report.dcm", np.zeros((4, 4), np.int16), (0, 0, 0), modality="SR", series="1.2.9")
    volume = read_dicom(tmp_path)
    assert volume.notes == ("2 files beside the slices are no DICOM images and were left out.",)
    assert volume.shape == (8, 12, 10)


def test_a_truncated_slice_is_an_error_and_not_a_gap(tmp_path: Path) -> None:
    paths = write_series(tmp_path, EVEN)
    content = paths[4].read_bytes()
    for part in (0.5, 0.9, 0.999):
        paths[4].write_bytes(content[: int(part * len(content))])
        with pytest.raises(ReadError, match=r"slice004\.dcm is truncated or damaged"):
            read_volume(tmp_path)


def test_a_slice_that_claims_more_pixels_than_it_has_is_an_error(tmp_path: Path) -> None:
    write_series(tmp_path, EVEN, Rows=60_000, Columns=60_000)
    with pytest.raises(ReadError, match="truncated or damaged"):
        read_volume(tmp_path)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME1"),
        ({"NumberOfFrames": 1, "ImagePositionPatient": None}, "position"),
        ({"ImageOrientationPatient": None}, "orientation"),
        ({"PixelSpacing": None}, "pixel spacing"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "right angles"),
        ({"PixelSpacing": [0, 1]}, "pixel spacing"),
    ],
)
def test_images_that_are_no_slices_are_refused(tmp_path: Path, tags: dict[str, object], words: str) -> None:
    write_series(tmp_path, EVEN, **tags)
    with pytest.raises(ReadError, match=words) as caught:
        read_volume(tmp_path)
    assert caught.value.advice


def test_colour_images_are_refused(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    path = write_slice(tmp_path / "a.dcm", np.zeros((4, 4), np.int16), (0, 0, 0))
    data = pydicom.dcmread(path)
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.PixelData = pixels.tobytes()
    data.save_as(path)
    with pytest.raises(ReadError, match="RGB"):
        read_volume(tmp_path)


def test_multi_frame_images_are_refused_with_a_way_out(tmp_path: Path) -> None:
    pixels = np.zeros((3, 4, 4), np.int16)
    write_slice(tmp_path / "a.dcm", pixels, (0, 0, 0), NumberOfFrames=3)
    with pytest.raises(ReadError, match="multi-frame") as caught:
        read_volume(tmp_path)
    assert "3D Slicer" in caught.value.advice


def test_a_single_slice_has_its_thickness(tmp_path: Path) -> None:
    write_series(tmp_path, EVEN[:1], SliceThickness=4)
    volume = read_dicom(tmp_path)
    assert volume.shape == (1, 12, 10)
    assert volume.geometry.spacing == (1.0, 1.0, 4.0)


def test_one_dicom_file_is_not_a_volume(tmp_path: Path) -> None:
    paths = write_series(tmp_path, EVEN)
    with pytest.raises(ReadError, match="one DICOM file") as caught:
        read_volume(paths[0])
    assert "folder" in caught.value.advice


def test_an_empty_folder_and_one_without_images_are_sentences(tmp_path: Path) -> None:
    for read in (read_volume, read_dicom):
        with pytest.raises(ReadError, match=r"no (DICOM )?image"):
            read(tmp_path)
    (tmp_path / "notes.txt").write_text("a note")
    with pytest.raises(ReadError, match="no image"):
        read_volume(tmp_path)
    with pytest.raises(ReadError, match="cannot be read"):
        read_dicom(tmp_path / "missing")


def test_nothing_of_the_patient_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    write_series(tmp_path, EVEN[:3] + EVEN[5:], SeriesDescription="")
    volume = read_dicom(tmp_path)
    write_series(tmp_path, EVEN, series="1.2.5", name="second")
    with pytest.raises(InputError) as caught:
        read_dicom(tmp_path)
    told = repr(volume) + volume.name + "".join(volume.notes) + str(caught.value) + caplog.text
    told += str(find_series(tmp_path))
    assert "missing" in told
    for secret in (*PATIENT.split("^"), "Secret-42", "1970"):
        assert secret not in told


def test_descriptions_in_older_character_sets_are_read(tmp_path: Path) -> None:
    write_series(tmp_path / "latin", EVEN, SpecificCharacterSet="ISO_IR 100", SeriesDescription="Schädel")
    write_series(tmp_path / "utf", EVEN, SpecificCharacterSet="ISO_IR 192", SeriesDescription="Schädel")
    assert read_dicom(tmp_path / "latin").name == "Schädel"
    assert read_dicom(tmp_path / "utf").name == "Schädel"


def test_reading_can_be_stopped(tmp_path: Path) -> None:
    write_series(tmp_path, EVEN)
    calls = []

    def stop() -> None:
        calls.append(None)
        if len(calls) == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_dicom(tmp_path, check=stop)
    assert len(calls) == 10


@pytest.fixture(scope="module")
def valid_slices(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return [path.read_bytes() for path in write_series(tmp_path_factory.mktemp("valid"), EVEN[:3], size=(5, 6))]


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    st.none() | st.floats(0, 1),
)
def test_any_damage_gives_a_volume_or_a_sentence(
    tmp_path: Path, valid_slices: list[bytes], flips: list[tuple[int, float, int]], end: float | None
) -> None:
    contents = [bytearray(content) for content in valid_slices]
    for number, place, value in flips:
        contents[number][int(place * len(contents[number]))] = value
    if end is not None:
        contents[1] = contents[1][: int(end * len(contents[1]))]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.dcm").write_bytes(content)
    found = volume_or_error(tmp_path)
    if isinstance(found, InputError):
        assert found.message.endswith(".")
        assert found.advice
    else:
        assert found.array.size < 2**20


def volume_or_error(folder: Path) -> Volume | InputError:
    try:
        return read_volume(folder)
    except InputError as error:
        return error
