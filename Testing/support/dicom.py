"""Synthetic DICOM series, written with pydicom (which MedSeg itself does not need)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

STORAGE = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "SR": "1.2.840.10008.5.1.4.1.1.88.11",
    "SEG": "1.2.840.10008.5.1.4.1.1.66.4",
}
PATIENT = "Secret^Name"
AXIAL = (1.0, 0, 0, 0, 1, 0)
SAGITTAL = (0.0, 1, 0, 0, 0, -1)
CORONAL = (1.0, 0, 0, 0, 0, -1)


def write_slice(
    path: Path,
    pixels: np.ndarray,
    position: Sequence[float],
    *,
    orientation: Sequence[float] = AXIAL,
    spacing: Sequence[float] = (1.0, 1.0),
    modality: str = "CT",
    series: str = "1.2.3",
    rescale: tuple[float, float] = (1.0, 0.0),
    **tags: Any,
) -> Path:
    """Write one slice. ``pixels`` (rows, columns) as stored, 16 bits; ``spacing`` of rows, then columns, as DICOM."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = STORAGE[modality]
    meta.MediaStorageSOPInstanceUID = tags.pop("SOPInstanceUID", generate_uid())
    data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Modality, data.SeriesInstanceUID, data.StudyInstanceUID = modality, series, "1.2"
    data.PatientName, data.PatientID, data.PatientBirthDate = PATIENT, "Secret-42", "19700101"
    data.SeriesDescription, data.SeriesNumber = "Thin", 7
    data.Rows, data.Columns = pixels.shape[-2:]
    data.PixelSpacing = [format(step, ".9f") for step in spacing]
    data.ImagePositionPatient = [format(value, ".9f") for value in position]
    data.ImageOrientationPatient = [format(value, ".9f") for value in orientation]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, int(pixels.dtype.kind == "i")
    data.RescaleSlope, data.RescaleIntercept = rescale
    data.PixelData = pixels.tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


def write_series(
    folder: Path,
    positions: Sequence[Sequence[float]],
    *,
    value: Callable[[np.ndarray], np.ndarray] | None = None,
    size: tuple[int, int] = (12, 10),
    orientation: Sequence[float] = AXIAL,
    spacing: Sequence[float] = (1.0, 1.0),
    name: str = "slice",
    tags: Callable[[int], dict[str, Any]] = lambda _: {},
    **common: Any,
) -> list[Path]:
    """Write one slice for each of ``positions`` (LPS mm of its first pixel), named in that order.

    ``value`` gives the stored value of LPS points (N, 3); without it, pixels are noise. ``size`` is (rows, columns);
    ``tags`` gives further tags of the n-th slice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = []
    for number, position in enumerate(positions):
        if value is None:
            pixels = rng.integers(0, 1000, size)
        else:
            points = pixel_positions(position, size, orientation, spacing)
            pixels = np.rint(value(points)).reshape(size)
        paths.append(
            write_slice(
                folder / f"{name}{number:03d}.dcm",
                pixels.astype(np.int16),
                position,
                orientation=orientation,
                spacing=spacing,
                **{"InstanceNumber": number + 1, **common, **tags(number)},
            )
        )
    return paths


def pixel_positions(
    position: Sequence[float], size: tuple[int, int], orientation: Sequence[float], spacing: Sequence[float]
) -> np.ndarray:
    """Return the LPS points (rows * columns, 3) of a slice's pixels: PS3.3 C.7.6.2.1.1, in our own words."""
    row, column = np.indices(size).reshape(2, -1, 1)
    across, down = np.array(orientation[:3]), np.array(orientation[3:])
    return np.array(position) + column * spacing[1] * across + row * spacing[0] * down
