"""Read and write volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg.errors import ReadError, WriteError
from medseg.files import atomic_path
from medseg.volumes.checks import describe
from medseg.volumes.folders import image_files
from medseg.volumes.volume import Volume

__all__ = ["describe", "image_files", "read_labelmap", "read_volume", "write_labelmap", "write_volume"]


def read_volume(path: str | Path) -> Volume:
    """Read an image file."""
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise ReadError(f"{path} cannot be read as an image.", advice="Check the file.") from error
    return Volume.from_sitk(image, name=Path(path).name.split(".")[0])


def read_labelmap(path: str | Path) -> Volume:
    """Read a labelmap file."""
    volume = read_volume(path)
    if volume.array.dtype.kind == "f":
        return volume.astype(np.int32)
    return volume


def write_volume(volume: Volume, path: str | Path, *, compress: bool = True) -> None:
    """Write an image file."""
    import SimpleITK as sitk

    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(volume.to_sitk(), str(temporary), compress)
        except RuntimeError as error:
            raise WriteError(f"{path} could not be written.", advice="Choose another place.") from error


write_labelmap = write_volume
