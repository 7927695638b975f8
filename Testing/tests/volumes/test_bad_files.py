"""Bad files: one sentence with the cause, a next step, no crash, no room made for what a header only claims."""

from __future__ import annotations

import gzip
import os
import struct
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.errors import InputError, ReadError
from medseg.volumes import Geometry, Volume, read_labelmap, read_volume, write_volume
from support.grids import numbered

if TYPE_CHECKING:
    from collections.abc import Callable

ENDINGS = ("nii", "nii.gz", "nrrd", "mha")


@pytest.fixture
def a_volume() -> Volume:
    return numbered(Geometry.from_spacing((6, 7, 8), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "LPS"), np.int16)


def refused(path: Path, words: str) -> None:
    for read in (read_volume, read_labelmap):
        with pytest.raises(InputError, match=words) as caught:
            read(path)
        assert caught.value.advice, "there is no next step"
        assert "\n" not in str(caught.value)
        assert "ITK" not in str(caught.value)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("part", [0.02, 0.4, 0.8, 0.999])
def test_a_truncated_file_is_refused(
    tmp_path: Path, a_volume: Volume, ending: str, compress: bool, part: float
) -> None:
    path = tmp_path / f"x.{ending}"
    write_volume(a_volume, path, compress=compress)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    refused(path, "truncated|damaged")


def test_a_file_that_itk_fills_up_silently_is_refused(tmp_path: Path, a_volume: Volume) -> None:
    path = tmp_path / "x.nii"
    write_volume(a_volume, path)
    path.write_bytes(path.read_bytes()[:-100])
    assert sitk.ReadImage(str(path)).GetSize() == (8, 7, 6)
    refused(path, "truncated")


@pytest.mark.parametrize("ending", ENDINGS[1:])  # raw voxels carry no checksum
def test_a_flipped_bit_in_a_compressed_file_is_found(tmp_path: Path, a_volume: Volume, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    noise = np.random.default_rng(0).integers(0, 9999, a_volume.shape).astype(np.int16)
    write_volume(a_volume.with_array(noise), path)
    content = bytearray(path.read_bytes())
    content[-60] ^= 0x10
    path.write_bytes(content)
    refused(path, "truncated or damaged")


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.nrrd", "x.nhdr", "x.mha", "x.mhd", "x.seg.nrrd"])
@pytest.mark.parametrize(
    "content", [b"", b"\0" * 1000, b"<html>not found</html>", b"\x89PNG\r\n\x1a\n" + bytes(400), os.urandom(2000)]
)
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, "damaged|empty|not an image|segmentation")


@pytest.mark.parametrize("name", ["x.png", "x.txt", "x.h5", "x"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    refused(tmp_path / name, "not an image")


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    refused(tmp_path / "x.nii.gz", "does not exist")


@pytest.mark.parametrize(
    ("shape", "words"),
    [((5,), "1 axes"), ((5, 6), "2 axes"), ((5, 6, 7, 3), "3 images"), ((5, 6, 7, 1, 3), "3 images")],
)
def test_nifti_images_that_are_no_volumes_are_refused(tmp_path: Path, shape: tuple[int, ...], words: str) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.int16), np.eye(4)), tmp_path / "x.nii")
    refused(tmp_path / "x.nii", words)


@pytest.mark.parametrize("ending", ["nrrd", "mha"])
@pytest.mark.parametrize("kind", ["flat", "colour", "series"])
def test_images_that_are_no_volumes_are_refused(tmp_path: Path, ending: str, kind: str) -> None:
    image = {
        "flat": sitk.Image(5, 6, sitk.sitkInt16),
        "colour": sitk.Image([5, 6, 7], sitk.sitkVectorUInt8, 3),
        "series": sitk.Image([5, 6, 7, 2], sitk.sitkInt16),
    }[kind]
    sitk.WriteImage(image, str(tmp_path / f"x.{ending}"))
    refused(tmp_path / f"x.{ending}", "axes|values per voxel|colours")


@pytest.mark.parametrize("dtype", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_nifti_voxels_that_are_no_numbers_are_refused(tmp_path: Path, dtype: object) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), dtype), np.eye(4)), tmp_path / "x.nii")
    refused(tmp_path / "x.nii", "complex|colours")


LYING_NRRD = (
    "NRRD0004\ntype: double\ndimension: 3\nspace: LPS\nsizes: 30000 30000 30000\n"
    "space directions: (1,0,0) (0,1,0) (0,0,1)\nendian: little\nencoding: {encoding}\nspace origin: (0,0,0)\n\n"
)
LYING_META = (
    "ObjectType = Image\nNDims = 3\nCompressedData = {compressed}\nDimSize = 30000 30000 30000\n"
    "ElementType = MET_DOUBLE\nElementDataFile = LOCAL\n"
)


def lying_nifti() -> bytes:
    head = bytearray(nibabel.Nifti1Image(np.zeros((3, 4, 5)), np.eye(4)).to_bytes())
    struct.pack_into("<4h", head, 40, 3, 30_000, 30_000, 30_000)
    return bytes(head)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.nii", lying_nifti()),
        ("x.nii.gz", gzip.compress(lying_nifti())),
        ("x.nrrd", LYING_NRRD.format(encoding="raw").encode() + bytes(1000)),
        ("x.nrrd", LYING_NRRD.format(encoding="gzip").encode() + gzip.compress(bytes(1000))),
        ("x.nrrd", LYING_NRRD.format(encoding="ascii").encode() + b"1 2 3"),
        ("x.mha", LYING_META.format(compressed="False").encode() + bytes(1000)),
        ("x.mha", LYING_META.format(compressed="True").encode() + bytes(1000)),
    ],
    # gzip writes the time: without names of their own, two processes that collect in different seconds disagree.
    ids=["nii", "nii.gz", "nrrd raw", "nrrd gzip", "nrrd ascii", "mha", "mha compressed"],
)
def test_no_room_is_made_for_what_a_header_only_claims(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    tracemalloc.start()
    try:
        refused(path, "truncated")
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "name", ["/etc/hostname", "../secret.raw", "sub/../../secret.raw", "LIST", "slice%03d.raw 0 9 1"]
)
def test_a_header_cannot_open_files_elsewhere(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (tmp_path / "secret.raw").write_bytes(bytes(1000))
    (folder / "x.nhdr").write_text(
        f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 1 2 3\nspacings: 1 1 1\nencoding: raw\ndata file: {name}\n"
    )
    (folder / "x.mhd").write_text(f"NDims = 3\nDimSize = 1 2 3\nElementType = MET_UCHAR\nElementDataFile = {name}\n")
    refused(folder / "x.nhdr", "another folder|several files")
    refused(folder / "x.mhd", "another folder|several files")


def test_a_missing_data_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.mhd").write_text("NDims = 3\nDimSize = 1 2 3\nElementType = MET_UCHAR\nElementDataFile = y.raw\n")
    refused(tmp_path / "x.mhd", r"y\.raw does not exist")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_a_sentence(tmp_path: Path, a_volume: Volume) -> None:
    write_volume(a_volume, tmp_path / "x.nii")
    (tmp_path / "x.nii").chmod(0)
    refused(tmp_path / "x.nii", "permission")


def seeds() -> list[tuple[str, bytes]]:
    """Small valid files of every kind that is read."""
    import tempfile

    volume = numbered(Geometry.from_spacing((3, 4, 5), (1.0, 2.0, 3.0)), np.int16)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for ending in ENDINGS:
            for compress in (False, True):
                path = Path(folder, f"x.{ending}")
                write_volume(volume, path, compress=compress)
                found.append((path.name, path.read_bytes()))
                sitk.WriteImage(volume.to_sitk(), str(path), compress)
                found.append((path.name, path.read_bytes()))
        nibabel.save(nibabel.Nifti2Image(volume.array_ijk, np.eye(4)), Path(folder, "y.nii"))
        found.append(("y.nii", Path(folder, "y.nii").read_bytes()))
    text = (
        "NRRD0005\ntype: short\ndimension: 3\nspace: RAS\nsizes: 5 4 3\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
        "endian: big\nencoding: ascii\nline skip: 0\nbyte skip: 0\nspace origin: (0,0,0)\n\n"
    ) + " ".join(map(str, range(60)))
    return [*found, ("z.nrrd", text.encode())]


SEEDS = seeds()


def volume_or_error(read: Callable[[Path], Volume], path: Path) -> Volume | InputError:
    try:
        return read(path)
    except InputError as error:
        return error


@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.booleans(), st.integers(0, 255)), max_size=8),
    st.none() | st.floats(0, 1),
)
def test_any_damage_gives_a_volume_or_a_sentence(
    tmp_path: Path, seed: tuple[str, bytes], flips: list[tuple[float, bool, int]], end: float | None
) -> None:
    name, valid = seed
    content = bytearray(valid if end is None else valid[: int(end * len(valid))])
    for place, in_header, value in flips:
        if content:  # half of the damage goes into the header, where it matters most
            content[int(place * (min(len(content), 400) if in_header else len(content)))] = value
    path = tmp_path / name
    path.write_bytes(content)
    for read in (read_volume, read_labelmap):
        found = volume_or_error(read, path)
        if isinstance(found, Volume):
            assert found.array.nbytes <= 1100 * len(content) + 2**23
            assert np.isfinite(found.geometry.ijk_to_ras).all()
        else:
            assert found.message.endswith(".")
            assert found.advice


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["x.nii", "x.nii.gz", "x.nrrd", "x.nhdr", "x.mha", "x.mhd"]), st.binary(max_size=600))
def test_any_bytes_give_a_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    starts = {".nrrd": b"NRRD0004\n", ".nhdr": b"NRRD0004\n", ".mha": b"ObjectType = Image\n"}
    path.write_bytes(starts.get(path.suffix, b"") + content)
    with pytest.raises(ReadError):
        read_volume(path)
