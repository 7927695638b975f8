"""The library of models: what is there, what is broken, and what the user meant."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import medseg
from medseg.errors import ModelError
from medseg.models import ModelLibrary, bundled_folder, user_models_folder
from support.packages import write_bright_blob_package


@pytest.fixture(scope="module")
def a_library(tmp_path_factory: pytest.TempPathFactory) -> ModelLibrary:
    root = tmp_path_factory.mktemp("library")
    write_bright_blob_package(root / "bright-blob")
    write_bright_blob_package(
        root / "left-atrium-mr",
        name="left-atrium-mr",
        title="Left atrium (MR)",
        anatomy=["heart", "left atrium"],
        description="The cavity of the left atrium in late gadolinium images.",
    )
    (root / "half-copied" / "configs").mkdir(parents=True)
    (root / ".hidden").mkdir()
    (root / "notes.txt").write_text("not a model")
    return ModelLibrary([root])


def test_the_library_lists_its_models_by_title_and_keeps_the_broken_apart(a_library: ModelLibrary) -> None:
    assert [package.name for package in a_library.packages()] == ["bright-blob", "left-atrium-mr"]
    ((folder, error),) = a_library.broken()
    assert folder.name == "half-copied"
    assert "metadata.json" in str(error)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("", ["bright-blob", "left-atrium-mr"]),
        ("left mr", ["left-atrium-mr"]),
        ("MR LEFT", ["left-atrium-mr"]),
        ("heart", ["left-atrium-mr"]),
        ("gadolin", ["left-atrium-mr"]),
        ("phantom", ["bright-blob"]),
        ("left ct", []),
        ("bright blob", ["bright-blob", "left-atrium-mr"]),
    ],
)
def test_every_typed_word_must_match(a_library: ModelLibrary, words: str, names: list[str]) -> None:
    assert [package.name for package in a_library.search(words)] == names


def test_a_model_is_found_by_name_and_by_folder(a_library: ModelLibrary, tmp_path: Path, monkeypatch: Any) -> None:
    assert a_library.find("left-atrium-mr").title == "Left atrium (MR)"
    assert a_library.find(str(a_library.paths[0] / "bright-blob")).name == "bright-blob"
    write_bright_blob_package(tmp_path / "elsewhere", name="elsewhere")
    monkeypatch.chdir(tmp_path)
    assert a_library.find("elsewhere").folder == tmp_path / "elsewhere"


@pytest.mark.parametrize("name", ["left-atrium", "leftatrium-mr", "Left-Atrium-MR", "heart"])
def test_a_name_that_is_almost_right_is_answered_with_the_near_one(a_library: ModelLibrary, name: str) -> None:
    with pytest.raises(ModelError, match="Did you mean left-atrium-mr"):
        a_library.find(name)


def test_an_unknown_name_is_answered_with_all_names(a_library: ModelLibrary) -> None:
    with pytest.raises(ModelError, match="bright-blob, left-atrium-mr"):
        a_library.find("zzzz")
    with pytest.raises(ModelError, match="No model is installed"):
        ModelLibrary([]).find("zzzz")


def test_a_broken_model_that_is_asked_for_says_what_is_wrong(a_library: ModelLibrary) -> None:
    with pytest.raises(ModelError, match=r"metadata\.json"):
        a_library.find("half-copied")


@pytest.mark.parametrize("name", ["", "  ", "a\0b", "x" * 5000, "../../etc"])
def test_any_text_is_a_model_or_a_model_error(a_library: ModelLibrary, name: str) -> None:
    with pytest.raises(ModelError):
        a_library.find(name)


def test_the_users_model_comes_before_a_bundled_one_of_the_same_name(
    bright_blob_package: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("MEDSEG_RESOURCES", str(tmp_path))
    shutil.copytree(bright_blob_package, tmp_path / "Models" / "bright-blob")
    assert ModelLibrary().find("bright-blob").title == "Bright blobs in noise"
    write_bright_blob_package(user_models_folder() / "mine", title="My own")
    assert ModelLibrary().find("bright-blob").title == "My own"
    assert [package.title for package in ModelLibrary().packages()] == ["My own"]


def test_a_library_without_folders_is_empty(tmp_path: Path) -> None:
    library = ModelLibrary([tmp_path / "nothing", tmp_path / "file"])
    (tmp_path / "file").write_text("")
    assert library.packages() == []
    assert library.broken() == []


def layout_of(root: Path, package: str, models: str, monkeypatch: Any) -> Path:
    """Pretend that MedSeg is installed below ``root`` at ``package``, with its models at ``models``."""
    (root / package).mkdir(parents=True)
    (root / models).mkdir(parents=True)
    monkeypatch.setattr(medseg, "__file__", str(root / package / "__init__.py"))
    monkeypatch.setattr(sys, "prefix", str(root / "prefix"))
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(root / "prefix"))
    monkeypatch.setattr("site.USER_BASE", str(root / "user"))
    monkeypatch.delenv("MEDSEG_RESOURCES", raising=False)
    return root / models


@pytest.mark.parametrize(
    ("package", "models"),
    [
        ("Logic/medseg", "Resources/Models"),
        ("lib/Slicer-5.10/qt-scripted-modules/medseg", "lib/Slicer-5.10/qt-scripted-modules/Resources/Models"),
        ("prefix/lib/python3.12/site-packages/medseg", "prefix/share/medseg/Models"),
        ("user/lib/python3.12/site-packages/medseg", "user/share/medseg/Models"),
    ],
)
def test_bundled_models_are_found_in_a_checkout_in_slicer_and_after_pip(
    package: str, models: str, tmp_path: Path, monkeypatch: Any
) -> None:
    assert layout_of(tmp_path, package, models, monkeypatch) == bundled_folder()


def test_without_bundled_models_there_is_no_folder_and_an_override_wins(tmp_path: Path, monkeypatch: Any) -> None:
    layout_of(tmp_path, "somewhere/medseg", "unrelated", monkeypatch)
    assert bundled_folder() is None
    assert ModelLibrary().paths == [user_models_folder()]
    monkeypatch.setenv("MEDSEG_RESOURCES", str(tmp_path / "R"))
    assert bundled_folder() == tmp_path / "R" / "Models"
