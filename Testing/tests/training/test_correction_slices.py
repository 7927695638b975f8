"""The task correction on single slices: samples across all axes, a run from recipe to package, and its use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError
from torch.utils.data import default_collate

from medseg.correction.pipeline import CorrectionOptions, correct
from medseg.correction.prompts import Prompt
from medseg.errors import RecipeError
from medseg.models import load_network, read_package
from medseg.networks import PEMED
from medseg.training import check_data, export_run, run_training
from medseg.training.correction.data import TrainingSamples
from medseg.training.correction.makers import KeptAside, makers_of
from medseg.training.correction.measuring import largest_slices, measured
from medseg.training.correction.module import losses_of
from medseg.training.correction.recipe import read_correction_recipe
from medseg.training.correction.samples import LabelledScan, SampleSection, slice_of
from medseg.training.synthesis import Draws
from medseg.volumes import Geometry, Volume, read_volume, write_volume
from support.correction import SHAPES, TINY, a_correction_recipe, a_slice_recipe

SIZE = (32, 32)
STILL = {
    "rotation_degrees": 0, "stretch": 1, "invert": 0, "gamma": 1, "noise": 0, "from_segmentation": 0,
}  # fmt: skip
SCANS = {"kind": "scans", "folder": "blocks", "keep_aside": 1, "names": {1: "Block", 2: "Rod"}}


def a_scan() -> LabelledScan:
    """A bright block of 12 x 20 x 30 mm (label 1), and a thread (label 2), voxels of 1 x 1 x 3 mm."""
    labels = np.zeros((24, 60, 60), np.uint8)
    labels[10:14, 20:40, 15:45] = 1
    labels[2, 50, 5:20] = 2
    image = 100.0 * labels + np.random.default_rng(0).normal(0, 5, labels.shape)
    return LabelledScan.of_arrays(image.astype(np.float32), labels, (3.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def a_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scans of a block and a rod."""
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
    recipe = a_slice_recipe(**{"sources": [SCANS, SHAPES], **changes})
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def a_run(a_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run")
    result = run_training(a_recipe_file(output), a_folder, output / "out", device="cpu")
    assert result is not None
    assert "--tool slice" in result.usage
    return output / "out"


# --- samples


def test_slices_lie_across_all_three_axes_and_keep_sizes_in_mm() -> None:
    section, seen = SampleSection(edge_mm=(64, 64), **STILL), set()
    for seed in range(40):
        sample = slice_of(a_scan(), 1, section, SIZE, Draws(seed))
        assert sample is not None
        assert sample.image.shape == sample.truth.shape == sample.start.shape == (1, *SIZE)
        assert sample.truth.sum() >= 8
        places = sample.truth[0].nonzero()
        extent = sorted((2 * (places.amax(0) - places.amin(0) + 1)).tolist())
        seen.add(min({0: (20, 30), 1: (12, 30), 2: (12, 20)}.items(), key=lambda item: np.abs(
            np.subtract(item[1], extent)).sum())[0])  # fmt: skip
        inside, outside = sample.image[sample.truth > 0].mean(), sample.image[sample.truth == 0].mean()
        assert inside > outside + 1
    assert seen == {0, 1, 2}


def test_axes_can_be_chosen_and_turned_slices_still_show_the_structure() -> None:
    section = SampleSection(rotation_degrees=40, stretch=1.3)
    for seed in range(20):
        sample = slice_of(a_scan(), 1, section, SIZE, Draws(seed), axes=(1,))
        assert sample is not None
        assert sample.truth.sum() >= 8
        assert torch.isfinite(sample.image).all()
    first, again = (slice_of(a_scan(), 1, section, SIZE, Draws(3)) for _ in range(2))
    assert first is not None
    assert again is not None
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))


def test_a_structure_of_less_than_8_pixels_in_a_slice_is_not_drawn(a_folder: Path) -> None:
    section = SampleSection(edge_mm=(190, 190), **STILL)
    assert all(slice_of(a_scan(), 2, section, SIZE, Draws(seed)) is None for seed in range(5))
    recipe = a_slice_recipe(sources=[SCANS], samples={"edge_mm": (900, 900)})
    (maker,) = makers_of(recipe, a_folder)
    with pytest.raises(RecipeError, match="too small to be seen in slices"):
        maker.training_sample(Draws(0))


def test_a_scan_of_one_slice_is_seen_in_that_slice_alone() -> None:
    labels = np.zeros((1, 40, 40), np.uint8)
    labels[0, 10:30, 12:28] = 1
    scan = LabelledScan.of_arrays(labels.astype(np.float32), labels, (5.0, 1.0, 1.0))
    for seed in range(6):
        sample = slice_of(scan, 1, SampleSection(**STILL), SIZE, Draws(seed))
        assert sample is not None
        assert sample.truth.sum() > 100
    assert [axis for axis, *_ in largest_slices(KeptAside("c", "Block", scan, 1, seen=True))] == [0]


def test_scans_and_shapes_give_slices_the_same_in_every_run(a_folder: Path) -> None:
    recipe = a_slice_recipe(sources=[SCANS, SHAPES])
    first, again = (TrainingSamples(recipe, makers_of(recipe, a_folder)) for _ in range(2))
    for number in range(6):
        one, other = first[number], again[number]
        assert one["image"].shape == (1, *SIZE)
        assert one["truth"].sum() >= 8
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_cases_with_a_start_and_without_one_are_asked_apart() -> None:
    recipe, starts = a_slice_recipe(clicks={"most": 0}), []

    class Listening(PEMED):
        def refine(self, features: Any, positive: Any, negative: Any, previous: Any, last_logits: Any = None) -> Any:
            starts.append((len(previous), bool(previous.any()), last_logits is None))
            return super().refine(features, positive, negative, previous, last_logits)

    samples = TrainingSamples(recipe, makers_of(recipe, None))
    batch = default_collate([samples[number] for number in range(4)])
    batch["start"][:3], batch["start"][3] = batch["truth"][:3], 0
    losses = losses_of(Listening(**{**TINY, "dims": 2}), batch, recipe)
    assert torch.isfinite(losses["loss"])
    # The Self-Loop has a pass from nothing, and the graded one goes on from it.
    assert starts[0] == (3, True, True)
    assert starts[1][:2] == (1, False)
    assert starts[2] == (1, True, False)


# --- measuring


def test_a_structure_is_measured_in_its_largest_slices() -> None:
    kept = KeptAside("c1", "Block", a_scan(), 1, seen=True)
    slices = largest_slices(kept)
    assert [(axis, int(truth.sum())) for axis, _, truth in slices] == [(0, 600), (1, 120), (2, 80)]
    assert [volume.shape for _, volume, _ in slices] == [(1, 60, 60), (24, 1, 60), (24, 60, 1)]
    found = measured(PEMED(**{**TINY, "dims": 2}), kept, a_slice_recipe(evaluation={"clicks": 3}))
    assert len(found.scores) == 3
    assert all(0 <= score <= 1 for score in found.scores)


# --- recipes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window": [1, 32, 40]}, "multiples of 16"),
        ({"window": [1, 32, 64]}, "square"),
        ({"window": [32, 1, 32]}, "32"),
    ],
)
def test_windows_that_are_no_slices_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        a_slice_recipe(**changes)


def test_the_network_must_have_the_dimensions_of_the_window(a_folder: Path, tmp_path: Path) -> None:
    solid = a_correction_recipe().network.model_dump()
    with pytest.raises(RecipeError, match="does not follow clicks in 2D"):
        check_data(a_recipe_file(tmp_path, network=solid), a_folder)


def test_a_recipe_for_slices_is_checked_before_the_first_step(a_folder: Path, tmp_path: Path) -> None:
    checked = check_data(a_recipe_file(tmp_path), a_folder)
    assert ("Window", "1 x 32 x 32 voxels") in checked.rows()


def test_the_shipped_recipe_can_be_read_and_its_weights_stay_below_4_mb(repository: Path) -> None:
    recipe = read_correction_recipe(repository / "Resources" / "recipes" / "any-slice.yaml")
    network = PEMED(**recipe.network.arguments)
    assert network.dims == 2
    assert network.detail is None, "as published"
    assert 2 * sum(weight.numel() for weight in network.parameters()) < 4e6


# --- the package


def test_a_run_ends_in_a_package_for_slices(a_run: Path) -> None:
    package = read_package(a_run / "any-slice")
    assert package.verb == "correct"
    assert package.window.size_ijk == (32, 32, 1)
    network = load_network(package)
    assert isinstance(network, PEMED)
    assert network.dims == 2
    card = (package.folder / "docs" / "README.md").read_text()
    for words in (
        "a part of one slice",
        "a grid of 32 x 32 pixels",
        "Means over three slices",
        "across all three axes",
    ):
        assert words in card, words
    assert read_package(export_run(a_run, a_run.parent / "exported")).window.size_ijk == (32, 32, 1)


def test_the_package_corrects_slices(a_run: Path, a_folder: Path) -> None:
    volume = read_volume(a_folder / "blocks" / "c0.nii.gz")
    ras = volume.geometry.ijk_to_ras_points(np.array([8.0, 9, 9]))
    package, nothing = read_package(a_run / "any-slice"), np.zeros(volume.shape, bool)
    for reach in (0.0, 4.0):
        options = CorrectionOptions("slice", plane="coronal", reach_mm=reach)
        result = correct(volume, nothing, [Prompt("point", ras)], options, package=package)
        assert result.mask[9, 9, 8]
        assert result.region is not None
        assert result.region.shape[1] <= 1 + reach


def test_monai_alone_runs_the_package_on_a_slice(a_run: Path, tmp_path: Path) -> None:
    rng, files = np.random.default_rng(0), {}
    names = ("image", "positive", "negative", "previous")
    arrays = {name: rng.random((1, *SIZE)).astype(np.float32) for name in names}
    for name, array in arrays.items():
        files[name] = tmp_path / f"{name}.nii.gz"
        write_volume(Volume(array, Geometry.from_spacing(array.shape, (1.0, 1.0, 1.0))), files[name])
    command = [
        sys.executable, "-m", "monai.bundle", "run", "--meta_file", "configs/metadata.json", "--config_file",
        "configs/inference.json", *(part for name, path in files.items() for part in (f"--{name}", str(path))),
        "--output_dir", str(tmp_path / "out"),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=a_run / "any-slice", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = (tmp_path / "out").glob("*.nii.gz")
    network = load_network(read_package(a_run / "any-slice"))
    # MONAI reads files as (i, j, k).
    given = [torch.from_numpy(array[0].T.copy())[None, None] for array in arrays.values()]
    with torch.no_grad():
        expected = torch.sigmoid(network(*given))[0, 0].numpy().T
    np.testing.assert_allclose(read_volume(found).array[0], expected, atol=2e-3)
