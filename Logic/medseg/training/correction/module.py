"""The training step and the validation of a network of clicks, as Lightning wants them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medseg.losses import normalised_focal_loss
from medseg.training.averaging import AveragedModule, Validation
from medseg.training.clicks import logits_after_clicks
from medseg.training.correction.measuring import StructureFigures, measured

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from medseg.labels import LabelTable
    from medseg.networks import ClickNetwork
    from medseg.training.correction.data import SampleBatch
    from medseg.training.correction.makers import KeptAside
    from medseg.training.correction.recipe import CorrectionRecipe


class CorrectionModule(AveragedModule):
    """The normalised focal loss, and Dice, after a simulated user has talked to the network; validation by clicks."""

    def __init__(
        self,
        network: ClickNetwork,
        recipe: CorrectionRecipe,
        labels: LabelTable,
        output: Path,
        kept_aside: Sequence[KeptAside] = (),
    ) -> None:
        super().__init__(network, recipe.optimisation, output)
        self._recipe, self._labels, self._kept_aside = recipe, labels, kept_aside
        self._found: dict[int, StructureFigures] = {}

    def losses_of(self, batch: SampleBatch) -> dict[str, Tensor]:
        """See :class:`~medseg.training.averaging.AveragedModule`."""
        return losses_of(self.network, batch, self._recipe)

    def validation_step(self, batch: Any, _index: int) -> None:
        """Correct a structure kept aside with the averaged weights."""
        number = int(batch)
        self._found[number] = measured(self.average, self._kept_aside[number], self._recipe)

    def on_validation_epoch_end(self) -> None:
        """Log the Dice after the last click of each kind of structure, of all and of the worst."""
        found, self._found = self.gathered(self._found), {}
        if not found:
            return
        last = [one.scores[-1] for one in found.values()]
        dice = {
            label.value: _mean([one.scores[-1] for one in found.values() if one.structure == label.name])
            for label in self._labels
        }
        self.tell(
            Validation(
                epoch=self.current_epoch + 1,
                loss=1 - _mean(last),
                dice=dice,
                mean=_mean(last),
                worst=min(last),
                more={"validation_dice_1_click": _mean([one.scores[0] for one in found.values()])},
            ),
            self._labels,
        )


def losses_of(network: ClickNetwork, batch: SampleBatch, recipe: CorrectionRecipe) -> dict[str, Tensor]:
    """Return the losses of a batch; the same batch meets the same user."""
    clicks, rng = recipe.clicks, np.random.default_rng((recipe.seed, int(batch["number"][0])))
    begun = batch["start"].flatten(1).any(1)
    found, truths = [], []
    # Those from nothing by themselves: among others they would go without the Self-Loop.
    for group in (begun, ~begun):
        if not bool(group.any()):
            continue
        images, truth, start = (batch["image"][group], batch["truth"][group], batch["start"][group])
        truths.append(truth)
        found.append(
            logits_after_clicks(
                network,
                images,
                truth,
                rng,
                starts=start if bool(start.any()) else None,
                radius=clicks.radius,
                self_loop=clicks.self_loop,
                most_clicks=clicks.most,
            )
        )
    logits, truth = torch.cat(found), torch.cat(truths)
    focal, overlap = normalised_focal_loss(logits, truth, gamma=recipe.gamma), _dice_loss(logits, truth)
    return {"loss": focal + recipe.dice_weight * overlap, "focal": focal, "dice": overlap}


def _dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    found, wanted = torch.sigmoid(logits.float()).flatten(1), truth.float().flatten(1)
    return (1 - (2 * (found * wanted).sum(1) + 1) / (found.sum(1) + wanted.sum(1) + 1)).mean()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
