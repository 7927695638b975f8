"""Networks that stack slices: what they are shown of a short volume, and what their user is told."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.errors import ModelError
from medseg.models import InputSlot, ModelPackage, read_package
from medseg.networks import TSFMUNet
from medseg.segmentation import SegmentationResult, estimate, segment
from medseg.segmentation.stacks import slice_axis_of, slice_notices, window_of
from medseg.volumes import Geometry, Volume
from support.packages import write_bright_blob_package
from support.segmentation import package_of


def a_stack_package(**changes: object) -> ModelPackage:
    settings = {
        "network_target": "medseg.networks.TSFMUNet",
        "network_arguments": {"base": 2, "depth": 1, "heads": 1},
        "window": (16, 16, 8),
        "inputs": (InputSlot("image", "", "", 1),),
        **changes,
    }
    return package_of(**settings)


def a_grid(shape: tuple[int, int, int] = (6, 16, 16), spacing: tuple[float, float, float] = (1, 1, 3)) -> Geometry:
    return Geometry.from_spacing(shape, spacing)


def segmented(package: ModelPackage, geometry: Geometry) -> SegmentationResult:
    torch.manual_seed(0)
    noise = np.random.default_rng(0).normal(size=geometry.shape).astype(np.float32)
    network = TSFMUNet(**package.network_arguments)
    return segment([Volume(noise, geometry)], package, network=network)


@pytest.mark.parametrize(
    ("target", "arguments", "axis"),
    [
        ("medseg.networks.TSFMUNet", {}, 2),
        ("medseg.networks.TSFMUNet", {"slice_axis": -3}, 0),
        ("medseg.networks.UNet3D", {"slice_axis": -2}, 1),
        ("medseg.networks.UNet3D", {"slice_axis": 7}, None),
        ("monai.networks.nets.UNet", {"slice_axis": -1}, None),
    ],
)
def test_the_axis_of_slices_is_known_from_the_package_alone(target: str, arguments: dict, axis: int | None):
    package = a_stack_package(network_target=target, network_arguments=arguments)
    assert slice_axis_of(package) == axis


def test_a_stack_shorter_than_the_window_is_not_padded_with_slices():
    assert window_of(a_stack_package(), (40, 8, 3)) == (16, 16, 3)
    assert window_of(a_stack_package(), (40, 8, 30)) == (16, 16, 8)
    assert window_of(a_stack_package(network_target="monai.networks.nets.UNet"), (40, 8, 3)) == (16, 16, 8)
    assert "16 x 16 x 3" in estimate(a_grid((3, 16, 40)), a_stack_package()).plan


def test_slices_of_zeros_do_not_inform_a_short_stack():
    geometry = a_grid((3, 16, 16))
    exact = segmented(a_stack_package(window=(16, 16, 3)), geometry)
    longer = segmented(a_stack_package(window=(16, 16, 8)), geometry)
    assert 0 < np.count_nonzero(exact.labelmap.array) < exact.labelmap.array.size
    np.testing.assert_array_equal(longer.labelmap.array, exact.labelmap.array)


def test_a_single_slice_is_segmented_in_two_dimensions_with_a_notice():
    result = segmented(a_stack_package(slice_spacing_range=(1.0, 2.0)), a_grid((1, 16, 16)))
    assert result.labelmap.shape == (1, 16, 16)
    assert [notice for notice in result.notices if "slice" in notice] == [
        "The volume has a single slice, so the model works in two dimensions: no other slice informs it."
    ]


@pytest.mark.parametrize(
    ("spacing", "told"),
    [(0.6, True), (0.99, False), (1.0, False), (2.5, False), (5.0, False), (5.05, False), (7.0, True)],
)
def test_slices_farther_apart_or_nearer_than_in_training_are_told(spacing: float, told: bool):
    package = a_stack_package(slice_spacing_range=(1.0, 5.0))
    notices = slice_notices(package, a_grid(spacing=(0.5, 0.5, spacing)))
    sentence = f"The slices are {spacing:.3g} mm apart, and the model was trained with 1 to 5 mm; check the result."
    assert notices == ([sentence] if told else [])


def test_a_model_of_one_spacing_names_it():
    (notice,) = slice_notices(a_stack_package(slice_spacing_range=(1.25, 1.25)), a_grid(spacing=(1, 1, 5)))
    assert "was trained with 1.25 mm;" in notice


def test_a_package_that_does_not_know_its_spacings_says_nothing():
    assert slice_notices(a_stack_package(), a_grid(spacing=(1, 1, 9))) == []


def test_the_notice_reaches_the_result():
    result = segmented(a_stack_package(slice_spacing_range=(1.0, 2.0)), a_grid(spacing=(1, 1, 3)))
    assert any("3 mm apart" in notice for notice in result.notices)


def test_what_counts_is_the_spacing_that_the_network_sees():
    package = a_stack_package(slice_spacing_range=(2.0, 2.0), spacing=(None, None, 2.0))
    assert not any("apart" in notice for notice in segmented(package, a_grid(spacing=(1, 1, 3))).notices)


def test_slices_that_lie_along_another_axis_than_the_model_takes_them_are_told():
    grid = Geometry.from_spacing((16, 16, 6), (4, 1, 1))
    (notice,) = slice_notices(a_stack_package(), grid)
    assert "longest along left-right, and the model takes slices along inferior-superior" in notice
    turned = Geometry.from_spacing((16, 16, 6), (4, 1, 1), orientation="PIR")
    (notice,) = slice_notices(a_stack_package(), turned)
    assert "longest along posterior-anterior, and the model takes slices along left-right" in notice
    assert slice_notices(a_stack_package(), a_grid(spacing=(1, 1, 1))) == []
    assert slice_notices(a_stack_package(network_target="monai.networks.nets.UNet"), grid) == []


def test_the_range_is_read_back_as_it_was_written(tmp_path: Path):
    package = read_package(
        write_bright_blob_package(tmp_path / "ranged", name="ranged", slice_spacing_range=(0.625, 5))
    )
    assert package.slice_spacing_range == (0.625, 5.0)
    assert read_package(write_bright_blob_package(tmp_path / "bare", name="bare")).slice_spacing_range is None
    assert dataclasses.replace(package, slice_spacing_range=None).slice_spacing_range is None


@pytest.mark.parametrize("wrong", [[1.0], [5.0, 1.0], [0, 1], ["1", "2"], 3.0, [1, float("inf")], [True, True]])
def test_a_range_that_is_none_is_refused_by_name(tmp_path: Path, wrong: object):
    folder = write_bright_blob_package(tmp_path / "wrong", name="wrong")
    path = folder / "configs" / "metadata.json"
    data = json.loads(path.read_text())
    data["medseg"]["slice_spacing_range"] = wrong
    path.write_text(json.dumps(data))
    with pytest.raises(ModelError, match=r"'slice_spacing_range' in 'medseg' in .* must be two"):
        read_package(folder)
