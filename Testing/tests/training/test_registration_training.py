"""Training of registration networks: the recipe, the levels, and runs from sources to a package."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback

from medseg.errors import Cancelled, RecipeError, TrainingError
from medseg.models import ModelLibrary, Window, read_package
from medseg.progress import NO_PROGRESS, Progress
from medseg.registration import RegistrationOptions, register
from medseg.training import check_data, export_run, run_training
from medseg.training.fitting import Hardware, fit, new_trainer
from medseg.training.recipe import read_recipe
from medseg.training.registration.data import RegistrationData, TrainingPairs, both_ways, item_of
from medseg.training.registration.makers import makers_of
from medseg.training.registration.measure import measure_registration_cost
from medseg.training.registration.module import RegistrationModule
from medseg.training.registration.objective import NOTHING, fields_of
from medseg.training.registration.recipe import RegistrationRecipe, read_registration_recipe
from medseg.training.registration.run import new_registration_network
from medseg.training.run_files import read_progress, read_state
from medseg.training.synthesis import Draws, SyntheticPair
from medseg.training.tasks import read_any_recipe
from medseg.volumes import read_volume
from support.registration_packages import write_registering_package
from support.registration_training import a_batch, entries, write_heads, write_pairs

SIZE = (16, 16, 16)


@pytest.fixture(autouse=True)
def no_cost_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a process of its own, and has a test of its own."""
    monkeypatch.setattr("medseg.training.registration.run.measure_registration_cost", lambda *_: None)


@pytest.fixture
def a_content() -> dict[str, Any]:
    """The keys of a recipe that trains in seconds: shapes, and the smallest LapIRN."""
    return {
        "task": "registration",
        "seed": 5,
        "package": {
            "name": "tiny-register",
            "version": "0.1.0",
            "title": "Tiny",
            "description": "Registers shapes, in a test.",
            "anatomy": ["shapes"],
            "domain": "random shapes",
            "authors": "Nobody",
            "copyright": "Copyright (c) Nobody",
            "license": "Apache-2.0",
            "data_sources": "none",
        },
        "grid": {"size": list(SIZE), "spacing": 8.0},
        "sources": [{"kind": "shapes", "classes": [3, 5], "size_mm": [40, 80]}],
        "network": {"target": "medseg.networks.ConditionalLapIRN", "arguments": {"start_channels": 1, "levels": 2}},
        "loss": {"similarity": "lncc", "window": 5, "smoothness": [0.0, 1.0], "labels_a_step": 3},
        "optimisation": {
            "epochs": 2, "steps_per_epoch": 4, "learning_rate": 1e-3, "warmup_steps": 1, "workers": 0,
            "validate_every": 1, "precision": "32",
        },
        "evaluation": {"pairs": 2},
    }  # fmt: skip


@pytest.fixture
def a_recipe(a_content: dict[str, Any], tmp_path: Path) -> Any:
    """Write the recipe, changed, and return its path."""

    def written(**changes: Any) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({**a_content, **changes}))
        return path

    return written


@pytest.fixture(scope="module")
def a_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pairs with their table; the last is kept aside."""
    return write_pairs(tmp_path_factory.mktemp("pairs"))


HEADS = {"kind": "label_maps", "labels": "head_{case}.nii.gz", "keep_aside": 1, "outside": [515]}


# The recipe


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"grid": {"size": [16, 16], "spacing": 8.0}}, "'grid.size.2' is missing|'grid.size'"),
        ({"grid": {"size": [16, 16, 16], "spacing": 0.0}}, "'grid.spacing': .* greater than or equal to 0.1"),
        ({"grid": {"size": [16, 16, 16], "spacing": 8.0, "orientation": "RRS"}}, "'grid': .*not an orientation"),
        ({"sources": []}, "'sources': "),
        ({"sources": [{"kind": "photographs"}]}, "'sources.0.kind': must be one of 'label_maps', 'shapes', 'pairs'"),
        ({"sources": [{"kind": "shapes"}, {"kind": "shapes"}]}, "more than one of the kind shapes"),
        ({"sources": [{"kind": "shapes", "classes": [9, 3]}]}, "the smallest and the largest value"),
        ({"sources": [{"kind": "label_maps", "labels": "*.nii.gz"}]}, "must hold {case} exactly once"),
        ({"sources": [{"kind": "label_maps", "scored": [4], "outside": [4]}]}, "outside or ignored"),
        ({"sources": [{"kind": "label_maps", "tissues": {"wood": [4]}}]}, "'sources.0.label_maps.tissues.wood"),
        ({"sources": [{"kind": "label_maps", "alike": [[2, 41], [2, 3]]}]}, "alike names a label twice"),
        ({"pairs": {"warps": {"scales_mm": [10], "amplitudes_mm": [9]}}}, "at most half of its scale"),
        ({"painting": {"nose": 0.1}}, "'painting.nose' is not a key that a recipe knows"),
        ({"painting": {"strip_probability": 0.9, "strip_one": 0.2}}, "add up to 1 at most"),
        ({"loss": {"similarity": "magic"}}, "'loss.similarity': "),
        ({"loss": {"window": 6}}, "must be odd"),
        ({"loss": {"similarity": "none", "dice_weight": 0}}, "neither images nor labels count"),
        ({"loss": {"smoothness": [0.9, 0.1]}}, "the smallest and the largest value"),
        ({"loss": {"smoothness": 1.5}}, "'loss.smoothness"),
        ({"loss": {"regulariser": "magic"}}, "'loss.regulariser'"),
        ({"levels": {"steps": [8]}}, "levels.steps take 8 steps and the run has 8"),
        ({"levels": {"steps": []}}, "'levels.steps'"),
        ({"task": "poetry"}, "for the task 'poetry', which there is not"),
        ({"optimisation": {"epochs": 2}}, "'optimisation.steps_per_epoch' is missing"),
        ({"optimisation": {"epochs": 2, "steps_per_epoch": 4, "foreground_patches": 0.5}}, "foreground_patches"),
    ],
)
def test_a_wrong_key_is_a_sentence_with_its_place(a_recipe: Any, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        read_any_recipe(a_recipe(**changes))


def test_what_the_package_would_refuse_is_said_before_training(a_recipe: Any, a_content: dict[str, Any]) -> None:
    about = {**a_content["package"], "domain": "two\nlines"}
    with pytest.raises(RecipeError, match="leads to a model package that MedSeg would not take"):
        read_any_recipe(a_recipe(package=about))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": {"target": "monai.networks.nets.UNet", "arguments": {"spatial_dims": 3}}}, "cannot be built"),
        (
            {"network": {"target": "monai.networks.nets.BasicUNet", "arguments": {"spatial_dims": 3}}},
            "does not register",
        ),
        ({"grid": {"size": [18, 16, 16], "spacing": 8.0}}, "multiples of 4 voxels, and grid.size has 18"),
        ({"levels": {"steps": [2, 2]}}, "levels.steps must name 1 numbers"),
        (
            {"network": {"target": "medseg.networks.VoxelMorph", "arguments": {"channels": [2, 2]}}},
            "trained for one smoothness only",
        ),
    ],
)
def test_a_network_that_does_not_fit_is_refused(a_recipe: Any, changes: dict[str, Any], words: str) -> None:
    path = a_recipe(**changes)
    with pytest.raises(RecipeError, match=words):
        new_registration_network(path, read_registration_recipe(path))


def test_a_recipe_of_one_task_is_not_taken_for_the_other(a_recipe: Any, repository: Path) -> None:
    with pytest.raises(RecipeError, match="for the task registration, and one for segmentation is needed here"):
        read_recipe(a_recipe())
    with pytest.raises(RecipeError, match="for the task segmentation, and one for registration is needed here"):
        read_registration_recipe(repository / "Resources/recipes/left-atrium-mr.yaml")


@pytest.mark.parametrize("name", ["synthetic-brain-register", "synthetic-shapes-voxelmorph"])
def test_the_network_of_a_bundled_recipe_is_at_most_10_mb(name: str, repository: Path) -> None:
    path = repository / "Resources" / "recipes" / f"{name}.yaml"
    network = new_registration_network(path, read_registration_recipe(path))
    assert 2 * sum(parameter.numel() for parameter in network.parameters()) < 10e6


def test_what_changes_no_weight_changes_no_digest(a_content: dict[str, Any]) -> None:
    def digest(**changes: Any) -> str:
        return RegistrationRecipe.model_validate({**copy.deepcopy(a_content), **changes}).digest()

    about = {**a_content["package"], "title": "Another"}
    schedule = {**a_content["optimisation"], "workers": 3}
    assert digest() == digest(package=about) == digest(optimisation=schedule) == digest(evaluation={"pairs": 9})
    assert digest() != digest(seed=6)
    assert digest() != digest(painting={"noise": 0.2})
    assert digest() != digest(levels={"steps": [3]})


# The levels


class Watching(Callback):
    """Notes, after each batch, the rate and which levels have changed."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.changed: list[tuple[bool, ...]] = []

    def on_train_batch_start(self, _trainer: lightning.Trainer, module: RegistrationModule, *_: object) -> None:
        self._before = copy.deepcopy(module.network.state_dict())
        self.rates.append(_trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, _trainer: lightning.Trainer, module: RegistrationModule, *_: object) -> None:
        now = module.network.state_dict()
        self.changed.append(
            tuple(
                any(not torch.equal(now[n], self._before[n]) for n in now if n.startswith(f"parts.{level}."))
                for level in range(module.network.levels)
            )
        )


def test_a_run_changes_the_weights_of_the_levels_of_its_plan_alone(a_recipe: Any, tmp_path: Path) -> None:
    schedule = {
        "epochs": 1, "steps_per_epoch": 6, "learning_rate": 1e-2, "weight_decay": 0.1, "warmup_steps": 2,
        "workers": 0, "precision": "32",
    }  # fmt: skip
    path = a_recipe(levels={"steps": [3], "frozen_steps": 1}, optimisation=schedule)
    recipe = read_registration_recipe(path)
    network = new_registration_network(path, recipe)
    makers, labels = makers_of(recipe, None, None, tmp_path)
    watching = Watching()
    module = RegistrationModule(network, recipe, labels, tmp_path)
    trainer = new_trainer(recipe, network, Hardware("cpu"), tmp_path, callbacks=[watching], resumed=False)
    fit(trainer, module, RegistrationData(recipe, makers, 0), None)
    first, new_alone, both = (True, False), (False, True), (True, True)
    assert watching.changed == [first, first, first, new_alone, both, both]
    # Every level warms up; before the last one the rate stays, then it falls by a cosine that ends at 0.
    assert watching.rates == pytest.approx([5e-3, 1e-2, 1e-2, 5e-3, 1e-2, 1e-2])


# The pairs


def test_a_pair_is_used_both_ways_with_the_labels_that_both_images_show() -> None:
    labels = torch.zeros(6, 6, 6, dtype=torch.uint8)
    labels[1:5, 1:5, 1:5] = 3
    other = labels.clone()
    other[0], labels[5] = 7, 9
    pair = SyntheticPair(torch.zeros(6, 6, 6), torch.ones(6, 6, 6), labels, other, (3, 7, 9))
    item = item_of(pair, 4, 0.3, Draws(0))
    assert item["classes"].tolist() == [3, NOTHING, NOTHING, NOTHING]
    batch = both_ways([item])
    assert batch["fixed"].shape == (2, 1, 6, 6, 6)
    assert batch["fixed"].mean((1, 2, 3, 4)).tolist() == [0.0, 1.0]
    assert torch.equal(batch["fixed_labels"][1], other)
    assert torch.equal(batch["moving_labels"][1], labels)
    torch.testing.assert_close(batch["smoothness"], torch.tensor([0.3, 0.3]))


def test_pairs_come_from_the_sources_by_their_shares_and_are_the_same_again(a_content: dict[str, Any]) -> None:
    recipe = RegistrationRecipe.model_validate(a_content)

    class Maker:
        codes: frozenset[int] = frozenset()

        def __init__(self, share: float, brightness: float) -> None:
            self.share, self._brightness = share, brightness

        def training_pair(self, _draws: Draws) -> SyntheticPair:
            image = torch.full((4, 4, 4), self._brightness)
            none = torch.zeros(4, 4, 4, dtype=torch.uint8)
            return SyntheticPair(image, image, none, none, ())

        def kept_aside(self) -> list[Any]:
            return []

    pairs = TrainingPairs(recipe, [Maker(3.0, 0.0), Maker(1.0, 1.0)])
    drawn = [pairs[number] for number in range(80)]
    share = sum(float(item["fixed"].mean()) for item in drawn) / 80
    assert 0.12 < share < 0.4
    smoothness = [float(item["smoothness"]) for item in drawn]
    assert min(smoothness) < 0.2
    assert max(smoothness) > 0.8
    assert all(torch.equal(pairs[7][name], drawn[7][name]) for name in drawn[7])


def test_label_maps_that_are_kept_aside_are_never_trained_on(a_content: dict[str, Any], tmp_path: Path) -> None:
    recipe = RegistrationRecipe.model_validate({**a_content, "sources": [HEADS]})
    makers, labels = makers_of(recipe, None, write_heads(tmp_path, 4), tmp_path)
    training, aside = makers[0].cases
    assert len(training) == 3
    assert len(aside) == 1
    assert set(training) | set(aside) == {"0", "1", "2", "3"}
    assert labels.values == (2, 4)
    kept = makers[0].kept_aside()
    assert len(kept) == 2
    assert all(aside[0] in one.name for one in kept)
    assert [one.values for one in kept] == [(2, 4), (2, 4)]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"labels": "nothing_{case}.nii.gz"}, "matches the recipe's pattern"),
        ({"keep_aside": 4}, "There are 4 label maps .* and 4 are to be kept aside"),
        ({"scored": [2, 77]}, r"no voxel of the labels \[77\]"),
    ],
)
def test_label_maps_that_do_not_fit_the_recipe_are_told(
    a_content: dict[str, Any], tmp_path: Path, source: dict[str, Any], words: str
) -> None:
    recipe = RegistrationRecipe.model_validate({**a_content, "sources": [{**HEADS, **source}]})
    with pytest.raises(RecipeError, match=words):
        makers_of(recipe, None, write_heads(tmp_path, 4), tmp_path)


def test_a_source_without_data_is_told(a_content: dict[str, Any], tmp_path: Path) -> None:
    recipe = RegistrationRecipe.model_validate({**a_content, "sources": [HEADS]})
    with pytest.raises(RecipeError, match="a source without data"):
        makers_of(recipe, None, None, tmp_path)
    with pytest.raises(RecipeError, match="There is no folder of label maps"):
        makers_of(recipe, None, tmp_path / "none", tmp_path)


def test_real_pairs_are_brought_onto_the_grid_and_cropped_alike(a_content: dict[str, Any], a_table: Path) -> None:
    grid = {"size": [16, 16, 16], "spacing": 6.0}
    recipe = RegistrationRecipe.model_validate({**a_content, "grid": grid, "sources": [{"kind": "pairs"}]})
    makers, labels = makers_of(recipe, None, a_table, a_table.parent)
    assert labels.values == (1, 2)
    (kept,) = makers[0].kept_aside()
    assert kept.name == "pair 2"
    assert makers[0].cases == (["pair 0", "pair 1"], ["pair 2"])
    assert kept.pair.fixed.shape == (16, 16, 16)
    fixed = read_volume(a_table.parent / "fixed_2.nii.gz").array.transpose(2, 1, 0)
    middle = fixed[8:24, 10:26, 7:23]
    assert np.corrcoef(kept.pair.fixed.numpy().ravel(), middle.ravel())[0, 1] > 0.999
    drawn = [makers[0].training_pair(Draws(seed)) for seed in range(5)]
    assert len({float(one.fixed.sum()) for one in drawn}) > 3
    brain = drawn[0].fixed[drawn[0].fixed_labels == 2], drawn[0].moving[drawn[0].moving_labels == 2]
    assert min(float(part.mean()) for part in brain) > float(drawn[0].fixed[drawn[0].fixed_labels == 1].mean())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,label\na,b\n", "needs the columns 'fixed' and 'moving'"),
        ("fixed,moving\n", "has no line"),
        ("fixed,moving\nnone.nii.gz,none.nii.gz\n", "line 2: none.nii.gz does not exist"),
        ("fixed,moving,split\nfixed_0.nii.gz,moving_0.nii.gz,maybe\n", "'maybe' is not a split"),
        ("fixed,moving,fixed_label\nfixed_0.nii.gz,moving_0.nii.gz,fixed_0_label.nii.gz\n", "for one of the two"),
        ("fixed,moving,split\nfixed_0.nii.gz,moving_0.nii.gz,validation\n", "none is left to train on"),
        ("fixed,moving\nfixed_0.nii.gz,damaged.nii.gz\n", "1 of 1 pairs cannot be trained on: line 2: "),
    ],
)
def test_a_table_of_pairs_that_cannot_be_used_is_told_with_its_line(
    a_content: dict[str, Any], a_table: Path, text: str, words: str
) -> None:
    recipe = RegistrationRecipe.model_validate({**a_content, "sources": [{"kind": "pairs", "csv": "other.csv"}]})
    (a_table.parent / "other.csv").write_text(text)
    (a_table.parent / "damaged.nii.gz").write_bytes(b"nothing")
    with pytest.raises(RecipeError, match=words):
        makers_of(recipe, None, None, a_table.parent)


# Whole runs


def test_a_network_learns_real_pairs_and_its_package_registers_one_that_it_never_saw(
    a_recipe: Any, a_content: dict[str, Any], a_table: Path, tmp_path: Path
) -> None:
    schedule = {
        **a_content["optimisation"], "epochs": 6, "steps_per_epoch": 15, "learning_rate": 5e-3, "validate_every": 3,
        "average_decay": 0.8, "weight_decay": 0.0,
    }  # fmt: skip
    path = a_recipe(
        grid={"size": [32, 32, 32], "spacing": 6.0},
        sources=[{"kind": "pairs"}],
        network={
            "target": "medseg.networks.VoxelMorph",
            "arguments": {"channels": [8, 8, 8, 8], "unet_out_channels": 8, "final_conv_channels": [8]},
        },
        loss={"similarity": "lncc", "window": 5, "pyramid": 2, "smoothness": 0.2, "labels_a_step": 2},
        optimisation=schedule,
    )
    result = run_training(path, a_table, tmp_path / "out", device="cpu", export=tmp_path / "given")
    told = entries(tmp_path / "out")
    assert told[-1]["loss"] < 1.15 * told[0]["loss"] < 0  # minus a correlation: lower is better
    assert told[-1]["validation_dice"] > told[-1]["validation_dice_before"]
    assert told[-1]["validation_folded_percent"] < 2
    assert set(told[-1]["dice_per_label"]) == {"1", "2"}
    assert set(told[-1]["parts"]) == {"similarity_loss", "dice_loss", "roughness"}
    package = read_package(result.exported)
    assert package.metrics["mean_dice"] > package.metrics["mean_dice_before"]
    assert not package.registration.synthetic
    assert "that were not trained on" in (result.exported / "docs" / "README.md").read_text()
    with (tmp_path / "out" / "evaluation.csv").open() as stream:
        (row,) = list(csv.DictReader(stream))
    assert row["pair"] == "pair 2"
    assert json.loads((tmp_path / "out" / "split.json").read_text())["validation"] == ["pair 2"]
    assert "medseg register" in result.usage
    assert "Dice" in result.remarks[0]

    fixed, moving = (read_volume(a_table.parent / f"{which}_2.nii.gz") for which in ("fixed", "moving"))
    options = RegistrationOptions("model", refine="none", model=str(result.exported), device="cpu")
    found = register(fixed, moving, options)
    assert found.start == "trained weights of Tiny version 0.1.0"
    assert found.quality.correlation_after > found.quality.correlation_before


def test_a_stopped_run_goes_on_where_it_was(a_recipe: Any, a_content: dict[str, Any], tmp_path: Path) -> None:
    schedule = {**a_content["optimisation"], "epochs": 3, "steps_per_epoch": 3}
    path, output = a_recipe(levels={"steps": [4], "frozen_steps": 1}, optimisation=schedule), tmp_path / "out"
    with pytest.raises(Cancelled):
        run_training(path, None, output, device="cpu", progress=Progress(None, lambda: len(entries(output)) == 1))
    assert read_state(output).state == "cancelled"
    early = export_run(output, tmp_path / "early")
    assert "not finished: these are the weights after 1 epochs" in (early / "docs" / "README.md").read_text()
    assert read_package(early).verb == "register"

    run_training(path, None, output, device="cpu")
    whole = tmp_path / "whole"
    run_training(path, None, whole, device="cpu")
    first, second = (torch.load(folder / "last.ckpt", weights_only=True)["state_dict"] for folder in (output, whole))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [entry["epoch"] for entry in entries(output)] == [1, 2, 3]
    assert read_state(output).state == "finished"
    start = next(entry for entry in read_progress(output) if entry["kind"] == "start")
    assert start["labels"] == {"1": "Random shapes"}
    with pytest.raises(TrainingError, match="a run of another recipe"):
        run_training(a_recipe(seed=99), None, output, device="cpu")


def test_a_network_goes_on_from_a_package(a_recipe: Any, tmp_path: Path) -> None:
    first = run_training(a_recipe(), None, tmp_path / "first", device="cpu")
    path = a_recipe(start_from=str(first.package), seed=8)
    begun = new_registration_network(path, read_registration_recipe(path)).state_dict()
    stored = torch.load(first.package / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(begun[name], stored[name].float()) for name in begun)


def test_sources_are_checked_without_training(a_recipe: Any, tmp_path: Path) -> None:
    (tmp_path / "heads").mkdir()
    heads = write_heads(tmp_path / "heads", 3)
    checked = check_data(a_recipe(sources=[HEADS, {"kind": "shapes"}]), heads)
    rows = dict(checked.rows())
    assert rows["Sources"] == "label_maps (50 %), shapes (50 %)"
    assert rows["Pairs kept aside"] == "4"
    assert len(checked.label_table()[1]) == 4


def test_label_maps_and_shapes_train_together_and_the_table_names_the_labels(
    a_recipe: Any, a_content: dict[str, Any], tmp_path: Path, repository: Path
) -> None:
    (tmp_path / "heads").mkdir()
    table = repository / "Resources" / "recipes" / "synthetic-brain-register.labels.csv"
    (tmp_path / "names.csv").write_text(table.read_text())
    path = a_recipe(
        sources=[HEADS, {"kind": "shapes"}],
        labels="names.csv",
        grid={"size": [16, 24, 16], "spacing": 8.0},
        optimisation={**a_content["optimisation"], "workers": 1},
    )
    result = run_training(path, write_heads(tmp_path / "heads", 3), tmp_path / "out", device="cpu")
    package = read_package(result.package)
    assert package.labels.names == ("Left cerebral white matter", "Left lateral ventricle")
    assert package.registration.synthetic
    assert {"dice label maps", "dice shapes"} <= set(package.metrics)
    split = json.loads((tmp_path / "out" / "split.json").read_text())
    assert len(split["training"]) == 2
    assert len(split["validation"]) == 1
    library = ModelLibrary([tmp_path / "out"])
    assert library.packages("segment") == []


def test_the_cost_of_a_run_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    folder = write_registering_package(tmp_path / "any-register", window=Window((16, 16, 16)))
    measured = measure_registration_cost(folder, NO_PROGRESS)
    assert measured.seconds_cpu > 0
    assert measured.size == (16, 16, 16)


def test_a_level_that_is_asked_for_alone_gives_the_field_of_that_level(a_recipe: Any) -> None:
    path = a_recipe()
    network = new_registration_network(path, read_registration_recipe(path)).eval()
    batch = a_batch(1, SIZE)
    with torch.no_grad():
        coarse, whole = fields_of(network, batch, 1).displacement, fields_of(network, batch, None).displacement
        expected = network.to_level(1, batch["fixed"], batch["moving"], batch["smoothness"]).full
    torch.testing.assert_close(coarse, expected)
    assert not torch.allclose(coarse, whole)


@pytest.mark.slow
def test_compiled_levels_learn_what_plain_ones_do(
    a_recipe: Any, a_content: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    losses = {}
    for compiled in (False, True):
        schedule = {**a_content["optimisation"], "epochs": 1, "compile": compiled}
        path = a_recipe(levels={"steps": [2]}, optimisation=schedule)
        run_training(path, None, tmp_path / str(compiled), device="cpu")
        losses[compiled] = entries(tmp_path / str(compiled))[0]["loss"]
    assert "cannot be compiled" not in caplog.text
    assert losses[True] == pytest.approx(losses[False], rel=1e-3)
