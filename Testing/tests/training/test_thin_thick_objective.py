"""The joint loss in a recipe: which recipes and labels it takes, what patches look like, a run from end to end."""

from __future__ import annotations

import copy
import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from medseg.errors import InputError, RecipeError
from medseg.losses import ThinThickLoss
from medseg.networks import MPUNet, TSFMUNet
from medseg.training import run_training
from medseg.training.augmentation import PatchSampler
from medseg.training.data import PreparedCase
from medseg.training.objectives.thin_thick import ThinThickSection
from medseg.training.recipe import Recipe, read_recipe
from medseg.training.thin_thick import thick_copy
from medseg.volumes import Geometry, Volume, write_labelmap, write_volume
from support.packages import bright_blob_case

RATIO = 4


@pytest.fixture
def a_thin_thick_recipe(a_small_recipe: dict) -> dict:
    content = copy.deepcopy(a_small_recipe)
    content["loss"] = {"kind": "thin_thick", "ratio": RATIO, "features": "decoder.0", "ramp_epochs": 1}
    content["augmentation"].update(rotation_degrees=[0.0, 0.0, 15.0], elastic_probability=0.0)
    content["window"]["size"] = [24, 24, 8]
    content["package"]["minimum_slices"] = 4
    return content


def drawn(label: Volume, ratio: int = RATIO) -> Volume:
    share = thick_copy(label, factor=ratio)
    return share.with_array((share.array > 0.5).astype(np.uint8))


def section(**options: Any) -> ThinThickSection:
    return ThinThickSection(kind="thin_thick", ratio=RATIO, **options)


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (("window", "size"), [24, 24, 10], "must be a multiple of loss.ratio"),
        (("preprocessing", "spacing"), [1.0, 1.0, 2.0], "must be null"),
        (("augmentation", "rotation_degrees"), [5.0, 0.0, 15.0], "may turn about K only"),
        (("augmentation", "elastic_probability"), 0.3, "elastic_probability must be 0"),
        (("loss", "weights"), [0.0, 0.0, 1.0], "first or a second one above 0"),
        (("data", "annotated"), "present", "data.annotated"),
    ],
)
def test_a_recipe_that_would_tear_groups_apart_is_refused(
    a_thin_thick_recipe: dict, write_recipe: Any, place: tuple[str, str], value: Any, sentence: str
) -> None:
    a_thin_thick_recipe[place[0]][place[1]] = value
    with pytest.raises(RecipeError, match=sentence):
        read_recipe(write_recipe(a_thin_thick_recipe))


def a_case(geometry: Geometry | None = None) -> tuple[Volume, Volume]:
    geometry = geometry or Geometry.from_spacing((14, 9, 8), (1.0, 1.0, 1.5), orientation="RAS")
    array = np.arange(np.prod(geometry.shape)).reshape(geometry.shape).astype(np.float32)
    label = np.zeros(geometry.shape, np.uint8)
    label[3:9, 2:6, 3:7] = 1
    return Volume(array, geometry), Volume(label, geometry)


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "RPS"])
def test_images_are_cropped_to_whole_groups_and_labels_repeated(orientation: str) -> None:
    image, label = a_case()
    thick = drawn(label)
    (kept,), repeated = section().on_one_grid((image,), thick, orientation, "training")
    assert kept.geometry.is_close(repeated.geometry)
    np.testing.assert_array_equal(kept.array, image.array[:12])
    np.testing.assert_array_equal(repeated.array, np.repeat(thick.array, RATIO, axis=0))


def test_labels_on_the_image_grid_keep_its_size() -> None:
    image, label = a_case()
    repeated = section().on_image_grid(drawn(label), image)
    assert repeated.geometry == image.geometry
    assert not repeated.array[12:].any()


def test_thin_labels_are_for_cases_kept_aside_only() -> None:
    image, label = a_case()
    (kept,), same = section().on_one_grid((image,), label, "RAS", "validation")
    np.testing.assert_array_equal(same.array, label.array[:12])
    assert kept.shape == same.shape
    with pytest.raises(InputError, match="lies on the thin slices"):
        section().on_one_grid((image,), label, "RAS", "training")


def test_other_groups_or_axes_than_the_recipe_says_are_refused() -> None:
    image, label = a_case()
    with pytest.raises(InputError, match="thick slices are 2 thin ones"):
        section().on_one_grid((image,), drawn(label, 2), "RAS", "training")
    with pytest.raises(InputError, match="stacked along another axis"):
        section().on_one_grid((image,), drawn(label), "SRA", "training")


def test_a_result_is_judged_by_what_it_shows_on_the_thick_slices() -> None:
    _, label = a_case()
    found = label.with_array(np.zeros_like(label.array))
    found.array[0:3, 4, 4] = 1  # three of four slices: shown
    found.array[4:6, 4, 4] = 1  # two of four: not
    found.array[12:14, 4, 4] = 1  # belongs to no group
    shown = section().as_labelled(found, drawn(label))
    assert np.flatnonzero(shown.array[:, 4, 4]).tolist() == [0, 1, 2, 3]
    assert section().as_labelled(found, label) is found


def a_prepared_case() -> PreparedCase:
    """Voxels hold their slice index; labels are repeated in groups."""
    size = (20, 18, 24)
    slices = torch.arange(size[2], dtype=torch.float32).expand(size).clone()
    label = ((slices // RATIO) % 2).to(torch.uint8)
    label[:4] = 0
    voxels = torch.nonzero(label).to(torch.int32)
    return PreparedCase("one", slices[None], label, (1.0, 1.0, 2.0), (voxels,), torch.ones(2, dtype=torch.bool))


@pytest.mark.parametrize("seed", range(12))
def test_patches_are_whole_groups_whatever_the_augmentation(a_thin_thick_recipe: dict, seed: int) -> None:
    a_thin_thick_recipe["augmentation"].update(
        affine_probability=1.0, scale=0.3, translation_mm=9.0, flip_axes=[0, 1, 2], noise_probability=0.0,
        smooth_probability=0.0, gamma_probability=0.0, bias_probability=0.0, low_resolution_probability=0.0,
        intensity_shift=0.0, intensity_scale=0.0, outside="border",
    )  # fmt: skip
    recipe = Recipe.model_validate(a_thin_thick_recipe)
    sampler = PatchSampler(recipe.window, recipe.augmentation, 0.5, recipe.loss.slice_groups)
    patch = sampler.draw(a_prepared_case(), seed)
    groups = patch["classes"].unflatten(-1, (-1, RATIO))
    assert (groups == groups[..., :1]).all()
    found = patch["image"][0, 12, 12]
    start, stop = sorted((found[0].item(), found[-1].item()))
    assert start / RATIO == pytest.approx(round(start / RATIO), abs=1e-3)
    assert stop - start == pytest.approx(7, abs=1e-3)


def test_the_loss_is_that_of_both_passes(a_thin_thick_recipe: dict) -> None:
    torch.manual_seed(0)
    network = TSFMUNet(1, 2, base=4, depth=2, spacing_aware=True).train()
    network.slice_spacing = torch.tensor([1.5])
    objective = section(features="decoder.0", ramp_epochs=4, weights=(1.0, 2.0, 0.5)).build(2)
    objective.start_epoch(1)
    image, classes = torch.randn(1, 1, 16, 16, 8), torch.randint(0, 2, (1, 16, 16, 2), dtype=torch.uint8)
    seen: list[float] = []
    network.register_forward_pre_hook(lambda module, _inputs: seen.append(float(module.slice_spacing)))
    batch = {"image": image, "classes": classes.repeat_interleave(RATIO, -1)}
    losses = objective(objective.outputs(network, image), batch)
    # The thick pass is told the distance of thick slices, and the network forgets it again.
    assert (seen, float(network.slice_spacing)) == ([1.5, 6.0], 1.5)
    thin = network(image)
    network.slice_spacing = torch.tensor([6.0])
    thick = network(image.unflatten(-1, (-1, RATIO)).mean(-1))
    parts = ThinThickLoss(RATIO)(thin, thick, classes)
    assert losses["thick_loss"].item() == pytest.approx(parts["thick"].item(), rel=1e-4)
    assert losses["thin_loss"].item() == pytest.approx(parts["thin"].item(), rel=1e-4)
    expected = parts["thick"] + 2 * parts["thin"] + 0.5 * 0.25 * losses["feature_loss"]
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert not network.decoder[0]._forward_hooks


@pytest.fixture
def thin_images_with_thick_labels(tmp_path: Path) -> Path:
    folder = tmp_path / "cases"
    folder.mkdir()
    for number in range(3):
        image, label = bright_blob_case(seed=number, shape=(18, 24, 24), spacing=(1.0, 1.0, 2.0))
        write_volume(image, folder / f"case_{number}.nii.gz")
        write_labelmap(drawn(label), folder / f"case_{number}_label.nii.gz")
    return folder


def test_a_folder_of_thin_images_and_thick_labels_is_trained_on_and_measured(
    a_thin_thick_recipe: dict, write_recipe: Any, thin_images_with_thick_labels: Path, tmp_path: Path
) -> None:
    result = run_training(
        write_recipe(a_thin_thick_recipe), thin_images_with_thick_labels, tmp_path / "run", device="cpu"
    )
    assert result is not None
    assert len(result.cases) == 1
    assert 0 <= result.cases[0].dice <= 1
    with (tmp_path / "run" / "evaluation.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 1
    assert (result.package / "configs" / "inference.json").is_file()


def test_thin_labels_in_the_training_data_are_named_before_the_first_step(
    a_thin_thick_recipe: dict, write_recipe: Any, a_training_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="case_1: its label lies on the thin slices"):
        run_training(write_recipe(a_thin_thick_recipe), a_training_folder, tmp_path / "run", device="cpu")


def test_the_section_is_written_as_in_a_recipe(a_thin_thick_recipe: dict) -> None:
    again = Recipe.model_validate(yaml.safe_load(yaml.safe_dump(a_thin_thick_recipe)))
    assert again.loss.slice_groups == (2, RATIO)


def test_of_a_network_that_gives_probability_maps_the_output_is_judged() -> None:
    torch.manual_seed(0)
    network = MPUNet(1, 2, widths=(2, 2, 2, 2, 4, 4), normalise="instance").train()
    batch = {
        "image": torch.randn(1, 1, 16, 16, 8),
        "classes": torch.randint(2, (1, 16, 16, 2)).to(torch.uint8).repeat_interleave(RATIO, 3),
    }
    objective = section(weights=(1.0, 1.0, 0.0)).build(2)
    passes = objective.outputs(network, batch["image"])
    torch.testing.assert_close(passes.thin.softmax(1), passes.thin.exp(), atol=1e-4, rtol=1e-4)
    objective(passes, batch)["loss"].backward()
    trained = {name.split(".")[0] for name, value in network.named_parameters() if value.grad is not None}
    assert {"decoder", "up", "gates", "maps"} <= trained
    assert network.maps[-1].weight.grad.abs().sum() > 0
