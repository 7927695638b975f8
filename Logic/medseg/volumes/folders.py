"""What a folder holds: image files and DICOM series, for batches."""

from __future__ import annotations

from pathlib import Path

_ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


def image_files(folder: str | Path) -> list[Path]:
    """Return the image files of a folder, in order."""
    return [path for path in sorted(Path(folder).iterdir()) if path.name.lower().endswith(_ENDINGS)]
