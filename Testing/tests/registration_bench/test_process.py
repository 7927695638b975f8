"""Methods in processes of their own."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.registration import process
from benchmarks.registration.job import Job
from benchmarks.registration.methods import METHODS
from benchmarks.registration.pair import Pair
from benchmarks.registration.process import environment, register_apart
from medseg.errors import Cancelled
from medseg.progress import Progress
from medseg.registration import SpatialTransform
from support.registration import a_turn

FOREIGN = [name for name, method in METHODS.items() if method.package not in ("", "SimpleITK") and not method.asked]


def errors_of(transform: SpatialTransform, pair: Pair) -> float:
    return float(np.linalg.norm(transform.apply(pair.fixed_points) - pair.moving_points, axis=1).mean())


@pytest.mark.parametrize("name", FOREIGN)
def test_a_rival_is_driven_right_it_comes_closer_than_its_start(name: str, a_pair: Pair):
    if METHODS[name].missing():
        pytest.skip(METHODS[name].missing())
    found = register_apart(a_pair, name, threads=1)

    assert not isinstance(found, str), found
    transform, costs = found
    assert errors_of(transform, a_pair) < 0.6 * errors_of(SpatialTransform(), a_pair)
    assert costs.seconds > 0
    assert costs.processor_seconds > 0
    assert costs.peak_bytes > 50_000_000


def test_what_a_method_says_when_it_fails_is_the_reason(a_pair: Pair):
    flat = a_pair.moving.with_array(np.ones(a_pair.moving.shape, np.float32))
    reason = register_apart(dataclasses.replace(a_pair, moving=flat), "affine", threads=1)
    assert isinstance(reason, str)
    assert reason.startswith("All voxels of the moving volume have the value 1")


def test_a_process_that_dies_is_a_reason_too(a_pair: Pair, monkeypatch):
    monkeypatch.setattr(process, "_run", lambda *_: -9)
    assert register_apart(a_pair, "affine", threads=1) == "it was ended by signal 9"


def test_a_process_that_says_nothing_is_quoted(a_pair: Pair, monkeypatch):
    def run(_command: object, folder: Path, *_: object) -> int:
        (folder / "output.txt").write_text("Loading\nNo such library\n\n")
        return 1

    monkeypatch.setattr(process, "_run", run)
    assert register_apart(a_pair, "affine", threads=1) == "it ended without a word (No such library)"


def test_a_stop_ends_the_process(tmp_path: Path, monkeypatch):
    started: list[subprocess.Popen] = []
    real = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *args, **kwargs: started.append(real(*args, **kwargs)) or started[0]
    )
    command = [sys.executable, "-c", "import time; time.sleep(600)"]

    with pytest.raises(Cancelled):
        process._run(command, tmp_path, 1, Progress(cancelled=lambda: True))
    assert started[0].poll() is not None


def test_what_a_program_leaves_in_its_folder_is_not_left_in_ours(tmp_path: Path, monkeypatch):
    ours, apart = tmp_path / "ours", tmp_path / "apart"
    ours.mkdir()
    apart.mkdir()
    monkeypatch.chdir(ours)

    process._run([sys.executable, "-c", "open('deformationField.nii', 'w').close()"], apart, 1, Progress())

    assert (apart / "deformationField.nii").is_file()
    assert not list(ours.iterdir())


def test_every_library_is_told_the_number_of_threads():
    told = environment(3)
    assert {told[name] for name in ("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OMP_NUM_THREADS")} == {"3"}
    code = "import torch, benchmarks.registration.child, medseg; print(torch.get_num_threads())"
    shown = subprocess.run([sys.executable, "-c", code], env=environment(1), capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "1"


def test_a_job_holds_volumes_and_masks_and_nothing_of_what_is_known(a_pair: Pair, tmp_path: Path):
    fixed = dataclasses.replace(a_pair.fixed, modality="CT")
    pair = dataclasses.replace(a_pair, fixed=fixed, fixed_mask=a_pair.fixed_labels)
    Job.write(tmp_path, pair, "affine", threads=2, seed=7)
    job = Job.read(tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {"fixed.mha", "moving.mha", "fixed_mask.mha", "job.json"}
    assert (job.method, job.threads, job.seed) == ("affine", 2, 7)
    read, _ = job.volumes()
    assert read.modality == "CT"
    np.testing.assert_array_equal(read.array, fixed.array)
    assert read.geometry.is_close(fixed.geometry, 1e-9)
    assert job.masks()["moving_mask"] is None
    np.testing.assert_array_equal(job.masks()["fixed_mask"].array, a_pair.fixed_labels.array)


def test_a_transform_comes_back_with_its_costs(a_pair: Pair, the_way: SpatialTransform, tmp_path: Path):
    job = Job.write(tmp_path, a_pair, "affine", threads=1, seed=0)
    with pytest.raises(RuntimeError, match="was not measured"):
        job.finish(the_way)
    with job.measured():
        sum(range(100_000))
    job.finish(the_way)

    transform, costs = Job.read(tmp_path).result()
    np.testing.assert_allclose(transform.apply(a_pair.fixed_points), a_pair.moving_points, atol=1e-3)
    assert costs == job.costs
    assert 0 < costs.processor_seconds < 10


def test_a_linear_transform_comes_back_too(a_pair: Pair, tmp_path: Path):
    job = Job.write(tmp_path, a_pair, "affine", threads=1, seed=0)
    with job.measured():
        pass
    job.finish(a_turn(5, (1, 2, 3)))
    transform, _ = job.result()
    np.testing.assert_allclose(transform.matrix, a_turn(5, (1, 2, 3)).matrix, atol=1e-12)
