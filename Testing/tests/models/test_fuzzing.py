"""Whatever a package's files hold, the answer is a network or a ModelError; nothing else, and nothing is run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.errors import ModelError
from medseg.models import load_network, read_package
from medseg.models.loading import read_weights

FILES = ("configs/metadata.json", "configs/inference.json", "labels.csv", "models/model.pt")


def relaxed(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def a_copy(bright_blob_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "bright-blob"
    shutil.copytree(bright_blob_package, folder)
    return folder


def open_it(folder: Path) -> None:
    with contextlib.suppress(ModelError):
        package = read_package(folder)
        package.summary()
        load_network(package)


def damaged(content: bytes, flips: list[tuple[float, int]], keep: float, insert: bytes) -> bytes:
    data = bytearray(content[: round(len(content) * keep)])
    for place, value in flips:
        if data:
            data[int(place * (len(data) - 1))] = value
    middle = int(flips[0][0] * len(data)) if flips else 0
    return bytes(data[:middle]) + insert + bytes(data[middle:])


damages = {
    "flips": st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
    "keep": st.just(1.0) | st.floats(0, 1),
    "insert": st.just(b"") | st.binary(max_size=12),
}


@relaxed(120)
@given(file=st.sampled_from(FILES), **damages)
def test_damaged_bytes_give_a_network_or_a_model_error(
    a_copy: Path, bright_blob_package: Path, file: str, flips: Any, keep: float, insert: bytes
) -> None:
    path = a_copy / file
    path.write_bytes(damaged((bright_blob_package / file).read_bytes(), flips, keep, insert))
    try:
        open_it(a_copy)
    finally:
        shutil.copyfile(bright_blob_package / file, path)


@relaxed(80)
@given(**damages)
def test_damaged_weights_with_a_matching_hash_give_tensors_or_a_model_error(
    a_copy: Path, bright_blob_package: Path, flips: Any, keep: float, insert: bytes
) -> None:
    content = damaged((bright_blob_package / "models" / "model.pt").read_bytes(), flips, keep, insert)
    (a_copy / "models" / "model.pt").write_bytes(content)
    metadata = json.loads((bright_blob_package / "configs" / "metadata.json").read_text())
    metadata["medseg"]["weights"].update(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    (a_copy / "configs" / "metadata.json").write_text(json.dumps(metadata))
    try:
        with contextlib.suppress(ModelError):
            read_weights(a_copy / "models" / "model.pt")
        open_it(a_copy)
    finally:
        for file in ("models/model.pt", "configs/metadata.json"):
            shutil.copyfile(bright_blob_package / file, a_copy / file)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.sampled_from(["", "$1", "@image", "%x", "image", "UNet", "Compose", "RAS", "\0", "ö" * 50])
    | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["_target_", "keys", "a"]), inner, max_size=2)
    ),
    max_leaves=5,
)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [place for key, value in items for place in [(*path, key), *places(value, (*path, key))]]


@relaxed(200)
@given(data=st.data(), file=st.sampled_from(FILES[:2]), value=plain)
def test_any_value_in_any_field_gives_a_network_or_a_model_error(
    a_copy: Path, bright_blob_package: Path, data: st.DataObject, file: str, value: Any
) -> None:
    content = json.loads((bright_blob_package / file).read_text())
    place = data.draw(st.sampled_from(places(content)))
    target = content
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    (a_copy / file).write_text(json.dumps(content))
    try:
        open_it(a_copy)
    finally:
        shutil.copyfile(bright_blob_package / file, a_copy / file)
