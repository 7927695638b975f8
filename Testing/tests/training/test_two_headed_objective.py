"""The loss of networks with two heads: its sum, its parts, and what a recipe may say about it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from medseg.errors import RecipeError
from medseg.losses import Margins, discriminative_loss, missing_label_dice
from medseg.training.objectives import AnyLoss


def section(**options: Any) -> Any:
    return TypeAdapter(AnyLoss).validate_python({"kind": "two_headed", **options})


@pytest.fixture
def a_batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    classes = torch.randint(0, 3, (2, 4, 4, 6), generator=generator).to(torch.uint8)
    instances = torch.randint(1, 4, (2, 4, 4, 6), generator=generator).to(torch.int16) * (classes > 0)
    return {
        "image": torch.zeros(2, 1, 4, 4, 6),
        "classes": classes,
        "annotated": torch.tensor([[True, True, True], [True, False, True]]),
        "instances": instances,
        "spacing": torch.ones(2, 3),
    }


@pytest.fixture
def outputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return (
        torch.randn(2, 3, 4, 4, 6, generator=generator).requires_grad_(),
        torch.randn(2, 5, 4, 4, 6, generator=generator).requires_grad_(),
    )


def test_the_loss_is_the_dice_plus_the_weighted_embedding_loss(a_batch: Any, outputs: Any) -> None:
    found = section(instance={"groups": [1, 2], "weight": 0.25}).build(3)(outputs, a_batch)
    dice = missing_label_dice(outputs[0].softmax(1), a_batch["classes"], a_batch["annotated"])
    apart = discriminative_loss(outputs[1], a_batch["classes"], a_batch["instances"], [1, 2])
    assert set(found) == {"loss", "dice_loss", "instance_loss"}
    assert found["dice_loss"].item() == pytest.approx(dice.item())
    assert found["instance_loss"].item() == pytest.approx(apart.item())
    assert found["loss"].item() == pytest.approx(dice.item() + 0.25 * apart.item())


def test_labels_that_are_no_group_have_no_part_in_the_embedding_loss(a_batch: Any, outputs: Any) -> None:
    found = section(instance={"groups": [2]}).build(3)(outputs, a_batch)
    found["instance_loss"].backward()
    other = (a_batch["classes"] != 2)[:, None].expand_as(outputs[1])
    assert not outputs[1].grad[other].any()
    assert outputs[1].grad[~other].any()


def test_margins_and_joint_groups_reach_the_loss(a_batch: Any, outputs: Any) -> None:
    options = {"groups": [1, 2], "joint": True, "delta_v": 0.5, "delta_d": 2.0, "regular_weight": 0.01}
    found = section(instance=options).build(3)(outputs, a_batch)
    expected = discriminative_loss(
        outputs[1],
        a_batch["classes"],
        a_batch["instances"],
        [1, 2],
        joint=True,
        margins=Margins(pull=0.5, push=2.0, regular=0.01),
    )
    assert found["instance_loss"].item() == pytest.approx(expected.item())


@pytest.mark.parametrize("one_head", [True, False])
def test_without_instances_it_is_the_missing_label_dice(a_batch: Any, outputs: Any, one_head: bool) -> None:
    plain = TypeAdapter(AnyLoss).validate_python({"kind": "missing_label_dice"}).build(3)
    found = section().build(3)(outputs[0] if one_head else outputs, a_batch)
    assert set(found) == {"loss"}
    assert found["loss"].item() == pytest.approx(plain(outputs[0], a_batch)["loss"].item())


def test_a_network_that_predicts_the_middle_of_its_block_is_compared_with_the_middle(a_batch: Any) -> None:
    generator = torch.Generator().manual_seed(4)
    small = torch.randn(2, 3, 2, 2, 4, generator=generator), torch.randn(2, 5, 2, 2, 4, generator=generator)
    middle = {name: tensor[:, 1:-1, 1:-1, 1:-1] for name, tensor in a_batch.items() if name in ("classes", "instances")}
    objective = section(instance={"groups": [1, 2]}).build(3)
    assert objective(small, a_batch)["loss"].item() == pytest.approx(
        objective(small, {**a_batch, **middle})["loss"].item()
    )


def test_a_network_without_embeddings_is_refused_where_they_are_asked_for(a_batch: Any, outputs: Any) -> None:
    with pytest.raises(RecipeError, match="network gives class scores only"):
        section(instance={"groups": [1]}).build(3)(outputs[0], a_batch)


def test_groups_must_be_labels_named_once() -> None:
    with pytest.raises(RecipeError, match=r"names the labels \[3\]"):
        section(instance={"groups": [1, 3]}).build(3)
    with pytest.raises(ValidationError, match="names a label twice"):
        section(instance={"groups": [1, 1]})
    with pytest.raises(ValidationError, match="groups"):
        section(instance={"groups": []})
