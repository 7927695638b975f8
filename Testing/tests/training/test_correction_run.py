"""A run of the task correction from recipe to package: checked, resumed, exported, read back, run by MONAI alone."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from medseg.cli.application import app
from medseg.errors import InputError, ModelError, RecipeError
from medseg.models import Correction, ModelLibrary, load_network, read_package
from medseg.networks import PEMED
from medseg.training import check_data, export_run, run_training
from medseg.training.results import RESULTS
from medseg.volumes import Geometry, Volume, read_volume, write_volume
from support.correction import a_correction_recipe

SCANS = {"kind": "scans", "folder": "blocks", "keep_aside": 1, "hold_out": [2], "names": {1: "Block", 2: "Rod"}}


@pytest.fixture(scope="module")
def a_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scans of a block and a rod, and a recipe."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "blocks").mkdir()
    geometry = Geometry.from_spacing((20, 24, 24), (2.0, 2.0, 2.0))
    for number in range(3):
        labels = np.zeros(geometry.shape, np.uint8)
        labels[4:14, 5:15, 4:14], labels[12:18, 18:21, 4:20] = 1, 2
        image = labels * 50.0 + np.random.default_rng(number).normal(0, 4, labels.shape)
        write_volume(Volume(image.astype(np.float32), geometry), folder / "blocks" / f"c{number}.nii.gz")
        write_volume(Volume(labels, geometry), folder / "blocks" / f"c{number}_label.nii.gz")
    return folder


def a_recipe_file(folder: Path, **changes: Any) -> Path:
    recipe = a_correction_recipe(**{"sources": [SCANS], **changes})
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return path


@pytest.fixture(scope="module")
def a_run(a_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a finished run."""
    output = tmp_path_factory.mktemp("run")
    result = run_training(a_recipe_file(output), a_folder, output / "out", device="cpu")
    assert result is not None
    assert len(result.remarks) == 2
    assert "held out: Dice" in result.remarks[1]
    return output / "out"


def test_a_run_ends_in_a_package_that_says_how_it_was_measured(a_run: Path) -> None:
    package = read_package(a_run / "any-structure")
    assert package.verb == "correct"
    assert package.correction == Correction("anything", 2.0, self_loop=True)
    assert package.window.size_ijk == (32, 32, 32)
    assert [label.name for label in package.labels] == ["Block", "Rod"]
    assert "dice after 2 clicks, structures held out" in package.metrics
    card = (package.folder / "docs" / "README.md").read_text()
    for words in ("knows no names", "| Rod | no |", "medseg correct", "a grid of 32 x 32 x 32"):
        assert words in card, words
    assert isinstance(load_network(package), PEMED)
    lines = (a_run / RESULTS).read_text().splitlines()
    assert lines[0] == "case,structure,seen,dice_1,dice_2"
    assert len(lines) == 3
    assert "Structures kept aside" in (a_run / "report.html").read_text()


def test_a_finished_run_goes_on_from_its_checkpoint(a_run: Path, a_folder: Path) -> None:
    before = (a_run / "any-structure" / "models" / "model.pt").read_bytes()
    run_training(a_run.parent / "recipe.yaml", a_folder, a_run, device="cpu")
    assert (a_run / "any-structure" / "models" / "model.pt").read_bytes() == before


def test_the_last_checkpoint_can_be_exported(a_run: Path, tmp_path: Path) -> None:
    placed = export_run(a_run, tmp_path / "exported")
    assert read_package(placed).verb == "correct"


def test_everything_is_checked_before_the_first_step(a_folder: Path, tmp_path: Path) -> None:
    checked = check_data(a_recipe_file(tmp_path), a_folder)
    assert ("Cases to train on", "2") in checked.rows()
    assert [row[1:] for row in checked.label_table()[1]] == [("Block", "yes"), ("Rod", "no")]
    assert not (tmp_path / "out").exists()
    said = CliRunner().invoke(app, ["train", str(tmp_path / "recipe.yaml"), "--data", str(a_folder), "--check"])
    assert said.exit_code == 0, said.output
    assert "Structures kept aside" in said.output


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": {"target": "medseg.networks.UNet3D"}}, "does not follow clicks"),
        ({"network": {"target": "medseg.networks.PEMED", "arguments": {"dims": 2}}}, "does not follow clicks in 3D"),
        ({"network": {"target": "medseg.networks.PEMED", "arguments": {"colour": 1}}}, "cannot be built"),
    ],
)
def test_networks_that_do_not_fit_are_refused(
    a_folder: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        check_data(a_recipe_file(tmp_path, **changes), a_folder)


def test_a_package_that_contradicts_itself_is_refused(a_run: Path) -> None:
    package = read_package(a_run / "any-structure")
    for changes in ({"verb": "segment"}, {"correction": None}):
        with pytest.raises(ModelError, match="section 'correction'"):
            dataclasses.replace(package, **changes)
    with pytest.raises(InputError, match="ball of 0"):
        Correction("anything", 0.0)
    with pytest.raises(InputError, match="what it was trained for"):
        Correction(" ", 2.0)


def test_a_model_that_follows_clicks_neither_segments_nor_registers(a_run: Path) -> None:
    library = ModelLibrary([a_run])
    assert [package.name for package in library.packages("correct")] == ["any-structure"]
    assert library.packages("segment") == []
    with pytest.raises(ModelError, match="is there to correct and cannot segment"):
        library.find("any-structure", "segment")


def test_monai_alone_runs_the_package_on_a_window(a_run: Path, tmp_path: Path) -> None:
    package = a_run / "any-structure"
    geometry = Geometry.from_spacing((32, 32, 32), (1.0, 1.0, 1.0))
    rng, files = np.random.default_rng(0), {}
    names = ("image", "positive", "negative", "previous")
    arrays = {name: rng.random(geometry.shape).astype(np.float32) for name in names}
    for name, array in arrays.items():
        files[name] = tmp_path / f"{name}.nii.gz"
        write_volume(Volume(array, geometry), files[name])
    command = [
        sys.executable, "-m", "monai.bundle", "run", "--meta_file", "configs/metadata.json", "--config_file",
        "configs/inference.json", *(part for name, path in files.items() for part in (f"--{name}", str(path))),
        "--output_dir", str(tmp_path / "out"),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=package, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = (tmp_path / "out").glob("*.nii.gz")
    network = load_network(read_package(package))
    # MONAI reads files as (i, j, k).
    given = [torch.from_numpy(array.transpose(2, 1, 0).copy())[None, None] for array in arrays.values()]
    with torch.no_grad():
        expected = torch.sigmoid(network(*given))[0, 0].numpy().transpose(2, 1, 0)
    np.testing.assert_allclose(read_volume(found).array, expected, atol=2e-3)
    assert json.loads((package / "configs" / "metadata.json").read_text())["medseg"]["verb"] == "correct"
