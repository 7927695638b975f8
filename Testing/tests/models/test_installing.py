"""Models from a folder into the library, and out of it again."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from medseg.errors import ModelError, WriteError
from medseg.models import ModelLibrary, install_folder, load_network, remove_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def an_empty_library(tmp_path: Path) -> ModelLibrary:
    return ModelLibrary([tmp_path / "library"])


def test_a_folder_becomes_a_model_of_the_library_under_its_own_name(
    bright_blob_package: Path, an_empty_library: ModelLibrary, tmp_path: Path
) -> None:
    finished = tmp_path / "run" / "whatever"
    shutil.copytree(bright_blob_package, finished)
    package = install_folder(finished, an_empty_library)
    assert package.folder == an_empty_library.paths[0] / "bright-blob"
    assert an_empty_library.find("bright-blob") == package
    load_network(package)
    assert finished.is_dir()
    assert [item.name for item in an_empty_library.paths[0].iterdir()] == ["bright-blob"]


def test_an_installed_model_is_replaced_only_when_asked(
    bright_blob_package: Path, an_empty_library: ModelLibrary
) -> None:
    folder = install_folder(bright_blob_package, an_empty_library).folder
    (folder / "mark").write_text("first", encoding="utf-8")
    with pytest.raises(WriteError, match="already"):
        install_folder(bright_blob_package, an_empty_library)
    assert (folder / "mark").exists()
    install_folder(bright_blob_package, an_empty_library, overwrite=True)
    assert not (folder / "mark").exists()


def test_damaged_weights_are_not_installed(
    bright_blob_package: Path, an_empty_library: ModelLibrary, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(bright_blob_package, damaged)
    weights = next((damaged / "models").iterdir())
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(ModelError):
        install_folder(damaged, an_empty_library)
    assert list(an_empty_library.paths[0].iterdir()) == []


def test_a_folder_that_is_no_model_is_told(an_empty_library: ModelLibrary, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        install_folder(tmp_path, an_empty_library)


def test_without_a_library_the_users_folder_is_meant(bright_blob_package: Path, a_user_folder_of_its_own: Path) -> None:
    package = install_folder(bright_blob_package)
    assert package.folder == a_user_folder_of_its_own / "models" / "bright-blob"
    remove_model("bright-blob")
    assert list((a_user_folder_of_its_own / "models").iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "..", "no-such-model", "../library/bright-blob", "bright-blob/models"])
def test_nothing_but_a_model_of_the_user_is_removed(
    bright_blob_package: Path, an_empty_library: ModelLibrary, name: str
) -> None:
    folder = install_folder(bright_blob_package, an_empty_library).folder
    with pytest.raises(ModelError, match="no model"):
        remove_model(name, an_empty_library)
    assert folder.is_dir()
