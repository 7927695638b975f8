"""How a corrected segment travels: only the voxels that may have changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.backend.encoding import damaged, geometry_to_dict, make_parcel, read_whole

if TYPE_CHECKING:
    from medseg.backend.encoding import Parcel

_DTYPES = frozenset({"|u1"})


@dataclass(frozen=True, eq=False)
class Corrected:
    """What a correction made of a part of the segment.

    Attributes
    ----------
    start
        Where the part begins in the volume, (k, j, i).
    part
        (k, j, i) uint8, 1 in the segment. All other voxels are as they were.
    bounds_ras
        The lowest and the highest R, A, S in mm that the part reaches.
    boxes
        For every prompt, in order, the voxels that it may have changed: first and last + 1, (k, j, i).
    seconds
        That the computation took, without sending.
    tool
        What followed the prompts.
    device
        Where it was computed.
    model
        ``name``, ``version`` and ``weights_sha256`` of a model package that was used; empty without one.
    notices
        What the user should know, whole sentences.
    """

    start: tuple[int, int, int]
    part: np.ndarray
    bounds_ras: tuple[tuple[float, ...], tuple[float, ...]]
    boxes: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = ()
    seconds: float = 0.0
    tool: str = "network"
    device: str = "cpu"
    model: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """What cuts the part out of an array (k, j, i) of the volume's grid."""
        k, j, i = (slice(start, start + size) for start, size in zip(self.start, self.part.shape, strict=True))
        return k, j, i


def encode_corrected(result: Corrected, geometry: Any) -> Parcel:
    """Pack a correction; ``geometry`` is that of the part."""
    header = {
        "kind": "correction",
        **geometry_to_dict(geometry),
        "start": list(result.start),
        "bounds_ras": [list(corner) for corner in result.bounds_ras],
        "boxes": [[list(corner) for corner in box] for box in result.boxes],
        "seconds": float(result.seconds),
        "tool": result.tool,
        "device": result.device,
        "model": {str(key): str(value) for key, value in result.model.items()},
        "notices": [str(notice) for notice in result.notices],
    }
    return make_parcel(header, np.asarray(result.part, np.uint8))


def decode_corrected(data: bytes | bytearray) -> Corrected:
    """Unpack a correction; the voxels share the memory of ``data``.

    Raises
    ------
    InputError
        When ``data`` is not a whole one.
    """
    layout, part = read_whole(data, "correction", _DTYPES)
    header = layout.header
    try:
        k, j, i = (int(index) for index in header["start"])
        low, high = (tuple(float(number) for number in corner) for corner in header["bounds_ras"])
        return Corrected(
            start=(k, j, i),
            part=part,
            bounds_ras=(low, high),
            boxes=tuple(
                (tuple(int(index) for index in start), tuple(int(index) for index in stop))
                for start, stop in header["boxes"]
            ),
            seconds=float(header["seconds"]),
            tool=str(header["tool"]),
            device=str(header["device"]),
            model=dict(header["model"]),
            notices=[str(notice) for notice in header["notices"]],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise damaged("its header is incomplete") from error
