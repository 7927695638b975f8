"""Read and write volumes: NIfTI, NRRD, MetaImage, DICOM folders."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import GeometryError, InputError, ReadError, WriteError
from medseg.files import atomic_path
from medseg.volumes import metaimage, nifti, nrrd
from medseg.volumes.checks import describe
from medseg.volumes.folders import ENDINGS, image_files, is_dicom, is_segmentation, stem
from medseg.volumes.volume import Volume
from medseg.volumes.voxels import read_voxels

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["describe", "image_files", "read_labelmap", "read_volume", "write_labelmap", "write_volume"]

_FORMATS: dict[str, ModuleType] = {
    ".nii": nifti,
    ".nii.gz": nifti,
    ".nrrd": nrrd,
    ".nhdr": nrrd,
    ".mha": metaimage,
    ".mhd": metaimage,
}
_WRITTEN = (".nii.gz", ".nii", ".nrrd", ".mha")
_LABEL_BYTES = (np.uint8, np.uint16, np.uint32, np.uint64)


def read_volume(path: str | Path) -> Volume:
    """Read an image: a NIfTI, NRRD or MetaImage file, a DICOM folder, or a folder with one image file.

    Returns
    -------
    Volume
        Voxels (k, j, i) in the file's type; float32 (float64 for 64-bit voxels) when its header scales them.

    Raises
    ------
    ReadError
        When there is no such file, it is damaged, truncated or of another kind, or holds something else than one
        three-dimensional image with one real value per voxel.
    InputError
        When a folder holds several images or series.
    GeometryError
        When the file's grid is not finite or singular.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if is_segmentation(path):
        raise ReadError(
            f"{path} is a segmentation, not an image.", advice="Give the CT or MR image that it was made from."
        )
    return _read_file(path)


def read_labelmap(path: str | Path) -> Volume:
    """Read a label map: whole numbers, 0 for background. Also a .seg.nrrd without overlapping segments.

    Returns
    -------
    Volume
        Voxels (k, j, i) of an integer type: the file's own, or the smallest that holds a file of real numbers.

    Raises
    ------
    ReadError
        As :func:`read_volume`; also when the values are not whole numbers.
    """
    volume = _read_file(Path(path))
    array = volume.array
    if array.dtype.kind != "f":
        return volume
    if not all(np.isfinite(part).all() and (part == np.rint(part)).all() for part in array):
        raise ReadError(
            f"{path} is not a label map: its values are not whole numbers.", advice="Give the label map, not the image."
        )
    low, high = float(array.min()), float(array.max())
    if max(-low, high) >= 2**53:
        raise ReadError(f"{path} is not a label map: it has values as large as {high:g}.", advice="Give another file.")
    return volume.astype(np.result_type(np.min_scalar_type(int(low)), np.min_scalar_type(int(high))))


def write_volume(volume: Volume, path: str | Path, compress: bool = True) -> None:
    """Write a volume as .nii, .nii.gz, .nrrd or .mha, whole or not at all.

    Parameters
    ----------
    compress
        For .nrrd and .mha; the ending decides for NIfTI.

    Raises
    ------
    WriteError
        When the ending is not one of these, there is no permission, the disk is full, or the folder does not exist.
    """
    path = Path(path)
    ending = next((ending for ending in _WRITTEN if path.name.lower().endswith(ending)), None)
    if ending is None:
        raise WriteError(
            f"MedSeg does not write files such as {path.name}.", advice=f"Choose a name with {', '.join(_WRITTEN)}."
        )
    array = volume.array
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    elif array.dtype == np.float16 or array.dtype.itemsize > 8:
        array = array.astype(np.float32 if array.dtype == np.float16 else np.float64)
    if array.dtype.str[0] == ">":  # a big-endian machine
        array = array.astype(array.dtype.newbyteorder("<"))
    with atomic_path(path) as temporary:
        _FORMATS[ending].write(
            temporary, array, volume.geometry, compress=ending == ".nii.gz" or (compress and ending != ".nii")
        )


def write_labelmap(volume: Volume, path: str | Path) -> None:
    """Write a label map, compressed, in the smallest unsigned type that holds its values.

    Raises
    ------
    InputError
        When values are negative or not whole numbers.
    WriteError
        As :func:`write_volume`.
    """
    array = volume.array
    whole = array.dtype.kind in "biu" or bool((array == np.rint(array)).all())
    if not whole or array.min() < 0:
        raise InputError(
            "The label map has values that are negative or not whole numbers.",
            advice="Labels are whole numbers from 0, which is the background.",
        )
    high = int(array.max())
    dtype = next(kind for kind in _LABEL_BYTES if high <= np.iinfo(kind).max)
    write_volume(volume.astype(dtype), path)


def _read_file(path: Path) -> Volume:
    ending = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), None)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ReadError(f"{path} {what}.", advice="Give the name of an image file.")
    if path.stat().st_size == 0:
        raise ReadError(f"{path} is empty.", advice="Copy or export it again.")
    if ending is None:
        if is_dicom(path):
            raise ReadError(f"{path} is one DICOM file, not a volume.", advice="Give the folder of its series.")
        raise ReadError(
            f"{path} is not an image that MedSeg reads.",
            advice=f"Give a file with {', '.join(ENDINGS)}, or a folder of DICOM files.",
        )
    try:
        header = _FORMATS[ending].read_header(path)
    except GeometryError as error:
        if str(path) in error.message:
            raise
        raise GeometryError(f"{path}: {error.message}", advice=error.advice) from error
    return Volume(read_voxels(header), header.geometry, name=stem(path), notes=header.notes)


def _read_folder(folder: Path) -> Volume:
    """Read the DICOM series or the only image file of a folder."""
    found = image_files(folder)
    if folder in found:
        from medseg.volumes.dicom import read_dicom

        return read_dicom(folder)
    if not found:
        raise ReadError(
            f"The folder {folder} holds no image.",
            advice=f"Give a folder of DICOM files, or a file with {', '.join(ENDINGS)}.",
        )
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise InputError(f"The folder {folder} holds several images: {names}{more}.", advice="Give one of them.")
    volume = read_volume(found[0])
    return dataclasses.replace(volume, name=volume.name or stem(found[0]))
