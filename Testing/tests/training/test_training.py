"""Training from files to a package that the pipeline runs."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from medseg.errors import Cancelled, DeviceMemoryError, MedSegError, RecipeError, TrainingError
from medseg.metrics import dice
from medseg.models import read_package
from medseg.progress import Progress
from medseg.segmentation import SegmentOptions, segment
from medseg.training import run_training
from medseg.training.measure import measure_cost
from medseg.training.recipe import read_recipe
from medseg.training.run_files import read_progress, read_state, request_stop
from medseg.training.setup import try_network
from medseg.volumes import read_labelmap, read_volume, write_labelmap, write_volume
from support.packages import bright_blob_case
from support.segmentation import label_table


def epochs_told(output: Path) -> list[int]:
    return [entry["epoch"] for entry in read_progress(output) if entry["kind"] == "epoch"]


def epochs_logged(output: Path, run: str) -> list[int]:
    with (output / "logs" / run / "metrics.csv").open() as stream:
        return [int(row["epoch"]) for row in csv.DictReader(stream) if row["loss_epoch"]]


def a_started_run(recipe: Path, data: Path, output: Path) -> subprocess.Popen[str]:
    """Start the command in a process group of its own, as a terminal does."""
    command = [
        sys.executable,
        "-m",
        "medseg.cli",
        "train",
        recipe,
        "--data",
        data,
        "--output",
        output,
        "--device",
        "cpu",
    ]
    return subprocess.Popen(
        [str(part) for part in command], start_new_session=True, stderr=subprocess.PIPE, encoding="utf-8"
    )


def wait_for_epochs(process: subprocess.Popen[str], output: Path, count: int) -> None:
    deadline = time.monotonic() + 200
    while len(epochs_told(output)) < count:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


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
    assert {case.case for case in result.cases} == {path.name[:-7] for path in (tmp_path / "out/validation").iterdir()}
    assert package.metrics["mean_dice"] == pytest.approx(np.mean([case.dice for case in result.cases]), abs=1e-4)


def test_a_stopped_run_goes_on_after_its_last_epoch(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path
) -> None:
    a_small_recipe["optimisation"]["epochs"] = 4
    recipe, output = write_recipe(a_small_recipe), tmp_path / "out"
    stop = Progress(None, lambda: len(epochs_told(output)) == 2)
    with pytest.raises(Cancelled):
        run_training(recipe, a_training_folder, output, device="cpu", progress=stop)
    assert epochs_logged(output, "first") == [0, 1]
    state = read_state(output)
    assert (state.state, state.epoch, state.epochs) == ("cancelled", 2, 4)
    run_training(recipe, a_training_folder, output, device="cpu")
    assert epochs_logged(output, "resumed") == [2, 3]
    assert epochs_told(output) == [1, 2, 3, 4]
    state = read_state(output)
    assert (state.state, state.resumed_from_epoch, state.package) == ("finished", 2, "blobs")
    assert not (output / "cache").exists()


def test_a_run_ends_when_it_is_asked_to(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.training.run_files._STOP_SECONDS", 0.0)
    output = tmp_path / "out"
    asked = Progress(lambda fraction, _text: request_stop(output) if fraction > 0.1 else None)
    with pytest.raises(Cancelled):
        run_training(write_recipe(a_small_recipe), a_training_folder, output, device="cpu", progress=asked)
    assert read_state(output).state == "cancelled"
    assert read_progress(output)[-1]["state"] == "cancelled"
    assert not (output / "stop").exists()


def test_a_run_that_was_killed_loses_its_last_epoch_at_most(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path
) -> None:
    a_small_recipe["optimisation"].update(epochs=300, validate_every=300)
    recipe, output = write_recipe(a_small_recipe), tmp_path / "out"
    process = a_started_run(recipe, a_training_folder, output)
    try:
        wait_for_epochs(process, output, 3)
    finally:
        process.kill()
        process.wait()
    before = epochs_told(output)[-1]
    assert read_state(output).state == "running"
    assert read_state(output).alive is False
    (output / ".medseg-abc").mkdir()
    (output / ".medseg-abc" / "last.ckpt").write_bytes(b"half of a checkpoint")
    stop = Progress(None, lambda: epochs_told(output)[-1] > before)
    with pytest.raises(Cancelled):
        run_training(recipe, a_training_folder, output, device="cpu", progress=stop)
    resumed = read_progress(output)
    starts = [entry["resumed_from_epoch"] for entry in resumed if entry["kind"] == "start"]
    assert starts[0] == 0
    assert before - 1 <= starts[1] <= before
    told = epochs_told(output)
    assert told == list(range(1, told[-1] + 1))
    assert list(output.glob(".medseg-*")) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_whose_whole_group_is_interrupted_says_so_and_goes_on_later(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    a_small_recipe["optimisation"].update(epochs=300, steps_per_epoch=2, validate_every=300, workers=1)
    a_small_recipe["network"]["arguments"]["base"] = 48  # steps so long that both processes are asked in the same one
    recipe, output = write_recipe(a_small_recipe), tmp_path / "out"
    process = a_started_run(recipe, a_training_folder, output)
    try:
        wait_for_epochs(process, output, 2)
        os.killpg(process.pid, number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, said.strip().splitlines()[-1]) == (code, "Cancelled.")
    assert "should not have" not in said
    assert read_state(output).state == "cancelled"


def test_two_runs_in_one_folder_are_refused(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    code = (
        "from pathlib import Path; from medseg.training.run_files import RunFiles;"
        f"RunFiles(Path({str(output)!r})).start(); print(flush=True); input()"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        with pytest.raises(TrainingError, match=f"A run is going on in .* \\(process {other.pid} on "):
            run_training(write_recipe(a_small_recipe), a_training_folder, output, device="cpu")
    finally:
        other.communicate(b"\n")
    assert read_state(output).state == "running"


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
    assert "with another output folder, or with --no-resume" in read_state(tmp_path / "out").advice


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


def refuse(recipe: Path, data: Path, output: Path, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        run_training(recipe, data, output, device="cpu")


def test_bad_data_is_refused_before_the_first_step_and_told_in_the_state(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "data", tmp_path / "out"
    folder.mkdir()
    for path in a_training_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    path = folder / "case_2_label.nii.gz"
    label = read_labelmap(path)
    write_labelmap(label.with_array(np.zeros_like(label.array)), path)
    refuse(write_recipe(a_small_recipe), folder, out, "1 of 6 cases cannot be trained on: case_2: the label is empty")
    state = read_state(out)
    assert (state.state, state.stage) == ("failed", "checking")
    assert "case_2" in state.message
    assert not (out / "last.ckpt").exists()


def test_pairs_that_are_not_pairs_are_named(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path
) -> None:
    recipe, out, folder = write_recipe(a_small_recipe), tmp_path / "out", tmp_path / "data"
    folder.mkdir()
    for path in a_training_folder.iterdir():
        (folder / path.name).touch()
    refuse(recipe, tmp_path / "nowhere", out, "does not exist")
    (folder / "case_0_label.nii.gz").unlink()
    refuse(recipe, folder, out, "no label file .* case_0")
    (folder / "case_0.nii.gz").unlink()
    for number in (1, 2, 3):
        (folder / f"case_{number}.nii.gz").unlink()
        (folder / f"case_{number}_label.nii.gz").unlink()
    refuse(recipe, folder, out, "2 cases, too few for 3 folds")
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


class Large(torch.nn.Module):
    """A network that a GPU has no memory for, where it is said."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place = place

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if self.place == "step":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")
        return image

    def to(self, *arguments, **options):
        if self.place == "weights":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")
        return super().to(*arguments, **options)


@pytest.mark.parametrize("place", ["step", "weights"])
def test_a_network_that_the_gpu_has_no_memory_for_is_told_before_any_case_is_read(
    a_small_recipe: dict, write_recipe, place: str
) -> None:
    recipe = read_recipe(write_recipe(a_small_recipe))
    with pytest.raises(DeviceMemoryError, match=r"memory is too small for this network .* optimisation\.batch_size"):
        try_network(Large(place), recipe, label_table(1), "cpu")


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (("window", "size"), [24, 24, 9], "The network and the loss cannot work on windows of 24 x 24 x 9 voxels"),
        (("network", "target"), "monai.networks.nets.DenseNet", "cannot work on windows|cannot be built"),
        (("loss",), {"kind": "tversky_ce"}, "loss 'tversky_ce' needs probabilities"),
        (("network", "arguments", "in_channels"), 2, "2 input channels, but the package has 1 inputs"),
        (("augmentation", "swap_on_flip"), [[1, 5]], r"augmentation.swap_on_flip names the labels \[5\]"),
        (("data", "values"), {7: 3}, r"data.values names the labels \[3\]"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_any_case_is_read(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path, place: tuple, value, sentence: str
) -> None:
    a_small_recipe["network"] = {
        "target": "monai.networks.nets.UNet",
        "arguments": {
            "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8, 8], "strides": [2, 2],
        },
    }  # fmt: skip
    *parents, key = place
    content = a_small_recipe
    for parent in parents:
        content = content[parent]
    content[key] = value
    with pytest.raises(MedSegError, match=sentence):
        run_training(write_recipe(a_small_recipe), a_training_folder, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out" / "cases.csv").exists()


def test_the_cost_of_a_run_is_measured_in_a_process_of_its_own(
    bright_blob_package: Path, a_training_folder: Path
) -> None:
    measured = measure_cost(bright_blob_package, [a_training_folder / "case_0.nii.gz"])
    assert measured.seconds_cpu > 0
    assert (measured.size, measured.spacing) == ((24, 24, 16), pytest.approx((1.0, 1.0, 2.0)))
    assert measure_cost(bright_blob_package, [a_training_folder / "none.nii.gz"]) is None


def test_measuring_the_cost_ends_when_somebody_asks_to_stop_or_it_takes_too_long(
    bright_blob_package: Path, a_training_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = a_training_folder / "case_0.nii.gz"
    stopped = Progress(None, lambda: len(psutil.Process().children()) > 0)
    with pytest.raises(Cancelled):
        measure_cost(bright_blob_package, [image], stopped)
    assert psutil.Process().children() == []
    monkeypatch.setattr("medseg.training.measure.MOST_SECONDS", 0.0)
    assert measure_cost(bright_blob_package, [image]) is None
    assert psutil.Process().children() == []


def test_a_model_of_two_images_is_trained_and_measured(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(3):
        for kind in ("", "_label"):
            name = f"case_{number}{kind}.nii.gz"
            (folder / name).write_bytes((a_training_folder / name).read_bytes())
        # The second image lies on a grid of its own: half the slices.
        image = read_volume(folder / f"case_{number}.nii.gz")
        other = image.resample(image.geometry.with_spacing((1.0, 1.0, 4.0)))
        write_volume(other, folder / f"case_{number}_t2.nii.gz")
    a_small_recipe["data"].update(image=["{case}.nii.gz", "{case}_t2.nii.gz"], folds=3)
    a_small_recipe["package"].update(
        inputs=[{"name": "T1", "modality": "MR"}, {"name": "T2", "modality": "MR"}], minimum_slices=8
    )
    a_small_recipe["network"] = {
        "target": "monai.networks.nets.UNet",
        "arguments": {"spatial_dims": 3, "in_channels": 2, "out_channels": 2, "channels": [4, 8], "strides": [2]},
    }
    result = run_training(write_recipe(a_small_recipe), folder, tmp_path / "out", device="cpu")
    package = read_package(result.package)
    assert [slot.name for slot in package.inputs] == ["T1", "T2"]
    assert len(result.cases) == 1
    a_small_recipe["package"]["inputs"].pop()
    refuse(write_recipe(a_small_recipe), folder, tmp_path / "two", "names 2 images and the package has 1 inputs")


def test_what_is_not_annotated_is_neither_trained_nor_measured(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path
) -> None:
    lines = ["image,label,split,annotated"]
    for number in range(4):
        label = read_labelmap(a_training_folder / f"case_{number}_label.nii.gz")
        label = label.with_array((label.array * (number > 1)).astype(np.uint8))
        write_labelmap(label, tmp_path / f"{number}_label.nii.gz")
        annotated = "Left atrium" if number > 1 else ""
        image = a_training_folder / f"case_{number}.nii.gz"
        lines.append(f"{image},{number}_label.nii.gz,{'validation' if number % 2 else 'training'},{annotated}")
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    a_small_recipe["data"] = {"csv": "pairs.csv", "allow_empty": True}
    a_small_recipe["loss"] = {"kind": "missing_label_dice", "background": "merged", "cross_entropy_weight": 1.0}
    result = run_training(write_recipe(a_small_recipe), None, tmp_path / "out", device="cpu")
    assert [case.case for case in result.cases] == ["case_3"]
    split = json.loads((tmp_path / "out" / "split.json").read_text())
    assert split == {"training": ["case_0", "case_2"], "validation": ["case_1", "case_3"]}
