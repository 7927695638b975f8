"""Results folders of nnU-Net in the library: from a folder, a zip file and a server, checked and exported."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from medseg.models import ModelLibrary, load_network, remove_model
from medseg.models.adding import add_model
from medseg.models.exporting import export_model
from medseg.models.records import read_record
from medseg.models.verifying import verify_library
from support.catalogues import OfferedModel, zipped
from support.nnunet import ResultsFolder, configuration
from support.web_server import WebServer


@pytest.fixture
def results(tmp_path: Path) -> ResultsFolder:
    """A results folder with two folds and what a training leaves besides."""
    folder = ResultsFolder(tmp_path, {"3d_fullres": configuration([8, 8, 8], [1.0, 1.0, 1.0])}, folds=("0", "1"))
    (folder.training("3d_fullres") / "fold_0" / "progress.png").write_bytes(b"a picture")
    return folder


@pytest.mark.parametrize("kind", ["data set", "training", "zip", "zip of the training"])
def test_a_results_folder_becomes_a_model_of_the_library(results: ResultsFolder, tmp_path: Path, kind: str) -> None:
    training = results.training("3d_fullres")
    source = results.folder if kind == "data set" else training
    if kind.startswith("zip"):
        source = tmp_path / "given.zip"
        prefix = f"{results.folder.name}/{training.name}/" if kind == "zip" else f"{training.name}/"
        source.write_bytes(zipped(training, prefix))
    package = add_model(source)
    assert package.folder.parent == ModelLibrary().paths[0]
    assert len(package.weights_files) == 2
    load_network(package)
    assert [found.name for found in ModelLibrary().packages("segment") if found.kind == "nnunet"] == [package.name]
    remove_model(package.name)


def test_weights_that_name_no_checksum_are_checked_by_the_note_of_the_installation(results: ResultsFolder) -> None:
    package = add_model(results.folder)
    (found,) = verify_library(ModelLibrary(), (package.name,))
    assert (found.problems, found.compared) == ((), len(read_record(package.folder).files))
    weights = package.weights_files[1].path
    content = bytearray(weights.read_bytes())
    content[-40] ^= 1
    weights.write_bytes(content)
    (found,) = verify_library(ModelLibrary(), (package.name,))
    assert weights.relative_to(package.folder).as_posix() in found.problems[0]


def test_an_exported_results_folder_can_be_added_elsewhere(results: ResultsFolder, tmp_path: Path) -> None:
    package = add_model(results.folder)
    elsewhere = ModelLibrary([tmp_path / "elsewhere"])
    again = add_model(export_model(package, tmp_path / "model.zip"), elsewhere)
    assert again.name == package.name
    assert again.weights_digest() == package.weights_digest()


def test_a_results_folder_comes_from_a_server_under_the_licence_of_the_catalogue(
    results: ResultsFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSEG_CATALOGUE", str(tmp_path / "catalogue.json"))
    training = results.training("3d_fullres")
    server = WebServer(zipped(training, f"{results.folder.name}/{training.name}/"))
    try:
        md5 = hashlib.md5(server.content, usedforsecurity=False).hexdigest()
        checksum = {"kind": "md5", "value": md5, "source": "https://example.org/records"}
        offered = OfferedModel(server, tmp_path / "catalogue.json", "phantoms")
        offered.describe(format="nnunet-v2", license="CC-BY-4.0", checksum=checksum)
        origin = read_record(add_model("phantoms").folder).origin
        assert (origin.entry, origin.license) == ("phantoms", "CC-BY-4.0")
    finally:
        server.close()
