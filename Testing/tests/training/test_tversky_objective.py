"""The objective of MPU-Net: which outputs count how much, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from medseg.errors import TrainingError
from medseg.losses import class_cross_entropy, tversky_loss
from medseg.training.objectives.tversky import TverskyCE, TverskyCESection


def an_objective(classes: int = 3, **options: Any) -> TverskyCE:
    return TverskyCESection(kind="tversky_ce", **options).build(classes)


def maps(seed: int, classes: int = 3, cases: int = 1) -> Tensor:
    return torch.randn(cases, classes, 4, 4, 4, generator=torch.Generator().manual_seed(seed)).softmax(1)


def a_batch(classes: int = 3, cases: int = 1, annotated: list[list[bool]] | None = None) -> Any:
    labels = torch.randint(classes, (cases, 4, 4, 4), generator=torch.Generator().manual_seed(9), dtype=torch.uint8)
    known = torch.ones(cases, classes, dtype=torch.bool) if annotated is None else torch.tensor(annotated)
    return {"classes": labels, "annotated": known}


def terms(probabilities: Tensor, batch: Any) -> float:
    truth = torch.nn.functional.one_hot(batch["classes"].long(), probabilities.shape[1]).movedim(-1, 1).float()
    return (tversky_loss(probabilities, truth) + class_cross_entropy(probabilities, truth)).item()


def test_the_coarser_outputs_count_less_and_the_last_is_the_networks() -> None:
    outputs, batch = tuple(maps(seed) for seed in range(4)), a_batch()
    parts = an_objective()(outputs, batch)
    auxiliary = sum(terms(one, batch) for one in outputs[:3])
    assert parts["loss"].item() == pytest.approx(terms(outputs[3], batch) + 0.4 * auxiliary, rel=1e-5)
    assert parts["auxiliary_loss"].item() == pytest.approx(auxiliary, rel=1e-5)
    assert (parts["tversky_loss"] + parts["cross_entropy"]).item() == pytest.approx(terms(outputs[3], batch), rel=1e-5)


@pytest.mark.parametrize(("epoch", "weight"), [(0, 0.4), (29, 0.4), (30, 0.32), (89, 0.256), (600, 0.4 * 0.8**20)])
def test_their_weight_falls_every_thirty_epochs(epoch: int, weight: float) -> None:
    objective = an_objective()
    objective.start_epoch(epoch)
    assert objective.auxiliary_weight == pytest.approx(weight)
    outputs, batch = (maps(0), maps(1)), a_batch()
    expected = terms(outputs[1], batch) + weight * terms(outputs[0], batch)
    assert objective(outputs, batch)["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_a_single_map_and_a_stack_of_maps_are_taken_too() -> None:
    batch, objective = a_batch(), an_objective()
    assert objective(maps(1), batch)["loss"].item() == pytest.approx(terms(maps(1), batch), rel=1e-5)
    stack = torch.stack([maps(1), maps(2), maps(3)], 1)
    expected = terms(maps(1), batch) + 0.4 * (terms(maps(2), batch) + terms(maps(3), batch))
    assert objective(stack, batch)["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_logits_are_made_probabilities_when_the_recipe_says_so() -> None:
    batch = a_batch()
    logits = maps(1).log() + 2.5
    assert an_objective(softmax=True)(logits, batch)["loss"].item() == pytest.approx(terms(maps(1), batch), rel=1e-5)
    with pytest.raises(TrainingError, match="needs probabilities") as caught:
        an_objective()(logits, batch)
    assert "loss.softmax" in caught.value.advice


def test_a_network_with_other_classes_is_refused() -> None:
    with pytest.raises(TrainingError, match="each of 3 classes"):
        an_objective()(maps(0, classes=2), a_batch())


def test_classes_without_annotation_count_as_background() -> None:
    batch = a_batch(annotated=[[True, True, False]])
    batch["classes"][batch["classes"] == 2] = 0
    merged = torch.stack([maps(1)[:, 0] + maps(1)[:, 2], maps(1)[:, 1]], 1)
    expected = terms(merged, batch)
    assert an_objective()(maps(1), batch)["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_what_is_given_to_an_unannotated_class_instead_of_background_costs_nothing() -> None:
    batch = a_batch(annotated=[[True, True, False]])
    batch["classes"][:] = 0
    logits = torch.randn(1, 3, 4, 4, 4, requires_grad=True)
    an_objective(softmax=True)(logits, batch)["loss"].backward()
    ratio = logits.softmax(1)[:, 0] / logits.softmax(1)[:, 2]
    # Both move up together, each in proportion to its share.
    torch.testing.assert_close(logits.grad[:, 0], logits.grad[:, 2] * ratio, atol=1e-7, rtol=1e-3)


def test_the_published_cross_entropy_is_a_choice() -> None:
    batch, outputs = a_batch(classes=2), maps(1, classes=2)
    published = an_objective(2, bce="as_published")(outputs, batch)
    assert published["cross_entropy"].item() > 0.503
    without = an_objective(2, cross_entropy_weight=0.0)(outputs, batch)
    assert without["loss"].item() == pytest.approx(without["tversky_loss"].item())
