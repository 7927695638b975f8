"""MetaImage (.mha, .mhd with its data beside it). Format: MetaIO's documentation, github.com/Kitware/MetaIO."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.volumes.geometry import Geometry
from medseg.volumes.nrrd import beside
from medseg.volumes.voxels import Encoding, Header, damaged, opened, unsupported, write_raw, write_zlib

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",  # MetaIO fixes it at 4 bytes
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_NAMES = {kind: name for name, kind in reversed(_TYPES.items())}
_MOST_HEADER = 1 << 20


def read_header(path: Path) -> Header:
    """Return the header of a MetaImage file.

    Raises
    ------
    ReadError
        When it is no MetaImage file, damaged, truncated, or no three-dimensional image of one real value per voxel.
    GeometryError
        When its matrix is not finite or singular.
    """
    with opened(path) as file:
        fields = _fields(path, file)
        start = file.tell()
    if fields.get("objecttype", "image").lower() != "image":
        raise unsupported(path, f"an object of the type {fields['objecttype']}, not an image")
    sizes = _integers(path, fields, "dimsize")
    if _integers(path, fields, "ndims") != [len(sizes)]:
        raise damaged(path, "its number of axes and its sizes do not agree")
    if min(sizes) < 1:
        raise damaged(path, "it has no voxels along an axis")
    more = [size for size in sizes[3:] if size > 1]
    if len(sizes) < 3 or more:
        raise unsupported(path, f"an image with {len(sizes)} axes")
    channels = _integers(path, fields, "elementnumberofchannels", "1")
    if channels != [1]:
        raise unsupported(path, f"{channels[0]} values per voxel")
    kind = _TYPES.get(fields.get("elementtype", "").upper())
    if kind is None:
        raise unsupported(path, f"voxels of the type '{fields.get('elementtype', '')}'")
    big = _true(fields.get("elementbyteordermsb", fields.get("binarydatabyteordermsb", "False")))
    data, offset, encoding = _data(path, fields, start)
    return Header(
        geometry=Geometry((sizes[2], sizes[1], sizes[0]), _matrix(path, fields, len(sizes))),
        dtype=np.dtype((">" if big else "<") + kind),
        data=data,
        offset=offset,
        encoding=encoding,
        size=_integers(path, fields, "compresseddatasize")[0]
        if encoding == "zlib" and "compresseddatasize" in fields
        else None,
    )


def _fields(path: Path, file: BinaryIO) -> dict[str, str]:
    """Read the header up to and with the field ElementDataFile, which comes last."""
    fields: dict[str, str] = {}
    while "elementdatafile" not in fields:
        line = file.readline(_MOST_HEADER)
        name, equals, value = line.decode("utf-8", "replace").partition("=")
        if file.tell() > _MOST_HEADER or (line.strip() and not equals) or not line:
            what = "its header does not end" if fields else "it does not start as a MetaImage file does"
            raise damaged(path, what)
        if equals:
            fields[name.strip().lower()] = value.strip()
    return fields


def _data(path: Path, fields: dict[str, str], start: int) -> tuple[Path, int, Encoding]:
    name = fields["elementdatafile"]
    local = name.upper() == "LOCAL"
    skip = _integers(path, fields, "headersize", "0")[0]
    if skip < -1:
        raise damaged(path, "its voxels start nowhere")
    data, offset = (path, start) if local else (beside(path, name), 0)
    encoding: Encoding = "raw"
    if _true(fields.get("compresseddata", "False")):
        encoding = "zlib"
    elif not _true(fields.get("binarydata", "True")):
        encoding = "text"
    if skip == -1 and encoding != "raw":
        raise damaged(path, "its voxels start nowhere")
    return data, -1 if skip == -1 else offset + skip, encoding


def _matrix(path: Path, fields: dict[str, str], count: int) -> np.ndarray:
    def numbers(names: tuple[str, ...], default: np.ndarray) -> np.ndarray:
        for name in names:
            if name in fields:
                try:
                    values = np.array([float(word) for word in fields[name].split()])
                except ValueError as error:
                    raise damaged(path, f"its {name} is not numbers") from error
                if values.size != default.size:
                    raise damaged(path, f"its {name} has {values.size} numbers, not {default.size}")
                return values.reshape(default.shape)
        return default

    spacing = numbers(("elementspacing", "elementsize"), np.ones(count))[:3]
    origin = numbers(("offset", "position", "origin"), np.zeros(count))[:3]
    # Stored axis by axis: the file's rows are the columns of the direction matrix.
    direction = numbers(("transformmatrix", "rotation", "orientation"), np.eye(count))[:3, :3].T
    matrix = np.eye(4)
    matrix[:3, :3] = direction * spacing
    matrix[:3, 3] = origin
    matrix[:2] *= -1.0
    return matrix


def _integers(path: Path, fields: dict[str, str], name: str, default: str = "") -> list[int]:
    try:
        values = [int(word) for word in fields.get(name, default).split()]
    except ValueError as error:
        raise damaged(path, f"its {name} is not whole numbers") from error
    if not values or max(abs(value) for value in values) > 2**40:
        raise damaged(path, f"its {name} is missing or makes no sense")
    return values


def _true(value: str) -> bool:
    return value.strip().lower().startswith(("t", "1", "y"))


def write(path: Path, array: np.ndarray, geometry: Geometry, *, compress: bool) -> None:
    """Write a MetaImage file with its voxels in it. Any grid is kept; ITK gives a sheared one back too.

    Raises
    ------
    OSError
        When the disk refuses.
    """
    spacing, origin, direction = geometry.to_lps()
    columns = np.array(direction).reshape(3, 3).T.ravel()
    # The length of the compressed voxels stands before them: a place is kept for it and filled in afterwards.
    place = " " * 20
    head = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        f"CompressedData = {compress}",
        *([f"CompressedDataSize = {place}"] if compress else []),
        f"TransformMatrix = {_row(columns)}",
        f"Offset = {_row(origin)}",
        "CenterOfRotation = 0 0 0",
        f"ElementSpacing = {_row(spacing)}",
        f"DimSize = {_row(geometry.size)}",
        f"ElementType = {_NAMES[array.dtype.str[1:]]}",
        "ElementDataFile = LOCAL",
    ]
    text = ("\n".join(head) + "\n").encode()
    with path.open("wb") as file:
        file.write(text)
        if not compress:
            write_raw(file, array)
            return
        size = write_zlib(file, array)
        file.seek(text.index(place.encode()))
        file.write(str(size).encode())


def _row(values: np.ndarray | tuple[float, ...]) -> str:
    return " ".join(repr(value) for value in np.asarray(values).tolist())
