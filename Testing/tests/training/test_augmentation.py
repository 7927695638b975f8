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
        foreground=(torch.nonzero(torch.from_numpy(label)).to(torch.int32),),
        annotated=torch.tensor([True, True]),
    )


def a_sampler(size: tuple[int, int, int], **changes: object) -> PatchSampler:
    section = AugmentationSection(**{**NOTHING, **changes})
    return PatchSampler(WindowSection(size=size), section, 0.5)


def patch_of(drawn: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return drawn["image"], drawn["classes"]


def test_without_augmentation_a_window_of_the_volumes_size_is_the_volume(
    a_case_whose_image_is_its_label: PreparedCase,
) -> None:
    image, label = patch_of(a_sampler((30, 26, 20)).draw(a_case_whose_image_is_its_label, seed=3))
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
    patches = [patch_of(sampler.draw(a_case_whose_image_is_its_label, seed)) for seed in range(6)]
    for image, label in patches:
        inside = image[0] > 0.5
        # The image is interpolated, the label decided at one half of the same interpolation.
        assert (inside != label.bool()).float().mean() < 0.002
        assert label.any()
    assert not torch.equal(patches[0][1], patches[1][1])


def test_the_same_seed_gives_the_same_patch(a_case_whose_image_is_its_label: PreparedCase) -> None:
    sampler = PatchSampler(WindowSection(size=(16, 16, 16)), AugmentationSection(noise_probability=1.0), 0.5)
    first, again, other = (sampler.draw(a_case_whose_image_is_its_label, seed) for seed in (5, 5, 6))
    assert torch.equal(first["image"], again["image"])
    assert not torch.equal(first["image"], other["image"])


def test_rotation_keeps_lengths_in_millimetres(a_case_whose_image_is_its_label: PreparedCase) -> None:
    sampler = a_sampler((8, 8, 8), affine_probability=1.0, rotation_degrees=(40, 40, 40), scale=0.0)
    spacing = torch.tensor(a_case_whose_image_is_its_label.spacing)
    voxels, _flips = sampler._coordinates(a_case_whose_image_is_its_label, torch.Generator().manual_seed(1))
    coordinates = voxels * spacing
    for axis in range(3):
        steps = torch.diff(coordinates, dim=axis).norm(dim=-1)
        torch.testing.assert_close(steps, torch.full_like(steps, float(spacing[axis])), atol=1e-3, rtol=0)


def test_a_flip_exchanges_left_and_right_and_what_is_annotated() -> None:
    label = torch.zeros(12, 8, 8, dtype=torch.uint8)
    label[1:4, 2:6, 2:6] = 1
    case = PreparedCase(
        case="pair",
        image=label[None].float(),
        label=label,
        spacing=(1.0, 1.0, 1.0),
        foreground=(torch.nonzero(label).to(torch.int32),),
        annotated=torch.tensor([True, True, False]),
    )
    sampler = a_sampler((12, 8, 8), flip_axes=(0,), swap_on_flip=((1, 2),))
    seen = set()
    for seed in range(12):
        patch = sampler.draw(case, seed)
        flipped = bool(patch["classes"][8:11].any())
        seen.add(flipped)
        expected = label.flip(0) * 2 if flipped else label
        assert torch.equal(patch["classes"], expected)
        assert patch["annotated"].tolist() == ([True, False, True] if flipped else [True, True, False])
    assert seen == {True, False}


def test_numbers_of_instances_follow_their_class() -> None:
    label = torch.zeros(10, 8, 8, dtype=torch.uint8)
    label[2:8, 2:6, 2:6] = 1
    numbers = torch.where(torch.arange(10)[:, None, None] < 5, 31, 32).to(torch.int16) * label
    case = PreparedCase(
        case="vertebrae",
        image=label[None].float(),
        label=label,
        spacing=(1.0, 1.0, 1.0),
        foreground=(torch.nonzero(label).to(torch.int32),),
        annotated=torch.tensor([True, True]),
        instances=numbers,
    )
    patch = a_sampler((10, 8, 8)).draw(case, seed=0)
    assert torch.equal(patch["instances"], numbers)


def test_where_two_groups_touch_no_number_crosses_over() -> None:
    place = torch.arange(20).float()
    oblique = place[:, None, None] + 0.6 * place[None, :, None] + 0.3 * place[None, None, :]
    label = torch.where(oblique < 18, 1, 2).to(torch.uint8)
    numbers = torch.where(label == 1, 31, 32).to(torch.int16)
    case = PreparedCase(
        case="vertebrae",
        image=label[None].float(),
        label=label,
        spacing=(1.0, 1.0, 1.0),
        foreground=(torch.nonzero(label).to(torch.int32),),
        annotated=torch.tensor([True, True, True]),
        instances=numbers,
    )
    sampler = a_sampler((14, 14, 14), affine_probability=1.0, rotation_degrees=(20.0, 20.0, 20.0))
    for seed in range(5):
        patch = sampler.draw(case, seed)
        inside = patch["instances"] > 0
        assert inside.any()
        expected = torch.where(patch["classes"] == 1, 31, 32)
        assert torch.equal(patch["instances"][inside].long(), expected[inside])


@pytest.mark.parametrize("count", [3, 20])
def test_many_labels_are_sampled_as_few_are(count: int) -> None:
    label = torch.arange(count * 8, dtype=torch.uint8).reshape(-1, 1, 1).expand(-1, 6, 6).clone() // 8 + 1
    case = PreparedCase(
        case="stack",
        image=label[None].float(),
        label=label,
        spacing=(1.0, 1.0, 1.0),
        foreground=tuple(torch.nonzero(label == value).to(torch.int32) for value in range(1, count + 1)),
        annotated=torch.ones(count + 1, dtype=torch.bool),
    )
    patch = a_sampler((count * 8, 6, 6)).draw(case, seed=1)
    assert torch.equal(patch["classes"], label)


def test_small_structures_are_met_as_often_as_large_ones() -> None:
    label = torch.zeros(40, 20, 20, dtype=torch.uint8)
    label[:20] = 1
    label[34, 10, 10] = 2
    case = PreparedCase(
        case="unequal",
        image=label[None].float(),
        label=label,
        spacing=(1.0, 1.0, 1.0),
        foreground=tuple(torch.nonzero(label == value).to(torch.int32) for value in (1, 2)),
        annotated=torch.ones(3, dtype=torch.bool),
    )
    sampler = PatchSampler(WindowSection(size=(7, 7, 7)), AugmentationSection(**NOTHING), 1.0)
    found = sum(bool((sampler.draw(case, seed)["classes"] == 2).any()) for seed in range(60))
    assert 18 <= found <= 42


@pytest.mark.parametrize("outside", ["zeros", "border", "reflection"])
def test_labels_are_the_same_when_only_the_part_under_the_patch_is_looked_at(
    a_case_whose_image_is_its_label: PreparedCase, outside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = a_case_whose_image_is_its_label
    changes = {"affine_probability": 1.0, "rotation_degrees": (30, 30, 30), "translation_mm": 25, "outside": outside}
    sampler = a_sampler((9, 7, 6), **changes)
    cut = [sampler.draw(case, seed)["classes"] for seed in range(25)]
    everything = tuple(slice(0, size) for size in case.label.shape)
    monkeypatch.setattr(PatchSampler, "_box_around", lambda *_: everything)
    whole = [sampler.draw(case, seed)["classes"] for seed in range(25)]
    assert sum(int(labels.sum()) for labels in whole) > 0
    for one, other in zip(cut, whole, strict=True):
        # A voxel on the boundary may be rounded to the other side.
        assert (one != other).sum() <= 1
