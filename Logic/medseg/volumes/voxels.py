"""Voxels in a file: read no more than there is, whatever the header says; written so that a full disk is noticed."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import os
import zlib
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np

from medseg.errors import ReadError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from medseg.volumes.geometry import Geometry

Encoding = Literal["raw", "gzip", "zlib", "text"]

GZIP_MAGIC = b"\x1f\x8b"

_DEFLATE_MOST = 1032  # RFC 1951: no stream of deflate grows by more than this factor
_CHUNK = 1 << 22
_COMPRESSION = 4  # half the time of zlib's usual 6 for about 3 % larger files of CT and MR


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file's header says about its voxels.

    Attributes
    ----------
    geometry
        The grid.
    dtype
        The stored type with its byte order.
    data
        The file that holds the voxels: the header's own, or one beside it.
    offset
        Bytes before the voxels (of the uncompressed stream when the whole file is compressed); -1: they are the end
        of the file.
    size
        Bytes of the voxels in ``data`` when the header tells (compressed MetaImage), else None: all that follow.
    slope, inter
        The value of a voxel is slope * stored + inter.
    """

    geometry: Geometry
    dtype: np.dtype
    data: Path
    offset: int = 0
    encoding: Encoding = "raw"
    size: int | None = None
    slope: float = 1.0
    inter: float = 0.0
    notes: tuple[str, ...] = ()


def truncated(path: Path, there: int | None, needed: int) -> ReadError:
    """Return the error for a file that ends before its voxels do."""
    found = "" if there is None else f" ({there} of {needed} bytes of voxels)"
    return ReadError(f"{path} is truncated or damaged{found}.", advice="Copy or export it again.")


def damaged(path: Path, what: str) -> ReadError:
    """Return the error for a header that makes no sense; ``what`` completes "...: ...."."""
    return ReadError(f"{path} is damaged: {what}.", advice="Copy or export it again.")


def unsupported(path: Path, what: str) -> ReadError:
    """Return the error for a valid file that MedSeg does not read; ``what`` completes "... holds ...."."""
    return ReadError(f"{path} holds {what}.", advice="Give one three-dimensional image with one value per voxel.")


def opened(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises
    ------
    ReadError
        When there is none or it cannot be opened.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> ReadError:
    """Turn an ``OSError`` met while reading ``path`` into a sentence with a next step."""
    if isinstance(error, FileNotFoundError):
        return ReadError(f"{path} does not exist.", advice="Check the name.")
    if isinstance(error, PermissionError):
        return ReadError(f"There is no permission to read {path}.", advice="Ask for it or copy the file.")
    return ReadError(f"{path} cannot be read: {error.strerror or error}.", advice="Check the disk and the name.")


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """Open a file that may be compressed by gzip as a whole, and yield its uncompressed bytes.

    Raises
    ------
    ReadError
        When it cannot be read, also inside the block: what it holds is no whole gzip stream.
    """
    with opened(path) as file:
        try:
            packed = file.read(2) == GZIP_MAGIC
            file.seek(0)
            if not packed:
                yield file
                return
            with gzip.GzipFile(fileobj=file) as stream:
                yield stream  # type: ignore[misc]
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise truncated(path, None, 0) from error
        except OSError as error:
            raise unreadable(path, error) from error


def read_voxels(header: Header) -> np.ndarray:
    """Return the voxels (k, j, i) in the machine's byte order, scaled to float32 or float64 where the header scales.

    Raises
    ------
    ReadError
        When the file cannot be read or has fewer bytes than the header says. This is known before memory is taken: a
        compressed file of n bytes cannot hold more than 1032 n.
    """
    count = int(np.prod(header.geometry.shape, dtype=object))
    needed = count * header.dtype.itemsize
    with opened(header.data) as file:
        try:
            there = os.fstat(file.fileno()).st_size
            packed = header.encoding in ("gzip", "zlib")
            least = count if header.encoding == "text" else needed
            if least > (there * _DEFLATE_MOST if packed else there):
                raise truncated(header.data, there if header.encoding == "raw" else None, needed)
            _check_memory(header.data, needed)
            if header.encoding == "text":
                flat = _read_text(file, header, count, there)
            else:
                flat = np.empty(count, header.dtype)
                _fill(file, header, flat.view(np.uint8), there)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise truncated(header.data, None, needed) from error
        except MemoryError as error:
            raise _too_large(header.data, needed) from error
        except OSError as error:
            raise unreadable(header.data, error) from error
    if not flat.dtype.isnative:
        flat = flat.byteswap(inplace=True).view(flat.dtype.newbyteorder("="))
    return _scaled(flat, header).reshape(header.geometry.shape)


def _fill(file: BinaryIO, header: Header, target: np.ndarray, there: int) -> None:
    start = header.offset
    if header.encoding == "raw":
        start = there - target.size if start < 0 else start
        if start < 0 or there - start < target.size:
            raise truncated(header.data, max(there - max(start, 0), 0), target.size)
    head = file.read(2)
    whole = header.encoding == "gzip" and start >= 0 and header.size is None and head == GZIP_MAGIC
    file.seek(0 if whole else max(start, 0))
    if header.encoding == "gzip":
        with gzip.GzipFile(fileobj=file) as stream:
            if whole:
                stream.seek(start)
            filled = _read_into(stream, target)
            stream.read(1)  # the checksum is compared at the end of the stream
    elif header.encoding == "zlib":
        filled = _inflate_into(file, target, header.size)
    else:
        filled = _read_into(file, target)
    if filled < target.size:
        raise truncated(header.data, filled, target.size)


def _read_into(stream: BinaryIO | gzip.GzipFile, target: np.ndarray) -> int:
    view = target.data
    filled = 0
    while filled < len(view):
        chunk = stream.read(min(_CHUNK, len(view) - filled))
        if not chunk:
            break
        view[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return filled


def _inflate_into(file: BinaryIO, target: np.ndarray, size: int | None) -> int:
    view = target.data
    inflate = zlib.decompressobj()
    filled, left = 0, size
    while not inflate.eof:  # to its end, where the checksum is compared
        packed = inflate.unconsumed_tail
        if not packed:
            packed = file.read(_CHUNK if left is None else min(_CHUNK, left))
            left = None if left is None else left - len(packed)
        if not packed:
            raise EOFError
        chunk = inflate.decompress(packed, min(_CHUNK, len(view) - filled) or 1)
        if filled == len(view) and chunk:
            break  # more voxels than the header says
        view[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return filled


def _read_text(file: BinaryIO, header: Header, count: int, there: int) -> np.ndarray:
    start = max(header.offset, 0)
    if count > there - start:  # a number and the blank after it take two bytes, but the last has none
        raise truncated(header.data, None, count)
    file.seek(start)
    words = file.read().split()
    if len(words) < count:
        raise truncated(header.data, None, count)
    try:
        if header.dtype.kind == "f":
            return np.array(words[:count], dtype=np.float64).astype(header.dtype)
        return np.array([int(word) for word in words[:count]], dtype=header.dtype)
    except (ValueError, OverflowError) as error:
        raise damaged(header.data, "its voxels are not numbers of the type that it names") from error


def _scaled(flat: np.ndarray, header: Header) -> np.ndarray:
    if (header.slope, header.inter) == (1.0, 0.0):
        return flat.astype(np.float64) if flat.dtype.itemsize > 8 else flat
    # In steps: the product of float32 and a Python number would be exact enough, but a whole second copy is not needed.
    result = np.empty(flat.size, np.float64 if flat.dtype.itemsize == 8 else np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, flat.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            result[part] = flat[part].astype(np.float64) * header.slope + header.inter
    return result


def _check_memory(path: Path, needed: int) -> None:
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on Windows; numpy's MemoryError is left there
        return
    if needed > memory > 0:
        raise _too_large(path, needed)


def _too_large(path: Path, needed: int) -> ReadError:
    return ReadError(
        f"{path} needs {needed / 2**30:.1f} GiB of memory, more than there is.",
        advice="Crop it or reduce its resolution on a larger machine.",
    )


def write_raw(file: BinaryIO, array: np.ndarray) -> None:
    """Write the voxels as they lie in memory."""
    for part in _parts(array):
        file.write(part)


def write_gzip(file: BinaryIO, array: np.ndarray, head: bytes = b"") -> None:
    """Write ``head`` and the voxels as one gzip stream, the same bytes for the same voxels (no time in it)."""
    with gzip.GzipFile(filename="", mode="wb", compresslevel=_COMPRESSION, fileobj=file, mtime=0) as stream:
        stream.write(head)
        for part in _parts(array):
            stream.write(part)


def write_zlib(file: BinaryIO, array: np.ndarray) -> int:
    """Write the voxels as a zlib stream and return its length in bytes."""
    deflate = zlib.compressobj(_COMPRESSION)
    size = 0
    for part in _parts(array):
        size += file.write(deflate.compress(part))
    return size + file.write(deflate.flush())


def _parts(array: np.ndarray) -> Iterator[memoryview]:
    view = array.reshape(-1).view(np.uint8).data
    for start in range(0, len(view), _CHUNK):
        yield view[start : start + _CHUNK]
