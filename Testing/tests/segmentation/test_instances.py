"""Packages that separate instances: windows from the head to the feet, one label for every bone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from benchmarks.claims.torso import COLUMNS, ROWS, random_cage, random_spine, spine
from medseg.analysis.components import components_by_value
from medseg.analysis.naming import letters
from medseg.backend.encoding import decode_result, encode_result
from medseg.cli import app
from medseg.errors import Cancelled, ModelError
from medseg.models import (
    FitInPlane,
    InputSlot,
    InstanceGroup,
    Instances,
    Preprocessing,
    ScaleRange,
    Window,
    write_package,
)
from medseg.networks import build_network
from medseg.progress import Progress
from medseg.segmentation import SegmentOptions, estimate, segment
from medseg.segmentation.instance_windows import run_windows
from medseg.segmentation.predictor import Predictor
from medseg.segmentation.seg_nrrd import write_seg_nrrd
from medseg.segmentation.seg_nrrd_labels import segment_labels
from medseg.volumes import Geometry, Volume, read_labelmap, write_volume
from support.segmentation import label_table, package_of

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.models import ModelPackage

BONE, ORGAN = 1, 2
ORGAN_VALUE = 500.0
"""What the organ has in images whose bones have their numbers."""


class KnowsTheBones(nn.Module):
    """A perfect network for images whose voxels have the number of their bone.

    Its embeddings lie 7 apart for two bones, and in other places for every window: they mean nothing across windows.
    """

    def __init__(self, *, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.windows: list[torch.Tensor] = []

    def forward(self, image: torch.Tensor) -> Any:
        self.windows.append(image.clone())
        value = image[:, :1]
        bone = (value > 0.5) & (value < ORGAN_VALUE / 2)
        organ = value > ORGAN_VALUE / 2
        scores = 10.0 * torch.cat([~(bone | organ), bone, organ], dim=1).float()
        if self.heads == 1:
            return scores
        place = 7.0 * (value.round() + 13 * len(self.windows))
        return scores, torch.cat([place, -place, torch.zeros_like(place)], dim=1)


def spine_package(
    *,
    orientation: str = "LPI",
    method: str = "embedding",
    rule: str = "overwrite",
    window: tuple[int, int, int] = (8, 8, 64),
    minimum_mm3: dict[int, float] | None = None,
    group: dict[str, Any] | None = None,
    **changes: Any,
) -> ModelPackage:
    section = Instances(
        (InstanceGroup(BONE, method, rule, name="Vertebra", **(group or {})),), minimum_mm3=minimum_mm3 or {}
    )
    return package_of(classes=3, window=window, overlap=0.5, orientation=orientation, instances=section, **changes)


def as_image(bones: np.ndarray, orientation: str = "LPI", spacing: tuple[float, float, float] = (2, 2, 3)) -> Volume:
    """An image (with a little noise: it must not look like a label map) whose slice 0 is at the head."""
    noise = np.random.default_rng(0).uniform(-0.05, 0.05, bones.shape)
    image = Volume((bones + noise).astype(np.float32), Geometry.from_spacing(bones.shape, spacing, orientation="LPI"))
    return image.reorient(orientation)


def in_order(bones: np.ndarray) -> np.ndarray:
    """The labels that are to come out: bones are numbered from the head already, the organ keeps its label."""
    expected = np.where(bones > 0, bones + ORGAN, 0)
    expected[bones == ORGAN_VALUE] = ORGAN
    return expected


@pytest.mark.parametrize("grid", ["LPI", "RAS", "SPL", "ILA"])
@pytest.mark.parametrize("model", ["LPI", "RAS"])
def test_every_vertebra_gets_one_label_from_the_head_down_in_any_orientation(grid: str, model: str) -> None:
    bones = random_spine(150, np.random.default_rng(1))
    result = segment([as_image(bones, grid)], spine_package(orientation=model), network=KnowsTheBones())
    assert np.array_equal(result.labelmap.reorient("LPI").array, in_order(bones))
    assert result.labels.names[2:] == tuple(f"Vertebra {letters(place)}" for place in range(bones.max()))
    assert result.labelmap.geometry.orientation == grid


def test_windows_follow_each_other_from_the_head_and_the_last_ends_with_the_scan() -> None:
    bones = np.zeros((110, ROWS, COLUMNS), np.int32)
    bones[:, 5, 5] = np.arange(1, 111)
    # Voxel value = slice + 1. With "S" the head is at the high end of a window, with "R" columns count backwards.
    for orientation, i, k in (("LPI", 5, 0), ("RPS", COLUMNS - 6, -1)):
        network = KnowsTheBones()
        package = spine_package(orientation=orientation, window=(4, 4, 64))
        segment([as_image(bones, orientation)], package, network=network)
        assert [int(window[0, 0, i, 5, k].round()) for window in network.windows] == [1, 33, 47]


def test_ribs_are_joined_across_windows() -> None:
    rng = np.random.default_rng(4)
    bones = components_by_value(random_cage(180, rng, pairs=6), 26)
    package = spine_package(rule="join", group={"minimum_voxels": 11})
    result = segment([as_image(bones)], package, network=KnowsTheBones())
    found = result.labelmap.array
    assert len(np.unique(found)) - 1 == bones.max()
    pairs = {*zip(found[bones > 0].tolist(), bones[bones > 0].tolist(), strict=True)}
    assert len({pair for pair in pairs if pair[0]}) == bones.max()


def test_components_need_no_embeddings() -> None:
    bones = random_spine(100, np.random.default_rng(2))
    network = KnowsTheBones(heads=1)
    result = segment([as_image(bones)], spine_package(method="components"), network=network)
    assert np.array_equal(result.labelmap.array, in_order(bones))


def test_a_network_without_embeddings_is_refused_where_they_are_needed() -> None:
    bones = random_spine(70, np.random.default_rng(2))
    with pytest.raises(ModelError, match="no embeddings"):
        segment([as_image(bones)], spine_package(), network=KnowsTheBones(heads=1))


def test_a_scan_shorter_than_a_window_is_filled_up_with_air_below_and_told() -> None:
    bones = random_spine(40, np.random.default_rng(3))
    network = KnowsTheBones()
    package = spine_package(
        inputs=(InputSlot("CT", "CT", "", 2),),
        preprocessing=Preprocessing("LPI", (None, None, None), (ScaleRange(-1000, 1000, -1000, 1000, clip=False),)),
    )
    result = segment([as_image(bones)], package, network=network)
    assert np.array_equal(result.labelmap.array, in_order(bones))
    assert any("40 slices" in notice and "64" in notice for notice in result.notices)
    (window,) = network.windows
    assert window.shape == (1, 1, COLUMNS, 32, 64)
    assert (window[..., 40:] == -1000).all()
    assert (window[..., 2:30, :40].abs() < 100).all()
    assert (window[..., :2, :] == -1000).all()


def test_air_below_lies_at_the_beginning_of_a_grid_that_runs_upwards() -> None:
    bones = random_spine(40, np.random.default_rng(3))
    network = KnowsTheBones()
    result = segment([as_image(bones)], spine_package(orientation="RAS"), network=network)
    assert np.array_equal(result.labelmap.array, in_order(bones))
    (window,) = network.windows
    # Without a CT the least value of the image stands for air.
    assert (window[..., :24] == window.min()).all()


def test_the_plane_may_be_the_box_of_the_body() -> None:
    bones = np.pad(random_spine(90, np.random.default_rng(5)), ((0, 0), (10, 0), (0, 14)))
    preprocessing = Preprocessing("LPI", (None, None, None), (), FitInPlane((32, 32), threshold=0.4))
    package = spine_package(window=(32, 32, 64), preprocessing=preprocessing)
    network = KnowsTheBones()
    # As many voxels in the box as the network sees: no interpolation mixes the numbers.
    bones[:, :6], bones[:, :, 32:] = 0, 0
    bones[45, 6, 0] = bones[45, 37, 31] = ORGAN_VALUE
    result = segment([as_image(bones)], package, network=network)
    assert network.windows[0].shape == (1, 1, 32, 32, 64)
    assert np.array_equal(result.labelmap.array, in_order(bones))


def test_small_bones_are_removed_but_not_those_at_the_ends() -> None:
    # Voxels of 12 mm3. Vertebra heights 5 (cut by the top), 20, 6, 20, 4 (at the bottom).
    bones = spine([8, 20, 6, 20, 8], before=-3, after=-4)
    sizes = np.bincount(bones.ravel())[1:] * 12.0
    assert sizes[2] < 20_000 < min(sizes[1], sizes[3])
    package = spine_package(group={"minimum_mm3": 20_000.0})
    result = segment([as_image(bones)], package, network=KnowsTheBones())
    expected = np.array([0, 3, 4, 0, 5, 6])[bones]
    assert np.array_equal(result.labelmap.array, expected)
    assert any("left out" in notice for notice in result.notices)
    assert any("top or bottom" in notice and "Vertebra a, Vertebra d" in notice for notice in result.notices)
    kept = segment([as_image(bones)], package, SegmentOptions(postprocess=False), network=KnowsTheBones())
    assert np.array_equal(kept.labelmap.array, in_order(bones))


def test_organs_lose_their_small_pieces_only() -> None:
    bones = random_spine(80, np.random.default_rng(6)).astype(float)
    bones[20:40, 1:5, 1:5] = ORGAN_VALUE
    bones[60, 1, 1] = ORGAN_VALUE
    bones[79, 1, 30] = ORGAN_VALUE
    package = spine_package(minimum_mm3={ORGAN: 100.0})
    found = segment([as_image(bones)], package, network=KnowsTheBones()).labelmap.array
    assert np.count_nonzero(found == ORGAN) == 20 * 16 + 1
    assert found[79, 1, 30] == ORGAN


@pytest.mark.parametrize(("remainder", "left"), [("remove", 0), ("keep", BONE), ("nearest", 3)])
def test_voxels_without_an_instance_are_removed_kept_or_given_away(remainder: str, left: int) -> None:
    bones = spine([20], before=20, after=40)
    bones[44, 8:16, 14:26] = 77
    package = spine_package(group={"minimum_mm3": 5000.0, "remainder": remainder})
    result = segment([as_image(bones)], package, network=KnowsTheBones())
    assert set(np.unique(result.labelmap.array[44, 8:16, 14:26])) == {left}
    assert np.array_equal(result.labelmap.array == 3, (bones == 1) | ((bones == 77) & (left == 3)))
    assert ("organ 1 (not separated)" in result.labels.names) == (remainder == "keep")


def test_the_result_measures_travels_and_is_written_with_every_instance(tmp_path: Path) -> None:
    bones = random_spine(100, np.random.default_rng(7)).astype(float)
    bones[20:40, 1:5, 1:5] = ORGAN_VALUE
    result = segment([as_image(bones)], spine_package(), network=KnowsTheBones())
    voxels = {entry.name: entry.voxels for entry in result.statistics}
    assert voxels["Vertebra b"] == np.count_nonzero(bones == 2)
    assert voxels["organ 1"] == 0
    assert voxels["organ 2"] == 20 * 16
    assert len({label.color for label in result.labels[2:]}) == bones[bones < ORGAN_VALUE].max()
    assert {label.type for label in result.labels} == {label_table(1)[0].type}
    parcel = encode_result(result)
    back = decode_result(bytes(parcel.head) + bytes(parcel.body))
    assert back.labels == result.labels
    write_seg_nrrd(result, tmp_path / "spine.seg.nrrd")
    assert np.array_equal(read_labelmap(tmp_path / "spine.seg.nrrd").array, result.labelmap.array)
    assert "Segment1_Name:=Vertebra a" in (tmp_path / "spine.seg.nrrd").read_bytes()[:20_000].decode("latin-1")


def test_a_coarser_network_grid_comes_back_by_nearest_neighbour() -> None:
    bones = spine([20, 20], before=20, after=30)
    fine = np.repeat(bones, 2, axis=0)
    volume = as_image(fine, spacing=(2.0, 2.0, 1.5))
    package = spine_package(spacing=(None, None, 3.0))
    result = segment([volume], package, network=KnowsTheBones())
    assert result.labelmap.geometry == volume.geometry
    found = result.labelmap.array
    # Between bones of numbers 1 and 2 lies an empty slice, so interpolation meets at most one half-filled slice a side.
    differ = np.flatnonzero((found != in_order(fine)).any(axis=(1, 2)))
    borders = np.flatnonzero((np.diff(fine, axis=0) != 0).any(axis=(1, 2)))
    assert len(differ) <= len(borders)
    assert set(np.unique(found)) == {0, 3, 4}


def test_a_sheared_grid_keeps_its_geometry() -> None:
    bones = random_spine(90, np.random.default_rng(8))
    matrix = np.diag([-2.0, -2.0, -3.0, 1.0])
    matrix[1, 2] = 0.6
    volume = Volume(as_image(bones).array, Geometry(bones.shape, matrix))
    assert volume.geometry.is_sheared
    result = segment([volume], spine_package(), network=KnowsTheBones())
    assert result.labelmap.geometry == volume.geometry
    assert any("right angles" in notice for notice in result.notices)


class PlacesInTheWindow(nn.Module):
    """Scores that depend on the slice of the window only."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        slices = torch.arange(image.shape[4], dtype=torch.float32).expand_as(image[:, 0])
        return torch.stack([torch.full_like(slices, 0.1), slices - 1.3, 0.4 * slices], dim=1)


def test_probabilities_are_blended_with_a_gaussian_along_the_slices() -> None:
    # Six slices, windows of four at 0 and 2; a slice's weight is exp(-(z - 1.5)^2 / (2 (4/8)^2)), at least 0.001.
    package = spine_package(method="components", window=(2, 2, 4))
    image = torch.zeros(1, 2, 2, 6)
    found = run_windows(image, Predictor(PlacesInTheWindow()), package).classes
    weight = np.maximum(np.exp(-((np.arange(4) - 1.5) ** 2) / 0.5), 1e-3)
    scores = np.stack([np.full(4, 0.1), np.arange(4) - 1.3, 0.4 * np.arange(4)])
    probability = np.exp(scores) / np.exp(scores).sum(axis=0)
    total = np.zeros((3, 6))
    total[:, :4] += weight * probability
    total[:, 2:] += weight * probability
    assert found[:, 0, 0].tolist() == total.argmax(axis=0).tolist()
    assert len(set(total.argmax(axis=0))) > 1


def test_a_run_can_be_cancelled_between_windows() -> None:
    seen: list[float] = []
    progress = Progress(lambda fraction, _text: seen.append(fraction), lambda: bool(seen) and seen[-1] > 0.3)
    network = KnowsTheBones()
    with pytest.raises(Cancelled):
        segment(
            [as_image(random_spine(300, np.random.default_rng(0)))], spine_package(), network=network, progress=progress
        )
    assert len(network.windows) < 8


def test_the_estimate_counts_windows_of_whole_slices() -> None:
    geometry = Geometry.from_spacing((150, 100, 120), (2.0, 2.0, 3.0), orientation="LPI")
    cost = estimate(geometry, spine_package(window=(32, 32, 64)))
    # Starts 0, 32, 64, 86; the plane is filled up to 128 x 128.
    assert cost.windows == 4
    assert "128 x 128 x 64" in cost.plan


def test_one_channel_is_background_and_one_group() -> None:
    class Inside(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return 10 * (image[:, :1] - 0.5)

    bones = random_spine(80, np.random.default_rng(9))
    section = Instances((InstanceGroup(1, "components"),))
    package = package_of(classes=1, window=(8, 8, 64), orientation="LPI", instances=section, labels=label_table(1))
    result = segment([as_image(bones)], package, network=Inside())
    assert np.array_equal(result.labelmap.array, np.where(bones > 0, bones + 1, 0))
    assert result.labels.names[1] == "organ 1 a"


def test_a_package_on_disk_separates_bones_from_the_command_line(tmp_path: Path) -> None:
    """The network's weights are random: what is held is the way from the folder to the file."""
    arguments = {
        "out_channels": 3, "embedding_channels": 4, "slices": 16, "plane": 16, "stem_width": 4, "stem_poolings": 1,
        "width": 8, "attention_heads": 2, "mlp_width": 8, "taps": [1], "decoder_width": 8, "shallow_width": 4,
        "final_width": 4, "projection": True, "norm": "instance",
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        weights = build_network("medseg.networks.SliceModel", arguments).state_dict()
    groups = (InstanceGroup(1, "embedding", "overwrite"), InstanceGroup(2, "embedding", "join", remainder="keep"))
    folder = write_package(
        tmp_path / "bones", name="bones", title="Bones", description="Random bones", version="1.0.0",
        license="Apache-2.0", inputs=[InputSlot("CT", "CT")], labels=label_table(2),
        network_target="medseg.networks.SliceModel", network_arguments=arguments,
        preprocessing=Preprocessing("LPI", (None, None, 3.0), (), FitInPlane((16, 16), -200.0)),
        window=Window((16, 16, 16), 0.5), state_dict=weights, instances=Instances(groups),
    ).folder  # fmt: skip
    rng = np.random.default_rng(0)
    image = Volume(
        rng.normal(0, 300, (40, 30, 36)).astype(np.int16), Geometry.from_spacing((40, 30, 36), (2.0, 2.5, 2.0))
    )
    write_volume(image, tmp_path / "ct.nii.gz")
    target = tmp_path / "out.seg.nrrd"
    result = CliRunner().invoke(app, ["segment", str(tmp_path / "ct.nii.gz"), "-m", str(folder), "-o", str(target)])
    assert result.exit_code == 0, result.output
    found = read_labelmap(target)
    assert found.geometry.is_close(image.geometry)
    names = segment_labels(target).names
    assert any(name.startswith("organ 1 ") for name in names)
    assert set(np.unique(found.array[found.array > 0])) == set(segment_labels(target).values)


def test_a_bone_taller_than_the_overlap_is_one_and_told() -> None:
    bones = spine([40], before=30, after=80)
    result = segment([as_image(bones)], spine_package(), network=KnowsTheBones())
    assert np.array_equal(result.labelmap.array, in_order(bones))
    assert any("two bones may have been taken for one (once)" in notice for notice in result.notices)
