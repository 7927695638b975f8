from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from medseg.errors import InputError, ModelError
from medseg.models import InstanceGroup, Instances, read_package
from support.packages import write_bright_blob_package

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BLOBS = Instances(
    (InstanceGroup(1, "embedding", "join", delta=2.5, minimum_voxels=42, minimum_mm3=100.0, name="Blob"),), {2: 250.0}
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bright_blob_package(tmp_path_factory.mktemp("models") / "bright-blob", labels=2, instances=BLOBS)


def changed(package: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    import shutil

    shutil.copytree(package, target)
    file = target / "configs" / "metadata.json"
    metadata = json.loads(file.read_text(encoding="utf-8"))
    change(metadata["medseg"]["instances"])
    file.write_text(json.dumps(metadata))
    return target


def test_a_package_gives_back_the_instances_that_it_was_written_with(package: Path) -> None:
    assert read_package(package).instances == BLOBS


def test_a_package_without_the_section_has_no_instances(tmp_path: Path) -> None:
    folder = write_bright_blob_package(tmp_path / "bright-blob")
    assert read_package(folder).instances is None
    assert "instances" not in json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))["medseg"]


def test_omitted_fields_have_the_defaults_of_the_paper(package: Path, tmp_path: Path) -> None:
    folder = changed(package, tmp_path / "p", lambda section: section["groups"].__setitem__(0, {"label": 1}))
    group = read_package(folder).instances.groups[0]
    assert group == InstanceGroup(1)
    assert (group.method, group.delta, group.connectivity) == ("components", 3.0, 6)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("method", "guess", "method"),
        ("rule", "add", "rule"),
        ("delta", 0, "delta"),
        ("delta", "3", "delta"),
        ("connectivity", 18, "connectivity"),
        ("remainder", "burn", "remainder"),
        ("minimum_voxels", -1, "minimum_voxels"),
        ("minimum_mm3", 1e30, "minimum size"),
        ("label", 9, "label 9"),
        ("label", True, "label"),
        ("name", "a\nb", "not readable"),
    ],
)
def test_a_wrong_field_is_named(package: Path, tmp_path: Path, field: str, value: Any, words: str) -> None:
    folder = changed(package, tmp_path / "p", lambda section: section["groups"][0].__setitem__(field, value))
    with pytest.raises(ModelError, match=words):
        read_package(folder)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("two", 5, "two"), ("2", -5, "'2'"), ("1", 5, "minimum size for its pieces"), ("7", 5, "label 7")],
)
def test_a_wrong_minimum_size_is_named(package: Path, tmp_path: Path, key: str, value: float, words: str) -> None:
    folder = changed(package, tmp_path / "p", lambda section: section.__setitem__("minimum_mm3", {key: value}))
    with pytest.raises(ModelError, match=words):
        read_package(folder)


def test_no_group_and_two_of_one_label_are_refused() -> None:
    with pytest.raises(InputError, match="no label"):
        Instances(())
    with pytest.raises(InputError, match="one twice"):
        Instances((InstanceGroup(1), InstanceGroup(1)))


def test_slices_must_lie_along_the_third_axis(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="SRA"):
        write_bright_blob_package(tmp_path / "p", orientation="SRA", instances=Instances((InstanceGroup(1),)))
    assert not (tmp_path / "p").exists()


def test_only_embeddings_need_a_second_output() -> None:
    assert BLOBS.needs_embeddings
    assert not Instances((InstanceGroup(1),)).needs_embeddings


def test_the_card_says_what_becomes_single_bones(package: Path, tmp_path: Path) -> None:
    card = (package / "docs" / "README.md").read_text(encoding="utf-8")
    assert "| bright blob | Blob 1, 2, ... | embeddings; what shares more than 10 voxels" in card
    assert "monai.bundle run" not in card
    plain = write_bright_blob_package(tmp_path / "p", instances=Instances((InstanceGroup(1, minimum_voxels=9),)))
    text = (plain / "docs" / "README.md").read_text(encoding="utf-8")
    assert "| bright blob | bright blob 1, 2, ... | connected components (6 neighbours) | 9 voxels" in text
    assert "monai.bundle run" in text
