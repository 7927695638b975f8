"""The step of a network that follows clicks, and how it is measured: by a simulated user on whole scans."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from medseg.labels import Label, LabelTable
from medseg.labels.codes import ANATOMICAL_STRUCTURE
from medseg.networks import PEMED
from medseg.training.correction.data import CorrectionData, TrainingSamples
from medseg.training.correction.makers import KeptAside, makers_of
from medseg.training.correction.measuring import StructureFigures, measured, write_figures
from medseg.training.correction.module import CorrectionModule, losses_of
from medseg.training.correction.samples import LabelledScan
from medseg.training.fitting import Hardware, fit, new_trainer
from support.correction import TINY, a_correction_recipe


@pytest.fixture
def a_network() -> PEMED:
    torch.manual_seed(0)
    return PEMED(**TINY)


@pytest.fixture(scope="module")
def a_block() -> KeptAside:
    labels = np.zeros((24, 30, 30), np.uint8)
    labels[8:16, 10:22, 9:20] = 1
    image = 100.0 * labels + np.random.default_rng(0).normal(0, 5, labels.shape)
    scan = LabelledScan.of_arrays(image.astype(np.float32), labels, (2.0, 1.5, 1.5))
    return KeptAside("c1", "Block", scan, 1, seen=True)


def a_batch(recipe: Any) -> dict[str, torch.Tensor]:
    return default_collate([TrainingSamples(recipe, makers_of(recipe, None))[0]])


def test_the_same_batch_meets_the_same_user(a_network: PEMED) -> None:
    recipe = a_correction_recipe()
    batch = a_batch(recipe)
    first, again = (losses_of(a_network, batch, recipe) for _ in range(2))
    assert first["loss"].item() == again["loss"].item()
    assert first["loss"].item() == pytest.approx(first["focal"].item() + first["dice"].item())
    first["loss"].backward()
    assert any(weight.grad is not None and weight.grad.any() for weight in a_network.parameters())
    other = losses_of(a_network, {**batch, "number": batch["number"] + 5}, recipe)
    assert other["loss"].item() != first["loss"].item()


def test_the_weight_of_dice_is_the_recipes(a_network: PEMED) -> None:
    recipe = a_correction_recipe(dice_weight=0)
    losses = losses_of(a_network, a_batch(recipe), recipe)
    assert losses["loss"].item() == losses["focal"].item()


def test_a_structure_is_measured_click_by_click_on_its_own_voxels(a_network: PEMED, a_block: KeptAside) -> None:
    found = measured(a_network, a_block, a_correction_recipe(evaluation={"clicks": 3}))
    assert (found.case, found.structure, found.seen) == ("c1", "Block", True)
    assert len(found.scores) == 3
    assert all(0 <= score <= 1 for score in found.scores)
    assert not a_network.training


def test_an_epoch_trains_and_validates(a_network: PEMED, a_block: KeptAside, tmp_path: Path) -> None:
    recipe = a_correction_recipe()
    labels = LabelTable([Label(1, "Block", (200, 100, 0), ANATOMICAL_STRUCTURE, ANATOMICAL_STRUCTURE)])
    module = CorrectionModule(a_network, recipe, labels, tmp_path, [a_block])
    before = [weight.clone() for weight in a_network.parameters()]
    trainer = new_trainer(recipe, a_network, Hardware(device="cpu"), tmp_path, callbacks=[], resumed=False)
    fit(trainer, module, CorrectionData(recipe, makers_of(recipe, None), 1), None)
    assert any(not torch.equal(old, new) for old, new in zip(before, a_network.parameters(), strict=True))
    assert module.last_validation is not None
    assert module.last_validation.epoch == 1
    assert module.last_validation.dice.keys() == {1}
    assert 0 <= module.last_validation.mean <= 1
    assert module.last_validation.more.keys() == {"validation_dice_1_click"}


def test_figures_are_written_a_line_a_structure(tmp_path: Path) -> None:
    figures = [StructureFigures("a", "Liver", True, (0.5, 0.75)), StructureFigures("b", "Larynx", False, (0.25, 1.0))]
    write_figures(figures, tmp_path / "f.csv")
    with (tmp_path / "f.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["case", "structure", "seen", "dice_1", "dice_2"]
    assert rows[2] == ["b", "Larynx", "0", "0.25", "1"]
