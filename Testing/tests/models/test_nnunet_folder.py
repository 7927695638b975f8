"""What is read from a results folder of nnU-Net, what may be chosen, and what is refused."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from medseg.errors import InputError, MedSegError, ModelError, UntrustedModelError
from medseg.models import ModelLibrary, choose, import_zip, install_folder, load_network, read_package
from medseg.models.nnunet.checkpoint import read_checkpoint, read_facts
from support.nnunet import DATASET, ResultsFolder, configuration

FULL = configuration([16, 16, 16], [1.0, 1.0, 1.0])
FLAT = configuration([16, 16], [1.0, 1.0])


@pytest.fixture
def results(tmp_path: Path) -> ResultsFolder:
    return ResultsFolder(tmp_path, {"2d": FLAT, "3d_fullres": FULL}, folds=("0", "1"))


def test_names_modality_and_codes_come_from_the_data_set(results: ResultsFolder) -> None:
    package = read_package(results.folder)
    assert package.name == "dataset042-phantom"
    assert [(slot.name, slot.modality) for slot in package.inputs] == [("MRI", "MR")]
    assert package.labels.names == ("Liver", "kidney_left")
    assert [label.type.meaning for label in package.labels] == ["Liver", "Kidney"]
    assert package.labels.by_value(2).type_modifier.meaning == "Left"
    assert package.license.startswith("not stated")
    json.dumps(package.summary())


def test_what_is_said_for_people_may_be_anything(tmp_path: Path) -> None:
    said = {"release": 0.5, "reference": None, "licence": "CC-BY-SA\n4.0", "description": ["a", "list"]}
    package = read_package(ResultsFolder(tmp_path, {"3d_fullres": FULL}, dataset={**DATASET, **said}).folder)
    assert (package.version, package.citation) == ("0.5", "")
    assert package.license == "not stated; of its training data: CC-BY-SA 4.0"
    assert package.description == "Trained with nnU-Net v2 (nnUNetTrainer, 3d_fullres)."


def test_the_default_is_full_resolution_with_all_numbered_folds_and_no_mirroring(tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path, {"2d": FLAT, "3d_fullres": FULL}, folds=("1", "0", "all"))
    package = read_package(results.folder)
    assert {choice.name: choice.chosen for choice in package.choices} == {
        "configuration": "3d_fullres",
        "folds": "0,1",
        "checkpoint": "final",
        "mirroring": "no",
    }
    assert package.passes == 2
    assert choose(package, {"mirroring": "yes"}).passes == 16


def test_what_is_chosen_stays_chosen(results: ResultsFolder) -> None:
    package = choose(
        choose(read_package(results.folder), {"configuration": "2d"}), {"folds": "1", "checkpoint": "best"}
    )
    assert package.window.size_ijk == (1, 16, 16)
    assert [file.path for file in package.weights_files] == [results.checkpoint("2d", "1", "best")]
    assert package.identity != read_package(results.folder).identity


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"folds": "0,7"}, "cannot be '0,7'"),
        ({"configuration": "4d"}, "cannot be '4d'"),
        ({"overlap": "1"}, "has no option 'overlap'"),
        ({"mirroring": "perhaps"}, "Choose one of: no, yes"),
    ],
)
def test_a_choice_that_there_is_not_is_refused_with_what_there_is(
    results: ResultsFolder, wanted: dict[str, str], sentence: str
) -> None:
    with pytest.raises(InputError) as error:
        choose(read_package(results.folder), wanted)
    assert sentence in str(error.value)


def test_the_configuration_is_known_whatever_the_folder_is_called(results: ResultsFolder, tmp_path: Path) -> None:
    moved = results.training("2d").rename(tmp_path / "our best model")
    package = read_package(moved)
    assert package.window.size_ijk == (1, 16, 16)
    assert package.name == "dataset042-phantom-2d"


def test_what_is_left_of_a_region_says_so_and_what_is_ignored_is_no_label(tmp_path: Path) -> None:
    labels = {"background": 0, "whole tumour": [1, 2], "tumour core": [2], "ignore": 3}
    dataset = {**DATASET, "labels": labels, "regions_class_order": [1, 2]}
    package = read_package(ResultsFolder(tmp_path, {"3d_fullres": FULL}, dataset=dataset).folder)
    assert package.labels.names == ("rest of whole tumour", "tumour core")
    assert package.regions == (1, 2)
    plain = {**DATASET, "labels": {"background": 0, "cord": 1, "ignore": 2}}
    package = read_package(ResultsFolder(tmp_path / "plain", {"3d_fullres": FULL}, dataset=plain).folder)
    assert (package.labels.names, package.output_channels, package.regions) == (("cord",), 2, ())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"normalization_schemes": ["OurNormalization"]}, "the normalisation 'OurNormalization'"),
        ({"preprocessor_name": "OurPreprocessor"}, "the preprocessor 'OurPreprocessor'"),
        ({"resampling_fn_data": "our_resampling"}, "the resampling 'our_resampling'"),
        ({"resampling_fn_data_kwargs": {"order": 2}}, "splines of the orders 2 and 0"),
        ({"resampling_fn_probabilities_kwargs": {"order": 3}}, "cubic interpolation of scores"),
        ({"patch_size": [16, 16, -1]}, "'patch_size'"),
        ({"spacing": [1.0, 1.0]}, "'spacing'"),
        ({"inherits_from": "3d_fullres"}, "inherit from itself"),
    ],
)
def test_plans_with_other_parts_are_refused_by_name(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    results = ResultsFolder(tmp_path, {"3d_fullres": FULL})
    rewrite(results, lambda plans: plans["configurations"]["3d_fullres"].update(changes))
    with pytest.raises(ModelError, match=sentence):
        read_package(results.folder)


@pytest.mark.parametrize(
    ("place", "value"),
    [("network_class_name", "our_package.OurNet"), ("arch_kwargs", {"n_stages": 10**9})],
)
def test_a_foreign_or_absurd_network_is_never_built(tmp_path: Path, place: str, value: Any) -> None:
    results = ResultsFolder(tmp_path, {"3d_fullres": FULL})
    rewrite(results, lambda plans: plans["configurations"]["3d_fullres"]["architecture"].update({place: value}))
    with pytest.raises(ModelError, match=r"OurNet|n_stages"):
        read_package(results.folder)
    assert "our_package" not in sys.modules


def test_batch_normalisation_of_nnunets_own_trainer_is_built(tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path, {"3d_fullres": FULL}, trainer="nnUNetTrainerBN")
    network = load_network(read_package(results.folder))
    assert any(isinstance(layer, torch.nn.BatchNorm3d) for layer in network.modules())


def test_a_cascade_without_its_first_stage_says_what_is_missing(tmp_path: Path) -> None:
    plans = {"3d_fullres": FULL, "3d_lowres": FULL, "3d_cascade_fullres": {**FULL, "previous_stage": "3d_lowres"}}
    results = ResultsFolder(tmp_path, plans)
    package = read_package(results.training("3d_cascade_fullres"))
    assert package.first_stage is not None
    shutil.rmtree(results.training("3d_lowres"))
    with pytest.raises(ModelError, match="first stage, '3d_lowres', which is not there"):
        read_package(results.training("3d_cascade_fullres"))


def test_installing_takes_along_what_is_needed_and_no_more(tmp_path: Path) -> None:
    plans = {"3d_fullres": FULL, "3d_lowres": FULL, "3d_cascade_fullres": {**FULL, "previous_stage": "3d_lowres"}}
    results = ResultsFolder(tmp_path, plans)
    (results.training("3d_lowres") / "fold_0" / "validation").mkdir()
    library = ModelLibrary([tmp_path / "library"])
    package = install_folder(results.training("3d_cascade_fullres"), library)
    assert package.first_stage is not None
    shutil.rmtree(results.folder)
    found = library.find(package.name)
    assert found.first_stage is not None
    load_network(found)
    assert not list(found.folder.rglob("validation"))


def test_a_zip_as_nnunet_exports_it_is_installed(results: ResultsFolder, tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(results.folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(results.folder.parent))
    package = import_zip(path, ModelLibrary([tmp_path / "library"]))
    assert package.name == "dataset042-phantom"
    assert len(load_network(package).networks) == 2


def test_the_weights_are_those_that_were_trained_each_under_one_name(results: ResultsFolder) -> None:
    tensors = read_checkpoint(results.checkpoint("3d_fullres"))
    trained = results.networks["3d_fullres", "0"].state_dict()
    assert tensors.keys() == trained.keys()
    assert all(torch.equal(tensors[name], trained[name]) for name in trained)


def test_a_checkpoint_that_would_run_code_is_refused_by_name_and_runs_nothing(
    results: ResultsFolder, tmp_path: Path
) -> None:
    mark = tmp_path / "it ran"

    class Touch:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (mark,)

    path = results.checkpoint("3d_fullres")
    content = torch.load(path, weights_only=False)
    torch.save({**content, "logging": Touch()}, path)
    for read in (read_facts, read_checkpoint):
        with pytest.raises(UntrustedModelError, match=r"pathlib"):
            read(path)
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", pickle.dumps({"network_weights": {}})])
def test_a_damaged_checkpoint_is_a_sentence(results: ResultsFolder, content: bytes) -> None:
    results.checkpoint("3d_fullres").write_bytes(content)
    with pytest.raises(MedSegError):
        read_package(results.folder)


def test_other_tensors_than_the_plans_say_are_refused(results: ResultsFolder) -> None:
    path = results.checkpoint("3d_fullres")
    content = torch.load(path, weights_only=False)
    content["network_weights"].pop("decoder.seg_layers.0.bias")
    torch.save(content, path)
    with pytest.raises(ModelError, match=r"do not fit its network: 'decoder\.seg_layers\.0\.bias' is missing"):
        load_network(read_package(results.folder))


def rewrite(results: ResultsFolder, change: Any) -> None:
    """Change the plans of the only training of a folder."""
    path = results.training("3d_fullres") / "plans.json"
    plans = json.loads(path.read_text())
    change(plans)
    path.write_text(json.dumps(plans))
