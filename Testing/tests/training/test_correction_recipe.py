"""Recipes of networks that follow clicks: what they may say, and the samples that their sources make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from medseg.errors import RecipeError
from medseg.training.correction.data import CorrectionData, TrainingSamples
from medseg.training.correction.makers import ScanMaker, ShapeMaker, makers_of
from medseg.training.synthesis import Draws
from medseg.volumes import Geometry, Volume, write_volume
from support.correction import SHAPES, a_correction_recipe


def scans(**changes: Any) -> dict[str, Any]:
    return {"kind": "scans", "folder": "blocks", "keep_aside": 2, **changes}


@pytest.fixture(scope="module")
def a_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five scans of two blocks, labels 1 and 4, and a speck of label 9."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "blocks").mkdir()
    geometry = Geometry.from_spacing((20, 24, 24), (2.0, 2.0, 2.0))
    for number in range(5):
        labels = np.zeros(geometry.shape, np.uint8)
        labels[4:10, 5:12, 4:10], labels[12:18, 12:20, 12:20], labels[0, 0, :12] = 1, 4, 9
        image = labels * 50.0 + np.random.default_rng(number).normal(0, 4, labels.shape)
        write_volume(Volume(image.astype(np.float32), geometry), folder / "blocks" / f"c{number}.nii.gz")
        write_volume(Volume(labels, geometry), folder / "blocks" / f"c{number}_label.nii.gz")
    return folder


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window": [32, 32, 40]}, "multiples of 16"),
        ({"sources": []}, "at least 1"),
        ({"sources": [scans(image="x.nii.gz")]}, "exactly once"),
        ({"sources": [scans(folder="../elsewhere")]}, "lie in the folder of the data"),
        ({"sources": [scans(hold_out=[1], ignore=[1])]}, "are ignored"),
        ({"sources": [scans(), scans()]}, "twice"),
        ({"clicks": {"radius": 0}}, "radius"),
        ({"samples": {"stretch": 0.5}}, "stretch"),
        ({"colour": "red"}, "colour"),
        ({"optimisation": {"epochs": 1, "steps_per_epoch": 1, "compile": True}}, "compile is not there"),
    ],
)
def test_wrong_keys_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        a_correction_recipe(**changes)


def test_what_does_not_change_the_run_does_not_change_its_digest() -> None:
    recipe = a_correction_recipe(sources=[scans()])
    same = a_correction_recipe(sources=[scans(names={1: "Block"})], evaluation={"clicks": 3})
    assert recipe.digest() == same.digest()
    assert recipe.digest() != a_correction_recipe(sources=[scans(hold_out=[4])]).digest()


def test_cases_kept_aside_and_labels_held_out_are_never_trained_on(a_folder: Path) -> None:
    recipe = a_correction_recipe(sources=[scans(hold_out=[4], ignore=[9], names={1: "Block"})])
    (maker,) = makers_of(recipe, a_folder)
    assert isinstance(maker, ScanMaker)
    trained, aside = maker.cases
    assert sorted([*trained, *aside]) == ["c0", "c1", "c2", "c3", "c4"]
    assert len(aside) == 2
    kept = maker.kept_aside()
    assert {(one.structure, one.seen) for one in kept} == {("Block", True), ("blocks 4", False)}
    assert {one.case for one in kept} == set(aside)
    # The small block has 6 x 7 x 6 voxels: more would be the other one.
    assert all(maker.training_sample(Draws(seed)).truth.any() for seed in range(4))
    assert all(set(scan.structures) == {1} for scan in maker._training.values())


def test_structures_to_measure_are_of_every_kind_as_many(a_folder: Path) -> None:
    recipe = a_correction_recipe(sources=[scans(ignore=[9], keep_aside=3)], evaluation={"structures": 4})
    (maker,) = makers_of(recipe, a_folder)
    assert sorted(one.value for one in maker.kept_aside()) == [1, 1, 4, 4]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (scans(folder="none"), "no files like"),
        (scans(label="{case}_truth.nii.gz"), "no files like"),
        (scans(image="{case}_image.nii.gz"), "5 label maps have no image"),
        (scans(ignore=[1, 4, 9]), "no structure to train on"),
        (scans(keep_aside=5), "no structure to train on"),
    ],
)
def test_folders_that_cannot_be_used_are_refused(a_folder: Path, source: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        makers_of(a_correction_recipe(sources=[source]), a_folder)


def test_scans_need_a_folder_and_shapes_do_not(a_folder: Path) -> None:
    with pytest.raises(RecipeError, match="No folder of labelled scans"):
        makers_of(a_correction_recipe(sources=[scans()]), None)
    (maker,) = makers_of(a_correction_recipe(), None)
    assert isinstance(maker, ShapeMaker)
    sample = maker.training_sample(Draws(0))
    assert sample.truth.sum() >= 8
    assert sample.image.shape == (1, 32, 32, 32)


def test_images_on_another_grid_than_their_labels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "blocks").mkdir()
    array = np.ones((8, 8, 8), np.uint8)
    for name, spacing in (("a", 1.0), ("a_label", 2.0)):
        volume = Volume(array, Geometry.from_spacing(array.shape, (spacing,) * 3))
        write_volume(volume, tmp_path / "blocks" / f"{name}.nii.gz")
    with pytest.raises(RecipeError, match="do not lie on one grid"):
        makers_of(a_correction_recipe(sources=[scans(keep_aside=0)]), tmp_path)


def test_a_number_is_the_same_sample_in_every_run(a_folder: Path) -> None:
    recipe = a_correction_recipe(sources=[scans(share=2), SHAPES])
    first, again = (TrainingSamples(recipe, makers_of(recipe, a_folder)) for _ in range(2))
    for number in (0, 7):
        one, other = first[number], again[number]
        assert one.keys() == {"image", "truth", "start", "number"}
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_epoch_has_as_many_batches_as_the_recipe_says(a_folder: Path) -> None:
    schedule = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 2, "workers": 0}
    recipe = a_correction_recipe(sources=[scans()], optimisation=schedule)
    makers = makers_of(recipe, a_folder)
    data = CorrectionData(recipe, makers, 3)
    batches = list(data.train_dataloader())
    assert len(batches) == 2
    assert batches[0]["image"].shape == batches[0]["start"].shape == (2, 1, 32, 32, 32)
    assert list(data.val_dataloader()) == [0, 1, 2]
    assert CorrectionData(recipe, makers, 0).val_dataloader() == []
