"""Which slices informed which: the matrix over the whole image, against the network's own and by hand."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import Cancelled, InputError, ModelError
from medseg.models import InputSlot, ModelPackage
from medseg.networks import TSFMUNet
from medseg.progress import Progress
from medseg.segmentation.slice_attention import (
    SliceAttention,
    shows_slice_attention,
    slice_attention,
    write_slice_attention,
)
from medseg.volumes import Geometry, Volume
from support.segmentation import package_of


def a_package(**changes: object) -> ModelPackage:
    settings = {
        "network_target": "medseg.networks.TSFMUNet",
        "network_arguments": {"base": 2, "depth": 1, "heads": 2, "attention": "location"},
        "window": (16, 16, 8),
        "overlap": 0.5,
        "inputs": (InputSlot("image", "", "", 1),),
        **changes,
    }
    return package_of(**settings)


def a_network(package: ModelPackage) -> TSFMUNet:
    torch.manual_seed(0)
    network = TSFMUNet(**package.network_arguments)
    for layer in (network.inter_slice.query, network.inter_slice.key):
        torch.nn.init.normal_(layer.weight, std=3.0)  # so that the weights are far from equal
    return network


def a_volume(slices: int = 8, orientation: str = "RAS", plane: int = 16) -> Volume:
    array = np.random.default_rng(0).normal(size=(slices, plane, plane)).astype(np.float32)
    return Volume(array, Geometry.from_spacing(array.shape, (1, 1, 3), orientation=orientation))


def found_in(volume: Volume, package: ModelPackage | None = None) -> SliceAttention:
    package = package or a_package()
    return slice_attention([volume], package, device="cpu", network=a_network(package))


def test_a_volume_of_one_window_gives_the_matrix_of_the_network():
    volume, package = a_volume(), a_package()
    found = found_in(volume, package)
    image = torch.from_numpy(np.ascontiguousarray(volume.array_ijk))[None, None]
    expected = a_network(package).eval().attention_matrix(image)[0]
    np.testing.assert_allclose(found.weights, expected.detach().numpy(), atol=1e-5)
    assert found.slices.tolist() == list(range(8))
    assert found.axis == "k"
    assert found.weights.std() > 0.02


def test_where_windows_overlap_a_row_is_their_mean_weighted_as_the_scores_are():
    package = a_package(window=(16, 16, 4))
    volume = a_volume(6)
    found = found_in(volume, package).weights
    network = a_network(package).eval()
    image = torch.from_numpy(np.ascontiguousarray(volume.array_ijk))[None, None]
    first, second = (network.attention_matrix(image[..., s : s + 4])[0].detach().numpy() for s in (0, 2))
    # A Gaussian over four slices, standard deviation 0.5: slices 2 and 3 are third and fourth in the first window,
    # first and second in the second. Far from the middle of the plane no weight is below 0.001, hence the tolerance.
    outer, inner = np.exp(-(1.5**2) / (2 * 0.25)), np.exp(-(0.5**2) / (2 * 0.25))
    expected = np.zeros(6)
    expected[0:4] += inner * first[2]
    expected[2:6] += outer * second[0]
    np.testing.assert_allclose(found[2], expected / (inner + outer), atol=1e-2)
    np.testing.assert_allclose(found[0], [*first[0], 0, 0], atol=1e-5)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 14), st.sampled_from(["RAS", "LPI", "SRA", "AIL"]), st.sampled_from([16, 21]))
def test_every_row_sums_to_one_in_any_orientation_and_size(slices: int, orientation: str, plane: int):
    array = np.random.default_rng(1).normal(size=(plane, plane, plane)).astype(np.float32)
    along = next(axis for axis, letter in enumerate(orientation) if letter in "SI")
    array = np.take(array, np.arange(slices) % plane, axis=2 - along)
    spacing = [1.0, 1.0, 1.0]
    spacing[along] = 3.0
    volume = Volume(array, Geometry.from_spacing(array.shape, spacing, orientation=orientation))
    found = found_in(volume)
    assert found.axis == "ijk"[along]
    assert found.slices == pytest.approx(np.arange(slices), abs=1e-6)
    assert found.weights.shape == (slices, slices)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, atol=1e-5)


def test_rows_and_columns_are_counted_as_the_image_counts_its_slices():
    # The same patient, stored from the top to the bottom: the matrix is turned round and nothing else.
    volume = a_volume(5)
    onward, turned = found_in(volume), found_in(volume.reorient("RAI"))
    np.testing.assert_allclose(turned.weights, onward.weights[::-1, ::-1], atol=1e-5)


def test_resampled_slices_tell_where_they_lie_in_the_image():
    found = found_in(a_volume(6), a_package(spacing=(None, None, 6.0)))
    assert found.slices == pytest.approx([0.5, 2.5, 4.5], abs=1e-6)
    assert found.informants_of(0) is not None
    np.testing.assert_array_equal(found.informants_of(4), found.weights[2])


def test_a_single_slice_informs_itself_and_the_user_is_told():
    found = found_in(a_volume(1))
    assert found.weights.tolist() == [[1.0]]
    assert "single slice" in found.notices[0]


def a_matrix() -> SliceAttention:
    weights = np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.1, 0.2, 0.7]], np.float32)
    return SliceAttention(weights, np.array([0.0, 1.0, 2.0]), "k")


def rows_of(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.reader(stream))


def test_the_table_has_a_line_for_each_slice_that_was_informed(tmp_path: Path):
    write_slice_attention(a_matrix(), tmp_path / "all.csv")
    assert rows_of(tmp_path / "all.csv") == [
        ["slice", "0", "1", "2"],
        ["0", "0.5", "0.25", "0.25"],
        ["1", "0", "1", "0"],
        ["2", "0.1", "0.2", "0.7"],
    ]


def test_one_slice_is_written_with_a_line_for_each_that_informed_it(tmp_path: Path):
    write_slice_attention(a_matrix(), tmp_path / "one.csv", 2)
    assert rows_of(tmp_path / "one.csv") == [["slice", "weight"], ["0", "0.1"], ["1", "0.2"], ["2", "0.7"]]


def test_slices_between_those_of_the_image_are_written_with_decimals(tmp_path: Path):
    between = SliceAttention(np.eye(2, dtype=np.float32), np.array([0.5, 2.5]), "k")
    write_slice_attention(between, tmp_path / "between.csv")
    assert rows_of(tmp_path / "between.csv")[0] == ["slice", "0.50", "2.50"]


def test_a_slice_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"no slice 7 along its k axis\. Slices are counted from 0; the last one is 2"):
        write_slice_attention(a_matrix(), tmp_path / "none.csv", 7)
    assert not (tmp_path / "none.csv").exists()


@pytest.mark.parametrize(
    "changes",
    [{"network_target": "medseg.networks.UNet3D"}, {"network_arguments": {"inter_slice": "convlstm"}}],
)
def test_a_model_without_attention_between_slices_says_so(changes: dict):
    package = a_package(**changes)
    assert not shows_slice_attention(package)
    with pytest.raises(ModelError, match="cannot tell which slices informed which"):
        slice_attention([a_volume()], package)


def test_a_wrong_number_of_volumes_is_named():
    with pytest.raises(InputError, match="takes 1 volumes, and 2 were given"):
        slice_attention([a_volume(), a_volume()], a_package())


def test_the_user_can_stop_it():
    package = a_package()
    with pytest.raises(Cancelled):
        slice_attention([a_volume()], package, network=a_network(package), progress=Progress(cancelled=lambda: True))


def test_importing_it_brings_no_torch():
    code = "import sys, medseg.segmentation.slice_attention; print('torch' in sys.modules)"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "False"
