"""The verb Segment through the product's own worker, with a real network: the same result as without the worker."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from medseg.backend import WorkerClient, verbs
from medseg.backend.interpreter import version_tuple
from medseg.backend.verbs import WarmModels, prepare
from medseg.errors import InputError, ModelError, WorkerError
from medseg.models import read_package
from medseg.segmentation import SegmentOptions, estimate, segment
from medseg.volumes import Geometry, Volume
from support.packages import bright_blob_case
from support.processes import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 250


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, bright_blob_package: Path) -> Iterator[WorkerClient]:
    """A client whose worker knows the model of bright blobs by name."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(bright_blob_package, home / "models" / "bright-blob")
    client = WorkerClient(home=home)
    yield client
    client.stop()


@pytest.fixture(scope="module")
def an_image() -> Volume:
    """Bright spheres in noise, on a grid that is neither upright nor isotropic."""
    image, _ = bright_blob_case(5, (30, 36, 40), (1.0, 1.2, 1.5), origin=(-20.0, 5.0, 3.0), orientation="LPS")
    return Volume(image.array, image.geometry, name="MR of Jane Doe", modality=image.modality)


def test_the_result_is_the_same_as_without_the_worker(
    worker: WorkerClient, an_image: Volume, bright_blob_package: Path
) -> None:
    package = read_package(bright_blob_package)
    here = segment([an_image], package, SegmentOptions(device="cpu"))
    job = worker.submit("segment", package.name, [an_image], {"device": "cpu"})
    assert job.wait(PATIENCE)
    there = job.result()
    assert here.labelmap.array.any()
    np.testing.assert_array_equal(there.labelmap.array, here.labelmap.array)
    assert there.labelmap.array.dtype == here.labelmap.array.dtype
    np.testing.assert_array_equal(there.labelmap.geometry.ijk_to_ras, an_image.geometry.ijk_to_ras)
    assert there.labelmap.name == here.labelmap.name
    assert there.statistics == here.statistics
    assert list(there.labels) == list(here.labels)
    assert (there.notices, there.device, there.model) == (here.notices, here.device, here.model)
    assert set(there.timings) == set(here.timings)


def test_a_model_may_be_given_by_its_folder(worker: WorkerClient, an_image: Volume, bright_blob_package: Path) -> None:
    job = worker.submit("segment", str(bright_blob_package), [an_image], {"device": "cpu", "statistics": False})
    assert job.wait(PATIENCE)
    assert job.result().statistics == []


def test_the_estimate_is_that_of_the_pipeline(
    worker: WorkerClient, an_image: Volume, bright_blob_package: Path
) -> None:
    package = read_package(bright_blob_package)
    found = worker.estimate(package.name, an_image.geometry, "cpu")
    expected = estimate(an_image.geometry, package, "cpu")
    assert (found["seconds"], found["windows"], found["plan"]) == (expected.seconds, expected.windows, expected.plan)
    assert found["device"] == "cpu"
    assert found["device_name"]
    assert found["available_bytes"] > 0


def test_the_worker_tells_which_models_it_has(worker: WorkerClient) -> None:
    models = {model["name"]: model for model in worker.models() if "error" not in model}
    assert models["bright-blob"]["verb"] == "segment"


def test_torch_lives_in_the_computing_process_only(worker: WorkerClient, an_image: Volume) -> None:
    worker.estimate("bright-blob", an_image.geometry)
    health = worker.health()
    assert health["compute"]["versions"].keys() >= {"python", "torch", "monai", "SimpleITK", "numpy"}

    def loads_torch(pid: int) -> bool:
        return any("libtorch" in mapped.path for mapped in psutil.Process(pid).memory_maps())

    assert loads_torch(health["compute"]["pid"])
    assert not loads_torch(health["pid"])


def test_a_real_run_is_cancelled_and_the_next_one_works(worker: WorkerClient) -> None:
    large, _ = bright_blob_case(1, (160, 160, 160))
    job = worker.submit("segment", "bright-blob", [large], {"device": "cpu", "overlap": 0.75})
    until(lambda: "Window" in job.text or job.is_finished, "the first window")
    assert job.state == "running"
    job.cancel()
    assert job.wait(PATIENCE)
    assert job.state == "cancelled"
    small, _ = bright_blob_case(2, (24, 24, 24))
    again = worker.submit("segment", "bright-blob", [small], {"device": "cpu"})
    assert again.wait(PATIENCE)
    assert again.state == "done", again.error


@pytest.mark.parametrize(
    ("model", "options", "kind", "words"),
    [
        ("bright-bolb", {}, ModelError, "Did you mean bright-blob"),
        ("/nowhere/at/all", {}, ModelError, "no model"),
        ("bright-blob", {"device": "abacus"}, Exception, 'Choose "auto", "cpu" or "cuda"'),
        ("bright-blob", {"speed": 9}, InputError, "There is no option speed"),
        ("bright-blob", {"overlap": 2}, InputError, "overlap"),
        ("bright-blob", {"overlap": "much"}, InputError, "option"),
    ],
)
def test_what_cannot_be_done_is_told_by_the_verb_itself(
    worker: WorkerClient, an_image: Volume, model: str, options: dict[str, object], kind: type[Exception], words: str
) -> None:
    job = worker.submit("segment", model, [an_image], options)
    assert job.wait(PATIENCE)
    assert isinstance(job.error, kind)
    assert words in str(job.error)
    assert "defect" not in str(job.error)


def test_a_volume_that_cannot_be_segmented_is_refused_in_the_words_of_the_pipeline(worker: WorkerClient) -> None:
    array = np.full((8, 8, 8), 3.0, np.float32)
    job = worker.submit("segment", "bright-blob", [Volume(array, Geometry.from_spacing(array.shape))])
    assert job.wait(PATIENCE)
    assert isinstance(job.error, InputError)
    array = np.where(np.arange(512).reshape(8, 8, 8) == 7, np.nan, 1.0).astype(np.float32)
    job = worker.submit("segment", "bright-blob", [Volume(array, Geometry.from_spacing(array.shape))])
    assert job.wait(PATIENCE)
    assert isinstance(job.error, InputError)


def test_the_last_models_stay_warm(bright_blob_package: Path, tmp_path: Path) -> None:
    warm = WarmModels(limit=2)
    packages = []
    for name in ("a", "b", "c"):
        folder = tmp_path / name
        shutil.copytree(bright_blob_package, folder)
        packages.append(read_package(folder))
    first = warm.get(packages[0])
    second = warm.get(packages[1])
    assert warm.get(packages[0]) is first
    warm.get(packages[2])
    assert warm.get(packages[0]) is first
    assert warm.get(packages[1]) is not second


def test_a_model_that_was_replaced_is_loaded_again(bright_blob_package: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(bright_blob_package, folder)
    warm = WarmModels()
    before = warm.get(read_package(folder))
    config = folder / "configs" / "inference.json"
    fields = json.loads(config.read_text())
    config.write_text(json.dumps(fields))
    assert warm.get(read_package(folder)) is before
    metadata = folder / "configs" / "metadata.json"
    fields = json.loads(metadata.read_text())
    fields["medseg"]["weights"]["sha256"] = "0" * 64
    metadata.write_text(json.dumps(fields))
    with pytest.raises(ModelError):
        warm.get(read_package(folder))


def test_an_environment_that_lacks_a_package_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs, "MINIMUM_VERSIONS", {"numpy": "1.26", "surely_not_installed": "2.2"})
    with pytest.raises(WorkerError, match="surely_not_installed is not installed"):
        prepare()


def test_monai_is_looked_up_without_loading_it() -> None:
    code = "import sys; from medseg.backend.verbs import prepare; print(prepare()['monai'], 'monai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, loaded = done.stdout.split()
    assert version_tuple(version) >= (1, 4)
    assert loaded == "False"


def test_an_environment_without_monai_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs, "_LOOKED_UP", {"surely_not_installed"})
    monkeypatch.setattr(verbs, "MINIMUM_VERSIONS", {"surely_not_installed": "2.2"})
    with pytest.raises(WorkerError, match="surely_not_installed is not installed"):
        prepare()


def test_an_environment_with_an_old_package_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs, "MINIMUM_VERSIONS", {"numpy": "99.0"})
    with pytest.raises(WorkerError, match=r"numpy .* older than the 99.0"):
        prepare()
