"""Training from files to a package that the pipeline runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.errors import Cancelled, RecipeError, TrainingError
from medseg.metrics import dice
from medseg.models import read_package
from medseg.progress import Progress
from medseg.segmentation import SegmentOptions, segment
from medseg.training import run_training
from medseg.volumes import Geometry, Volume, read_labelmap, read_volume, write_labelmap, write_volume
from support.packages import bright_blob_case


def epochs_logged(output: Path, run: str) -> list[int]:
    with (output / "logs" / run / "metrics.csv").open() as stream:
        return [int(row["epoch"]) for row in csv.DictReader(stream) if row["loss_epoch"]]


def test_a_trained_package_segments_a_case_that_it_never_saw(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path
) -> None:
    a_small_recipe["network"] = {
        "target": "monai.networks.nets.UNet",
        "arguments": {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [8, 16], "strides": [2]},
    }
    a_small_recipe["optimisation"].update(epochs=8, steps_per_epoch=10, average_decay=0.9, learning_rate=2e-2)
    result = run_training(write_recipe(a_small_recipe), a_training_folder, tmp_path / "out", device="cpu")
    package = read_package(result.package)
    assert package.name == "blobs"
    assert {case.case for case in result.cases} == set(
        json.loads((tmp_path / "out" / "split.json").read_text())["validation"]
    )
    image, truth = bright_blob_case(seed=99, shape=(16, 24, 24), spacing=(1.0, 1.0, 2.0))
    found = segment([image], package, SegmentOptions(device="cpu")).labelmap
    assert dice(found.array > 0, truth.array > 0) > 0.7
    assert package.metrics["mean_dice"] == pytest.approx(np.mean([case.dice for case in result.cases]), abs=1e-4)


def test_a_killed_run_goes_on_after_its_last_epoch(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path
) -> None:
    a_small_recipe["optimisation"]["epochs"] = 4
    recipe, output = write_recipe(a_small_recipe), tmp_path / "out"
    fractions: list[float] = []
    stop = Progress(
        lambda fraction, _text: fractions.append(fraction), lambda: bool(fractions) and fractions[-1] > 0.55
    )
    with pytest.raises(Cancelled):
        run_training(recipe, a_training_folder, output, device="cpu", progress=stop)
    assert epochs_logged(output, "first") == [0, 1]
    run_training(recipe, a_training_folder, output, device="cpu")
    assert epochs_logged(output, "resumed") == [2, 3]


def test_the_same_recipe_gives_the_same_weights(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path
) -> None:
    recipe = write_recipe(a_small_recipe)
    digests = [
        read_package(run_training(recipe, a_training_folder, tmp_path / name, device="cpu").package).weights_sha256
        for name in ("one", "two")
    ]
    assert digests[0] == digests[1]


def test_a_folder_with_another_recipes_run_is_not_gone_on_with(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path
) -> None:
    run_training(write_recipe(a_small_recipe), a_training_folder, tmp_path / "out", device="cpu")
    a_small_recipe["optimisation"]["learning_rate"] = 1e-4
    recipe = write_recipe(a_small_recipe)
    with pytest.raises(TrainingError, match="another recipe"):
        run_training(recipe, a_training_folder, tmp_path / "out", device="cpu")
    run_training(recipe, a_training_folder, tmp_path / "out", device="cpu", resume=False)


def test_a_loss_that_is_not_a_number_stops_with_the_batch_saved(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path
) -> None:
    a_small_recipe["optimisation"].update(learning_rate=1e20, warmup_steps=0, gradient_clip=1e30, epochs=3)
    with pytest.raises(TrainingError, match="not a number"):
        run_training(write_recipe(a_small_recipe), a_training_folder, tmp_path / "out", device="cpu")
    saved = torch.load(tmp_path / "out" / "bad_batch.pt", weights_only=True)
    assert saved["image"].shape == (1, 1, 24, 24, 8)


def test_weights_of_a_package_are_a_starting_point(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path
) -> None:
    first = run_training(write_recipe(a_small_recipe), a_training_folder, tmp_path / "one", device="cpu")
    a_small_recipe["start_from"] = "one/blobs"
    a_small_recipe["optimisation"].update(learning_rate=1e-12, epochs=1, steps_per_epoch=1)
    second = run_training(write_recipe(a_small_recipe), a_training_folder, tmp_path / "two", device="cpu")
    for case, again in zip(first.cases, second.cases, strict=True):
        assert again.dice == pytest.approx(case.dice, abs=0.02)
    a_small_recipe["network"]["arguments"]["base"] = 8
    with pytest.raises(RecipeError, match="do not fit"):
        run_training(write_recipe(a_small_recipe), a_training_folder, tmp_path / "three", device="cpu")


@pytest.fixture
def a_folder_to_spoil(a_training_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for path in a_training_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def refuse(recipe: Path, data: Path, output: Path, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        run_training(recipe, data, output, device="cpu")


def test_bad_data_is_refused_before_the_first_step(
    a_small_recipe: dict, write_recipe, a_folder_to_spoil: Path, tmp_path: Path
) -> None:
    recipe, out = write_recipe(a_small_recipe), tmp_path / "out"
    label_path = a_folder_to_spoil / "case_2_label.nii.gz"
    good = label_path.read_bytes()
    label = read_labelmap(label_path)

    write_labelmap(label.with_array(np.zeros_like(label.array)), label_path)
    refuse(recipe, a_folder_to_spoil, out, "case_2: the label is empty")
    write_labelmap(label.with_array((label.array * 7).astype(np.uint8)), label_path)
    refuse(recipe, a_folder_to_spoil, out, r"case_2: the label holds the values \[7\]")
    shifted = label.geometry.ijk_to_ras.copy()
    shifted[0, 3] += 1.0
    write_labelmap(Volume(label.array, Geometry(label.geometry.shape, shifted)), label_path)
    refuse(recipe, a_folder_to_spoil, out, "case_2: image and label lie on different grids")
    label_path.write_bytes(good[: len(good) // 2])
    refuse(recipe, a_folder_to_spoil, out, "case_2 cannot be read|case_2")
    label_path.write_bytes(good)

    image_path = a_folder_to_spoil / "case_1.nii.gz"
    image = read_volume(image_path)
    spoilt = image.array.astype(np.float32)
    spoilt[0, 0, 0] = np.nan
    write_volume(image.with_array(spoilt), image_path)
    refuse(recipe, a_folder_to_spoil, out, "case_1: the image holds values that are not numbers")


def test_pairs_that_are_not_pairs_are_named(
    a_small_recipe: dict, write_recipe, a_folder_to_spoil: Path, tmp_path: Path
) -> None:
    recipe, out = write_recipe(a_small_recipe), tmp_path / "out"
    refuse(recipe, tmp_path / "nowhere", out, "does not exist")
    (a_folder_to_spoil / "case_0_label.nii.gz").unlink()
    refuse(recipe, a_folder_to_spoil, out, "no label file .* case_0")
    (a_folder_to_spoil / "case_0.nii.gz").unlink()
    for number in (1, 2, 3):
        (a_folder_to_spoil / f"case_{number}.nii.gz").unlink()
        (a_folder_to_spoil / f"case_{number}_label.nii.gz").unlink()
    refuse(recipe, a_folder_to_spoil, out, "2 cases, too few for 3 folds")
    empty = tmp_path / "empty"
    empty.mkdir()
    refuse(recipe, empty, out, "No file in .* matches")


def test_a_network_that_does_not_fit_the_labels_is_refused(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path
) -> None:
    a_small_recipe["network"]["arguments"]["out_channels"] = 5
    refuse(
        write_recipe(a_small_recipe),
        a_training_folder,
        tmp_path / "out",
        "5 output channels, but the label table needs 2",
    )


def test_a_network_from_elsewhere_is_refused(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path
) -> None:
    a_small_recipe["network"]["target"] = "os.system"
    refuse(write_recipe(a_small_recipe), a_training_folder, tmp_path / "out", "not on the list")
