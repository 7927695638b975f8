"""Training patches keep image and label together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg.training.augmentation import PatchSampler
from medseg.training.data import PreparedCase
from medseg.training.recipe import AugmentationSection, WindowSection

NOTHING = {
    f"{change}_probability": 0.0
    for change in ("affine", "elastic", "noise", "smooth", "gamma", "bias", "low_resolution")
} | {"intensity_shift": 0.0, "intensity_scale": 0.0}


@pytest.fixture
def a_case_whose_image_is_its_label() -> PreparedCase:
    i, j, k = np.ogrid[:30, :26, :20]
    label = ((i - 14) ** 2 / 80 + (j - 12) ** 2 / 60 + (k - 9) ** 2 / 40 < 1).astype(np.uint8)
    return PreparedCase(
        case="ball",
        image=torch.from_numpy(label.astype(np.float32))[None],
        label=torch.from_numpy(label),
        spacing=(1.0, 1.0, 1.5),
        foreground=torch.nonzero(torch.from_numpy(label)).to(torch.int32),
    )


def a_sampler(size: tuple[int, int, int], **changes: object) -> PatchSampler:
    section = AugmentationSection(**{**NOTHING, **changes})
    return PatchSampler(WindowSection(size=size), section, 0.5, classes=2)


def test_without_augmentation_a_window_of_the_volumes_size_is_the_volume(
    a_case_whose_image_is_its_label: PreparedCase,
) -> None:
    image, label = a_sampler((30, 26, 20)).draw(a_case_whose_image_is_its_label, seed=3)
    torch.testing.assert_close(image, a_case_whose_image_is_its_label.image, atol=1e-4, rtol=0)
    assert torch.equal(label, a_case_whose_image_is_its_label.label)


@pytest.mark.parametrize(
    "changes",
    [
        {"affine_probability": 1.0, "rotation_degrees": (20, 20, 20), "scale": 0.2, "translation_mm": 5},
        {"elastic_probability": 1.0, "elastic_mm": 4},
        {"flip_axes": (0, 1, 2)},
    ],
)
def test_image_and_label_move_together(a_case_whose_image_is_its_label: PreparedCase, changes: dict) -> None:
    sampler = a_sampler((24, 24, 16), **changes)
    patches = [sampler.draw(a_case_whose_image_is_its_label, seed) for seed in range(6)]
    for image, label in patches:
        inside = image[0] > 0.5
        # The image is interpolated, the label decided at one half of the same interpolation.
        assert (inside != label.bool()).float().mean() < 0.002
        assert label.any()
    assert not torch.equal(patches[0][1], patches[1][1])


def test_the_same_seed_gives_the_same_patch(a_case_whose_image_is_its_label: PreparedCase) -> None:
    sampler = PatchSampler(WindowSection(size=(16, 16, 16)), AugmentationSection(noise_probability=1.0), 0.5, classes=2)
    first, again, other = (sampler.draw(a_case_whose_image_is_its_label, seed) for seed in (5, 5, 6))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])


def test_rotation_keeps_lengths_in_millimetres(a_case_whose_image_is_its_label: PreparedCase) -> None:
    sampler = a_sampler((8, 8, 8), affine_probability=1.0, rotation_degrees=(40, 40, 40), scale=0.0)
    spacing = torch.tensor(a_case_whose_image_is_its_label.spacing)
    coordinates = sampler._coordinates(a_case_whose_image_is_its_label, torch.Generator().manual_seed(1)) * spacing
    for axis in range(3):
        steps = torch.diff(coordinates, dim=axis).norm(dim=-1)
        torch.testing.assert_close(steps, torch.full_like(steps, float(spacing[axis])), atol=1e-3, rtol=0)
