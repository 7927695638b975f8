"""The Tversky loss and its cross-entropy: hand-computed numbers, and MONAI's where it has the same formula."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import TverskyLoss
from torch import Tensor

from medseg.losses import class_cross_entropy, tversky_index, tversky_loss


def two_channels(foreground: list[float]) -> Tensor:
    """Two class maps of 2 x 2 x 2 voxels."""
    one = torch.tensor(foreground).reshape(1, 1, 2, 2, 2)
    return torch.cat([1 - one, one], 1)


PROBABILITIES = [0.8, 0.8, 0.5, 0.5, 0.2, 0.0, 0.0, 0.0]
TRUTH = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
# Foreground: TP 2.6, FP 0.2, FN 1.4. Background: TP 0.8 + 3, FP 0.2 + 0.2 + 0.5 + 0.5, FN 0.2.
FOREGROUND = 2.6 / (2.6 + 0.3 * 0.2 + 0.7 * 1.4 + 1)
BACKGROUND = 3.8 / (3.8 + 0.3 * 1.4 + 0.7 * 0.2 + 1)


def random_maps(seed: int, cases: int, classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.randn(cases, classes, 3, 4, 5, generator=generator).mul(3).softmax(1)
    truth = torch.randn(cases, classes, 3, 4, 5, generator=generator).argmax(1)
    return probabilities, torch.nn.functional.one_hot(truth, classes).movedim(-1, 1).float()


def test_the_tversky_index_of_eight_voxels_is_as_computed_by_hand() -> None:
    index = tversky_index(two_channels(PROBABILITIES), two_channels(TRUTH))
    assert index[0].tolist() == pytest.approx([BACKGROUND, FOREGROUND])
    loss = tversky_loss(two_channels(PROBABILITIES), two_channels(TRUTH))
    assert loss.item() == pytest.approx(1 - (BACKGROUND + FOREGROUND) / 2)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.integers(1, 3), st.integers(2, 4), st.floats(0, 1), st.floats(0, 1))
def test_the_loss_is_that_of_monai(seed: int, cases: int, classes: int, alpha: float, beta: float) -> None:
    probabilities, truth = random_maps(seed, cases, classes)
    theirs = TverskyLoss(alpha=alpha, beta=beta, smooth_nr=0.0, smooth_dr=1.0)(probabilities, truth)
    torch.testing.assert_close(tversky_loss(probabilities, truth, alpha=alpha, beta=beta), theirs)


def test_equal_weights_make_it_the_dice_coefficient_up_to_the_smooth_term() -> None:
    probabilities, truth = random_maps(0, 1, 3)
    index = tversky_index(probabilities, truth, alpha=0.5, beta=0.5, smooth=1.0)
    sums = (probabilities + truth).sum((2, 3, 4))
    dice = 2 * (probabilities * truth).sum((2, 3, 4)) / (sums + 2)
    torch.testing.assert_close(index, dice)


def test_a_perfect_result_costs_only_the_smooth_term_and_a_reversed_one_everything() -> None:
    truth = two_channels(TRUTH)
    assert tversky_loss(truth, truth).item() == pytest.approx(1 - 4 / 5)
    assert tversky_loss(1 - truth, truth).item() == pytest.approx(1.0)


@pytest.mark.parametrize(("alpha", "beta", "found"), [(0.3, 0.7, True), (0.7, 0.3, False)])
def test_a_heavier_weight_of_what_is_missed_finds_more(alpha: float, beta: float, found: bool) -> None:
    # 6 voxels are surely foreground and 20 cannot be told apart, 4 of them foreground; the rest is background.
    truth = torch.zeros(1, 1, 1, 1, 1000)
    truth[..., :10] = 1
    logit = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.Adam([logit], lr=0.2)
    for _ in range(60):
        unsure = torch.sigmoid(logit).expand(20)
        foreground = torch.cat([torch.ones(6), unsure, torch.zeros(974)]).reshape(truth.shape)
        loss = 1 - tversky_index(foreground, truth, alpha=alpha, beta=beta).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (torch.sigmoid(logit).item() > 0.9) == found
    assert (torch.sigmoid(logit).item() < 0.1) != found


def test_the_cross_entropy_of_probabilities_is_as_computed_by_hand() -> None:
    probabilities, truth = torch.tensor([0.9, 0.2]).reshape(1, 2, 1, 1, 1), torch.tensor([1.0, 0.0])
    found = class_cross_entropy(probabilities, truth.reshape(1, 2, 1, 1, 1))
    assert found.item() == pytest.approx(-(math.log(0.9) + math.log(0.8)) / 2)


def test_the_published_cross_entropy_never_falls_below_half() -> None:
    floor = (math.log(1 + math.exp(-1)) + math.log(2)) / 2
    assert floor == pytest.approx(0.503, abs=5e-4)
    truth = two_channels(TRUTH)
    assert class_cross_entropy(truth, truth, form="as_published").item() == pytest.approx(floor)
    assert class_cross_entropy(truth, truth).item() == 0.0
    for seed in range(5):
        probabilities, other = random_maps(seed, 1, 2)
        assert class_cross_entropy(probabilities, other, form="as_published").item() > floor


def test_a_certain_error_costs_much_and_not_infinity() -> None:
    truth = two_channels(TRUTH)
    logits = (60 * (1 - 2 * truth)).requires_grad_()
    class_cross_entropy(logits.softmax(1), truth).backward()
    assert torch.isfinite(logits.grad).all()
    loss = class_cross_entropy(1 - truth, truth)
    assert loss.item() == pytest.approx(-math.log(torch.finfo(torch.float32).tiny))


def test_what_is_not_a_number_is_handed_on_and_ends_nothing() -> None:
    truth = two_channels(TRUTH)
    for form in ("paper", "as_published"):
        assert math.isnan(class_cross_entropy(truth * math.nan, truth, form=form).item())
    assert math.isnan(tversky_loss(truth * math.nan, truth).item())


def test_a_probability_that_rounding_put_above_one_counts_as_one() -> None:
    truth = two_channels(TRUTH)
    assert class_cross_entropy(truth * 1.000001, truth).item() == 0.0


def test_classes_that_do_not_count_are_left_out_of_both_means() -> None:
    probabilities, truth = random_maps(3, 2, 3)
    counted = torch.tensor([[True, False, True], [False, False, True]])
    index = tversky_index(probabilities, truth)
    expected = 1 - (index[0, [0, 2]].mean() + index[1, 2]) / 2
    assert tversky_loss(probabilities, truth, counted=counted).item() == pytest.approx(expected.item())
    single = [class_cross_entropy(probabilities[b : b + 1, c : c + 1], truth[b : b + 1, c : c + 1]) for b, c in
              ((0, 0), (0, 2), (1, 2))]  # fmt: skip
    expected = ((single[0] + single[1]) / 2 + single[2]) / 2
    found = class_cross_entropy(probabilities, truth, counted=counted)
    assert found.item() == pytest.approx(expected.item())
    assert tversky_loss(probabilities, truth, counted=torch.zeros(2, 3, dtype=torch.bool)).item() == 0.0
