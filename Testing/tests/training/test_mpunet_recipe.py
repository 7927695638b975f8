"""The recipes of MPU-Net: the published one names what was published, the other is really trained, made small."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import yaml

from medseg.models import read_package
from medseg.networks import build_network
from medseg.segmentation import SegmentOptions, segment
from medseg.segmentation.attention_map import attention_row
from medseg.training import run_training
from medseg.training.recipe import read_recipe
from medseg.volumes import read_volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_the_published_recipe_builds_the_published_network(repository: Path) -> None:
    recipe = read_recipe(repository / "Resources" / "recipes" / "liver-mpunet.yaml")
    with torch.device("meta"):
        network = build_network(recipe.network.target, recipe.network.arguments)
    assert sum(parameter.numel() for parameter in network.parameters()) == 21_507_255
    assert network.down[4][-1].alpha == 512
    objective = recipe.loss.build(2)
    for epoch, weight in ((0, 0.4), (30, 0.32)):
        objective.start_epoch(epoch)
        assert objective.auxiliary_weight == pytest.approx(weight)
    assert recipe.window.size == (256, 256, 48)
    assert recipe.optimisation.epochs * recipe.optimisation.steps_per_epoch == 600 * 88


def test_a_package_is_trained_that_segments_and_tells_where_it_looks(
    repository: Path, a_training_folder: Path, write_recipe: Callable[[dict], Path], tmp_path: Path
) -> None:
    content = yaml.safe_load((repository / "Resources" / "recipes" / "hippocampus-mr-mpunet.yaml").read_text())
    content["labels"] = "left-atrium-mr.labels.csv"
    content["data"]["folds"] = 3
    content["network"]["arguments"].update(out_channels=2, widths=[2, 4, 4, 8, 8, 8])
    content["augmentation"].update(affine_probability=0.0, elastic_probability=0.0)
    content["preprocessing"]["spacing"] = [1.0, 1.0, None]
    content["window"]["size"] = [24, 24, 16]
    content["optimisation"].update(epochs=2, steps_per_epoch=4, validate_every=1, workers=0, precision="32")
    result = run_training(write_recipe(content), a_training_folder, tmp_path / "out", device="cpu")
    package = read_package(result.package)
    image = read_volume(a_training_folder / "case_0.nii.gz")
    labelmap = segment([image], package, SegmentOptions(device="cpu")).labelmap
    assert labelmap.geometry.is_close(image.geometry)
    row = attention_row([image], package, image.geometry.center_ras, device="cpu")
    assert row.volume.array.sum() == pytest.approx(1.0, abs=1e-4)
