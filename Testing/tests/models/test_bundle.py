"""A package is a bundle that MONAI runs by itself, and its labels are those of plain MONAI code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.models import Normalize, Preprocessing, load_network, read_package
from support.packages import bright_blob_arrays, training_step, write_bright_blob_package

for needed in ("nibabel", "ignite", "fire"):
    pytest.importorskip(needed, reason=f"running a MONAI bundle needs {needed}")


@pytest.fixture(scope="module")
def an_oblique_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kinds of blobs on a flipped and turned grid of uneven spacing."""
    spacing = (1.2, 1.0, 1.6)
    array, _ = bright_blob_arrays(4, (30, 44, 38), spacing, labels=2)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin((-30.0, 12.0, 5.0))
    turned = np.array([[0.0, -1.0, 0.0], [0.98, 0.0, -0.19899748742132398], [0.19899748742132398, 0.0, 0.98]])
    image.SetDirection(turned.ravel())
    folder = tmp_path_factory.mktemp("images")
    sitk.WriteImage(image, str(folder / "case.nii.gz"))
    return folder / "case.nii.gz"


def labels_of_plain_monai_code(folder: Path, image: Path) -> np.ndarray:
    """Segment ``image`` with MONAI's classes, called by hand, and return the labels (k, j, i) of its grid."""
    import torch
    from monai.inferers import SlidingWindowInferer
    from monai.transforms import (
        EnsureChannelFirst,
        LoadImage,
        NormalizeIntensity,
        Orientation,
        ScaleIntensityRange,
        Spacing,
    )

    loaded = EnsureChannelFirst()(LoadImage(image_only=True)(image))
    orient, resample = Orientation(axcodes="LPS"), Spacing(pixdim=(1.5, 1.5, -1), mode="bilinear")
    moved = resample(orient(loaded))
    scaled = NormalizeIntensity(0.25, 0.5)(ScaleIntensityRange(0, 300, 0, 1, clip=True)(moved))
    network = load_network(read_package(folder))
    with torch.no_grad():
        scores = SlidingWindowInferer((32, 32, 16), overlap=0.25, mode="gaussian")(scaled[None], network)[0]
    scores.applied_operations = moved.applied_operations
    back = orient.inverse(resample.inverse(scores))
    return back.argmax(0).numpy().astype(np.uint8).T


def test_monai_runs_the_package_and_gives_the_labels_of_plain_monai_code(
    an_oblique_image: Path, tmp_path: Path
) -> None:
    steps = (training_step(), Normalize(0.25, 0.5))
    folder = write_bright_blob_package(
        tmp_path / "bundle",
        labels=2,
        preprocessing=Preprocessing("LPS", (1.5, 1.5, None), steps),
        size_ijk=(32, 32, 16),
        overlap=0.25,
        half=True,
    )
    command = [
        sys.executable, "-m", "monai.bundle", "run",
        "--meta_file", "configs/metadata.json", "--config_file", "configs/inference.json",
        "--dataset_dir", str(an_oblique_image.parent), "--output_dir", str(tmp_path / "out"),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    (written,) = (tmp_path / "out").rglob("*.nii.gz")
    result = sitk.ReadImage(str(written))
    source = sitk.ReadImage(str(an_oblique_image))
    assert result.GetSize() == source.GetSize()
    np.testing.assert_allclose(result.GetDirection(), source.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(result.GetOrigin(), source.GetOrigin(), atol=1e-4)
    labels = sitk.GetArrayFromImage(result)
    assert labels.dtype == np.uint8
    expected = labels_of_plain_monai_code(folder, an_oblique_image)
    assert set(np.unique(expected)) == {0, 1, 2}
    assert np.mean(labels == expected) > 0.9999


def workflow_of(folder: Path, images: Path) -> Any:
    from monai.bundle import ConfigWorkflow

    workflow = ConfigWorkflow(
        config_file=str(folder / "configs" / "inference.json"),
        meta_file=str(folder / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="inference",
        bundle_root=str(folder),
        dataset_dir=str(images),
    )
    workflow.initialize()
    return workflow


def test_monai_finds_every_part_that_a_bundle_must_have(bright_blob_package: Path, tmp_path: Path) -> None:
    assert workflow_of(bright_blob_package, tmp_path).check_properties() == []


@pytest.mark.parametrize("options", [{}, {"half": True}, {"safetensors": True}])
def test_monai_loads_the_weights_that_we_load(tmp_path: Path, options: dict[str, bool]) -> None:
    import torch

    if options.get("safetensors"):
        pytest.importorskip("safetensors")
    folder = write_bright_blob_package(tmp_path / "bundle", **options)
    theirs = workflow_of(folder, tmp_path).network_def.state_dict()
    ours = load_network(read_package(folder)).state_dict()
    assert all(torch.equal(theirs[name].cpu(), ours[name]) for name in ours)
