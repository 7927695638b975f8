"""A package that registers: it says so, it can be read back, and MONAI runs it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medseg.backend.verbs import Task, WarmModels, segment_verb
from medseg.cli.segment import segment as segment_command
from medseg.errors import InputError, ModelError
from medseg.models import (
    ModelLibrary,
    Preprocessing,
    Registration,
    load_network,
    read_package,
    registration_preprocessing,
)
from medseg.networks.spatial import warp
from medseg.progress import NO_PROGRESS
from medseg.segmentation import segment
from medseg.volumes import Geometry, Volume, read_volume, write_volume
from support.packages import write_bright_blob_package
from support.registration_packages import LAPIRN, VOXELMORPH, a_moving_network, write_registering_package


@pytest.fixture(scope="module")
def a_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_registering_package(tmp_path_factory.mktemp("package") / "any-register")


@pytest.fixture
def a_package_to_spoil(tmp_path: Path) -> Any:
    """Change a field of the metadata, named by its path, and return the folder."""
    folder = write_registering_package(tmp_path / "any-register")

    def spoilt(*path: str, value: object) -> Path:
        file = folder / "configs" / "metadata.json"
        content = json.loads(file.read_text())
        place = content
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        file.write_text(json.dumps(content))
        return folder

    return spoilt


def test_what_was_written_is_read_back(a_package: Path) -> None:
    package = read_package(a_package)
    assert package.verb == "register"
    assert package.registration == Registration("anything", 8, conditional=True, synthetic=True)
    assert package.preprocessing == registration_preprocessing("RAS", (8.0, 8.0, 8.0))
    assert package.window.size_ijk == (32, 32, 32)
    assert package.output_channels == 3
    assert package.problems() == []
    assert package.summary()["registration"]["domain"] == "anything"


def test_its_network_has_its_weights(a_package: Path) -> None:
    network, expected = load_network(read_package(a_package)), a_moving_network(*LAPIRN)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name], atol=1e-3, rtol=1e-3)


def test_a_package_that_segments_says_nothing_of_registration(tmp_path: Path) -> None:
    package = read_package(write_bright_blob_package(tmp_path / "blob"))
    assert package.verb == "segment"
    assert package.registration is None
    assert package.capability()["registration"] is None


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("medseg", "registration"), None, "'registration' in .* must be an object"),
        (("medseg", "registration", "multiple"), 0, "a whole number from 1"),
        (("medseg", "registration", "smoothness"), 1.5, "a number from 0 to 1"),
        (("medseg", "registration", "conditional"), "yes", "true or false"),
        (("medseg", "registration", "domain"), " ", "a text that is not empty"),
        (("medseg", "registration", "spacing"), [1, 2], "a list of three numbers"),
        (("medseg", "registration", "spacing"), None, "a list of three numbers"),
        (("medseg", "registration", "percentiles"), [5, 101], "two numbers from 0 to 100"),
        (("medseg", "registration", "percentiles"), [90, 10], "not rising"),
        (("medseg", "registration", "orientation"), "RRS", "not an orientation"),
        (("medseg", "inputs"), [{"name": "one"}], "does not describe two images"),
        (("network_data_format", "outputs", "pred", "num_channels"), 2, "a displacement field of three"),
        (("medseg", "verb"), "enhance", "this MedSeg knows segment, register"),
    ],
)
def test_a_damaged_package_is_refused_with_the_field(
    a_package_to_spoil: Any, path: tuple[str, ...], value: object, words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        read_package(a_package_to_spoil(*path, value=value))


def test_the_verb_and_the_section_belong_together(a_package: Path) -> None:
    package = read_package(a_package)
    with pytest.raises(ModelError, match="verb 'segment' and a section 'registration'"):
        dataclasses.replace(package, verb="segment")
    with pytest.raises(ModelError, match="verb 'register' and no section"):
        dataclasses.replace(package, registration=None)
    with pytest.raises(ModelError, match="voxel size along all axes"):
        dataclasses.replace(package, preprocessing=Preprocessing("RAS", (1.0, 1.0, None)))


@pytest.mark.parametrize(
    "values",
    [{"domain": ""}, {"domain": "two\nlines"}, {"multiple": 0}, {"smoothness": 1.1}, {"smoothness": float("nan")}],
)
def test_values_out_of_range_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Registration(**{"domain": "heads", "multiple": 8, **values})


def test_the_library_offers_a_model_for_its_own_verb_only(a_package: Path, tmp_path: Path) -> None:
    write_bright_blob_package(tmp_path / "bright-blob")
    library = ModelLibrary([tmp_path, a_package.parent])
    assert [one.name for one in library.packages("segment")] == ["bright-blob"]
    assert [one.name for one in library.packages("register")] == ["any-register"]
    assert {one.name for one in library.packages()} == {"bright-blob", "any-register"}
    assert library.find("any-register", "register").name == "any-register"
    with pytest.raises(ModelError, match="'any-register' is there to register and cannot segment") as caught:
        library.find("any-register", "segment")
    assert "bright-blob" in str(caught.value.advice)
    with pytest.raises(ModelError, match="cannot register"):
        library.find(str(tmp_path / "bright-blob"), "register")
    with pytest.raises(ModelError, match="There is no model") as caught:
        library.find("any", "register")
    assert "bright-blob" not in str(caught.value.advice)


def test_a_model_that_registers_does_not_segment(a_package: Path) -> None:
    volume = Volume(np.random.default_rng(0).random((16, 16, 16)).astype(np.float32), Geometry.from_spacing((16,) * 3))
    with pytest.raises(ModelError, match="is there to register and cannot segment"):
        segment([volume, volume], read_package(a_package))
    task = Task(str(a_package), {}, [volume, volume], WarmModels(), NO_PROGRESS)
    with pytest.raises(ModelError, match="is there to register and cannot segment"):
        segment_verb(task)


def test_the_command_refuses_it_before_it_looks_at_any_volume(a_package: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is there to register and cannot segment"):
        segment_command([tmp_path / "absent.nii.gz"], str(a_package), str(tmp_path / "out.nii.gz"))


@pytest.mark.parametrize(
    ("which", "said"), [(LAPIRN, "can be chosen from 0 to 1"), (VOXELMORPH, "trained for a smoothness of 0.4")]
)
def test_the_card_says_how_to_run_it_and_for_which_pairs(which: Any, said: str, tmp_path: Path) -> None:
    card = (write_registering_package(tmp_path / "any-register", which) / "docs" / "README.md").read_text()
    assert "medseg register FIXED MOVING --method model --model any-register" in card
    assert "Trained for: anything. It was trained on synthetic pairs alone" in card
    assert said in card
    assert "medseg segment" not in card


@pytest.mark.parametrize("safetensors", [False, True])
def test_monai_runs_the_package_and_gives_the_field_of_its_network(tmp_path: Path, safetensors: bool) -> None:
    for needed in ("nibabel", "fire", *(["safetensors"] if safetensors else [])):
        pytest.importorskip(needed, reason=f"running a MONAI bundle needs {needed}")
    folder = write_registering_package(tmp_path / "any-register", spacing=2.0, safetensors=safetensors)
    geometry = Geometry.from_spacing((16, 20, 24), (2.0, 2.0, 2.0))
    random = np.random.default_rng(0)
    images = {name: Volume(random.random(geometry.shape).astype(np.float32), geometry) for name in ("fixed", "moving")}
    for name, volume in images.items():
        write_volume(volume, tmp_path / f"{name}.nii.gz")
    command = [
        sys.executable, "-m", "monai.bundle", "run",
        "--meta_file", "configs/metadata.json", "--config_file", "configs/inference.json",
        "--fixed", str(tmp_path / "fixed.nii.gz"), "--moving", str(tmp_path / "moving.nii.gz"),
        "--output_dir", str(tmp_path / "out"),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]

    package = read_package(folder)
    arrays = [package.preprocessing.apply_intensity(volume.array).transpose(2, 1, 0) for volume in images.values()]
    pads = [(0, 0), (2, 2), (0, 0)]  # 24, 20 and 16 voxels, to multiples of 8 as MONAI centres them
    fixed, moving = (torch.from_numpy(np.pad(array, pads))[None, None] for array in arrays)
    with torch.no_grad():
        displacement = load_network(package)(fixed, moving, 0.4)
    moved = read_volume(next((tmp_path / "out").glob("*moved.nii.gz")))
    expected = warp(moving, displacement)[0, 0].numpy()
    assert moved.geometry.size == (24, 24, 16)
    np.testing.assert_allclose(moved.array.transpose(2, 1, 0), expected, atol=2e-3)
    assert np.abs(expected - moving[0, 0].numpy()).max() > 0.05
    assert list((tmp_path / "out").glob("*displacement.nii.gz"))
