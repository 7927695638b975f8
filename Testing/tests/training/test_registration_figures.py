"""How a held-out pair is measured, and what a package and its card say of the figures."""

from __future__ import annotations

import math

import pytest
import torch

from medseg.training.registration.data import KeptAside
from medseg.training.registration.measuring import PairFigures, figures_of, mean_row, metrics_of
from medseg.training.synthesis import SyntheticPair


def a_shifted_pair() -> KeptAside:
    """Two structures, one voxel further along I in the moving image, and one that the moving image lacks."""
    fixed = torch.zeros(10, 10, 10, dtype=torch.uint8)
    fixed[2:6, 2:6, 2:6], fixed[2:6, 6:8, 2:6] = 1, 2
    moving = fixed.roll(1, 0)
    fixed[8:, 8:, 8:] = 3
    return KeptAside("one", "shapes", SyntheticPair(fixed.float(), moving.float(), fixed, moving, (1, 2, 3, 4)), ())


def test_a_field_that_undoes_a_shift_makes_the_labels_fit() -> None:
    field = torch.zeros(1, 3, 10, 10, 10)
    field[:, 0] = 1.0
    found = figures_of(a_shifted_pair(), field)
    assert found.dice_before == pytest.approx((0.75 + 0.75 + 0) / 3)  # three of four planes overlap; 4 is nowhere
    assert found.dice_after == pytest.approx((1 + 1 + 0) / 3)
    assert found.folded == 0
    assert found.spread == pytest.approx(0, abs=1e-6)
    wrong_way = figures_of(a_shifted_pair(), -field)
    assert wrong_way.dice_after == pytest.approx((0.5 + 0.5 + 0) / 3)


def test_a_field_that_turns_the_image_over_folds() -> None:
    field = torch.zeros(1, 3, 10, 10, 10)
    field[:, 0] = (9 - 2 * torch.arange(10.0)).reshape(10, 1, 1)
    assert figures_of(a_shifted_pair(), field).folded == 1


def test_the_figures_of_a_package_are_means_and_those_of_each_source_when_there_are_several() -> None:
    one = PairFigures("a", "shapes", 0.5, 0.8, {}, 0.01, 0.2)
    other = PairFigures("b", "label_maps", 0.3, 0.6, {}, 0.03, 0.4)
    unlabelled = PairFigures("c", "pairs", math.nan, math.nan, {}, 0.02, 0.3)
    assert metrics_of([]) == {}
    assert metrics_of([one, other, unlabelled]) == {
        "mean_dice": 0.7,
        "mean_dice_before": 0.4,
        "worst_dice": 0.6,
        "mean_folded_percent": 2.0,
        "mean_std_log_jacobian": 0.3,
        "dice shapes": 0.8,
        "dice label maps": 0.6,
    }
    assert "dice shapes" not in metrics_of([one])
    assert mean_row([one, other, unlabelled]) == ("Mean", "", "0.400", "0.700", "2", "0.300")
