"""What a folder holds, for batches: the same list everywhere, without what is no input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.errors import InputError, ReadError
from medseg.volumes import Geometry, Volume, image_files, read_volume, write_volume
from support.dicom import write_series

if TYPE_CHECKING:
    from pathlib import Path

POSITIONS = [(0.0, 0.0, 2.0 * index) for index in range(3)]


@pytest.fixture
def an_image() -> Volume:
    noise = np.random.default_rng(0).integers(0, 999, (3, 4, 5)).astype(np.int16)
    return Volume(noise, Geometry.from_spacing(noise.shape))


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def listed(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in image_files(folder)]


def test_image_files_are_listed_in_order_and_nothing_else(tmp_path: Path) -> None:
    touch(tmp_path, "b.nii.gz", "a.nrrd", "c.MHA", "d.mhd", "d.raw", "e.nii", "f.nhdr", "notes.txt", "cases.csv")
    assert listed(tmp_path) == ["a.nrrd", "b.nii.gz", "c.MHA", "d.mhd", "e.nii", "f.nhdr"]


def test_label_maps_segmentations_and_hidden_files_are_no_inputs(tmp_path: Path) -> None:
    touch(tmp_path, "la_1.nii.gz", "la_1_label.nii.gz", "la_1.seg.nrrd", "la_1-label.nrrd", "la_1_seg.nii", ".la_1.nii")
    touch(tmp_path, ".cache/x.nii.gz", "la_2_Label.nii.gz", "my label study.nii.gz")
    assert listed(tmp_path) == ["la_1.nii.gz", "my label study.nii.gz"]


def test_studies_are_folders_of_dicom_files_or_hold_images(tmp_path: Path) -> None:
    write_series(tmp_path / "patient 2" / "study" / "series 1", POSITIONS)
    write_series(tmp_path / "patient 2" / "study" / "series 2", POSITIONS, series="1.2.4")
    touch(tmp_path, "patient 1/t1.nii.gz", "patient 1/t1_label.nii.gz", "patient 10/ct.nrrd", "empty/notes.txt")
    assert listed(tmp_path) == [
        "patient 1/t1.nii.gz",
        "patient 10/ct.nrrd",
        "patient 2/study/series 1",
        "patient 2/study/series 2",
    ]


def test_dicom_files_are_known_by_what_they_hold(tmp_path: Path) -> None:
    for path in write_series(tmp_path / "series", POSITIONS):
        path.rename(path.with_suffix(""))
    touch(tmp_path, "other/I1.dcm")
    (tmp_path / "other" / "readme").write_bytes(b"DICM")
    assert listed(tmp_path) == ["series"]


def test_the_index_of_a_dicom_medium_is_no_image(tmp_path: Path, shared_data: Path) -> None:
    index = (shared_data / "dicom-ct-gantry-tilt" / "DIRFILE").read_bytes()
    (tmp_path / "DICOMDIR").write_bytes(index)
    write_series(tmp_path / "IMAGES", POSITIONS)
    assert listed(tmp_path) == ["IMAGES"]
    assert read_volume(tmp_path).shape == (3, 12, 10)


def test_a_folder_with_one_image_is_that_image(tmp_path: Path, an_image: Volume) -> None:
    (tmp_path / "study").mkdir()
    write_volume(an_image, tmp_path / "study" / "ct.nii.gz")
    touch(tmp_path, "study/ct_label.nii.gz", "report.txt")
    volume = read_volume(tmp_path)
    assert volume.name == "ct"
    np.testing.assert_array_equal(volume.array, an_image.array)


def test_a_folder_with_several_images_is_a_question(tmp_path: Path) -> None:
    touch(tmp_path, *(f"case_{number}.nii.gz" for number in range(7)))
    with pytest.raises(InputError, match=r"several images: case_0\.nii\.gz, .* and 2 more") as caught:
        read_volume(tmp_path)
    assert "one of them" in caught.value.advice


def test_dicom_files_win_over_images_beside_them(tmp_path: Path, an_image: Volume) -> None:
    write_series(tmp_path, POSITIONS)
    write_volume(an_image, tmp_path / "converted.nii.gz")
    volume = read_volume(tmp_path)
    assert volume.shape == (3, 12, 10)
    assert volume.notes == ("1 file beside the slices is no DICOM image and was left out.",)


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="does not exist"):
        image_files(tmp_path / "missing")
    touch(tmp_path, "file.txt")
    with pytest.raises(ReadError, match="cannot be read"):
        image_files(tmp_path / "file.txt")
    assert image_files(tmp_path) == []
