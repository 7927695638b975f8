"""The other commands, and what starting the command costs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from medseg import training
from medseg.version import VERSION
from medseg.volumes import read_volume, write_volume

HEAVY = ("torch", "monai", "SimpleITK", "scipy", "matplotlib", "lightning", "vtk", "pydantic")


def test_starting_the_command_imports_nothing_heavy():
    code = f"import sys, medseg.cli; print([name for name in {HEAVY!r} if name in sys.modules])"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


def test_the_version_is_told_by_a_process_of_its_own():
    made = subprocess.run([sys.executable, "-m", "medseg.cli", "--version"], capture_output=True, text=True, check=True)

    assert made.stdout.strip() == f"medseg {VERSION}"


def test_models_lists_name_licence_and_segments(medseg, an_installed_model):
    result = medseg("models", "BLOB", "mr")

    assert result.exit_code == 0
    assert an_installed_model in result.stdout
    assert "Apache-2.0" in result.stdout
    assert "bright blob" in result.stdout


def test_every_word_must_match_a_model(medseg, an_installed_model):
    result = medseg("models", "blob", "ultrasound")

    assert result.exit_code == 0
    assert an_installed_model not in result.stdout
    assert "No model matches 'blob ultrasound'" in result.stderr


def test_models_as_json_can_be_read_by_programs(medseg, an_installed_model):
    result = medseg("models", "--json", an_installed_model)

    (model,) = json.loads(result.stdout)
    assert model["name"] == an_installed_model
    assert model["labels"][0]["name"] == "bright blob"
    assert len(model["weights_sha256"]) == 64


def test_a_damaged_model_is_left_out_with_its_reason(medseg, an_installed_model, a_user_folder_of_its_own):
    (a_user_folder_of_its_own / "models" / an_installed_model / "configs" / "metadata.json").write_text("{")

    result = medseg("models")

    assert result.exit_code == 0
    assert "Left out" in result.stderr
    assert an_installed_model in result.stderr


def test_info_shows_geometry_and_modality(medseg, a_blob_file):
    path, truth = a_blob_file("scan.nrrd", spacing=(0.5, 1.0, 2.0), orientation="PIR")

    facts = json.loads(medseg("info", path, "--json").stdout)
    shown = medseg("info", path)

    assert facts["file"] == str(path)
    assert np.allclose(facts["spacing_mm"], truth.geometry.spacing)
    assert facts["orientation"] == "PIR"
    assert "PIR" in shown.stdout


def test_info_as_json_is_valid_also_for_a_volume_with_holes(medseg, a_blob_file):
    path, _ = a_blob_file("scan.nrrd")
    volume = read_volume(path)
    holes = volume.array.copy()
    holes[0, 0, 0] = np.nan
    write_volume(volume.with_array(holes), path)

    result = medseg("info", path, "--json")

    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout, parse_constant=pytest.fail)
    assert "finite" in facts["warnings"][0]


def test_info_tells_what_is_uneven_in_a_real_series(medseg, shared_data):
    result = medseg("info", shared_data / "dicom-ct-uneven-slices")

    assert result.exit_code == 0, result.output
    assert "uneven" in result.stdout
    assert "CT" in result.stdout


def test_info_on_something_else_is_one_sentence(medseg, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not an image")

    result = medseg("info", path)

    assert result.exit_code == 1
    assert str(path) in result.stderr
    assert "Traceback" not in result.stderr


def test_training_with_a_missing_recipe_is_one_sentence(medseg, tmp_path):
    result = medseg("train", tmp_path / "none.yaml", "--data", tmp_path, "--output", tmp_path / "run")

    assert result.exit_code == 1
    assert "none.yaml" in result.stderr
    assert "Traceback" not in result.stderr


def test_training_without_its_packages_says_what_to_install(medseg, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning", None)
    for name in [name for name in sys.modules if name.startswith("medseg.training.")]:
        monkeypatch.delitem(sys.modules, name)

    result = medseg("train", tmp_path / "r.yaml", "--data", tmp_path, "--output", tmp_path)

    assert result.exit_code == 1
    assert "medseg[train]" in result.stderr


def test_training_that_ends_its_process_when_interrupted_is_cancelled_like_any_other_run(medseg, tmp_path, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            sys.exit(1)  # what Lightning does

    monkeypatch.setattr(training, "run_training", interrupted)

    result = medseg("train", tmp_path / "r.yaml", "--data", tmp_path, "--output", tmp_path)

    assert result.exit_code == 130
    assert "Cancelled." in result.stderr


@pytest.mark.parametrize("command", ["segment", "models", "info", "train", "demo"])
def test_every_command_explains_itself(medseg, command):
    result = medseg(command, "--help")

    assert result.exit_code == 0
    assert "Usage" in result.stdout
