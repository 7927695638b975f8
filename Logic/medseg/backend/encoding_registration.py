"""How a registration travels: one parcel that holds others, one for each field and each volume."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.backend.encoding import (
    Parcel,
    damaged,
    decode_volume,
    encode_volume,
    filled_up,
    geometry_to_dict,
    make_head,
    make_parcel,
    read_header,
    read_whole,
    reader_of,
)
from medseg.errors import GeometryError

if TYPE_CHECKING:
    from medseg.registration import DisplacementField, SpatialTransform
    from medseg.volumes import Volume

FIELD_DTYPES = frozenset({"<f4"})


@dataclass
class Registered:
    """What a verb that gives a transform answers.

    Attributes
    ----------
    transform
        From points of the fixed volume to points of the moving one, RAS mm.
    method
        How it was found.
    figures
        What is known about it, as JSON has it (:meth:`medseg.registration.Quality.to_dict`); ``None`` for what is not a
        number.
    inverse
        From points of the moving volume to points of the fixed one, when it was asked for.
    volumes
        On the fixed volume's grid, by what they are: see :data:`medseg.backend.verbs_registration.OUTPUTS`.
    losses
        Of the refinement, iteration by iteration.
    notices
        What the user should know, whole sentences.
    timings
        Seconds of each step.
    device
        Where it was computed.
    model
        ``name``, ``version`` and ``weights_sha256`` of a model package that was used; empty without one.
    """

    transform: SpatialTransform
    method: str
    figures: dict[str, Any] = field(default_factory=dict)
    inverse: SpatialTransform | None = None
    volumes: dict[str, Volume] = field(default_factory=dict)
    losses: list[float | None] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    device: str = "cpu"
    model: dict[str, str] = field(default_factory=dict)


def encode_registration(result: Registered) -> Parcel:
    """Pack a registration: the header tells all but the fields and volumes, which follow as parcels of their own."""
    parts: list[Parcel] = []
    header = {
        "kind": "registration",
        "method": result.method,
        "figures": result.figures,
        "transform": _stages_to_list(result.transform, parts),
        "inverse": None if result.inverse is None else _stages_to_list(result.inverse, parts),
        "volumes": {name: _added(parts, encode_volume(volume)) for name, volume in result.volumes.items()},
        "losses": list(result.losses),
        "notices": [str(notice) for notice in result.notices],
        "timings": {str(key): float(value) for key, value in result.timings.items()},
        "device": result.device,
        "model": {str(key): str(value) for key, value in result.model.items()},
    }
    return Parcel(make_head({**header, "parts": [len(part) for part in parts]}), memoryview(b""), tuple(parts))


def decode_registration(data: bytes | bytearray) -> Registered:
    """Unpack a registration; the fields and volumes share the memory of ``data`` and have no names.

    Raises
    ------
    InputError
        When ``data`` is not a whole one.
    """
    view = memoryview(data)
    header, raw = read_header(reader_of(view), "registration")
    parts = _parts(view, len(raw), header.get("parts"))
    try:
        inverse = header["inverse"]
        return Registered(
            transform=_stages_from_list(header["transform"], parts),
            method=str(header["method"]),
            figures=dict(header["figures"]),
            inverse=None if inverse is None else _stages_from_list(inverse, parts),
            volumes={str(name): decode_volume(parts[place]) for name, place in header["volumes"].items()},
            losses=list(header["losses"]),
            notices=[str(notice) for notice in header["notices"]],
            timings=dict(header["timings"]),
            device=str(header["device"]),
            model=dict(header["model"]),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, GeometryError) as error:
        raise damaged("its header is incomplete") from error


def _parts(view: memoryview, start: int, lengths: Any) -> list[memoryview]:
    """Return the parcels in a parcel."""
    if not isinstance(lengths, list) or not all(type(length) is int and length >= 0 for length in lengths):
        raise damaged("its header does not tell what is in it")
    parts = []
    for length in lengths:
        parts.append(view[start : start + length])
        start += filled_up(length)
    if start != len(view):
        raise damaged("it has not the length that its header tells")
    return parts


def _added(parts: list[Parcel], parcel: Parcel) -> int:
    """Add a parcel to the parts; return its place among them."""
    parts.append(parcel)
    return len(parts) - 1


def _stages_to_list(transform: SpatialTransform, parts: list[Parcel]) -> list[Any]:
    """Return the stages as JSON values: 16 numbers of a matrix, row by row, or the place of a field among the parts."""
    return [
        [float(number) for number in stage.ravel()]
        if isinstance(stage, np.ndarray)
        else _added(parts, _encode_field(stage))
        for stage in transform.stages
    ]


def _stages_from_list(stages: list[Any], parts: list[memoryview]) -> SpatialTransform:
    from medseg.registration import SpatialTransform

    return SpatialTransform(
        tuple(
            _decode_field(parts[stage]) if type(stage) is int else np.array(stage, np.float64).reshape(4, 4)
            for stage in stages
        )
    )


def _encode_field(displacement: DisplacementField) -> Parcel:
    return make_parcel({"kind": "field", **geometry_to_dict(displacement.geometry)}, displacement.vectors)


def _decode_field(data: memoryview) -> DisplacementField:
    from medseg.registration import DisplacementField
    from medseg.volumes import Geometry

    layout, vectors = read_whole(data, "field", FIELD_DTYPES)
    matrix = np.array(layout.header["ijk_to_ras"], np.float64).reshape(4, 4)
    return DisplacementField(vectors, Geometry(layout.shape, matrix))
