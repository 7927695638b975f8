"""What the training of every task has in common, as Lightning wants it: steps, weights, their average, their rate."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import lightning
import torch
from torch import Tensor

from medseg.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import nn

    from medseg.labels import LabelTable
    from medseg.training.sections import ScheduleSection

START_ANOTHER = (
    "Lower optimisation.learning_rate or set optimisation.precision to '32', then start again with another output"
    " folder, or with --no-resume."
)
"""What to do about numbers that are not finite; such a recipe does not go on with the checkpoint that is there."""


@dataclass(frozen=True)
class Validation:
    """What the validation after an epoch found.

    Attributes
    ----------
    epoch
        Epochs completed.
    loss
        The objective on one patch of each case, always the same, without augmentation.
    dice
        By label value: the mean over the cases in which the label is annotated; NaN when there is none.
    mean, worst
        The mean over the labels of ``dice``; the lowest mean over the labels of a case.
    more
        Further entries of the line of the epoch in ``progress.jsonl``.
    """

    epoch: int
    loss: float
    dice: dict[int, float]
    mean: float
    worst: float
    more: Mapping[str, float] = field(default_factory=dict)


class AveragedModule(lightning.LightningModule):
    """AdamW, warm-up and cosine decay, and an average of the weights that is what gets exported.

    The exponential moving average of the weights costs one copy of the network and spares a small batch size's noise.
    A task gives :meth:`losses_of` and its validation.

    Parameters
    ----------
    output
        Where a batch is saved that makes numbers which are not finite.
    """

    def __init__(self, network: nn.Module, schedule: ScheduleSection, output: Path) -> None:
        super().__init__()
        self.network = network
        self.average = copy.deepcopy(network).requires_grad_(requires_grad=False).eval()
        self._schedule, self._output = schedule, output
        self._averaged_at = 0
        self._batch: Any = None
        self.parts: tuple[str, ...] = ()
        """The parts of the loss that are logged."""
        self.last_validation: Validation | None = None

    def on_train_start(self) -> None:
        """Remember how often the weights had been changed before."""
        self._averaged_at = self.global_step

    def losses_of(self, batch: Any) -> dict[str, Tensor]:
        """Return the losses of a batch: "loss" is what is minimised, the others are logged beside it."""
        raise NotImplementedError

    def training_step(self, batch: Any, _index: int) -> Tensor:
        """Return the loss of a batch; a loss that is not a number stops the run with the batch saved."""
        losses = self.losses_of(batch)
        loss = losses.pop("loss")
        if not torch.isfinite(loss):
            self._stop_at(batch, "loss is not a number")
        self._batch = batch
        several = self.trainer.world_size > 1
        self.log("loss", loss, prog_bar=True, on_step=True, on_epoch=True, sync_dist=several)
        self.parts = tuple(losses)
        parts = {name: value.detach() for name, value in losses.items()}
        self.log_dict(parts, on_step=False, on_epoch=True, sync_dist=several)
        return loss

    def on_after_backward(self) -> None:
        """Stop the run at a gradient that is not finite, before it changes a weight; a scaler skips such a step."""
        batch, self._batch = self._batch, None
        gradients = (value.grad for value in self.network.parameters() if value.grad is not None)
        if batch is not None and self.trainer.scaler is None and not all_finite(gradients):
            self._stop_at(batch, "gradient is not finite")

    def _stop_at(self, batch: Any, what: str) -> NoReturn:
        suffix = f"_{self.global_rank}" if self.global_rank else ""
        path = self._output / f"bad_batch{suffix}.pt"
        tensors = {name: tensor.cpu() for name, tensor in batch.items() if isinstance(tensor, Tensor)}
        torch.save({**tensors, "step": self.global_step}, path)
        raise TrainingError(
            f"The {what} at step {self.global_step}; the batch is saved in {path}.", advice=START_ANOTHER
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the checkpoint before rather than one that no run could go on from."""
        if not all_finite(checkpoint["state_dict"].values()):
            raise TrainingError(
                f"The weights are not finite after epoch {self.current_epoch + 1}; the checkpoint was not written.",
                advice=START_ANOTHER,
            )

    def on_train_batch_end(self, _outputs: Any, _batch: Any, _index: int) -> None:
        """Move the average towards the new weights; early on faster, so that it forgets the random start."""
        if self.global_step == self._averaged_at:
            return  # the gradients of this batch wait for those of the next
        self._averaged_at = self.global_step
        decay = min(self._schedule.average_decay, (1 + self.global_step) / (10 + self.global_step))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
            for mean, value in zip(self.average.buffers(), self.network.buffers(), strict=True):
                mean.copy_(value)

    def tell(self, found: Validation, labels: LabelTable) -> None:
        """Keep what a validation has found for whoever follows the run, and log it."""
        self.last_validation = found
        figures = {
            "validation_loss": found.loss,
            "validation_dice": found.mean,
            "validation_dice_worst": found.worst,
            **found.more,
            **{f"validation_dice/{labels.by_value(value).name}": dice for value, dice in found.dice.items()},
        }
        for name, value in figures.items():
            if not math.isnan(value):
                self.log(name, value, sync_dist=self.trainer.world_size > 1)

    def gathered(self, found: dict[int, Any]) -> dict[int, Any]:
        """Return what every process has found, by the number of the case, each case once."""
        if self.trainer.world_size == 1:
            return found
        parts: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(parts, found)
        merged = {number: one for part in parts for number, one in part.items()}
        return dict(sorted(merged.items()))

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW, its rate set at every change of the weights."""
        settings = self._schedule
        optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self.rate_factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def rate_factor(self, step: int) -> float:
        """Return the rate of the change of the weights number ``step``, from 0, as a part of the recipe's.

        Linear warm-up, and cosine decay to zero.
        """
        return cosine_decay(step, self._schedule.warmup_steps, self._schedule.moves)


def cosine_decay(step: int, warmup: int, steps: int) -> float:
    """Return the factor of a linear warm-up followed by a cosine that ends at 0 after ``steps``."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether no number in ``tensors`` is infinite or not a number; asks the device once where that is so."""
    numbers = [tensor.detach() for tensor in tensors if tensor.is_floating_point()]
    # A sum takes a twentieth of the time that looking at each number takes, and only ever errs by overflowing.
    if not numbers or bool(torch.stack([tensor.sum().isfinite() for tensor in numbers]).all()):
        return True
    return all(bool(tensor.isfinite().all()) for tensor in numbers)
