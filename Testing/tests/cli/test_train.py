"""``medseg train`` from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from medseg.models import ModelLibrary, read_package
from medseg.volumes import write_labelmap, write_volume
from support.packages import bright_blob_case, write_bright_blob_package


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    folder = tmp_path / "blobs"
    folder.mkdir()
    for number in range(3):
        image, label = bright_blob_case(seed=number, shape=(12, 16, 16))
        write_volume(image, folder / f"case_{number}.nii.gz")
        write_labelmap(label, folder / f"case_{number}_label.nii.gz")
    return folder


def test_the_way_from_data_to_an_installable_model(medseg, blobs: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("medseg.training.trainer.measure_cost", lambda *_: None)
    recipe = tmp_path / "blobs.yaml"

    started = medseg("train", "--new", recipe, "--data", blobs)

    assert started.exit_code == 0, started.output
    assert f"medseg train {recipe} --data {blobs} --output OUT" in started.stdout

    content = yaml.safe_load(recipe.read_text())
    content["optimisation"].update(epochs=1, steps_per_epoch=1, workers=0)
    recipe.write_text(yaml.safe_dump(content))
    checked = medseg("train", recipe, "--data", blobs, "--check")

    assert checked.exit_code == 0, checked.output
    assert "3: 2 to train on, 1 kept aside" in checked.stdout
    assert "3 of 3" in checked.stdout
    assert not (tmp_path / "out").exists()

    trained = medseg("train", recipe, "--data", blobs, "--output", tmp_path / "out", "--device", "cpu")

    assert trained.exit_code == 0, trained.output
    assert "Mean Dice" in trained.stdout
    assert f"Report: {tmp_path / 'out' / 'report.html'}" in trained.stdout

    exported = medseg("train", "--output", tmp_path / "out", "--export", tmp_path / "model.zip")

    assert exported.exit_code == 0, exported.output
    assert read_package(tmp_path / "out" / "blobs").name == "blobs"

    installed = medseg("models", "add", tmp_path / "model.zip")

    assert installed.exit_code == 0, installed.output
    assert "blobs" in installed.stdout
    assert ModelLibrary().find("blobs").name == "blobs"
    assert medseg("models", "add", tmp_path / "out" / "blobs").exit_code == 1  # it is there already


def test_a_recipe_goes_on_from_an_installed_model(medseg, blobs: Path, tmp_path: Path) -> None:
    model = write_bright_blob_package(tmp_path / "bright-blob")
    assert medseg("models", "add", model).exit_code == 0

    started = medseg("train", "--new", tmp_path / "mine.yaml", "--data", blobs, "--from", "bright-blob")

    assert started.exit_code == 0, started.output
    assert "starts from the weights of Bright blobs in noise" in " ".join(started.stdout.split())
    checked = medseg("train", tmp_path / "mine.yaml", "--data", blobs, "--check")
    assert checked.exit_code == 0, checked.output

    nobody = medseg("train", "--new", tmp_path / "other.yaml", "--data", blobs, "--from", "nobody")

    assert nobody.exit_code == 1
    assert "There is no model 'nobody'" in nobody.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Give a recipe"),
        (["--output", "out"], "Give a recipe"),
        (["recipe.yaml"], "--output is missing"),
        (["--new", "new.yaml"], "--data is missing"),
        (["recipe.yaml", "--new", "new.yaml", "--data", "."], "leave out RECIPE"),
        (["recipe.yaml", "--output", "out", "--from", "liver"], "--from goes with --new"),
        (["--new", "new.yaml", "--data", ".", "--from", "liver", "--modality", "MR"], "Leave out --modality"),
        (["recipe.yaml", "--output", "out", "--devices", "0"], "devices"),
        (["recipe.yaml", "--output", "out", "--strategy", "fsdp"], "strategy"),
    ],
)
def test_a_wrong_command_line_says_what_is_missing(medseg, arguments: list[str], sentence: str) -> None:
    result = medseg("train", *arguments)

    assert result.exit_code == 2
    assert sentence in result.stderr


def test_more_devices_than_there_are_is_one_sentence(medseg, blobs: Path, tmp_path: Path, monkeypatch) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has GPUs")
    monkeypatch.setattr("medseg.device._first_usable_gpu", lambda _: ((0, "GPU"), ""))
    recipe = tmp_path / "blobs.yaml"
    medseg("train", "--new", recipe, "--data", blobs)

    result = medseg("train", recipe, "--data", blobs, "--output", tmp_path / "out", "--devices", "4")

    assert result.exit_code == 1
    assert "cannot use 4 devices here" in result.stderr
    assert "--devices" in result.stderr
