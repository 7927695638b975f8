"""Volumes and their geometry, reading and writing them, checking that they can be worked on.

Importing this package needs numpy only; the readers, which need SimpleITK, are loaded when they are first named.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from medseg.volumes.geometry import Geometry
from medseg.volumes.volume import Volume

if TYPE_CHECKING:
    from medseg.volumes.checks import check_image, describe
    from medseg.volumes.dicom import Series, find_series, read_dicom
    from medseg.volumes.folders import image_files
    from medseg.volumes.io import read_labelmap, read_volume, write_labelmap, write_volume

_HOMES = {
    "check_image": "checks",
    "describe": "checks",
    "Series": "dicom",
    "find_series": "dicom",
    "read_dicom": "dicom",
    "image_files": "folders",
    "read_labelmap": "io",
    "read_volume": "io",
    "write_labelmap": "io",
    "write_volume": "io",
}

__all__ = [
    "Geometry",
    "Series",
    "Volume",
    "check_image",
    "describe",
    "find_series",
    "image_files",
    "read_dicom",
    "read_labelmap",
    "read_volume",
    "write_labelmap",
    "write_volume",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
