"""The training step and the validation of a registration network, as Lightning wants them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import default_collate

from medseg.networks import ConditionalLapIRN
from medseg.training.averaging import AveragedModule, Validation, cosine_decay
from medseg.training.compiling import compile_parts, layout, layout_of_convolutions
from medseg.training.registration.data import item_of
from medseg.training.registration.measuring import PairFigures, figures_of, mean
from medseg.training.registration.objective import LevelPlan, PairBatch, RegistrationObjective, fields_of
from medseg.training.synthesis import Draws

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from medseg.labels import LabelTable
    from medseg.networks import RegistrationNetwork
    from medseg.training.registration.data import KeptAside
    from medseg.training.registration.recipe import RegistrationRecipe


class RegistrationModule(AveragedModule):
    """The recipe's loss and levels, and a validation on pairs that are kept aside.

    All convolutions work on images whose channels lie together ("channels last"). Measured with conditional LapIRN, 32
    channels, in bfloat16 on one core: the network's part of a step took 2.2 s instead of 4.5. Compiled, it takes as
    long.
    """

    def __init__(
        self,
        network: RegistrationNetwork,
        recipe: RegistrationRecipe,
        labels: LabelTable,
        output: Path,
        kept_aside: Sequence[KeptAside] = (),
    ) -> None:
        layout_of_convolutions(network)
        super().__init__(network, recipe.optimisation, output)
        self._recipe, self._labels, self._kept_aside = recipe, labels, kept_aside
        self._objective = RegistrationObjective(recipe.loss)
        self._plan = LevelPlan.of(recipe, network)
        self._found: dict[int, tuple[float, PairFigures]] = {}

    def on_train_start(self) -> None:
        """Compile the network when the recipe says so."""
        super().on_train_start()
        if self._recipe.optimisation.compile:
            batch = noise_batch(self._recipe, self.device)
            precision = self.trainer.precision_plugin.forward_context()

            def loss() -> Tensor:
                fields = fields_of(self.network, batch, None)
                return self._objective(fields, batch)["loss"]

            compile_parts(self.network, _parts_to_compile(self.network), loss, precision, each_size=True)

    @property
    def level(self) -> int | None:
        """The finest level that the next change of the weights trains; ``None`` for all."""
        return None if self._plan is None else self._plan.level(self.global_step)

    def rate_factor(self, step: int) -> float:
        """See :class:`~medseg.training.averaging.AveragedModule`; every level begins at the full rate.

        The cosine decay is that of the steps which train all levels together; before, the rate stays.
        """
        if self._plan is None:
            return super().rate_factor(step)
        warmup, since = self._schedule.warmup_steps, self._plan.since(step)
        if not self._plan.is_last(step):
            return min((since + 1) / max(warmup, 1), 1.0)
        return cosine_decay(since, warmup, self._schedule.moves - (step - since))

    def losses_of(self, batch: PairBatch) -> dict[str, Tensor]:
        """See :class:`~medseg.training.averaging.AveragedModule`."""
        seen: PairBatch = {**batch, "fixed": layout(batch["fixed"]), "moving": layout(batch["moving"])}
        coarser = 1 if self._plan is None else self._plan.coarser(self.global_step)
        return self._objective(fields_of(self.network, seen, self.level), batch, coarser)

    def on_after_backward(self) -> None:
        """Look at the gradients, then forget those of levels whose weights are to stay as they are for now."""
        super().on_after_backward()
        frozen = 1 if self._plan is None else self._plan.frozen_below(self.global_step)
        if frozen > 1:
            # Without a gradient the optimiser changes nothing, neither by momentum nor by decay.
            for parameter in self.network.parameters_to_level(frozen - 1):
                parameter.grad = None

    def validation_step(self, batch: Any, _index: int) -> None:
        """Register a held-out pair with the averaged weights."""
        number = int(batch)
        kept, loss = self._kept_aside[number], self._recipe.loss
        item = item_of(kept.pair, loss.labels_a_step, loss.usual_smoothness, Draws(number))
        pair: Any = {name: tensor.to(self.device) for name, tensor in default_collate([item]).items()}
        fields = fields_of(self.average, pair, None)
        value = float(self._objective(fields, pair)["loss"])
        self._found[number] = (value, figures_of(kept, fields.displacement))

    def on_validation_epoch_end(self) -> None:
        """Log the Dice of each label, of all pairs and of the worst, and how much folds."""
        found, self._found = self.gathered(self._found), {}
        if not found:
            return
        pairs = [figures for _, figures in found.values()]
        scores = [one.dice_after for one in pairs]
        known = [score for score in scores if not math.isnan(score)]
        dice = {value: mean([one.dice.get(value, math.nan) for one in pairs]) for value in self._labels.values}
        if all(math.isnan(value) for value in dice.values()) and len(self._labels) == 1:
            dice = dict.fromkeys(dice, mean(scores))
        self.tell(
            Validation(
                epoch=self.current_epoch + 1,
                loss=mean([loss for loss, _ in found.values()]),
                dice=dice,
                mean=mean(scores),
                worst=min(known, default=math.nan),
                more={
                    "validation_dice_before": mean([one.dice_before for one in pairs]),
                    "validation_folded_percent": 100 * mean([one.folded for one in pairs]),
                },
            ),
            self._labels,
        )


def noise_batch(recipe: RegistrationRecipe, device: torch.device) -> PairBatch:
    """Return a batch as the recipe makes them, of noise."""
    count, size = 2 * recipe.optimisation.batch_size, recipe.grid.size
    generator = torch.Generator().manual_seed(0)

    def image() -> Tensor:
        return layout(torch.rand(count, 1, *size, generator=generator).to(device))

    return {
        "fixed": image(),
        "moving": image(),
        "fixed_labels": torch.ones(count, *size, dtype=torch.uint8, device=device),
        "moving_labels": torch.ones(count, *size, dtype=torch.uint8, device=device),
        "classes": torch.ones(count, recipe.loss.labels_a_step, dtype=torch.int64, device=device),
        "smoothness": torch.full((count,), recipe.loss.usual_smoothness, device=device),
    }


def _parts_to_compile(network: RegistrationNetwork) -> list[nn.Module]:
    """Return the parts whose calls are compiled: each level of LapIRN, which is called on its own, else all of it."""
    return list(network.parts) if isinstance(network, ConditionalLapIRN) else [network]
