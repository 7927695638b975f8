"""NIfTI-1 and NIfTI-2 in one file (.nii, .nii.gz).

Read here and not by ITK, because ITK fills what a truncated file lacks without a word and refuses a sheared sform.
Standard: Cox et al., NIfTI-1 (2003) and NIfTI-2 (2011), nifti.nimh.nih.gov.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import GeometryError
from medseg.volumes.geometry import Geometry
from medseg.volumes.voxels import (
    GZIP_MAGIC,
    Header,
    damaged,
    opened,
    truncated,
    unpacked,
    unsupported,
    write_gzip,
    write_raw,
)

if TYPE_CHECKING:
    from pathlib import Path

_TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_CODES = {kind: code for code, kind in _TYPES.items()}
_REFUSED = {
    1: "one bit per voxel",
    32: "complex numbers",
    128: "colours",
    1536: "numbers of 128 bits",
    1792: "complex numbers",
    2048: "complex numbers",
    2304: "colours",
}
_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # metres, millimetres, micrometres

_SCANNER = 1  # sform code: scanner coordinates
_DISAGREE_MM = 0.1  # between sform and qform: beyond rounding of single precision


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Where the fields of one version lie (offset, struct format)."""

    size: int
    dim: tuple[int, str]
    datatype: tuple[int, str]
    pixdim: tuple[int, str]
    vox_offset: tuple[int, str]
    scaling: tuple[int, str]
    units: tuple[int, str]
    codes: tuple[int, str]
    quaternion: tuple[int, str]
    sform: tuple[int, str]


_NIFTI1 = _Layout(
    size=348,
    dim=(40, "8h"),
    datatype=(70, "h"),
    pixdim=(76, "8f"),
    vox_offset=(108, "f"),
    scaling=(112, "2f"),
    units=(123, "B"),
    codes=(252, "2h"),
    quaternion=(256, "6f"),
    sform=(280, "12f"),
)
_NIFTI2 = _Layout(
    size=540,
    dim=(16, "8q"),
    datatype=(12, "h"),
    pixdim=(104, "8d"),
    vox_offset=(168, "q"),
    scaling=(176, "2d"),
    units=(500, "i"),
    codes=(344, "2i"),
    quaternion=(352, "6d"),
    sform=(400, "12d"),
)


def read_header(path: Path) -> Header:
    """Return the header of a NIfTI file.

    The grid is the one that ITK, and with it 3D Slicer, takes: the sform when it is in scanner coordinates or alone,
    else the qform, else the spacing alone in LPS. Where both are given and differ, a note says so. A sheared sform
    keeps its shear.

    Raises
    ------
    ReadError
        When it is no NIfTI file, damaged, truncated, or no three-dimensional image of one real value per voxel.
    GeometryError
        When its matrix is not finite or singular.
    """
    with opened(path) as file:
        packed = file.read(2) == GZIP_MAGIC
    with unpacked(path) as stream:
        start = stream.read(_NIFTI2.size)
    layout, order = _version(path, start)

    def field(place: tuple[int, str]) -> tuple[Any, ...]:
        return struct.unpack_from(order + place[1], start, place[0])

    shape = _shape(path, field(layout.dim))
    code = int(field(layout.datatype)[0])
    if code in _REFUSED:
        raise unsupported(path, _REFUSED[code])
    if code not in _TYPES:
        raise damaged(path, f"its data type {code} is unknown")
    offset = field(layout.vox_offset)[0]
    if not (np.isfinite(offset) and 0 <= offset < 2**40):
        raise damaged(path, "its voxels start nowhere")
    slope, inter = field(layout.scaling)
    if slope == 0 or not np.isfinite([slope, inter]).all():
        slope, inter = 1.0, 0.0  # the standard's "no scaling", and how ITK and nibabel read such headers
    matrix, notes = _matrix(path, field, layout)
    return Header(
        geometry=Geometry(shape, matrix),
        dtype=np.dtype(order + _TYPES[code]),
        data=path,
        offset=max(int(offset), layout.size),
        encoding="gzip" if packed else "raw",
        slope=slope,
        inter=inter,
        notes=notes,
    )


def _version(path: Path, start: bytes) -> tuple[_Layout, str]:
    for layout, magic, place in ((_NIFTI1, b"n+1\0", 344), (_NIFTI2, b"n+2\0", 4)):
        for order in "<>":
            if start[:4] != struct.pack(order + "i", layout.size):
                continue
            if len(start) < layout.size:
                raise truncated(path, len(start), layout.size)
            if start[place : place + 4] == magic:
                return layout, order
            if start[place : place + 2] == b"ni":
                raise unsupported(path, "only the header of a pair of files (.hdr and .img)")
    raise damaged(path, "it does not start as a NIfTI file does")


def _shape(path: Path, dim: tuple[Any, ...]) -> tuple[int, int, int]:
    count, sizes = dim[0], dim[1:]
    if not 1 <= count <= 7:
        raise damaged(path, f"it has {count} axes")
    if count < 3:
        raise unsupported(path, f"an image with {count} axes")
    if min(sizes[:count]) < 1:
        raise damaged(path, "it has no voxels along an axis")
    more = [size for size in sizes[3:count] if size > 1]
    if more:
        raise unsupported(path, f"{' x '.join(map(str, more))} images or values per voxel")
    return int(sizes[2]), int(sizes[1]), int(sizes[0])


def _matrix(path: Path, field: Any, layout: _Layout) -> tuple[np.ndarray, tuple[str, ...]]:
    scale = _MM.get(field(layout.units)[0] & 7, 1.0)
    qform_code, sform_code = field(layout.codes)
    pixdim = np.array(field(layout.pixdim)[:4], dtype=np.float64)
    sform = np.array([*field(layout.sform), 0, 0, 0, 1], dtype=np.float64).reshape(4, 4)
    sform[:3] *= scale
    if sform_code > 0 and qform_code <= 0:
        return sform, ()
    spacing = np.abs(pixdim[1:]) * scale
    if not (np.isfinite(spacing).all() and spacing.min() > 0):
        raise GeometryError(
            f"{path} has a voxel spacing that is not three positive numbers.",
            advice="Export it again, or correct its header.",
        )
    if qform_code <= 0:
        # No position at all. nibabel and ITK guess differently; 3D Slicer shows ITK's guess.
        return np.diag([-spacing[0], -spacing[1], spacing[2], 1.0]), ()
    qform = np.eye(4)
    *quaternion, x, y, z = field(layout.quaternion)
    qform[:3, :3] = _rotation(np.array(quaternion)) * spacing
    qform[:3, 2] *= -1.0 if pixdim[0] < 0 else 1.0
    qform[:3, 3] = np.array([x, y, z]) * scale
    if sform_code <= 0:
        return qform, ()
    matrix, name = (sform, "sform") if sform_code == _SCANNER else (qform, "qform")
    return matrix, _disagreement(_shape(path, field(layout.dim)), sform, qform, name)


def _disagreement(shape: tuple[int, int, int], sform: np.ndarray, qform: np.ndarray, chosen: str) -> tuple[str, ...]:
    try:
        apart = np.abs(Geometry(shape, sform).corners_ras() - Geometry(shape, qform).corners_ras()).max()
    except GeometryError:
        return (f"One of the file's two positions (qform and sform) is no valid grid; its {chosen} was used.",)
    if apart <= _DISAGREE_MM:
        return ()
    return (f"The file's two positions (qform and sform) differ by up to {apart:.3g} mm; its {chosen} was used.",)


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    """Return the 3x3 rotation of the unit quaternion whose vector part is given; NaN stays NaN."""
    rest = 1.0 - float(quaternion @ quaternion)
    if rest < 1e-7:
        quaternion = quaternion / np.linalg.norm(quaternion)
        rest = 0.0
    a, (b, c, d) = np.sqrt(rest), quaternion
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )


def write(path: Path, array: np.ndarray, geometry: Geometry, *, compress: bool) -> None:
    """Write a NIfTI-1 file, or NIfTI-2 when an axis has more than 32767 voxels.

    sform and qform say the same, in scanner coordinates. A sheared grid, which a qform cannot hold, has the sform only:
    ITK then refuses the file instead of showing it at the wrong place.

    Raises
    ------
    OSError
        When the disk refuses.
    """
    large = max(geometry.size) > 32767
    layout = _NIFTI2 if large else _NIFTI1
    head = bytearray(layout.size + 4)  # 4 zero bytes: no extensions follow

    def put(place: tuple[int, str], *values: Any) -> None:
        struct.pack_into("<" + place[1], head, place[0], *values)

    kind = array.dtype.str[1:]
    put((0, "i"), layout.size)
    put((4, "8s") if large else (344, "4s"), b"n+2\0\r\n\x1a\n" if large else b"n+1\0")
    put(layout.dim, 3, *geometry.size, 1, 1, 1, 1)
    put((layout.datatype[0], "2h"), _CODES[kind], array.dtype.itemsize * 8)
    put(layout.vox_offset, len(head))
    put(layout.scaling, 1, 0)
    put(layout.units, 2)
    rotation, spacing = geometry.direction.copy(), geometry.spacing
    flip = -1.0 if geometry.is_left_handed else 1.0
    rotation[:, 2] *= flip
    put(layout.pixdim, flip, *spacing, 1, 1, 1, 1)
    put(layout.codes, 0 if geometry.is_sheared else _SCANNER, _SCANNER)
    put(layout.quaternion, *_quaternion(rotation), *geometry.origin)
    put(layout.sform, *geometry.ijk_to_ras[:3].ravel().tolist())
    with path.open("wb") as file:
        if compress:
            write_gzip(file, array, bytes(head))
        else:
            file.write(head)
            write_raw(file, array)


def _quaternion(rotation: np.ndarray) -> list[float]:
    """Return the vector part (b, c, d), a >= 0, of the rotation nearest to a 3x3 matrix.

    The unit quaternion is the eigenvector of the largest eigenvalue of a symmetric 4x4 matrix of its elements:
    Bar-Itzhack, "New method for extracting the quaternion from a rotation matrix", J Guid Control Dyn 2000. It has no
    special cases, and for a matrix with a little shear it gives the nearest rotation.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    matrix = np.array(
        [
            [xx - yy - zz, xy + yx, xz + zx, zy - yz],
            [xy + yx, yy - xx - zz, yz + zy, xz - zx],
            [xz + zx, yz + zy, zz - xx - yy, yx - xy],
            [zy - yz, xz - zx, yx - xy, xx + yy + zz],
        ]
    )
    b, c, d, a = np.linalg.eigh(matrix)[1][:, -1]
    return [float(value if a >= 0 else -value) for value in (b, c, d)]
