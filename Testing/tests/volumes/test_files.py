"""NIfTI, NRRD and MetaImage: the same volume as SimpleITK and nibabel see, and what is written comes back."""

from __future__ import annotations

import gzip
import itertools
import struct
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.errors import GeometryError, InputError, ReadError, WriteError
from medseg.volumes import Geometry, Volume, read_labelmap, read_volume, write_labelmap, write_volume
from support.grids import geometries, numbered

ENDINGS = ("nii", "nii.gz", "nrrd", "mha")
DTYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")

one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def an_oblique_volume() -> Volume:
    matrix = np.array([[-0.64, -0.96, 0, 12.5], [0.384, -1.024, -1.8, -7], [0.288, -0.768, 2.4, 31], [0, 0, 0, 1]])
    return numbered(Geometry((4, 5, 6), matrix), np.int16)


def fresh(folder: Path, ending: str) -> Path:
    """Return a new name in a folder of its own: ITK takes the voxels of x.nii when it is asked for x.nii.gz."""
    place = folder / str(sum(1 for _ in folder.iterdir()))
    place.mkdir()
    return place / f"x.{ending}"


def assert_equal(first: Volume, second: Volume) -> None:
    assert first.geometry.is_close(second.geometry)
    assert first.array.dtype == second.array.dtype
    np.testing.assert_array_equal(first.array, second.array)


@one_folder
@given(geometries(), st.sampled_from(ENDINGS), st.sampled_from(DTYPES), st.booleans())
def test_what_is_written_comes_back_here_and_in_simpleitk(
    tmp_path: Path, geometry: Geometry, ending: str, dtype: str, compress: bool
) -> None:
    volume = numbered(geometry).astype(dtype)
    path = fresh(tmp_path, ending)
    write_volume(volume, path, compress=compress)
    assert_equal(read_volume(path), volume)
    assert_equal(Volume.from_sitk(sitk.ReadImage(str(path))), volume)


@one_folder
@given(geometries(), st.sampled_from(ENDINGS), st.sampled_from(DTYPES), st.booleans())
def test_what_simpleitk_writes_is_read(
    tmp_path: Path, geometry: Geometry, ending: str, dtype: str, compress: bool
) -> None:
    volume = numbered(geometry).astype(dtype)
    path = fresh(tmp_path, ending)
    sitk.WriteImage(volume.to_sitk(), str(path), compress)
    assert_equal(read_volume(path), volume)


@one_folder
@given(geometries(sheared=True), st.sampled_from(["nrrd", "mha", "nii.gz"]))
def test_a_sheared_grid_is_kept_in_every_format(tmp_path: Path, geometry: Geometry, ending: str) -> None:
    path = fresh(tmp_path, ending)
    write_volume(numbered(geometry), path)
    assert read_volume(path).geometry.is_close(geometry, 1e-3)


@one_folder
@given(geometries(sheared=True))
def test_a_sheared_nifti_file_lies_where_nibabel_sees_it(tmp_path: Path, geometry: Geometry) -> None:
    path = fresh(tmp_path, "nii.gz")
    nibabel.save(nibabel.Nifti1Image(numbered(geometry).array_ijk, geometry.ijk_to_ras), path)
    assert read_volume(path).geometry.is_close(geometry, 1e-3)
    write_volume(numbered(geometry), path)
    np.testing.assert_allclose(nibabel.load(path).affine, geometry.ijk_to_ras, atol=1e-3)


def test_a_grid_with_a_hair_of_shear_is_opened_by_itk_too(tmp_path: Path) -> None:
    matrix = np.diag([1.0, 1.0, 2.0, 1.0])
    matrix[0, 2] = 1e-3
    write_volume(numbered(Geometry((4, 4, 4), matrix)), tmp_path / "x.nii")
    assert sitk.ReadImage(str(tmp_path / "x.nii")).GetSize() == (4, 4, 4)
    np.testing.assert_allclose(read_volume(tmp_path / "x.nii").geometry.ijk_to_ras, matrix, atol=1e-7)


@pytest.mark.parametrize("version", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_nifti_of_both_versions_and_byte_orders_is_read(
    tmp_path: Path, an_oblique_volume: Volume, version: type, order: str, ending: str
) -> None:
    header = version.header_class(endianness=order)
    header.set_data_dtype(np.int16)
    image = version(an_oblique_volume.array_ijk, an_oblique_volume.geometry.ijk_to_ras, header)
    nibabel.save(image, tmp_path / f"x.{ending}")
    assert_equal(read_volume(tmp_path / f"x.{ending}"), an_oblique_volume)


QFORM = np.array([[-1.5, 0, 0, 50], [0, 1, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1.0]])
SFORM = np.array([[0, 1.0, 0, 5], [1.5, 0, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1.0]])


@pytest.mark.parametrize(("sform_code", "qform_code"), list(itertools.product(range(5), range(4))))
def test_of_two_positions_in_a_nifti_file_the_one_of_itk_is_taken(
    tmp_path: Path, sform_code: int, qform_code: int
) -> None:
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    image.set_qform(QFORM, qform_code)
    image.set_sform(SFORM, sform_code)
    nibabel.save(image, tmp_path / "x.nii")
    volume = read_volume(tmp_path / "x.nii")
    assert volume.geometry.is_close(Volume.from_sitk(sitk.ReadImage(str(tmp_path / "x.nii"))).geometry)
    assert bool(volume.notes) == (sform_code > 0 and qform_code > 0)


@pytest.mark.parametrize("unit", [0, 1, 2, 3])
def test_units_of_length_are_those_of_itk(tmp_path: Path, unit: int) -> None:
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.diag([0.5, 0.6, 0.7, 1]))
    image.header["xyzt_units"] = unit
    nibabel.save(image, tmp_path / "x.nii")
    expected = Volume.from_sitk(sitk.ReadImage(str(tmp_path / "x.nii"))).geometry
    np.testing.assert_allclose(read_volume(tmp_path / "x.nii").geometry.ijk_to_ras, expected.ijk_to_ras, rtol=1e-6)


@pytest.mark.parametrize(
    ("slope", "inter", "expected"),
    [(2.0, -5.0, 2.0), (0.5, 0.0, 0.5), (1.0, -1024.0, 1.0), (0.0, 3.0, None), (np.nan, 0.0, None)],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_scaled_voxels_of_a_nifti_file(
    tmp_path: Path, slope: float, inter: float, expected: float | None, dtype: type
) -> None:
    stored = np.arange(60, dtype=dtype).reshape(3, 4, 5)
    nibabel.save(nibabel.Nifti1Image(stored.T, np.eye(4)), tmp_path / "x.nii")
    content = bytearray((tmp_path / "x.nii").read_bytes())
    struct.pack_into("<2f", content, 112, slope, inter)
    (tmp_path / "x.nii").write_bytes(content)
    array = read_volume(tmp_path / "x.nii").array
    if expected is None:
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, stored)
    else:
        assert array.dtype == (np.float64 if dtype is np.float64 else np.float32)
        np.testing.assert_allclose(array, stored.astype(float) * slope + inter)


def test_a_volume_with_a_fourth_axis_of_one_is_a_volume(tmp_path: Path, an_oblique_volume: Volume) -> None:
    array = an_oblique_volume.array_ijk[..., None]
    nibabel.save(nibabel.Nifti1Image(array, an_oblique_volume.geometry.ijk_to_ras), tmp_path / "x.nii.gz")
    assert_equal(read_volume(tmp_path / "x.nii.gz"), an_oblique_volume)


def test_a_nifti_file_with_an_extension_before_its_voxels_is_read(tmp_path: Path, an_oblique_volume: Volume) -> None:
    image = nibabel.Nifti1Image(an_oblique_volume.array_ijk, an_oblique_volume.geometry.ijk_to_ras)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"many words " * 20))
    nibabel.save(image, tmp_path / "x.nii.gz")
    assert_equal(read_volume(tmp_path / "x.nii.gz"), an_oblique_volume)


def test_a_compressed_nifti_file_without_gz_in_its_name_is_read(tmp_path: Path, an_oblique_volume: Volume) -> None:
    write_volume(an_oblique_volume, tmp_path / "x.nii.gz")
    (tmp_path / "x.nii.gz").rename(tmp_path / "y.nii")
    assert_equal(read_volume(tmp_path / "y.nii"), an_oblique_volume)


def test_gzip_streams_in_parts_are_read(tmp_path: Path, an_oblique_volume: Volume) -> None:
    write_volume(an_oblique_volume, tmp_path / "x.nii")
    content = (tmp_path / "x.nii").read_bytes()
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(content[:400]) + gzip.compress(content[400:]))
    assert_equal(read_volume(tmp_path / "x.nii.gz"), an_oblique_volume)


NRRD = """NRRD0005
# made by hand
type: {type}
dimension: 3
space: {space}
sizes: 6 5 4
space directions: (1,0,0) (0,0,2) (0,3,0)
kinds: domain domain domain
endian: {endian}
encoding: {encoding}
space origin: (10,20,30)
key:=value with : and =
{more}
"""


def nrrd(**fields: str) -> bytes:
    defaults = {"type": "short", "space": "left-posterior-superior", "endian": "little", "encoding": "raw", "more": ""}
    return NRRD.format(**(defaults | fields)).rstrip("\n").encode() + b"\n\n"


@pytest.mark.parametrize("space", ["left-posterior-superior", "LPS", "right-anterior-superior", "RAS", "LAS"])
def test_nrrd_in_every_space_of_patients_is_read_as_itk_does(tmp_path: Path, space: str) -> None:
    array = np.arange(120, dtype="<i2").reshape(4, 5, 6)
    (tmp_path / "x.nrrd").write_bytes(nrrd(space=space) + array.tobytes())
    assert_equal(read_volume(tmp_path / "x.nrrd"), Volume.from_sitk(sitk.ReadImage(str(tmp_path / "x.nrrd"))))


@pytest.mark.parametrize("kind", ["int8", "uchar", "unsigned short", "int16_t", "uint", "long long", "float", "double"])
@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("encoding", ["raw", "gzip", "ascii"])
def test_nrrd_of_every_type_byte_order_and_encoding_is_read_as_itk_does(
    tmp_path: Path, kind: str, endian: str, encoding: str
) -> None:
    codes = {"int8": "i1", "uchar": "u1", "unsigned short": "u2", "int16_t": "i2", "uint": "u4", "long long": "i8"}
    dtype = np.dtype((">" if endian == "big" else "<") + codes.get(kind, {"float": "f4", "double": "f8"}.get(kind, "")))
    array = np.arange(120).reshape(4, 5, 6).astype(dtype)
    data = array.tobytes()
    if encoding == "gzip":
        data = gzip.compress(data)
    elif encoding == "ascii":
        data = " ".join(map(str, array.ravel().tolist())).encode()
    (tmp_path / "x.nrrd").write_bytes(nrrd(type=kind, endian=endian, encoding=encoding) + data)
    assert_equal(read_volume(tmp_path / "x.nrrd"), Volume.from_sitk(sitk.ReadImage(str(tmp_path / "x.nrrd"))))


def test_nrrd_with_its_voxels_in_another_file_is_read(tmp_path: Path) -> None:
    array = np.arange(120, dtype="<i2").reshape(4, 5, 6)
    (tmp_path / "x.raw").write_bytes(b"a line\nanother\n" + b"123" + array.tobytes())
    (tmp_path / "x.nhdr").write_bytes(nrrd(more="line skip: 2\nbyte skip: 3\ndata file: x.raw"))
    assert_equal(read_volume(tmp_path / "x.nhdr"), Volume.from_sitk(sitk.ReadImage(str(tmp_path / "x.nhdr"))))
    (tmp_path / "y.nhdr").write_bytes(nrrd(more="byte skip: -1\ndata file: x.raw"))
    np.testing.assert_array_equal(read_volume(tmp_path / "y.nhdr").array, array)
    (tmp_path / "x.raw.gz").write_bytes(gzip.compress(array.tobytes()))
    (tmp_path / "z.nhdr").write_bytes(nrrd(encoding="gzip", more="data file: x.raw.gz"))
    np.testing.assert_array_equal(read_volume(tmp_path / "z.nhdr").array, array)


def test_nrrd_with_spacings_only_is_read_as_itk_does(tmp_path: Path) -> None:
    text = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 6 5 4\nspacings: 0.5 0.6 2\nencoding: raw\n\n"
    (tmp_path / "x.nrrd").write_bytes(text.encode() + bytes(120))
    assert_equal(read_volume(tmp_path / "x.nrrd"), Volume.from_sitk(sitk.ReadImage(str(tmp_path / "x.nrrd"))))


def test_metaimage_with_its_voxels_in_another_file_is_read(tmp_path: Path, an_oblique_volume: Volume) -> None:
    for compress in (False, True):
        sitk.WriteImage(an_oblique_volume.to_sitk(), str(tmp_path / "x.mhd"), compress)
        assert_equal(read_volume(tmp_path / "x.mhd"), an_oblique_volume)


def test_metaimage_in_big_endian_and_as_text_is_read_as_itk_does(tmp_path: Path) -> None:
    head = (
        "ObjectType = Image\nNDims = 3\nBinaryData = {binary}\nBinaryDataByteOrderMSB = {big}\nCompressedData = False\n"
        "TransformMatrix = 0 1 0 -1 0 0 0 0 1\nOffset = 1 2 3\nElementSpacing = 0.5 0.6 2\nDimSize = 6 5 4\n"
        "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    array = np.arange(120).reshape(4, 5, 6)
    for big, binary, data in (
        (True, True, array.astype(">i2").tobytes()),
        (False, False, (" ".join(map(str, array.ravel())) + "\n").encode()),
    ):
        (tmp_path / "x.mha").write_bytes(head.format(big=big, binary=binary).encode() + data)
        assert_equal(read_volume(tmp_path / "x.mha"), Volume.from_sitk(sitk.ReadImage(str(tmp_path / "x.mha"))))


def test_a_very_long_volume_is_written_as_nifti_2(tmp_path: Path) -> None:
    volume = numbered(Geometry.from_spacing((1, 2, 40_000), (0.1, 1, 1)), np.int32)
    write_volume(volume, tmp_path / "x.nii.gz")
    assert_equal(read_volume(tmp_path / "x.nii.gz"), volume)
    assert isinstance(nibabel.load(tmp_path / "x.nii.gz"), nibabel.Nifti2Image)


def test_the_name_is_the_files_without_its_ending(tmp_path: Path, an_oblique_volume: Volume) -> None:
    for name in ("Heart.v2.nii.gz", "Heart.v2.nrrd", "Heart.v2.MHA"):
        write_volume(an_oblique_volume, tmp_path / name)
        assert read_volume(tmp_path / name).name == "Heart.v2"


@pytest.mark.parametrize("ending", ENDINGS)
def test_types_that_no_file_holds_are_converted(tmp_path: Path, ending: str) -> None:
    geometry = Geometry.from_spacing((2, 3, 4))
    for dtype, expected in ((np.bool_, np.uint8), (np.float16, np.float32), (np.longdouble, np.float64)):
        volume = numbered(geometry).astype(dtype)
        write_volume(volume, fresh(tmp_path, ending).parent / f"y.{ending}")
        back = read_volume(next(tmp_path.rglob(f"y.{ending}")))
        assert back.array.dtype == expected
        np.testing.assert_array_equal(back.array, volume.array.astype(expected))
        next(tmp_path.rglob(f"y.{ending}")).unlink()


@pytest.mark.parametrize(("highest", "dtype"), [(1, "u1"), (255, "u1"), (256, "u2"), (70_000, "u4"), (2**40, "u8")])
def test_label_maps_are_written_in_the_smallest_type(tmp_path: Path, highest: int, dtype: str) -> None:
    array = np.zeros((2, 3, 4), np.int64)
    array[0, 1, 2] = highest
    write_labelmap(Volume(array, Geometry.from_spacing(array.shape)), tmp_path / "x.nii.gz")
    back = read_labelmap(tmp_path / "x.nii.gz")
    assert back.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(back.array, array)


@pytest.mark.parametrize("value", [-1, 0.5, np.nan])
def test_label_maps_hold_whole_numbers_from_0(tmp_path: Path, value: float) -> None:
    array = np.full((2, 3, 4), value, np.float32)
    with pytest.raises(InputError, match="negative or not whole"):
        write_labelmap(Volume(array, Geometry.from_spacing(array.shape)), tmp_path / "x.nii.gz")


def test_a_label_map_of_real_numbers_is_read_when_they_are_whole(tmp_path: Path) -> None:
    array = np.array([0.0, 1, 300, 2]).reshape(1, 2, 2)
    volume = Volume(array, Geometry.from_spacing(array.shape))
    write_volume(volume, tmp_path / "x.nrrd")
    labels = read_labelmap(tmp_path / "x.nrrd")
    assert labels.array.dtype == np.uint16
    np.testing.assert_array_equal(labels.array, array)
    write_volume(volume.with_array(array + 0.5), tmp_path / "x.nrrd")
    with pytest.raises(ReadError, match="whole numbers"):
        read_labelmap(tmp_path / "x.nrrd")


def test_a_segmentation_is_a_label_map_and_no_image(tmp_path: Path, an_oblique_volume: Volume) -> None:
    write_labelmap(an_oblique_volume, tmp_path / "x.seg.nrrd")
    np.testing.assert_array_equal(read_labelmap(tmp_path / "x.seg.nrrd").array, an_oblique_volume.array)
    with pytest.raises(ReadError, match="segmentation, not an image"):
        read_volume(tmp_path / "x.seg.nrrd")


def test_the_same_volume_makes_the_same_bytes(tmp_path: Path, an_oblique_volume: Volume) -> None:
    for ending in ENDINGS:
        first, second = tmp_path / f"first.{ending}", tmp_path / f"second.{ending}"
        write_volume(an_oblique_volume, first)
        write_volume(an_oblique_volume, second)
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("name", ["x.png", "x", "x.nhdr", "x.mhd", "x.nii.gz.txt", "x.dcm"])
def test_an_ending_that_is_not_written_is_refused(tmp_path: Path, an_oblique_volume: Volume, name: str) -> None:
    with pytest.raises(WriteError, match=r"\.nii\.gz"):
        write_volume(an_oblique_volume, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path, an_oblique_volume: Volume) -> None:
    with pytest.raises(WriteError, match="could not be written"):
        write_volume(an_oblique_volume, tmp_path / "missing" / "x.nii.gz")


DISK_FULL = """
import resource, signal, sys
import numpy as np
from medseg.errors import WriteError
from medseg.volumes import Geometry, Volume, write_volume
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
noise = np.random.default_rng(0).integers(0, 60_000, (40, 50, 60)).astype(np.uint16)
try:
    write_volume(Volume(noise, Geometry.from_spacing(noise.shape)), sys.argv[1])
except WriteError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files with Linux's resource limits")
@pytest.mark.parametrize("ending", ENDINGS)
def test_when_the_disk_takes_no_more_the_old_file_stays(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    path.write_bytes(b"what stood there before")
    done = subprocess.run([sys.executable, "-c", DISK_FULL, str(path)], capture_output=True, text=True, check=True)
    assert "could not be written" in done.stdout
    assert path.read_bytes() == b"what stood there before"
    assert list(tmp_path.iterdir()) == [path]


def test_importing_volumes_loads_numpy_only() -> None:
    code = (
        "import sys; from medseg.volumes import Geometry, Volume; import medseg.volumes.io, medseg.volumes.dicom;"
        "print([name for name in ('SimpleITK', 'scipy', 'torch', 'monai', 'vtk', 'slicer') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_real_files_are_read_as_simpleitk_reads_them(shared_data: Path) -> None:
    for path in sorted(shared_data.glob("*/*.nii.gz"))[::25]:
        assert_equal(read_volume(path), Volume.from_sitk(sitk.ReadImage(str(path))))


def test_a_grid_that_makes_no_sense_names_the_file(tmp_path: Path, an_oblique_volume: Volume) -> None:
    write_volume(an_oblique_volume, tmp_path / "x.nii")
    content = bytearray((tmp_path / "x.nii").read_bytes())
    struct.pack_into("<h", content, 252, 0)  # no qform
    struct.pack_into("<12f", content, 280, *[np.nan] * 12)
    (tmp_path / "x.nii").write_bytes(content)
    with pytest.raises(GeometryError, match=r"x\.nii.*finite"):
        read_volume(tmp_path / "x.nii")
    struct.pack_into("<12f", content, 280, *[1.0] * 12)
    (tmp_path / "x.nii").write_bytes(content)
    with pytest.raises(GeometryError, match=r"x\.nii.*singular"):
        read_volume(tmp_path / "x.nii")
