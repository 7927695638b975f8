"""The claim of MPU-Net: what its phantoms promise, and that its machinery runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.claims import mpunet
from benchmarks.claims.fitting import parameters_of
from benchmarks.claims.mpunet import FULL, HIPPOCAMPI, PHANTOMS, PRESET, QUICK, RIVALS, UNET, WITHOUT, Job, Result
from benchmarks.claims.mpunet_data import CUE, FAR, NEAR, SHAPE, Scene, draw_pair, random_patch, read_hippocampi
from medseg.networks import MPUNet


def test_two_scenes_differ_in_their_cue_only():
    dark, bright = draw_pair(np.random.default_rng(0))
    difference = bright.image - dark.image
    np.testing.assert_allclose(difference[CUE], 4.0, atol=1e-5)
    difference[CUE] = 0
    assert not difference.any()
    assert set(np.unique(dark.classes)) == {0, 1}
    np.testing.assert_array_equal(bright.classes, 2 * dark.classes)


def test_blobs_lie_near_or_far_and_never_in_both_or_beside_the_cue():
    rng = np.random.default_rng(1)
    for _ in range(10):
        scene, _other = draw_pair(rng)
        near, far = (scene.classes[scene.part(reach)] for reach in (NEAR, FAR))
        assert near.any()
        assert far.any()
        assert np.count_nonzero(near) + np.count_nonzero(far) == np.count_nonzero(scene.classes)
        first, last = np.flatnonzero(scene.classes.any(axis=(1, 2)))[[0, -1]]
        assert first - (CUE[0].stop - 1) >= 19
        assert last <= 189


class _Reach:
    """How far a change of one voxel is felt, in a network whose weights cannot cancel."""

    def __init__(self, network: nn.Module, last: nn.Module) -> None:
        self.seen: list[torch.Tensor] = []
        last.register_forward_hook(lambda _module, inputs, _output: self.seen.append(inputs[0]))
        self.network = network.double().eval()
        for module in network.modules():
            if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
                module.weight.data = module.weight.data.abs() * 3 * len(module.weight) / module.weight.data.abs().sum()

    def of(self, voxel: int) -> int:
        image = torch.zeros(1, 1, 400, 8, 8, dtype=torch.float64)
        changed = image.clone()
        changed[:, :, voxel] = 1e6
        with torch.no_grad():
            self.network(image)
            self.network(changed)
        felt = torch.nonzero((self.seen[-1] - self.seen[-2]).abs().amax((0, 1, 3, 4)) > 0).flatten()
        return max(int(felt.max()) - voxel, voxel - int(felt.min()))


def test_convolutions_alone_do_not_reach_the_far_blobs_and_do_reach_the_near_ones():
    network = MPUNet(widths=(2, 2, 2, 2, 2, 2), position_attention=False)
    reach = _Reach(network, network.maps[3])
    farthest = max(reach.of(voxel) for voxel in range(200, 208))
    nearest_far_blob = FAR[0] - 3.2 - (CUE[0].stop - 1)
    assert farthest == 129 < nearest_far_blob
    assert NEAR[1] + 3.2 - CUE[0].start < farthest


@pytest.mark.parametrize("world", [PHANTOMS, HIPPOCAMPI])
def test_every_u_net_has_as_many_parameters_as_mpu_net(world: str):
    setup = mpunet.Setup()
    with torch.device("meta"):
        wanted = parameters_of(MPUNet(out_channels=3, widths=setup.widths))
        for rival in RIVALS[world]:
            assert parameters_of(mpunet.new_network(rival, setup)) == pytest.approx(wanted, rel=0.02), rival.name


def test_real_hippocampi_are_read_with_their_parts(shared_data: Path):
    cases = read_hippocampi(shared_data / "mr-hippocampus", limit=2)
    assert len(cases) == 2
    for case in cases:
        assert case.image.shape == case.classes.shape
        assert case.image.mean() == pytest.approx(0, abs=1e-3)
        assert set(np.unique(case.classes)) == {0, 1, 2}


def test_a_patch_is_a_part_of_its_case_or_has_all_of_it():
    rng = np.random.default_rng(0)
    image = rng.uniform(1, 2, (10, 5, 8)).astype(np.float32)
    case = Scene(image, (image > 1.5).astype(np.uint8))
    starts = set()
    for _ in range(20):
        patch = random_patch(case, (6, 8, 8), rng)
        i, j = np.argwhere(patch.image > 0)[0][:2]
        assert i == 0
        start = int(np.flatnonzero(np.isclose(image[:, 0, 0], patch.image[0, j, 0]))[0])
        starts.add((start, int(j)))
        np.testing.assert_array_equal(patch.image[:, j : j + 5], image[start : start + 6])
        np.testing.assert_array_equal(patch.classes, (patch.image > 1.5).astype(np.uint8))
    assert {start for start, _ in starts} == set(range(5))
    assert {j for _, j in starts} == {0, 1, 2, 3}


class _Answer(nn.Module):
    """Gives the class that lies in the image itself."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.stack([(image[:, 0].round() == value).float() for value in range(3)], 1)


def test_the_shares_count_the_blob_voxels_with_the_right_class():
    classes = np.zeros(SHAPE, np.uint8)
    classes[50:52], classes[160:164] = 1, 2
    answer = classes.astype(np.float32)
    answer[50, :4] = 2
    answer[160:163] = 0
    answer[100:120] = 1
    assert mpunet._right(_Answer(), [Scene(answer, classes)]) == pytest.approx((0.75, 0.25))
    assert mpunet._dice(_Answer(), [Scene(classes.astype(np.float32), classes)]) == (1.0, 1.0)


def results_of(world: str, scores: dict[tuple[str, str], float]) -> list[Result]:
    found = []
    for index, rival in enumerate(RIVALS[world]):
        if (rival.name, rival.loss) in scores:
            value = scores[rival.name, rival.loss]
            found += [Result(Job(world, index, seed, QUICK), value, value + 0.01 * seed, 0.1) for seed in range(2)]
    return found


@pytest.mark.parametrize(
    ("full", "without", "unet", "words"),
    [
        (0.9, 0.5, 0.5, ("carries a cue", "A U-Net of equal size")),
        (0.9, 0.5, 0.95, ("carries a cue", "not needed for that")),
        (0.52, 0.5, 0.95, ("does not carry", "not needed for that")),
        (0.9, 0.9, 0.5, ("does not carry", "A U-Net of equal size")),
    ],
)
def test_the_verdict_on_attention_can_go_either_way(full: float, without: float, unet: float, words: tuple[str, ...]):
    scores = {
        (PRESET, "tversky"): 0.9,
        (FULL, "tversky"): full,
        (WITHOUT, "tversky"): without,
        (UNET, "tversky"): unet,
        (FULL, "dice"): 0.1,
    }
    verdict = mpunet.attention_verdict(results_of(PHANTOMS, scores))
    assert all(word in verdict for word in words)


@pytest.mark.parametrize(("ours", "held"), [(0.86, True), (0.84, False)])
def test_the_verdict_on_real_images_takes_the_best_u_net(ours: float, held: bool):
    scores = {(PRESET, "tversky"): ours, (UNET, "tversky"): 0.80, (UNET, "dice"): 0.85}
    scores["MPU-Net as published", "tversky"] = 0.99
    verdict = mpunet.real_verdict(results_of(HIPPOCAMPI, scores))
    assert ("the claim holds" in verdict) == held
    assert "(dice)" in verdict


def test_a_quick_run_makes_the_whole_table_and_tells_that_it_proves_nothing(shared_data: Path):
    report = mpunet.run(quick=True, seeds=1, threads=1, data=shared_data)
    assert [row[:3] for row in report.rows] == [
        (world, rival.name, rival.loss) for world, rivals in RIVALS.items() for rival in rivals
    ]
    assert report.verdict.startswith("A quick run, which says nothing")


def test_the_same_seed_gives_the_same_result():
    job = Job(PHANTOMS, 0, 3, QUICK)
    first, again = mpunet.measured(job), mpunet.measured(job)
    assert (first.first, first.second) == (again.first, again.second)
    assert all(0 <= value <= 1 for value in (first.first, first.second))
