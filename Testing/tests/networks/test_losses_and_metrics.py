"""Losses and metrics with numbers that a person can check."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg.losses import deeply_supervised, marginal_cross_entropy, missing_label_dice
from medseg.metrics import dice, dice_per_label


def mean_absolute(scores: torch.Tensor) -> torch.Tensor:
    return scores.abs().mean()


def test_deep_supervision_halves_the_weight_of_each_level() -> None:
    levels = torch.stack([torch.full((1, 1, 2, 2, 2), value) for value in (1.0, 2.0, 4.0)], dim=1)
    # (1 * 1 + 2 * 0.5 + 4 * 0.25) / (1 + 0.5 + 0.25) = 3 / 1.75
    assert deeply_supervised(levels, 3, mean_absolute).item() == pytest.approx(3 / 1.75)


def test_a_plain_output_is_passed_on() -> None:
    assert deeply_supervised(torch.full((1, 3, 2, 2, 2), 5.0), 3, mean_absolute).item() == 5.0


@pytest.fixture
def two_voxels() -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (1, 3, 1, 1, 2) of a voxel of class 0 and one of class 1, and the classes."""
    probabilities = torch.tensor([[0.5, 0.1], [0.2, 0.8], [0.3, 0.1]]).reshape(1, 3, 1, 1, 2)
    return probabilities, torch.tensor([0, 1]).reshape(1, 1, 1, 2)


def test_the_missing_label_dice_has_squares_below(two_voxels: tuple[torch.Tensor, torch.Tensor]) -> None:
    probabilities, classes = two_voxels
    everything = torch.ones(1, 3, dtype=torch.bool)
    background = 1 - 2 * 0.5 / (0.25 + 0.01 + 1)
    first = 1 - 2 * 0.8 / (0.04 + 0.64 + 1)
    absent = 1.0  # nothing to overlap with: a constant
    expected = (background + first + absent) / 3
    assert missing_label_dice(probabilities, classes, everything).item() == pytest.approx(expected, abs=1e-4)
    without = missing_label_dice(probabilities, classes, everything, background="excluded")
    assert without.item() == pytest.approx((first + absent) / 2, abs=1e-4)


def test_an_unannotated_class_counts_nothing_but_stays_in_the_divisor(
    two_voxels: tuple[torch.Tensor, torch.Tensor],
) -> None:
    probabilities, classes = two_voxels
    annotated = torch.tensor([[True, True, False]])
    background, first = 1 - 1.0 / 1.26, 1 - 1.6 / 1.68
    loss = missing_label_dice(probabilities, classes, annotated)
    assert loss.item() == pytest.approx((background + first) / 3, abs=1e-4)
    # Merged: what the network gives to class 2 counts as background, 0.5 + 0.3 and 0.1 + 0.1.
    merged = 1 - 2 * 0.8 / (0.64 + 0.04 + 1)
    loss = missing_label_dice(probabilities, classes, annotated, background="merged")
    assert loss.item() == pytest.approx((merged + first) / 3, abs=1e-4)


def test_a_class_that_is_absent_or_unannotated_gives_no_gradient() -> None:
    scores = torch.randn(1, 4, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    classes = torch.zeros(1, 2, 2, 2, dtype=torch.long)
    classes[0, 0] = 1
    probabilities = scores.softmax(1).requires_grad_()
    annotated = torch.tensor([[True, True, True, False]])
    missing_label_dice(probabilities, classes, annotated).backward()
    assert probabilities.grad[:, :2].abs().min() > 0
    assert not probabilities.grad[:, 2:].any()


def test_the_marginal_cross_entropy_lets_background_be_any_unannotated_class(
    two_voxels: tuple[torch.Tensor, torch.Tensor],
) -> None:
    probabilities, classes = two_voxels
    scores = probabilities.log() + 1.7  # logits are free up to a constant
    annotated = torch.tensor([[True, True, False]])
    loss = marginal_cross_entropy(scores, classes, annotated)
    assert loss.item() == pytest.approx(-(np.log(0.5 + 0.3) + np.log(0.8)) / 2, abs=1e-6)
    complete = marginal_cross_entropy(scores, classes, torch.ones(1, 3, dtype=torch.bool))
    assert complete.item() == pytest.approx(torch.nn.functional.cross_entropy(scores, classes).item(), abs=1e-6)


def test_dice_is_twice_the_overlap_over_the_sum() -> None:
    first, second = np.array([1, 1, 1, 0], bool), np.array([0, 1, 1, 0], bool)
    assert dice(first, second) == pytest.approx(2 * 2 / (3 + 2))
    assert dice(first, ~first) == 0.0
    assert dice(np.zeros(3, bool), np.zeros(3, bool)) == 1.0


def test_dice_refuses_arrays_of_different_shapes() -> None:
    with pytest.raises(ValueError, match="different shapes"):
        dice(np.zeros(3, bool), np.zeros((3, 1), bool))


def test_dice_per_label_looks_at_each_value_alone() -> None:
    result, truth = np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2])
    assert dice_per_label(result, truth, (1, 2, 3)) == pytest.approx({1: 2 / 3, 2: 2 / 3, 3: 1.0})
