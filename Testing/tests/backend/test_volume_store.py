"""The store of volumes: whole or not at all, the least recently used leave first."""

from __future__ import annotations

import errno
import io
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.backend import volume_store
from medseg.backend.encoding import encode_volume, open_volume
from medseg.backend.volume_store import VolumeStore, is_address
from medseg.errors import InputError, WriteError
from medseg.volumes import Geometry, Volume

if TYPE_CHECKING:
    from pathlib import Path


def a_parcel(value: int, size: int = 32) -> tuple[str, bytes]:
    """The address and bytes of a cube of one value."""
    array = np.full((size, size, size), value, np.uint8)
    parcel = encode_volume(Volume(array, Geometry.from_spacing(array.shape)))
    return parcel.sha256(), b"".join(parcel.chunks())


def put(store: VolumeStore, value: int) -> str:
    address, data = a_parcel(value)
    store.put(address, len(data), io.BytesIO(data).read)
    return address


def test_a_volume_is_found_again(tmp_path: Path) -> None:
    store = VolumeStore(tmp_path)
    address = put(store, 5)
    assert address in store
    assert (open_volume(store.path(address)).array == 5).all()
    assert store.missing([address, "0" * 64]) == ["0" * 64]


def test_the_least_recently_used_volume_leaves_first(tmp_path: Path) -> None:
    store = VolumeStore(tmp_path, limit_bytes=3 * len(a_parcel(0)[1]))
    first, second, third = put(store, 1), put(store, 2), put(store, 3)
    assert first in store
    fourth = put(store, 4)
    assert [address in store for address in (first, second, third, fourth)] == [True, False, True, True]
    assert not store.path(second).exists()


def test_a_volume_that_a_job_needs_stays_whatever_the_limit(tmp_path: Path) -> None:
    store = VolumeStore(tmp_path, limit_bytes=len(a_parcel(0)[1]))
    needed = put(store, 1)
    store.pin([needed])
    store.pin([needed])
    put(store, 2)
    store.unpin([needed])
    put(store, 3)
    assert needed in store
    store.unpin([needed])
    put(store, 4)
    assert needed not in store


def test_room_is_made_when_the_disk_gets_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = VolumeStore(tmp_path)
    address = put(store, 1)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(volume_store.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    put(store, 2)
    assert address not in store


@pytest.mark.parametrize("damage", ["changed", "short", "long", "garbage", "announced"])
def test_what_arrives_damaged_is_not_stored(tmp_path: Path, damage: str) -> None:
    store = VolumeStore(tmp_path)
    address, data = a_parcel(1)
    length = len(data) + (64 if damage == "announced" else 0)
    arriving = {
        "changed": data[:-1] + b"\xff",
        "short": data[:-100],
        "long": data + b"more",
        "garbage": b"\x00" * len(data),
        "announced": data,
    }[damage]
    if damage == "long":
        length = len(arriving)
    with pytest.raises(InputError):
        store.put(address, length, io.BytesIO(arriving).read)
    assert address not in store
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = VolumeStore(tmp_path)

    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(volume_store, "_copy", full)
    with pytest.raises(WriteError, match="disk is full"):
        put(store, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "0" * 63, "G" * 64, "../" + "0" * 61, "A" * 64, None, 5, "0" * 64 + "\n"])
def test_only_a_sha256_is_an_address(text: object) -> None:
    assert not is_address(text)
    assert is_address("0123456789abcdef" * 4)
