"""The normalised focal loss, with numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from medseg.losses import normalised_focal_loss


def of(*probabilities: float) -> torch.Tensor:
    """Logits (1, 1, N) of probabilities."""
    return torch.logit(torch.tensor(probabilities, dtype=torch.float64))[None, None]


def test_three_voxels_by_hand() -> None:
    # Truth 1, 1, 0 at 0.9, 0.5, 0.2: p_t = 0.9, 0.5, 0.8; beta = 0.01, 0.25, 0.04, of sum 0.3; k = 10.
    expected = -0.5 * 10 / 3 * (0.01 * math.log(0.9) + 0.25 * math.log(0.5) + 0.04 * math.log(0.8))
    loss = normalised_focal_loss(of(0.9, 0.5, 0.2), torch.tensor([[[1, 1, 0]]]))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_each_case_is_normalised_by_itself() -> None:
    good, bad = (of(0.9, 0.8), torch.tensor([[[1, 1]]])), (of(0.1, 0.4), torch.tensor([[[1, 0]]]))
    together = normalised_focal_loss(*(torch.cat(pair) for pair in zip(good, bad, strict=True)))
    apart = [float(normalised_focal_loss(*case)) for case in (good, bad)]
    assert float(together) == pytest.approx(sum(apart) / 2, rel=1e-6)


def test_the_scale_is_a_constant_for_the_gradient() -> None:
    logits = of(0.9, 0.3, 0.6).requires_grad_()
    truth = torch.tensor([[[1, 1, 0]]])
    normalised_focal_loss(logits, truth).backward()
    fixed = logits.detach().clone().requires_grad_()
    p_t = torch.where(truth > 0, torch.sigmoid(fixed), 1 - torch.sigmoid(fixed))
    beta = (1 - p_t) ** 2
    scale = 3 / float(beta.detach().sum())
    (-(0.5 * scale * beta * p_t.log()).mean()).backward()
    torch.testing.assert_close(logits.grad, fixed.grad, rtol=1e-4, atol=1e-7)


def test_certain_answers_keep_it_finite() -> None:
    logits = torch.tensor([[[200.0, -200.0, 200.0]]], requires_grad=True)
    loss = normalised_focal_loss(logits, torch.tensor([[[1, 0, 0]]]))
    loss.backward()
    assert math.isfinite(loss.item())
    assert torch.isfinite(logits.grad).all()
    right = normalised_focal_loss(logits, torch.tensor([[[1, 0, 1]]]))
    assert 0 <= right.item() < 1e-6


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        normalised_focal_loss(torch.zeros(1, 1, 4), torch.zeros(1, 1, 5))
