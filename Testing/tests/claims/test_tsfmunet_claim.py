"""The claim on slice spacing: what its phantoms promise, and that its machinery runs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.claims import tsfmunet
from benchmarks.claims.anisotropic_data import ATRIUM_PLANE, Atrium, Scene, cut, draw_scene, read_atria, thicken
from benchmarks.claims.tsfmunet import MIXED, NETWORKS, ONE, OURS, QUICK, RECURRENT, THREE_D, TWO_D, Result


def a_scene(**changes: object) -> Scene:
    spheres = np.array([[10.0, 12.0, 20.0, 5.0]])
    return Scene(
        **{"width": 32.0, "height": 40.0, "spheres": spheres, "tubes": np.array([[22.0, 20.0, 3.0]]), **changes}
    )


def test_a_sphere_and_a_tube_of_the_same_section_look_alike_in_a_slice():
    # The sphere of radius 5 has a section of radius 3 at 4 mm from its middle.
    scene = a_scene(spheres=np.array([[10.0, 12.0, 20.5, 5.0]]))
    stack = cut(scene, 1.0, np.random.default_rng(0))
    height = 24  # the slice at 24.5 mm
    noiseless = cut(scene, 1.0, _Silent()).image[..., height]
    sphere, tube = noiseless[4:17, 6:19], noiseless[16:29, 14:27]
    assert sphere.sum() == pytest.approx(math.pi * 9, rel=0.03)
    np.testing.assert_allclose(sphere, tube, atol=1e-6)
    assert stack.classes[4:17, 6:19, height].sum() == pytest.approx(math.pi * 9, rel=0.15)
    assert stack.classes[16:29, 14:27].sum() == 0


class _Silent:
    """A generator without noise."""

    def normal(self, _mean: float, _deviation: float, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape)


@pytest.mark.parametrize(("spacing", "slices"), [(1.0, 40), (1.5, 26), (2.5, 16), (5.0, 8)])
def test_slices_lie_at_the_asked_distance_and_discs_do_not_fade(spacing: float, slices: int):
    stack = cut(a_scene(), spacing, _Silent())
    assert stack.image.shape == (32, 32, slices)
    assert stack.spacing == (1.0, 1.0, spacing)
    assert stack.image.max() == 1
    # The tube is in every slice, the sphere only in those nearer to its middle than its radius.
    assert (stack.image[22, 20] == 1).all()
    heights = (np.arange(slices) + 0.5) * spacing
    seen = stack.classes.any(axis=(0, 1))
    assert seen.tolist() == (np.abs(heights - 20) <= math.sqrt(24)).tolist()


def test_discs_of_nodules_and_of_vessels_are_as_many_and_as_large():
    rng = np.random.default_rng(0)
    scenes = [draw_scene(rng) for _ in range(40)]
    tubes, sections = [], []
    for scene in scenes:
        for z in np.arange(0.5, scene.height):
            near = np.abs(scene.spheres[:, 2] - z) < scene.spheres[:, 3]
            radii = np.sqrt(scene.spheres[near, 3] ** 2 - (scene.spheres[near, 2] - z) ** 2)
            sections += list(radii[radii >= 1])
        # Each tube once for each slice, as the spheres' sections are counted.
        tubes += [radius for radius in scene.tubes[:, 2] for _ in range(int(scene.height))]
    assert len(sections) / len(tubes) == pytest.approx(1, abs=0.15)
    for percent in (25, 50, 75):
        assert np.percentile(sections, percent) == pytest.approx(np.percentile(tubes, percent), rel=0.15)


def test_nothing_in_a_scene_touches_anything():
    rng = np.random.default_rng(1)
    for _ in range(5):
        scene = draw_scene(rng)
        for index, (x, y, z, radius) in enumerate(scene.spheres):
            assert all(math.hypot(x - a, y - b) > radius + r for a, b, r in scene.tubes)
            others = np.delete(scene.spheres, index, axis=0)
            assert all(math.dist((x, y, z), other[:3]) > radius + other[3] for other in others)


def test_thick_slices_are_means_and_their_labels_a_majority():
    image = np.zeros((*ATRIUM_PLANE, 5), np.float32)
    image[3, 4] = [1, 3, 5, 7, 100]
    fraction = np.zeros_like(image)
    fraction[3, 4] = [1, 0, 0.9, 0, 1]
    stack = thicken(Atrium("a", image, fraction, (1.875, 1.875, 0.625)), 2)
    assert stack.image.shape == (*ATRIUM_PLANE, 2)  # the fifth slice makes no whole block
    assert stack.image[3, 4].tolist() == [2, 6]
    assert stack.classes[3, 4].tolist() == [1, 0]
    assert stack.spacing == (1.875, 1.875, 1.25)


def test_real_atria_keep_their_volume_on_the_coarse_plane(shared_data: Path):
    from medseg.volumes import read_labelmap

    (atrium,) = read_atria(shared_data / "left-atrium-mr", limit=1)
    label = read_labelmap(shared_data / "left-atrium-mr" / f"{atrium.name}_label.nii.gz")
    volume = np.count_nonzero(label.array) * label.geometry.voxel_volume_mm3
    assert atrium.image.shape[:2] == ATRIUM_PLANE
    for factor in (1, 8):
        stack = thicken(atrium, factor)
        assert stack.classes.sum() * np.prod(stack.spacing) == pytest.approx(volume, rel=0.05)


def test_every_rival_sees_the_same_batches_and_starts_from_the_seed():
    world = tsfmunet.phantoms(QUICK, 0)
    for name in NETWORKS:
        first, again = (
            tsfmunet.trained_network(name, world.mixed, QUICK, steps=1, seed=5).state_dict() for _ in range(2)
        )
        assert all(torch.equal(first[key], again[key]) for key in first)
    one, two = (tsfmunet._batch(world.mixed, QUICK, np.random.default_rng(7)) for _ in range(2))
    assert torch.equal(one[0], two[0])
    assert one[0].shape == (1, 1, 32, 32, 4)
    assert one[1].dtype == torch.uint8


def test_each_spacing_comes_as_often_as_the_others():
    world = tsfmunet.phantoms(tsfmunet.Setup(**{**vars(QUICK), "training": 8, "testing": 8}), 0)
    for stacks in (world.mixed, world.test):
        spacings = [stack.spacing[2] for stack in stacks]
        assert sorted(spacings) == sorted([1.0, 1.5, 2.5, 5.0] * 2)
    assert {stack.spacing[2] for stack in world.one} == {1.25}


def results_of(scores: dict[tuple[str, str], float]) -> list[Result]:
    return [
        Result("phantoms", network, trained, seed, spacing, dice + 0.01 * seed, 0.5)
        for (network, trained), dice in scores.items()
        for seed in range(2)
        for spacing in (1.0, 5.0)
    ]


@pytest.mark.parametrize(
    ("ours", "recurrent", "held"),
    [((0.90, 0.88), 0.90, True), ((0.90, 0.79), 0.85, False), ((0.90, 0.88), 0.91, False)],
    ids=["smaller drop and as good", "larger drop", "not as good as the recurrent one"],
)
def test_the_verdict_can_go_either_way(ours: tuple[float, float], recurrent: float, held: bool):
    scores = {(name, trained): 0.8 for name in (RECURRENT, THREE_D, TWO_D) for trained in (MIXED, ONE)}
    scores |= {(OURS, MIXED): ours[0], (OURS, ONE): ours[1], (RECURRENT, MIXED): recurrent, (THREE_D, ONE): 0.7}
    results = results_of(scores)
    verdict = tsfmunet.verdict_of("phantoms", results)
    assert ("the claim holds" in verdict) == held
    assert ("the claim does not hold" in verdict) != held
    mine = [result for result in results if result.network == OURS]
    assert tsfmunet.drops(mine, 5.0) == pytest.approx([ours[0] - ours[1]] * 2)


def test_a_quick_run_makes_the_whole_table_and_tells_that_it_proves_nothing():
    told = []
    report = tsfmunet.run(
        quick=True,
        seeds=1,
        threads=1,
        data=None,
        progress=tsfmunet.Progress(lambda fraction, _text: told.append(fraction)),
    )
    assert [row[:2] for row in report.rows] == [("phantoms", name) for name in NETWORKS]
    assert all("±" not in cell for row in report.rows for cell in row)
    assert report.verdict.startswith("A quick run, which says nothing")
    assert "No left-atrium data" in report.notes[-1]
    assert "3 steps on phantoms" in report.notes[0]
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1)
    assert "| phantoms | 3D U-Net |" in report.markdown()
