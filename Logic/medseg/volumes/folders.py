"""What a folder holds: image files and DICOM series, for batches."""

from __future__ import annotations

import os
from pathlib import Path

from medseg.volumes.voxels import unreadable

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")

_NOT_INPUTS = ("_label", "-label", "_labels", "-labels", "_seg", "-seg", ".seg", "_segmentation", "-segmentation")
_DICOMDIR_CLASS = b"1.2.840.10008.1.3.10"
_MOST_FOLDERS = 100_000  # someone gave the root of a disk


def stem(path: Path) -> str:
    """Return the name of a file without the ending of its format."""
    lower = path.name.lower()
    ending = next((ending for ending in ENDINGS if lower.endswith(ending)), path.suffix)
    return path.name[: len(path.name) - len(ending)] or path.name


def is_segmentation(path: Path) -> bool:
    """Return whether the name says that a file is 3D Slicer's segmentation."""
    return path.name.lower().endswith((".seg.nrrd", ".seg.nhdr"))


def is_dicom(path: Path) -> bool:
    """Return whether a file starts as DICOM does and is not the index of a medium (DICOMDIR)."""
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError:
        return False
    if start[128:132] == b"DICM":
        return _DICOMDIR_CLASS not in start
    # Older files have no preamble: group 0008 in little endian, then an element of an even, short length.
    return path.suffix.lower() in (".dcm", ".dicom", ".ima") and start[:2] in (b"\x08\x00", b"\x00\x08")


def image_files(folder: str | Path) -> list[Path]:
    """Return the images in a folder and its subfolders, for a batch.

    Each is an image file, or a folder that holds DICOM files (one case, whatever number of slices). Hidden files and
    folders, label maps and segmentations (by their names: ``_label``, ``-seg``, ``.seg.nrrd``, ...) are left out.
    Sorted by folder, then by name; the same folder gives the same list everywhere.

    Raises
    ------
    ReadError
        When the folder does not exist or cannot be read.
    """
    folder = Path(folder)
    try:
        next(os.scandir(folder), None)
    except OSError as error:
        raise unreadable(folder, error) from error
    found: list[Path] = []
    for number, (here, folders, names) in enumerate(os.walk(folder)):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if number > _MOST_FOLDERS:
            break
        paths = [Path(here, name) for name in sorted(names) if not name.startswith(".")]
        images = [path for path in paths if path.name.lower().endswith(ENDINGS)]
        if any(is_dicom(path) for path in paths if path not in images):
            found.append(Path(here))
        found += [path for path in images if not stem(path).lower().endswith(_NOT_INPUTS)]
    return found
