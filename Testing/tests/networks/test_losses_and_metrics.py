"""Losses and metrics with numbers that a person can check."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg.losses import DeepSupervisionLoss
from medseg.metrics import dice, dice_per_label


def mean_absolute(scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (scores - target).abs().mean()


def test_deep_supervision_halves_the_weight_of_each_level() -> None:
    target = torch.zeros(1, 1, 2, 2, 2)
    levels = torch.stack([torch.full((1, 1, 2, 2, 2), value) for value in (1.0, 2.0, 4.0)], dim=1)
    # (1 * 1 + 2 * 0.5 + 4 * 0.25) / (1 + 0.5 + 0.25) = 3 / 1.75
    assert DeepSupervisionLoss(mean_absolute)(levels, target).item() == pytest.approx(3 / 1.75)


def test_a_plain_output_is_passed_on() -> None:
    target = torch.zeros(1, 1, 2, 2, 2)
    assert DeepSupervisionLoss(mean_absolute)(torch.full((1, 3, 2, 2, 2), 5.0), target).item() == 5.0


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
