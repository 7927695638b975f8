"""The combined elastic and affine change of the arbitrary-range recipes, held against MONAI's own transform."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import Rand3DElastic
from pydantic import ValidationError

from medseg.training.augmentation import PatchSampler
from medseg.training.data import PreparedCase
from medseg.training.elastic_affine import ElasticAffineSection, affine_matrix, drawn_change, elastic_offsets
from medseg.training.recipe import AugmentationSection, WindowSection

NOTHING = {
    f"{change}_probability": 0.0
    for change in ("affine", "elastic", "noise", "smooth", "gamma", "bias", "low_resolution")
} | {"intensity_shift": 0.0, "intensity_scale": 0.0}
SIZE = (12, 10, 8)


def offsets_of(size: tuple[int, int, int]) -> torch.Tensor:
    axes = [torch.arange(float(n)) - (n - 1) / 2 for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31 - 1))
def test_the_change_is_that_of_monais_transform_with_the_same_draws(seed: int) -> None:
    theirs = Rand3DElastic(
        sigma_range=(1, 3), magnitude_range=(0, 20), prob=1.0, rotate_range=(0.3,) * 3, shear_range=(0.2,) * 6,
        scale_range=(0.2,) * 3,
    ).set_random_state(seed)  # fmt: skip
    caught: list[torch.Tensor] = []
    theirs.resampler = lambda img, grid, **_: caught.append(grid) or img
    theirs(torch.zeros(1, *SIZE))
    grid = theirs.rand_affine_grid
    noise = torch.from_numpy(theirs.rand_offset)
    scale = [float(factor) for factor in grid.scale_params]
    matrix = affine_matrix([float(a) for a in grid.rotate_params], [float(s) for s in grid.shear_params], scale)
    moved = offsets_of(SIZE) + elastic_offsets(noise, float(theirs.sigma), float(theirs.magnitude))
    torch.testing.assert_close(moved @ matrix.T, caught[0][:3].movedim(0, -1).float(), atol=1e-4, rtol=1e-4)


def test_the_matrix_is_rotation_then_shear_then_scale() -> None:
    quarter = affine_matrix([0.0, 0.0, np.pi / 2], [0.0] * 6, [1.0] * 3)
    torch.testing.assert_close(quarter, torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), atol=1e-6, rtol=0)
    both = affine_matrix([0.0, 0.0, np.pi / 2], [0.5, 0, 0, 0, 0, 0], [2.0, 1.0, 1.0])
    # Shear adds half of J to I, the scale doubles I first.
    by_hand = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]) @ torch.tensor([[1, 0.5, 0], [0, 1, 0], [0, 0, 1]])
    torch.testing.assert_close(both, by_hand @ torch.diag(torch.tensor([2.0, 1, 1])), atol=1e-6, rtol=0)


def test_the_published_elastic_change_is_a_fraction_of_a_voxel() -> None:
    noise = 2 * torch.rand((3, 48, 48, 48), generator=torch.Generator().manual_seed(0)) - 1
    moved = elastic_offsets(noise, 4.0, 50.0)[16:32, 16:32, 16:32]
    # White noise of variance 1/3 under a Gaussian of sigma in three dimensions keeps (2 sqrt(pi) sigma)^-3 of it.
    expected = 50 * np.sqrt((2 * np.sqrt(np.pi) * 4.0) ** -3 / 3)
    assert float(moved.std()) == pytest.approx(expected, rel=0.35)
    assert expected < 1


def test_every_number_stays_in_its_range_and_all_of_it_can_be_switched_off() -> None:
    offsets = offsets_of(SIZE)
    generator = torch.Generator().manual_seed(1)
    off = ElasticAffineSection(probability=0.0)
    assert torch.equal(drawn_change(offsets, off, generator), offsets)
    still = ElasticAffineSection(probability=1.0, rotation=(0, 0, 0), scale=(0, 0, 0), shear=0, magnitude=(0, 0))
    torch.testing.assert_close(drawn_change(offsets, still, generator), offsets)
    one = ElasticAffineSection(probability=1.0, rotation=(0, 0, 0), scale=(0, 0.2, 0), shear=0, magnitude=(0, 0))
    factors = []
    for _ in range(50):
        moved = drawn_change(offsets, one, generator)
        assert torch.equal(moved[..., [0, 2]], offsets[..., [0, 2]])
        factors.append(float(moved[0, -1, 0, 1] / offsets[0, -1, 0, 1]))
    assert 0.8 <= min(factors) < 0.85
    assert 1.15 < max(factors) <= 1.2


@pytest.fixture
def a_case() -> PreparedCase:
    i, j, k = np.ogrid[:30, :26, :20]
    label = ((i - 14) ** 2 / 80 + (j - 12) ** 2 / 60 + (k - 9) ** 2 / 40 < 1).astype(np.uint8)
    return PreparedCase(
        case="ball",
        image=torch.from_numpy(label.astype(np.float32))[None],
        label=torch.from_numpy(label),
        spacing=(3.0, 2.0, 1.5),
        foreground=(),
        annotated=torch.tensor([True, True]),
        instances=torch.from_numpy(label.astype(np.int16) * 7),
    )


def a_sampler(size: tuple[int, int, int], **changes: object) -> PatchSampler:
    return PatchSampler(WindowSection(size=size), AugmentationSection(**{**NOTHING, **changes}), 0.0)


def test_image_label_and_instances_move_together(a_case: PreparedCase) -> None:
    change = {"probability": 1.0, "rotation": (0.5, 0.5, 0.5), "magnitude": (0.0, 40.0), "sigma": (1.0, 3.0)}
    sampler = a_sampler((24, 24, 16), elastic_affine=change)
    patches = [sampler.draw(a_case, seed) for seed in range(5)]
    for patch in patches:
        shown = patch["image"][0] > 0.5
        # Both follow the same border, the one interpolated smoothly and the other by the nearest voxel.
        assert (shown != (patch["classes"] == 1)).float().mean() < 0.01
        assert ((patch["instances"] == 7) != shown).float().mean() < 0.05
    assert not torch.equal(patches[0]["classes"], patches[1]["classes"])
    again = sampler.draw(a_case, 0)
    assert all(torch.equal(again[name], patches[0][name]) for name in ("image", "classes", "instances"))


def test_beyond_the_scan_lies_what_the_recipe_says(a_case: PreparedCase) -> None:
    size = (30, 26, 40)
    image = torch.arange(20.0).expand(1, 30, 26, 20)
    ramp = PreparedCase("ramp", image, a_case.label, a_case.spacing, (), a_case.annotated)
    along = {name: a_sampler(size, outside=name).draw(ramp, 0)["image"][0, 15, 13] for name in ("zeros", "border")}
    mirrored = a_sampler(size, outside="reflection").draw(ramp, 0)
    assert not along["zeros"][:9].any()
    assert (along["border"][31:] == 19).all()
    # Ten voxels are missing at either end; voxel 9 - n beyond the first is the mirror image of voxel n + 1.
    torch.testing.assert_close(mirrored["image"][0, 15, 13, :10], torch.arange(10.0, 0, -1), atol=1e-3, rtol=0)
    assert torch.equal(mirrored["classes"][..., 1:10], a_case.label[..., 1:10].flip(-1))


def test_intensity_changes_follow_the_recipe() -> None:
    image = torch.rand((1, 20, 20, 20), generator=torch.Generator().manual_seed(2))
    case = PreparedCase(
        "noise", image, torch.zeros((20, 20, 20), dtype=torch.uint8), (1.0, 1.0, 1.0), (), torch.tensor([True])
    )

    def drawn(seed: int, **changes: object) -> torch.Tensor:
        return a_sampler((20, 20, 20), **changes).draw(case, seed)["image"]

    exact = {"noise_probability": 1.0, "noise_std": 0.01, "noise_random_std": False}
    stds = [float((drawn(seed, **exact) - image).std()) for seed in range(4)]
    assert stds == pytest.approx([0.01] * 4, rel=0.05)
    random = {**exact, "noise_random_std": True}
    assert max(float((drawn(seed, **random) - image).std()) for seed in range(4)) < 0.0099
    gamma = {"gamma_probability": 1.0, "gamma": (2.0, 2.0), "gamma_keeps_moments": False}
    expected = (image - image.min()) / (image.max() - image.min())
    expected = expected**2 * (image.max() - image.min()) + image.min()
    torch.testing.assert_close(drawn(0, **gamma), expected, atol=1e-3, rtol=0)
    kept = drawn(0, **{**gamma, "gamma_keeps_moments": True})
    assert float(kept.mean()) == pytest.approx(float(image.mean()), abs=1e-3)
    shifted = drawn(0, histogram_shift_probability=1.0, histogram_control_points=25)
    assert not torch.allclose(shifted, image, atol=1e-2)
    order = image.flatten().argsort()
    assert (shifted.flatten()[order].diff() >= -1e-4).all()


def test_ranges_that_fall_are_refused() -> None:
    with pytest.raises(ValidationError, match="smallest and the largest"):
        ElasticAffineSection(sigma=(8, 4))
