"""How arrays travel: one JSON header and the raw voxels behind it, in a request, an answer or a file (a "parcel").

Layout of a parcel, little-endian throughout::

    8 bytes   b"MEDSEG1\\n"
    8 bytes   length of the header in bytes, unsigned; 16 + length is a multiple of 64, so that the voxels are aligned
    header    JSON object in UTF-8, filled up with spaces: "kind", "dtype", "shape" (k, j, i), "ijk_to_ras" (16 numbers,
              row by row, mm) and what the kind adds
    voxels    C order (k, j, i)

A field of displacements has three numbers a voxel ("components" in its header). A parcel may hold others instead of
voxels, one after the other, each filled up to a multiple of 64 bytes (a registration does, encoding_registration.py).

A volume's address is the SHA-256 of its whole parcel. Equal volumes give equal parcels: keys are sorted and neither
the node's name nor anything else about the patient is in it.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from medseg.backend.encoding_correction import Corrected
    from medseg.backend.encoding_registration import Registered
    from medseg.labels import Code, Label
    from medseg.segmentation import SegmentationResult
    from medseg.volumes import Geometry, Volume
    from medseg.volumes.derived import DerivedVolume

MAGIC = b"MEDSEG1\n"
PRELUDE_BYTES = 16
MAXIMUM_HEADER_BYTES = 1 << 20
MAXIMUM_AXIS = 1 << 20
CHUNK_BYTES = 1 << 20
ALIGNMENT = 64
FIELD_COMPONENTS = 3
VOLUME_DTYPES = frozenset({"|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f4", "<f8"})
LABEL_DTYPES = frozenset({"|u1", "<u2"})


@dataclass(frozen=True)
class Parcel:
    """A parcel ready to send: ``head`` (prelude and header), ``body`` (the voxels, not copied), and parcels in it."""

    head: bytes
    body: memoryview
    inner: tuple[Parcel, ...] = ()

    def __len__(self) -> int:
        return len(self.head) + self.body.nbytes + sum(filled_up(len(parcel)) for parcel in self.inner)

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield the parcel in pieces of at most a megabyte."""
        yield self.head
        for start in range(0, self.body.nbytes, CHUNK_BYTES):
            yield self.body[start : start + CHUNK_BYTES]
        for parcel in self.inner:
            yield from parcel.chunks()
            yield bytes(filled_up(len(parcel)) - len(parcel))

    def sha256(self) -> str:
        """Return the address of the parcel in hexadecimal."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()


def filled_up(length: int) -> int:
    """Return the next multiple of :data:`ALIGNMENT`: where the parcel after one of ``length`` bytes begins."""
    return length + -length % ALIGNMENT


@dataclass(frozen=True)
class Layout:
    """The checked beginning of a parcel: its header, where the voxels start and what they are."""

    header: dict[str, Any]
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, int, int]
    components: int = 1

    @property
    def parcel_bytes(self) -> int:
        """Length of the whole parcel."""
        return self.offset + self.dtype.itemsize * math.prod(self.shape) * self.components

    @property
    def array_shape(self) -> tuple[int, ...]:
        """(k, j, i) or, with several numbers a voxel, (k, j, i, component)."""
        return self.shape if self.components == 1 else (*self.shape, self.components)


def make_parcel(header: dict[str, Any], array: np.ndarray) -> Parcel:
    """Pack ``array``, (k, j, i) or (k, j, i, 3), behind ``header``; "dtype", "shape" and "components" are added."""
    array = array.astype(np.uint8) if array.dtype == np.bool_ else array
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    full = {**header, "dtype": array.dtype.str, "shape": list(array.shape[:3])}
    if array.ndim > 3:
        full["components"] = array.shape[3]
    body = memoryview(array.reshape(-1).view(np.uint8).data) if array.size else memoryview(b"")
    return Parcel(make_head(full), body)


def make_head(header: dict[str, Any]) -> bytes:
    """Return the beginning of a parcel, prelude and header, filled up so that what follows is aligned."""
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-(PRELUDE_BYTES + len(text)) % ALIGNMENT)
    return MAGIC + len(text).to_bytes(8, "little") + text


def read_layout(read: Callable[[int], bytes], *, kind: str, dtypes: frozenset[str], limit: int) -> tuple[Layout, bytes]:
    """Read and check the beginning of a parcel; return it and its raw bytes. ``read(n)`` gives up to n bytes.

    Raises
    ------
    InputError
        When it is no parcel of this kind, or its voxels would need more than ``limit`` bytes.
    """
    header, raw = read_header(read, kind)
    dtype = header.get("dtype")
    if not isinstance(dtype, str) or dtype not in dtypes:
        raise damaged("its number type is not one that MedSeg knows")
    components = header.get("components", 1)
    if components != (FIELD_COMPONENTS if kind == "field" else 1):
        raise damaged("it has the wrong number of values for each voxel")
    layout = Layout(header, len(raw), np.dtype(dtype), _shape(header), components)
    if layout.parcel_bytes > limit:
        message = f"The volume has {layout.parcel_bytes / 1e9:.1f} GB, more than the {limit / 1e9:.1f} GB allowed."
        raise InputError(message, advice="Crop the volume or resample it to larger voxels.")
    _matrix(header)
    return layout, raw


def read_header(read: Callable[[int], bytes], kind: str) -> tuple[dict[str, Any], bytes]:
    """Read the header of a parcel of a kind; return it and the raw bytes of the parcel's beginning.

    Raises
    ------
    InputError
        When it is no parcel of this kind.
    """
    prelude = _exactly(read, PRELUDE_BYTES)
    length = int.from_bytes(prelude[8:], "little")
    if prelude[:8] != MAGIC or not 2 <= length <= MAXIMUM_HEADER_BYTES:
        raise damaged("it does not begin as one")
    raw = _exactly(read, length)
    try:
        header = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged("its header is not JSON") from error
    if not isinstance(header, dict) or header.get("kind") != kind:
        raise damaged(f"its header does not describe a {kind}")
    return header, prelude + raw


def _exactly(read: Callable[[int], bytes], count: int) -> bytes:
    parts = []
    while count:
        part = read(count)
        if not part:
            raise damaged("it ends too early")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _shape(header: dict[str, Any]) -> tuple[int, int, int]:
    shape = header.get("shape")
    if isinstance(shape, list) and len(shape) == 3:
        k, j, i = shape
        if all(type(size) is int and 1 <= size <= MAXIMUM_AXIS for size in shape):
            return k, j, i
    raise damaged("its shape is not three positive whole numbers")


def _matrix(header: dict[str, Any]) -> np.ndarray:
    numbers = header.get("ijk_to_ras")
    if not isinstance(numbers, list) or len(numbers) != 16 or not all(_is_number(number) for number in numbers):
        raise damaged("its IJKToRAS matrix is not 16 finite numbers")
    return np.array(numbers, dtype=np.float64).reshape(4, 4)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e12  # type: ignore[arg-type]


def damaged(reason: str) -> InputError:
    """Return the error for a parcel that cannot be read; ``reason`` is part of a sentence."""
    message = f"What was sent as a volume cannot be read: {reason}."
    return InputError(message, advice="This is a defect of the program that sent it; please report it.")


def encode_volume(volume: Volume) -> Parcel:
    """Pack a volume: voxels, geometry and modality, without its name and notes."""
    header = {"kind": "volume", "modality": volume.modality, **geometry_to_dict(volume.geometry)}
    array = volume.array
    if array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        array = array.astype(np.float32 if array.dtype.itemsize < 4 else np.float64)
    return make_parcel(header, array)


def geometry_to_dict(geometry: Geometry) -> dict[str, Any]:
    """Return a voxel grid as JSON values: "shape" (k, j, i) and "ijk_to_ras" (16 numbers, row by row, mm)."""
    numbers = np.asarray(geometry.ijk_to_ras).reshape(-1)
    return {"shape": [int(size) for size in geometry.shape], "ijk_to_ras": [float(number) for number in numbers]}


def geometry_from_dict(data: object) -> Geometry:
    """Rebuild a voxel grid from :func:`geometry_to_dict`.

    Raises
    ------
    InputError
        When ``data`` is not what that function gives.
    """
    from medseg.volumes import Geometry

    if not isinstance(data, dict):
        raise damaged("it is not an object")
    return Geometry(_shape(data), _matrix(data))


def open_volume(path: Path) -> Volume:
    """Open a stored volume parcel; the voxels stay on disk until they are touched, and cannot be written."""
    from medseg.volumes import Geometry, Volume

    with path.open("rb") as file:
        layout, _ = read_layout(file.read, kind="volume", dtypes=VOLUME_DTYPES, limit=1 << 62)
    array = np.asarray(np.memmap(path, dtype=layout.dtype, mode="r", offset=layout.offset, shape=layout.shape))
    modality = str(layout.header.get("modality", ""))
    return Volume(array, Geometry(layout.shape, _matrix(layout.header)), modality=modality)


def encode_result(result: SegmentationResult) -> Parcel:
    """Pack a segmentation result: header with labels, statistics, notices, timings, model; then the labelmap."""
    labelmap = result.labelmap
    header = {
        "kind": "segmentation",
        **geometry_to_dict(labelmap.geometry),
        "modality": labelmap.modality,
        "labels": [_label_to_dict(label) for label in result.labels],
        "statistics": [_statistics_to_dict(item) for item in result.statistics],
        "notices": [str(notice) for notice in result.notices],
        "timings": {str(key): float(value) for key, value in result.timings.items()},
        "device": result.device,
        "model": {str(key): value for key, value in result.model.items()},
    }
    return make_parcel(header, labelmap.array)


def encode_derived(result: DerivedVolume) -> Parcel:
    """Pack a volume that a verb computed: header with what it is, notices and model; then the voxels."""
    header = {
        "kind": "derived",
        **geometry_to_dict(result.volume.geometry),
        "modality": result.volume.modality,
        "derived": result.kind,
        "notices": [str(notice) for notice in result.notices],
        "model": {str(key): value for key, value in result.model.items()},
    }
    return make_parcel(header, result.volume.array)


def decode_answer(
    data: bytes | bytearray, *, name: str = ""
) -> SegmentationResult | DerivedVolume | Registered | Corrected:
    """Unpack what a verb gave, whichever kind it is; ``name``, of the image, begins that of the result.

    Raises
    ------
    InputError
        When ``data`` is no whole result.
    """
    from medseg.backend.encoding_correction import decode_corrected
    from medseg.backend.encoding_registration import decode_registration

    try:
        header = json.loads(
            bytes(data[PRELUDE_BYTES : PRELUDE_BYTES + int.from_bytes(data[8:PRELUDE_BYTES], "little")])
        )
        kind = header["kind"]
    except (ValueError, RecursionError, TypeError, KeyError):
        kind = ""  # the decoder says what is wrong with it
    if kind == "registration":
        return decode_registration(data)
    if kind == "correction":
        return decode_corrected(data)
    if kind == "derived":
        return decode_derived(data, name=name)
    return decode_result(data, name=f"{name} segmentation".strip())


def decode_volume(data: bytes | bytearray | memoryview) -> Volume:
    """Unpack a volume; its voxels share the memory of ``data``.

    Raises
    ------
    InputError
        When ``data`` is not a whole one.
    """
    from medseg.volumes import Geometry, Volume

    layout, array = read_whole(data, "volume", VOLUME_DTYPES)
    modality = str(layout.header.get("modality", ""))
    return Volume(array, Geometry(layout.shape, _matrix(layout.header)), modality=modality)


def decode_derived(data: bytes | bytearray, *, name: str = "") -> DerivedVolume:
    """Unpack a computed volume; it is called after ``name``, which never travels, and what it is.

    Raises
    ------
    InputError
        When ``data`` is not a whole one.
    """
    from medseg.volumes import Geometry, Volume
    from medseg.volumes.derived import DerivedVolume

    layout, array = read_whole(data, "derived", VOLUME_DTYPES)
    header = layout.header
    try:
        kind = str(header["derived"])
        return DerivedVolume(
            volume=Volume(
                array,
                Geometry(layout.shape, _matrix(header)),
                name=f"{name} {kind}".strip(),
                modality=str(header.get("modality", "")),
            ),
            kind=kind,
            notices=[str(notice) for notice in header["notices"]],
            model=dict(header["model"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise damaged("its header is incomplete") from error


def read_whole(data: bytes | bytearray | memoryview, kind: str, dtypes: frozenset[str]) -> tuple[Layout, np.ndarray]:
    """Return the header and the voxels of a parcel that must be whole; the voxels share its memory.

    Raises
    ------
    InputError
        When ``data`` is not a whole parcel of the kind.
    """
    view = memoryview(data)
    layout, _ = read_layout(reader_of(view), kind=kind, dtypes=dtypes, limit=1 << 62)
    if layout.parcel_bytes != len(view):
        raise damaged("it has not the length that its header tells")
    return layout, np.frombuffer(view, dtype=layout.dtype, offset=layout.offset).reshape(layout.array_shape)


def reader_of(view: memoryview) -> Callable[[int], bytes]:
    """Return a function that gives the next up to ``n`` bytes of ``view``."""
    position = 0

    def read(count: int) -> bytes:
        nonlocal position
        part = bytes(view[position : position + count])
        position += len(part)
        return part

    return read


def decode_result(data: bytes | bytearray, *, name: str = "") -> SegmentationResult:
    """Unpack a segmentation result; ``name`` becomes the labelmap's name, which never travels.

    Raises
    ------
    InputError
        When ``data`` is not a whole result.
    """
    from medseg.labels import LabelTable
    from medseg.segmentation import SegmentationResult
    from medseg.volumes import Geometry, Volume

    layout, array = read_whole(data, "segmentation", LABEL_DTYPES)
    header = layout.header
    labelmap = Volume(
        array, Geometry(layout.shape, _matrix(header)), name=name, modality=str(header.get("modality", ""))
    )
    try:
        return SegmentationResult(
            labelmap=labelmap,
            labels=LabelTable([_label_from_dict(label) for label in header["labels"]]),
            statistics=[_statistics_from_dict(item) for item in header["statistics"]],
            notices=[str(notice) for notice in header["notices"]],
            timings=dict(header["timings"]),
            device=str(header["device"]),
            model=dict(header["model"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise damaged("its header is incomplete") from error


def _code_to_list(code: Code | None) -> list[str] | None:
    return None if code is None else [code.scheme, code.value, code.meaning]


def _label_to_dict(label: Label) -> dict[str, Any]:
    return {
        "value": int(label.value),
        "name": label.name,
        "color": [int(part) for part in label.color],
        "category": _code_to_list(label.category),
        "type": _code_to_list(label.type),
        "type_modifier": _code_to_list(label.type_modifier),
        "region": _code_to_list(label.region),
        "region_modifier": _code_to_list(label.region_modifier),
    }


def _label_from_dict(data: dict[str, Any]) -> Label:
    from medseg.labels import Code, Label

    codes = {
        key: None if data[key] is None else Code(*data[key])
        for key in ("category", "type", "type_modifier", "region", "region_modifier")
    }
    return Label(value=data["value"], name=data["name"], color=tuple(data["color"]), **codes)  # type: ignore[arg-type]


def _statistics_to_dict(item: Any) -> dict[str, Any]:
    """JSON knows no NaN (the mean of an empty segment): it travels as null."""
    numbers = {key: float(getattr(item, key)) for key in ("volume_ml", "mean", "std", "minimum", "maximum")}
    finite = {key: number if math.isfinite(number) else None for key, number in numbers.items()}
    return {"value": int(item.value), "name": item.name, "voxels": int(item.voxels), **finite}


def _statistics_from_dict(data: dict[str, Any]) -> Any:
    from medseg.segmentation import SegmentStatistics

    numbers: dict[str, Any] = {key: math.nan if value is None else value for key, value in data.items()}
    return SegmentStatistics(**numbers)
