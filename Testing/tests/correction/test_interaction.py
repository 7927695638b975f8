"""What goes on from click to click: the Self-Loop, previous answers, and training by a simulated user."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from medseg.correction import Click
from medseg.correction.interaction import Interaction, masks_of
from medseg.networks import PEMED
from medseg.training.clicks import dice_after_clicks, logits_after_clicks

TINY = {"channels": (8, 8, 16, 16), "depths": (1, 1, 1, 1), "heads": (1, 1, 2, 2), "head_channels": 16}
HERE = [Click((8, 8), positive=True), Click((20, 9), positive=True)]


class Counted(PEMED):
    """Remembers what each pass took."""

    def __init__(self, **options: object) -> None:
        super().__init__(head_norm="group", **{**TINY, **options})
        self.passes: list[tuple[Tensor, Tensor, Tensor, Tensor | None]] = []

    def refine(self, features: tuple[Tensor, Tensor | None], *prompts: Tensor | None) -> Tensor:
        self.passes.append(tuple(None if part is None else part.clone() for part in prompts))
        return super().refine(features, *prompts)


@pytest.fixture
def a_network() -> Counted:
    torch.manual_seed(0)
    return Counted().eval()


@pytest.fixture
def some_images() -> Tensor:
    torch.manual_seed(1)
    return torch.rand(2, 1, 32, 32)


def some_truths() -> Tensor:
    truths = torch.zeros(2, 1, 32, 32)
    truths[0, 0, 4:14, 4:14] = truths[1, 0, 16:28, 5:15] = 1
    return truths


def test_the_first_answer_from_nothing_takes_two_passes_and_the_next_one_each(
    a_network: Counted, some_images: Tensor
) -> None:
    talk = Interaction(a_network, some_images, radius=2)
    talk.add(HERE)
    first = talk.answer()
    (rough, again) = a_network.passes
    assert not rough[2].any()
    assert rough[3] is None, "nothing came before"
    assert torch.equal(rough[0], again[0]), "no new click"
    torch.testing.assert_close(again[2], torch.sigmoid(again[3]))
    talk.add([Click((1, 1), positive=False), None])
    talk.answer()
    assert len(a_network.passes) == 3
    third = a_network.passes[2]
    assert third[1][0].any()
    assert not third[1][1].any(), "the second image has no further click"
    torch.testing.assert_close(third[3], first)


def test_without_the_loop_or_from_a_segmentation_one_pass_is_enough(a_network: Counted, some_images: Tensor) -> None:
    Interaction(a_network, some_images, self_loop=False).answer()
    assert len(a_network.passes) == 1
    start = some_truths()
    Interaction(a_network, some_images, start=start).answer()
    assert len(a_network.passes) == 2
    assert torch.equal(a_network.passes[1][2], start)


def test_masks_are_what_is_more_likely_than_not() -> None:
    (mask,) = masks_of(torch.tensor([[[[-1.0, 0.5], [0.0, 3.0]]]]))
    assert mask.tolist() == [[False, True], [False, True]]


@pytest.mark.parametrize("most", [0, 3])
def test_only_the_graded_pass_has_a_gradient(a_network: Counted, some_images: Tensor, most: int) -> None:
    a_network.train()
    logits = logits_after_clicks(
        a_network, some_images, some_truths(), np.random.default_rng(4), radius=2, most_clicks=most
    )
    assert logits.requires_grad
    assert a_network.training, "it is left as it was"
    *before, graded = a_network.passes
    assert 1 <= len(before) <= 1 + most
    assert not graded[2].requires_grad
    torch.testing.assert_close(graded[2], torch.sigmoid(graded[3]))
    logits.mean().backward()
    assert any(weight.grad is not None for weight in a_network.parameters())


def test_a_case_without_the_structure_cannot_be_clicked_at(a_network: Counted, some_images: Tensor) -> None:
    with pytest.raises(ValueError, match="empty"):
        logits_after_clicks(a_network, some_images, torch.zeros(2, 1, 32, 32), np.random.default_rng(0))


def test_a_few_steps_teach_a_network_to_follow_clicks(some_images: Tensor) -> None:
    torch.manual_seed(0)
    network, truths = PEMED(head_norm="group", **TINY), some_truths()
    images = truths + 0.1 * some_images
    before = dice_after_clicks(network, images, truths, 2, radius=2)
    optimiser, rng = torch.optim.AdamW(network.parameters(), lr=3e-3), np.random.default_rng(0)
    network.train()
    for _ in range(40):
        logits = logits_after_clicks(network, images, truths, rng, radius=2)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truths)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = dice_after_clicks(network, images, truths, 2, radius=2)
    assert after.shape == (2, 2)
    assert after[:, -1].min() > 0.7 > before[:, -1].mean()
