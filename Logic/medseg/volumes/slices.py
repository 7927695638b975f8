"""One DICOM file: what its header says, and its pixels. Read by SimpleITK (GDCM); no patient data is kept.

Tags are those of DICOM PS3.6; the image plane of a slice is that of PS3.3 C.7.6.2.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import ReadError
from medseg.volumes.folders import is_dicom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_STORAGE = "1.2.840.10008.5.1.4.1.1."
# The number after that prefix for image storage: CR/DX, CT, ultrasound, MR, secondary capture, angiography, nuclear
# medicine, PET. Others are structured reports, segmentations, plans, waveforms: no slices.
_IMAGES = {"1", "2", "3", "4", "6", "7", "12", "13", "20", "128", "130"}
_UNCOMPRESSED = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}
_OTHER_MODALITIES = {"SEG", "SR", "PR", "KO", "RTSTRUCT", "RTDOSE", "RTPLAN", "RTIMAGE", "REG", "DOC", "ECG"}
_MOST_COMPRESSION = 2000  # of a slice of one colour; real ones reach 100

# What tells the images at one position apart, in the words of a sentence: tag, name, unit.
_DIMENSIONS = (
    ("0018|0081", "echo time", "ms"),
    ("0018|0086", "echo number", ""),
    ("0018|9087", "b-value", "s/mm²"),
    ("0020|0100", "time point", ""),
    ("0018|1060", "trigger time", "ms"),
    ("0020|0012", "acquisition number", ""),
    ("0008|0008", "image type", ""),
    ("0018|1210", "reconstruction kernel", ""),
    ("0008|0032", "acquisition time", ""),
    ("0008|0033", "content time", ""),
)


@dataclasses.dataclass(frozen=True)
class Slice:
    """The header of one DICOM image of a single frame.

    Attributes
    ----------
    series, instance
        Series and SOP instance UID, "" when missing.
    position
        LPS mm of the centre of the first pixel.
    across, down
        Unit vectors in LPS: along a row (column index grows), along a column (row index grows).
    spacing
        Distance in mm of pixels along a row (i) and along a column (j).
    size
        Pixels along a row (i) and along a column (j).
    dtype
        Of the pixels after rescaling.
    thickness
        Of the slice in mm; 0 when missing.
    dimensions
        The values of what may tell images at one position apart, by name.
    """

    path: Path
    series: str
    instance: str
    modality: str
    description: str
    series_number: str
    position: np.ndarray
    across: np.ndarray
    down: np.ndarray
    spacing: tuple[float, float]
    size: tuple[int, int]
    dtype: np.dtype
    thickness: float
    dimensions: dict[str, str]

    @property
    def normal(self) -> np.ndarray:
        """The unit normal of the image plane in LPS."""
        return np.cross(self.across, self.down)


@dataclasses.dataclass(frozen=True)
class Unusable:
    """A DICOM image that cannot be a slice, and the sentence why."""

    path: Path
    series: str
    modality: str
    description: str
    series_number: str
    reason: str
    advice: str


def scan_folder(folder: Path, check: Callable[[], None] | None = None) -> tuple[list[Slice | Unusable], int]:
    """Return the DICOM images of a folder, by file name, and how many other files lie there.

    Raises
    ------
    ReadError
        When the folder cannot be read, or a file is a damaged image: leaving it out would make a hole.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith("."))
    except OSError as error:
        raise ReadError(
            f"{folder} cannot be read: {error.strerror}.", advice="Check the name and its permission."
        ) from error
    found: list[Slice | Unusable] = []
    others = 0
    with quiet():
        for name in names:
            path = folder / name
            if check is not None:
                check()
            image = read_slice_header(path) if is_dicom(path) else None
            if image is None:
                others += 1
            else:
                found.append(image)
    return found, others


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep ITK's warnings off the error stream; what matters becomes an error or a note."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def read_slice_header(path: Path) -> Slice | Unusable | None:
    """Return the header of a DICOM image, or None when the file is DICOM but no image.

    Raises
    ------
    ReadError
        When the file should be an image and is damaged or truncated.
    """
    meta = _meta(path)
    storage = meta.get(0x0002, "")
    is_image = storage.startswith(_STORAGE) and storage[len(_STORAGE) :].split(".")[0] in _IMAGES
    if storage and not is_image:
        return None
    reader = _reader(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if is_image:
            raise _damaged(path) from error
        return None
    tag = _tags(reader)
    if tag("0008|0060") in _OTHER_MODALITIES:
        return None
    return _slice(path, tag, reader, meta.get(0x0010, ""))


def read_pixels(image: Slice) -> np.ndarray:
    """Return the rescaled pixels (j, i) in ``image.dtype``.

    Raises
    ------
    ReadError
        When the file is damaged or truncated.
    """
    import SimpleITK as sitk

    try:
        pixels = sitk.GetArrayFromImage(_reader(image.path).Execute())
    except RuntimeError as error:
        raise _damaged(image.path) from error
    pixels = pixels.reshape(pixels.shape[-2:])
    if pixels.shape != image.size[::-1]:
        raise _damaged(image.path)
    return pixels.astype(image.dtype, copy=False)


def _slice(path: Path, tag: Callable[[str], str], reader: Any, syntax: str) -> Slice | Unusable:
    series, modality = tag("0020|000e"), tag("0008|0060").upper()
    description, number = tag("0008|103e"), tag("0020|0011")

    def unusable(reason: str, advice: str) -> Unusable:
        return Unusable(path, series, modality, description, number, reason, advice)

    if _number(tag("0028|0008"), 1.0) > 1 or max(reader.GetSize()[2:], default=1) > 1:
        return unusable(
            "is a multi-frame image: one file with many frames, which MedSeg does not read",
            "Load it in 3D Slicer and use the volume there, or convert it to NIfTI (with dcm2niix).",
        )
    if reader.GetNumberOfComponents() != 1 or tag("0028|0004") != "MONOCHROME2":
        return unusable(
            f"has pixels of the kind '{tag('0028|0004')}', not grey values (MONOCHROME2)",
            "Choose the original CT or MR images, not a screenshot, colour map or report.",
        )
    plane = _numbers(tag("0020|0037"), 6)
    position = _numbers(tag("0020|0032"), 3)
    steps = _numbers(tag("0028|0030"), 2)
    if plane is None or position is None or steps is None or min(steps) <= 0:
        return unusable(
            "does not say where its pixels lie in the patient (position, orientation or pixel spacing are missing)",
            "Choose the original CT or MR images of the scanner.",
        )
    across, down = _plane_axes(plane)
    if across is None or down is None:
        return unusable("has an image orientation that is no pair of directions at right angles", "Export it again.")
    columns, rows = reader.GetSize()[:2]
    _check_length(path, columns * rows, _number(tag("0028|0100"), 16.0), syntax in _UNCOMPRESSED)
    return Slice(
        path=path,
        series=series,
        instance=tag("0008|0018"),
        modality=modality,
        description=description,
        series_number=number,
        position=np.array(position),
        across=across,
        down=down,
        spacing=(steps[1], steps[0]),  # DICOM gives the distance of rows first
        size=(columns, rows),
        dtype=_dtype(reader),
        thickness=_number(tag("0018|0050"), 0.0),
        dimensions={name: f"{tag(key)} {unit}".strip() for key, name, unit in _DIMENSIONS if tag(key)},
    )


def _meta(path: Path) -> dict[int, str]:
    """Return the texts of the file meta group by element number (0002,xxxx); empty when there is none."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        head = file.read(4096)
        found: dict[int, str] = {}
        place = 132
        while head[128:132] == b"DICM" and place + 8 <= len(head):
            group, element, kind, length = struct.unpack_from("<HH2sH", head, place)
            if group != 0x0002:
                break
            place += 8
            if kind in (b"OB", b"UN", b"OW", b"SQ", b"UT"):
                if place + 4 > len(head):
                    break
                (length,) = struct.unpack_from("<I", head, place)
                place += 4
            if kind == b"UI":
                found[element] = head[place : place + length].rstrip(b"\0 ").decode("ascii", "replace")
            place += length
        return found
    return {}


def _reader(path: Path) -> Any:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    return reader


def _tags(reader: Any) -> Callable[[str], str]:
    def tag(key: str) -> str:
        if not reader.HasMetaDataKey(key):
            return ""
        text = str(reader.GetMetaData(key)).strip(" \0")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:  # bytes that are not UTF-8 come as lone surrogates; scanners write ISO 8859-1
            return text.encode("utf-8", "surrogateescape").decode("latin-1")
        return text

    return tag


def _dtype(reader: Any) -> np.dtype:
    import SimpleITK as sitk

    kinds = {
        sitk.sitkInt8: np.int8,
        sitk.sitkUInt8: np.uint8,
        sitk.sitkInt16: np.int16,
        sitk.sitkUInt16: np.uint16,
        sitk.sitkInt32: np.int32,
        sitk.sitkUInt32: np.uint32,
    }
    return np.dtype(kinds.get(reader.GetPixelID(), np.float32))


def _plane_axes(plane: list[float]) -> tuple[np.ndarray | None, np.ndarray | None]:
    across, down = np.array(plane[:3]), np.array(plane[3:])
    lengths = np.linalg.norm(across), np.linalg.norm(down)
    if not all(0.9 < length < 1.1 for length in lengths) or abs(across @ down) > 0.02:
        return None, None
    across = across / lengths[0]
    down = down - (down @ across) * across  # rounded to a few digits in many files
    return across, down / np.linalg.norm(down)


def _check_length(path: Path, pixels: int, bits: float, uncompressed: bool) -> None:
    """Refuse a header that claims more pixels than the file can hold, before anything makes room for them."""
    there = path.stat().st_size
    if pixels * bits / 8 > there * (1 if uncompressed else _MOST_COMPRESSION):
        raise _damaged(path)


def _numbers(text: str, count: int) -> list[float] | None:
    try:
        values = [float(part) for part in text.split("\\")]
    except ValueError:
        return None
    return values if len(values) == count and np.isfinite(values).all() else None


def _number(text: str, default: float) -> float:
    values = _numbers(text.split("\\", maxsplit=1)[0], 1)
    return values[0] if values else default


def _damaged(path: Path) -> ReadError:
    return ReadError(
        f"The DICOM image {path} is truncated or damaged.",
        advice="Copy or export the series again, or remove the file.",
    )
