"""NRRD (.nrrd, .nhdr with its data beside it), also 3D Slicer's .seg.nrrd as a label map.

Standard: Kindlmann, "Definition of NRRD File Format", teem.sourceforge.net/nrrd/format.html.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.volumes.geometry import Geometry
from medseg.volumes.voxels import Encoding, Header, damaged, opened, truncated, unsupported, write_gzip, write_raw

if TYPE_CHECKING:
    from typing import BinaryIO

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_KIND_OF = {name: kind for kind, names in _TYPES.items() for name in names}
_ENCODINGS: dict[str, Encoding] = {
    "raw": "raw",
    "gzip": "gzip",
    "gz": "gzip",
    "txt": "text",
    "text": "text",
    "ascii": "text",
}
# What multiplies world coordinates to become RAS. An unnamed space is taken as LPS, as ITK and so 3D Slicer do.
_SPACES = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
    "": (-1, -1, 1),
    "scanner-xyz": (-1, -1, 1),
    "3d-right-handed": (-1, -1, 1),
    "3d-left-handed": (-1, -1, 1),
}
_MOST_HEADER = 1 << 22  # bytes; a segmentation with hundreds of segments stays far below

_VECTOR = re.compile(r"none|\(([^()]*)\)", re.IGNORECASE)


def read_header(path: Path) -> Header:
    """Return the header of a NRRD file.

    Raises
    ------
    ReadError
        When it is no NRRD file, damaged, truncated, or no three-dimensional image of one real value per voxel.
    GeometryError
        When its matrix is not finite or singular.
    """
    with opened(path) as file:
        fields = _fields(path, file)
        start = file.tell()
    kind = _KIND_OF.get(fields.get("type", "").lower())
    if kind is None:
        raise unsupported(path, f"voxels of the type '{fields.get('type', '')}'")
    encoding = _ENCODINGS.get(fields.get("encoding", "").lower())
    if encoding is None:
        raise unsupported(path, f"voxels in the encoding '{fields.get('encoding', '')}', which MedSeg does not read")
    endian = fields.get("endian", "little").lower()
    if endian not in ("little", "big"):
        raise damaged(path, f"its byte order '{endian}' is unknown")
    sizes, axes = _axes(path, fields)
    data, offset = _data(path, fields, encoding, start)
    return Header(
        geometry=Geometry((sizes[2], sizes[1], sizes[0]), _matrix(path, fields, axes)),
        dtype=np.dtype((">" if endian == "big" else "<") + kind),
        data=data,
        offset=offset,
        encoding=encoding,
    )


def _fields(path: Path, file: BinaryIO) -> dict[str, str]:
    """Read the header up to its blank line, or to the end of a header without data."""
    if not re.fullmatch(rb"NRRD000[1-9]", file.readline(16).strip()):
        raise damaged(path, "it does not start as a NRRD file does")
    fields: dict[str, str] = {}
    while True:
        if file.tell() > _MOST_HEADER:
            raise damaged(path, "its header does not end")
        line = file.readline(_MOST_HEADER).decode("utf-8", "replace")
        text = line.strip()
        if not text:
            break
        if text.startswith("#") or ":=" in text:
            continue
        name, colon, value = text.partition(":")
        if not colon:
            raise damaged(path, "its header has a line that is no field")
        fields[name.strip().lower().replace(" ", "")] = value.strip()
    return fields


def _axes(path: Path, fields: dict[str, str]) -> tuple[list[int], list[int]]:
    """Return the three sizes, and which axes of the file they are."""
    sizes = _integers(path, fields, "sizes")
    if _integers(path, fields, "dimension") != [len(sizes)]:
        raise damaged(path, "its dimension and its sizes do not agree")
    if not sizes or min(sizes) < 1:
        raise damaged(path, "it has no voxels along an axis")
    axes = list(range(len(sizes)))
    vectors = _vectors(path, fields, len(sizes))
    for axis in reversed(range(len(sizes))):
        if len(axes) > 3 and sizes[axis] == 1 and (vectors is None or vectors[axis] is None):
            axes.remove(axis)
    if len(axes) > 3:
        more = [sizes[axis] for axis in axes if vectors is not None and vectors[axis] is None] or [len(axes)]
        raise unsupported(path, f"an image with {len(axes)} axes (several images, colours or layers: {more[0]})")
    if len(axes) < 3:
        raise unsupported(path, f"an image with {len(axes)} axes")
    return [sizes[axis] for axis in axes], axes


def _vectors(path: Path, fields: dict[str, str], count: int) -> list[list[float] | None] | None:
    """Return the space direction of each axis (None for "none"), or None when the header gives none."""
    if "spacedirections" not in fields:
        return None
    found = [
        None if match.group(1) is None else _floats(path, match.group(1).split(","), "space directions")
        for match in _VECTOR.finditer(fields["spacedirections"])
    ]
    if len(found) != count:
        raise damaged(path, "it does not have a space direction for each axis")
    return found


def _matrix(path: Path, fields: dict[str, str], axes: list[int]) -> np.ndarray:
    space = fields.get("space", "").lower()
    if space.endswith("-time"):
        raise unsupported(path, "a series in time")
    if space not in _SPACES:
        raise unsupported(path, f"a grid in the space '{space}', which is not one of patients")
    matrix = np.eye(4)
    count = len(_integers(path, fields, "sizes"))
    vectors = _vectors(path, fields, count)
    if vectors is not None:
        for column, axis in enumerate(axes):
            vector = vectors[axis]
            if vector is None or len(vector) != 3:
                raise damaged(path, "an axis has no direction in space")
            matrix[:3, column] = vector
    elif "spacings" in fields:
        steps = _floats(path, fields["spacings"].split(), "spacings")
        if len(steps) != count:
            raise damaged(path, "it does not have a spacing for each axis")
        matrix[:3, :3] = np.diag([steps[axis] for axis in axes])
    if "spaceorigin" in fields:
        match = _VECTOR.fullmatch(fields["spaceorigin"])
        origin = _floats(path, match.group(1).split(","), "space origin") if match and match.group(1) else []
        if len(origin) != 3:
            raise damaged(path, "its space origin is no point")
        matrix[:3, 3] = origin
    matrix[:3] *= np.array(_SPACES[space], dtype=np.float64)[:, None]
    return matrix


def _data(path: Path, fields: dict[str, str], encoding: Encoding, start: int) -> tuple[Path, int]:
    """Return the file with the voxels and the bytes before them."""
    name = fields.get("datafile", "")
    skips = [_integers(path, fields, key)[0] if key in fields else 0 for key in ("lineskip", "byteskip")]
    lines, skip = skips
    if lines < 0 or skip < -1 or (skip == -1 and encoding != "raw"):
        raise damaged(path, "its voxels start nowhere")
    if not name:
        if path.suffix.lower() == ".nhdr":
            raise damaged(path, "it does not name its data file")
        data = path
    else:
        data, start = beside(path, name), 0
    if skip == -1:
        return data, -1
    if encoding == "gzip" and skip:
        raise unsupported(path, "compressed voxels that do not start at the beginning, which MedSeg does not read")
    if lines:
        with opened(data) as file:
            file.seek(start)
            for _ in range(min(lines, 10_000)):
                if not file.readline(_MOST_HEADER):
                    raise truncated(data, None, 0)
            start = file.tell()
    return data, start + skip


def beside(path: Path, name: str) -> Path:
    """Return the data file that the header ``path`` names, which must lie in the header's folder.

    Raises
    ------
    ReadError
        When the name is a list or a pattern, or leads to another folder: a header from elsewhere must not make MedSeg
        open whatever file it names.
    """
    if name.upper().startswith("LIST") or "%" in name:
        raise unsupported(path, "voxels in several files, which MedSeg does not read")
    if "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise unsupported(path, "the name of a data file in another folder")
    return path.parent / name


def _integers(path: Path, fields: dict[str, str], name: str) -> list[int]:
    words = fields.get(name, "").split()
    try:
        values = [int(word) for word in words]
    except ValueError as error:
        raise damaged(path, f"its {name} are not whole numbers") from error
    if not values or max(abs(value) for value in values) > 2**40:
        raise damaged(path, f"its {name} are missing or make no sense")
    return values


def _floats(path: Path, words: list[str], name: str) -> list[float]:
    try:
        return [float(word) for word in words]
    except ValueError as error:
        raise damaged(path, f"its {name} are not numbers") from error


def write(path: Path, array: np.ndarray, geometry: Geometry, *, compress: bool) -> None:
    """Write a NRRD file in LPS, as ITK and 3D Slicer do. Any grid, also a sheared one, is kept.

    Raises
    ------
    OSError
        When the disk refuses.
    """
    kind = array.dtype.str[1:]
    flipped = np.diag([-1.0, -1.0, 1.0]) @ geometry.ijk_to_ras[:3] + 0.0
    directions = " ".join(_vector(flipped[:, axis]) for axis in range(3))
    lines = [
        "NRRD0004",
        "# Complete NRRD file format specification at:",
        "# http://teem.sourceforge.net/nrrd/format.html",
        f"type: {_TYPES[kind][0]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, geometry.size))}",
        f"space directions: {directions}",
        "kinds: domain domain domain",
        *(["endian: little"] if array.dtype.itemsize > 1 else []),
        f"encoding: {'gzip' if compress else 'raw'}",
        f"space origin: {_vector(flipped[:, 3])}",
    ]
    with path.open("wb") as file:
        file.write(("\n".join(lines) + "\n\n").encode())
        (write_gzip if compress else write_raw)(file, array)


def _vector(values: np.ndarray) -> str:
    return f"({','.join(repr(float(value)) for value in values)})"
