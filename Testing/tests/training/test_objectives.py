"""What a recipe's section ``loss`` leads to."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss

from medseg.losses import missing_label_dice
from medseg.training.objectives import Batch, DiceCESection, centred
from medseg.training.objectives.base import LossSection
from medseg.training.objectives.dice import MissingLabelDiceSection


@pytest.fixture
def a_batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    return {
        "image": torch.randn(2, 1, 4, 4, 4, generator=generator),
        "classes": torch.randint(0, 3, (2, 4, 4, 4), generator=generator).to(torch.uint8),
        "annotated": torch.tensor([[True, True, True], [True, False, True]]),
        "instances": torch.zeros(2, 4, 4, 4, dtype=torch.int16),
        "spacing": torch.ones(2, 3),
    }


@pytest.fixture
def scores() -> torch.Tensor:
    return torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(2))


def test_the_default_is_dice_and_cross_entropy(a_batch: Batch, scores: torch.Tensor) -> None:
    expected = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True, smooth_nr=1e-5)
    found = DiceCESection().build(3)(scores, a_batch)["loss"]
    assert found.item() == pytest.approx(expected(scores, a_batch["classes"][:, None].long()).item())


def test_the_paper_is_what_the_defaults_give(a_batch: Batch, scores: torch.Tensor) -> None:
    section = MissingLabelDiceSection(kind="missing_label_dice")
    found = section.build(3)(scores, a_batch)
    expected = missing_label_dice(scores.softmax(1), a_batch["classes"], a_batch["annotated"])
    assert found["loss"].item() == pytest.approx(expected.item())
    assert set(found) == {"loss"}


def test_the_parts_of_a_loss_of_two_parts_add_up(a_batch: Batch, scores: torch.Tensor) -> None:
    section = MissingLabelDiceSection(kind="missing_label_dice", background="merged", cross_entropy_weight=0.5)
    found = section.build(3)(scores, a_batch)
    assert found["loss"].item() == pytest.approx((found["dice_loss"] + 0.5 * found["cross_entropy"]).item())


@pytest.mark.parametrize("section", [DiceCESection(), MissingLabelDiceSection(kind="missing_label_dice")])
def test_the_levels_of_a_deeply_supervised_network_are_weighed(
    section: DiceCESection | MissingLabelDiceSection, a_batch: Batch, scores: torch.Tensor
) -> None:
    objective = section.build(3)
    stacked = torch.stack([scores, scores.flip(1)], 1)
    first, second = objective(scores, a_batch)["loss"], objective(scores.flip(1), a_batch)["loss"]
    assert objective(stacked, a_batch)["loss"].item() == pytest.approx(((first + 0.5 * second) / 1.5).item())


def test_a_network_that_predicts_the_middle_is_compared_with_the_middle(a_batch: Batch) -> None:
    middle = torch.nn.functional.one_hot(a_batch["classes"][:, 1:3, 1:3, 1:3].long(), 3).movedim(-1, 1) * 100.0
    assert DiceCESection().build(3)(middle, a_batch)["loss"].item() == pytest.approx(0.0, abs=1e-4)


def test_an_output_that_has_no_middle_in_the_target_is_a_defect() -> None:
    with pytest.raises(ValueError, match="middle"):
        centred(torch.zeros(5, 5, 5), (4, 5, 5))


def test_missing_organs_may_be_taken_for_background(a_batch: Batch, scores: torch.Tensor) -> None:
    believing = MissingLabelDiceSection(kind="missing_label_dice", cross_entropy_weight=1.0, missing="background")
    ignoring = MissingLabelDiceSection(kind="missing_label_dice", cross_entropy_weight=1.0)
    everything: Batch = {**a_batch, "annotated": torch.ones(2, 3, dtype=torch.bool)}
    believed = believing.build(3)(scores, a_batch)["loss"].item()
    assert believed == pytest.approx(ignoring.build(3)(scores, everything)["loss"].item())
    assert believed != pytest.approx(ignoring.build(3)(scores, a_batch)["loss"].item())


@pytest.mark.parametrize("section", [DiceCESection(), MissingLabelDiceSection(kind="missing_label_dice")])
def test_a_network_of_several_outputs_is_refused_in_a_sentence(
    section: LossSection, a_batch: Batch, scores: torch.Tensor
) -> None:
    with pytest.raises(ValueError, match="gives several outputs in training"):
        section.build(scores.shape[1])((scores, scores), a_batch)
