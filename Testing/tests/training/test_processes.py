"""Several processes share a run through Lightning's own strategy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medseg.errors import DeviceError
from medseg.training import run_training
from medseg.training.fitting import Hardware
from medseg.training.processes import is_first
from medseg.training.run_files import read_progress, read_state

RANKS = ("RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK", "LOCAL_RANK")


@pytest.fixture(autouse=True)
def no_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", RANKS)
def test_a_process_with_a_rank_only_helps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_first(4)
    monkeypatch.setenv(name, "0")
    assert is_first(4)
    monkeypatch.setenv(name, "1")
    assert not is_first(4)
    assert is_first(1)  # what a scheduler says of other processes means nothing to a run of one


@pytest.mark.parametrize("wrong", [{"devices": 0}, {"nodes": -1}, {"strategy": "fsdp"}])
def test_hardware_that_makes_no_sense_is_refused(wrong: dict) -> None:
    with pytest.raises(DeviceError):
        Hardware(**wrong)


@pytest.mark.slow
def test_two_processes_of_batch_one_learn_what_one_process_of_batch_two_does(
    a_small_recipe: dict, write_recipe, a_training_folder: Path, tmp_path: Path
) -> None:
    a_small_recipe["network"] = {
        "target": "monai.networks.nets.UNet",
        "arguments": {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]},
    }
    a_small_recipe["loss"] = {"kind": "dice_ce", "dice_weight": 0.0}  # a mean over voxels, however they are dealt out
    a_small_recipe["optimisation"].update(epochs=2, steps_per_epoch=3, batch_size=2)
    run_training(write_recipe(a_small_recipe), a_training_folder, tmp_path / "one", device="cpu")
    a_small_recipe["optimisation"]["batch_size"] = 1
    recipe, output = write_recipe(a_small_recipe), tmp_path / "two"
    command = [sys.executable, "-m", "medseg.cli", "train", recipe, "--data", a_training_folder, "--output", output]
    options = ["--device", "cpu", "--devices", "2", "--strategy", "ddp"]
    made = subprocess.run(
        [str(part) for part in (*command, *options)],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("Mean Dice") == 1  # the second process says nothing
    assert made.stderr.strip() == ""
    alone, together = read_progress(tmp_path / "one"), read_progress(output)
    assert [entry["kind"] for entry in together] == ["start", "epoch", "epoch", "end"]
    assert together[0]["processes"] == 2
    for one, other in zip(alone[1:3], together[1:3], strict=True):
        for name in ("loss", "validation_loss", "validation_dice"):
            assert other[name] == pytest.approx(one[name], rel=1e-3)
    assert read_state(output).state == "finished"
    assert not (output / "cache").exists()
