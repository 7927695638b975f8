"""A recipe that goes on from a model, and the run that follows from a folder of corrected cases."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from medseg.errors import ModelError, RecipeError, WriteError
from medseg.labels import Code, Label, LabelTable, write_labels
from medseg.labels.codes import ALTERED_STRUCTURE, TISSUE
from medseg.models import InputSlot, load_network, read_package
from medseg.training import check_data, run_training, start_recipe
from medseg.training.collecting import append_case
from medseg.training.recipe import read_recipe
from medseg.training.tunable import tunable
from medseg.volumes import Volume, write_labelmap, write_volume
from support.correction import write_clicks_package
from support.packages import LABELS as TWO_BLOBS
from support.packages import bright_blob_case, write_bright_blob_package

BRIGHT, DIM = TWO_BLOBS


@pytest.fixture(scope="module")
def a_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bright_blob_package(tmp_path_factory.mktemp("models") / "bright-blob", labels=2)


def named(label: Label, value: int, name: str = "") -> Label:
    return Label(value, name or label.name, label.color, label.category, label.type)


def corrected(folder: Path, cases: int = 3, *labels: Label) -> Path:
    """A folder of cases in which the blobs have other values than in the model."""
    labels = labels or (named(DIM, 1), named(BRIGHT, 2))
    for seed in range(cases):
        image, truth = bright_blob_case(seed, (32, 32, 32), labels=2)
        array = np.array([0, labels[-1].value, labels[0].value], np.uint8)[truth.array]
        append_case(folder, image, truth.with_array(array), LabelTable(labels))
    return folder


def shortened(path: Path, **optimisation: object) -> None:
    content = yaml.safe_load(path.read_text())
    content["optimisation"] |= {"epochs": 1, "steps_per_epoch": 1, "workers": 0, "precision": "32", **optimisation}
    path.write_text(yaml.safe_dump(content))


def weights(package: Path) -> dict[str, torch.Tensor]:
    return load_network(read_package(package), "cpu").state_dict()


def test_corrected_cases_lead_to_a_model_that_starts_from_the_weights_of_another(a_model: Path, tmp_path: Path) -> None:
    data, path = corrected(tmp_path / "cases"), tmp_path / "tuned.yaml"
    notes = start_recipe(path, data, start_from=str(a_model))
    assert "starts from the weights of Bright blobs in noise" in notes[0]
    shortened(path, learning_rate=1e-12, average_decay=0)
    result = run_training(path, data, tmp_path / "out", device="cpu")
    package = read_package(result.package)
    assert package.name == "bright-blob-tuned"
    assert package.labels == read_package(a_model).labels
    start, end = weights(a_model), weights(result.package)
    assert start.keys() == end.keys()
    for name, tensor in start.items():
        assert torch.allclose(tensor, end[name], atol=1e-3), name
    assert sorted(case.label for case in result.cases) == ["bright blob", "dim blob"], "one case was kept aside"
    # Fresh weights would find nothing after one step of no length.
    assert min(case.dice for case in result.cases) > 0.6


def test_the_preset_moves_the_weights_and_forgets_nothing(a_model: Path, tmp_path: Path) -> None:
    data, path = corrected(tmp_path / "cases"), tmp_path / "tuned.yaml"
    start_recipe(path, data, start_from=str(a_model))
    recipe = read_recipe(path)
    assert recipe.optimisation.moves <= 500
    assert recipe.optimisation.learning_rate < 1e-3
    shortened(path, epochs=2, steps_per_epoch=10)
    result = run_training(path, data, tmp_path / "out", device="cpu")
    start, end = weights(a_model), weights(result.package)
    assert max(float((start[name] - end[name]).abs().max()) for name in start) > 1e-3
    assert min(case.dice for case in result.cases) > 0.7
    assert "The run started from the weights of an earlier stage" in (result.package / "docs" / "README.md").read_text()


def test_the_recipe_has_the_network_and_the_preprocessing_of_the_model(a_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "tuned.yaml"
    start_recipe(path, corrected(tmp_path / "cases"), start_from=str(a_model), name="Mine")
    recipe, model = read_recipe(path), read_package(a_model)
    assert recipe.package.name == "mine"
    assert (recipe.network.target, recipe.network.arguments) == (model.network_target, model.network_arguments)
    assert recipe.preprocessing.build() == model.preprocessing
    assert recipe.window.build() == model.window
    assert [slot.modality for slot in recipe.package.slots] == ["MR"]
    assert recipe.data.values == {1: 2, 2: 1}
    assert recipe.data.folds == 3


def test_labels_that_nobody_drew_are_not_trained_away(a_model: Path, tmp_path: Path) -> None:
    data, path = tmp_path / "cases", tmp_path / "tuned.yaml"
    for seed in range(3):
        image, truth = bright_blob_case(seed, (32, 32, 32), labels=2)
        append_case(data, image, truth.with_array((truth.array == 1).astype(np.uint8)), LabelTable([named(BRIGHT, 1)]))
    notes = start_recipe(path, data, start_from=str(a_model))
    assert any("Nobody has drawn dim blob" in note for note in notes)
    facts = check_data(path, data).facts
    assert {fact.annotated for fact in facts} == {(1,)}
    # A case that was added later is followed, too: what it holds is in the folder's table.
    image, truth = bright_blob_case(9, (32, 32, 32), labels=2)
    append_case(data, image, truth, TWO_BLOBS)
    with pytest.raises(RecipeError, match="which the table says is not annotated"):
        check_data(path, data)
    path.unlink()
    (tmp_path / "tuned.labels.csv").unlink()
    start_recipe(path, data, start_from=str(a_model))
    assert sorted(fact.annotated for fact in check_data(path, data).facts) == [(1,), (1,), (1,), (1, 2)]


def test_a_label_that_the_model_does_not_have_is_refused(a_model: Path, tmp_path: Path) -> None:
    other = Label(1, "Kidney", (1, 2, 3), TISSUE, TISSUE)
    data = corrected(tmp_path / "cases", 1, other, named(BRIGHT, 2))
    with pytest.raises(RecipeError, match=r"does not have the labels Kidney of the data; it has bright blob, dim blob"):
        start_recipe(tmp_path / "tuned.yaml", data, start_from=str(a_model))
    assert not list(tmp_path.glob("tuned*"))


def test_a_label_of_another_name_is_known_by_its_codes(a_model: Path, tmp_path: Path) -> None:
    data = corrected(tmp_path / "cases", 3, named(DIM, 1, "Zyste"), named(BRIGHT, 2, "Masse"))
    start_recipe(tmp_path / "tuned.yaml", data, start_from=str(a_model))
    assert read_recipe(tmp_path / "tuned.yaml").data.values == {1: 2, 2: 1}


def plain(folder: Path, cases: int = 3, value: int = 1) -> Path:
    folder.mkdir()
    for seed in range(cases):
        image, truth = bright_blob_case(seed, (32, 32, 32))
        write_volume(image, folder / f"case_{seed}.nii.gz")
        write_labelmap(truth.with_array(truth.array * value), folder / f"case_{seed}_label.nii.gz")
    return folder


def test_data_without_names_are_taken_by_their_values(a_model: Path, tmp_path: Path) -> None:
    data = plain(tmp_path / "data")
    notes = start_recipe(tmp_path / "tuned.yaml", data, start_from=str(a_model))
    assert any("their values were taken for those of the model" in note for note in notes)
    assert any("dim blob, which the model will forget" in note for note in notes)
    assert read_recipe(tmp_path / "tuned.yaml").loss.kind == "dice_ce"
    assert check_data(tmp_path / "tuned.yaml", data).labels.names == ("bright blob", "dim blob")


def test_data_without_names_and_with_other_values_are_refused(a_model: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"label values \[7\] without names"):
        start_recipe(tmp_path / "tuned.yaml", plain(tmp_path / "data", value=7), start_from=str(a_model))


def test_named_labels_of_other_data_are_translated(a_model: Path, tmp_path: Path) -> None:
    data = plain(tmp_path / "data", value=5)
    write_labels(
        LabelTable([Label(5, "Bright Blob", (1, 2, 3), ALTERED_STRUCTURE, Code("X", "1", "x"))]), data / "labels.csv"
    )
    start_recipe(tmp_path / "tuned.yaml", data, start_from=str(a_model))
    assert read_recipe(tmp_path / "tuned.yaml").data.values == {5: 1}


def test_two_cases_are_all_trained_on(a_model: Path, tmp_path: Path) -> None:
    notes = start_recipe(tmp_path / "tuned.yaml", corrected(tmp_path / "cases", 2), start_from=str(a_model))
    assert read_recipe(tmp_path / "tuned.yaml").data.folds == 1
    assert any("none is kept aside" in note for note in notes)


def test_a_model_that_takes_other_images_is_refused(tmp_path: Path) -> None:
    slots = [InputSlot("T1", "MR"), InputSlot("T2", "MR")]
    model = write_bright_blob_package(tmp_path / "two", inputs=slots)
    with pytest.raises(RecipeError, match="takes 2 images and the data have 1"):
        start_recipe(tmp_path / "tuned.yaml", plain(tmp_path / "data"), start_from=str(model))


def test_models_that_cannot_be_gone_on_from_are_not_offered_and_are_refused(a_model: Path, tmp_path: Path) -> None:
    model = read_package(a_model)
    foreign = dataclasses.replace(model, kind="nnunet")
    without_background = dataclasses.replace(model, output_channels=2)
    missing = dataclasses.replace(model, weights=dataclasses.replace(model.weights, path=tmp_path / "no.pt"))
    clicks = read_package(write_clicks_package(tmp_path / "clicks"))
    assert tunable([foreign, model, without_background, missing, clicks]) == [model]
    other = write_bright_blob_package(tmp_path / "other")
    path = other / "configs" / "metadata.json"
    content = json.loads(path.read_text())
    content["network_data_format"]["outputs"]["pred"]["num_channels"] = 3
    path.write_text(json.dumps(content))
    with pytest.raises(RecipeError, match="does not give a score for each label and the background"):
        start_recipe(tmp_path / "tuned.yaml", plain(tmp_path / "data"), start_from=str(other))


def test_a_model_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no model 'nobody'"):
        start_recipe(tmp_path / "tuned.yaml", plain(tmp_path / "data"), start_from="nobody")


def test_a_recipe_that_is_there_is_not_overwritten(a_model: Path, tmp_path: Path) -> None:
    (tmp_path / "tuned.yaml").write_text("mine")
    with pytest.raises(WriteError, match="exists already"):
        start_recipe(tmp_path / "tuned.yaml", plain(tmp_path / "data"), start_from=str(a_model))
    assert (tmp_path / "tuned.yaml").read_text() == "mine"


@pytest.mark.parametrize("name", ["left-atrium-mr", "head-neck-ct"])
def test_every_bundled_model_that_segments_can_be_gone_on_from(name: str, tmp_path: Path) -> None:
    from medseg.models import ModelLibrary

    package, data = ModelLibrary().find(name), tmp_path / "cases"
    image, truth = bright_blob_case(0, (32, 32, 32))
    for seed in range(3):
        first = package.labels[0]
        append_case(data, Volume(image.array + seed, image.geometry), truth, LabelTable([named(first, 1)]))
    start_recipe(tmp_path / "tuned.yaml", data, start_from=name)
    recipe = read_recipe(tmp_path / "tuned.yaml")
    assert recipe.start_from == str(package.folder)
    assert recipe.preprocessing.build() == package.preprocessing
    assert recipe.data.annotated.columns[package.labels.values[0]] == "label 1"


def test_asking_which_models_can_be_gone_on_from_loads_nothing_that_slicer_lacks() -> None:
    code = (
        "import sys\nfrom medseg.models import ModelLibrary\nfrom medseg.training.tunable import tunable\n"
        "print(len(tunable(ModelLibrary().packages())))\n"
        "print(sorted({'torch', 'pydantic', 'yaml', 'SimpleITK', 'monai', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, loaded = done.stdout.splitlines()
    assert int(count) >= 2
    assert loaded == "[]"
