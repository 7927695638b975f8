"""A results folder of nnU-Net segments as nnU-Net's own predictor does."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from medseg.errors import Cancelled, InputError
from medseg.models import ModelPackage, choose, read_package
from medseg.progress import Progress
from medseg.segmentation import SegmentOptions, estimate, segment
from medseg.volumes import Geometry, Volume, read_volume
from support.nnunet import DATASET, RESIDUAL, ResultsFolder, configuration, old_form, predicted

SHAPE, SPACING = (18, 22, 20), (2.0, 1.0, 1.2)
"""Of the images: voxels and mm along k, j, i."""

FULL = configuration([12, 14, 12], [1.6, 1.1, 1.0])


def head(seed: int = 0, shape: tuple[int, int, int] = SHAPE, spacing: tuple[float, float, float] = SPACING) -> Volume:
    """An image of smooth noise in an ellipsoid, with a hole in it, and zeros around."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    radius = sum(axis**2 for axis in axes)
    image = 100 + 40 * np.sin(3 * axes[0] + seed) + 25 * np.cos(4 * axes[1] * axes[2]) + rng.normal(0, 9, shape)
    image = np.where(radius < 1.1, image, 0.0).astype(np.float32)
    image[:2] = 0
    image[tuple(slice(size // 2, size // 2 + 2) for size in shape)] = 0
    geometry = Geometry.from_spacing(shape, spacing[::-1], orientation="LPS")
    return Volume(image, geometry, name="head", modality="MR")


def labels_of(package: ModelPackage, *volumes: Volume, progress: Progress | None = None) -> np.ndarray:
    options = SegmentOptions(device="cpu", statistics=False)
    given = {"progress": progress} if progress else {}
    return segment(volumes, package, options, **given).labelmap.array


def assert_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    """At least 99.9 % of the voxels, and there is something to compare."""
    assert len(np.unique(theirs)) > 1
    assert (ours == theirs).mean() >= 0.999


def test_a_full_resolution_model_is_cropped_normalised_resampled_and_blended_as_nnunet_does(tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path, {"3d_fullres": FULL})
    package = read_package(results.training("3d_fullres"))
    assert_same(labels_of(package, head()), predicted(results, "3d_fullres", [head().array], SPACING))


def test_slices_are_segmented_one_by_one_with_their_own_distance(tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path, {"2d": configuration([14, 12], [1.3, 1.1])})
    package = choose(read_package(results.folder), {"mirroring": "yes"})
    theirs = predicted(results, "2d", [head().array], SPACING, mirroring=True)
    assert_same(labels_of(package, head()), theirs)


def test_folds_are_averaged_and_mirrored_when_asked(tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path, {"3d_fullres": FULL}, folds=("0", "1", "all"), mirror_axes=(0, 2))
    package = read_package(results.folder)
    image = head().array
    assert_same(labels_of(package, head()), predicted(results, "3d_fullres", [image], SPACING, folds=("0", "1")))
    one = labels_of(choose(package, {"folds": "all"}), head())
    assert_same(one, predicted(results, "3d_fullres", [image], SPACING, folds=("all",)))


def test_thick_slices_are_resampled_on_their_own_and_regions_laid_over_each_other(tmp_path: Path) -> None:
    dataset = {
        "channel_names": {"0": "T1", "1": "noNorm"},
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "heart": [3]},
        "regions_class_order": [1, 2, 3],
        "file_ending": ".nii.gz",
    }
    plan = configuration(
        [4, 14, 12],
        [6.0, 1.4, 1.5],
        network=RESIDUAL,
        channels=2,
        normalization_schemes=["RescaleTo01Normalization", "CTNormalization"],
    )
    results = ResultsFolder(
        tmp_path, {"3d_fullres": plan}, dataset=dataset, transpose_forward=[0, 2, 1], transpose_backward=[0, 2, 1]
    )
    spacing = (7.0, 1.1, 1.2)
    volumes = [head(seed, (9, 24, 20), spacing) for seed in (1, 2)]
    ours = labels_of(read_package(results.folder), *volumes)
    assert_same(ours, predicted(results, "3d_fullres", [volume.array for volume in volumes], spacing))


def test_a_cascade_takes_the_labels_of_its_first_stage(tmp_path: Path) -> None:
    plans = {
        "3d_lowres": configuration([8, 8, 8], [2.6, 2.4, 2.5], next_stage="3d_cascade_fullres"),
        "3d_fullres": FULL,
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    }
    results = ResultsFolder(tmp_path, plans)
    package = read_package(results.training("3d_cascade_fullres"))
    assert package.first_stage is not None
    first = labels_of(package.first_stage, head())
    assert_same(first, predicted(results, "3d_lowres", [head().array], SPACING))
    theirs = predicted(results, "3d_cascade_fullres", [head().array], SPACING, previous=first)
    assert_same(labels_of(package, head()), theirs)
    alone = estimate(head().geometry, choose(read_package(results.folder), {"configuration": "3d_fullres"}))
    assert estimate(head().geometry, package).windows > alone.windows


def test_old_plans_build_the_same_network(tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path / "new", {"3d_fullres": FULL})
    old = ResultsFolder(tmp_path / "old", {"3d_fullres": old_form(FULL)})
    np.testing.assert_array_equal(
        labels_of(read_package(old.folder), head()), labels_of(read_package(results.folder), head())
    )


def test_images_smaller_than_a_window_lie_in_its_middle(tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path, {"3d_fullres": configuration([32, 16, 24], [2.0, 1.0, 1.2])})
    assert_same(
        labels_of(read_package(results.folder), head()), predicted(results, "3d_fullres", [head().array], SPACING)
    )


def test_a_model_that_wants_ras_gets_it_and_the_answer_is_turned_back(tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path, {"3d_fullres": FULL}, image_reader_writer="NibabelIOWithReorient")
    package = read_package(results.folder)
    volume = head()
    ours = labels_of(package, volume)
    turned = volume.reorient("RAS")
    theirs = predicted(results, "3d_fullres", [turned.array], SPACING)
    assert_same(Volume(ours, volume.geometry).reorient("RAS").array, theirs)


def test_parts_to_save_memory_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = ResultsFolder(tmp_path, {"3d_fullres": FULL})
    package = read_package(results.folder)
    expected = segment([head()], package, SegmentOptions(device="cpu"))
    for name in ("_LEAST_SCORE_BYTES", "_COMFORT_BYTES"):
        monkeypatch.setattr(sys.modules["medseg.segmentation.estimate"], name, 1)
    parts = segment([head()], package, SegmentOptions(device="cpu"))
    assert any("To save memory" in notice for notice in parts.notices)
    np.testing.assert_array_equal(parts.labelmap.array, expected.labelmap.array)


def test_a_run_can_be_stopped_and_tells_how_far_it_is(tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path, {"3d_fullres": FULL})
    heard: list[float] = [0.0]
    progress = Progress(lambda fraction, _: heard.append(fraction), lambda: heard[-1] > 0.3)
    with pytest.raises(Cancelled):
        labels_of(read_package(results.folder), head(), progress=progress)
    assert heard == sorted(heard)


def test_colours_outside_their_range_are_refused(tmp_path: Path) -> None:
    plan = {**FULL, "normalization_schemes": ["RGBTo01Normalization"]}
    results = ResultsFolder(tmp_path, {"3d_fullres": plan})
    with pytest.raises(InputError, match="colours from 0 to 255"):
        labels_of(read_package(results.folder), head().with_array(head().array * 9))


def test_the_weights_are_traced_in_the_result(tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path, {"3d_fullres": FULL}, dataset={**DATASET, "release": "2.0"})
    package = read_package(results.folder)
    model = segment([head()], package, SegmentOptions(device="cpu")).model
    assert model["version"] == "2.0"
    assert model["weights_sha256"] == package.weights_digest()
    assert len(model["weights_sha256"]) == 64


@pytest.mark.parametrize("mirroring", ["no", "yes"])
@pytest.mark.parametrize("name", ["2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres"])
def test_nnunet_itself_says_the_same(tmp_path: Path, name: str, mirroring: str) -> None:
    if importlib.util.find_spec("nnunetv2") is None:
        pytest.skip("nnunetv2 is not installed")
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    plans = {
        "2d": configuration([14, 12], [1.3, 1.1]),
        "3d_fullres": FULL,
        "3d_lowres": configuration([8, 8, 8], [2.6, 2.4, 2.5], next_stage="3d_cascade_fullres"),
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    }
    results = ResultsFolder(tmp_path, plans, transpose_forward=[2, 0, 1], transpose_backward=[1, 2, 0])
    package = choose(read_package(results.folder), {"configuration": name, "mirroring": mirroring})
    previous = labels_of(package.first_stage, head()) if package.first_stage else None
    predictor = nnUNetPredictor(use_mirroring=mirroring == "yes", device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(results.training(name)), ("0",))
    theirs = predictor.predict_single_npy_array(
        head().array[None], {"spacing": list(SPACING)}, None if previous is None else previous[None].astype(np.int16)
    )
    assert_same(labels_of(package, head()), theirs)


def reference(kind: str) -> Path:
    folder = Path(os.environ.get("MEDSEG_NNUNET_REFERENCE", "/nowhere"))
    if not (folder / "expected" / kind).is_dir():
        pytest.skip("no folders trained by nnU-Net: see Testing/benchmarks/nnunet_reference.py")
    return folder


@pytest.mark.parametrize("kind", ["hippocampus", "heart-regions", "head-neck"])
def test_folders_that_nnunet_trained_give_what_its_predictor_gave(kind: str) -> None:
    folder = reference(kind)
    (trained,) = (folder / "results").glob(f"*_{kind.title().replace('-', '')}")
    volumes = [read_volume(path) for path in sorted((folder / "expected" / kind / "images").iterdir())]
    for answer in sorted((folder / "expected" / kind).glob("*/case.nii.gz")):
        name, _, mirrored = answer.parent.name.partition("-")
        wanted = {"configuration": name, "mirroring": "yes" if mirrored else "no"}
        package = choose(read_package(trained), wanted)
        ours, theirs = labels_of(package, *volumes), read_volume(answer).array
        assert (ours == theirs).mean() >= 0.999
        for value in package.labels.values:
            both, each = ((ours == value) & (theirs == value)).sum(), (ours == value).sum() + (theirs == value).sum()
            assert 2 * both >= 0.999 * each, (answer.parent.name, value)
