"""The training step and the validation, as Lightning wants them."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import lightning
import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn

from medseg.errors import TrainingError
from medseg.training.batches import noise_batch, tell_spacing
from medseg.training.compiling import compile_in_place, layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from medseg.labels import LabelTable
    from medseg.training.objectives import Batch, Objective
    from medseg.training.recipe import Recipe

_MOST_SCORES = 1 << 31
"""Bytes of class scores of a validation volume that a GPU holds; larger ones are put together in main memory."""

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
    """

    epoch: int
    loss: float
    dice: dict[int, float]
    mean: float
    worst: float


class TrainingModule(lightning.LightningModule):
    """The recipe's loss, AdamW, warm-up and cosine decay, and an average of the weights that is what gets exported.

    The exponential moving average of the weights costs one copy of the network and spares a small batch size's noise.
    """

    def __init__(self, network: nn.Module, recipe: Recipe, labels: LabelTable, output: Path) -> None:
        super().__init__()
        self.network = network
        self.average = copy.deepcopy(network).requires_grad_(requires_grad=False).eval()
        self._recipe, self._labels, self._output = recipe, labels, output
        self._classes = labels.values[-1] + 1
        self._objective: Objective = recipe.loss.build(self._classes)
        self._inferer = SlidingWindowInferer(
            recipe.window.size,
            sw_batch_size=1,
            overlap=0.25,
            mode="gaussian",
            cpu_thresh=_MOST_SCORES // (4 * self._classes),
        )
        self._found: dict[int, tuple[float, list[float]]] = {}
        self._averaged_at = 0
        self._compiled = False
        self._batch: Batch | None = None
        self.parts: tuple[str, ...] = ()
        """The parts of the loss that are logged."""
        self.last_validation: Validation | None = None

    def on_train_start(self) -> None:
        """Remember how often the weights had been changed before; compile the network when the recipe says so."""
        self._averaged_at = self.global_step
        if self._recipe.optimisation.compile:
            with torch.random.fork_rng():
                batch = noise_batch(self._recipe, self._classes, self.device)
            tell_spacing(self.network, batch["spacing"])
            precision = self.trainer.precision_plugin.forward_context()
            self._compiled = compile_in_place(self.network, self._objective, batch, precision)

    def on_train_epoch_start(self) -> None:
        """Tell the objective the epoch; its schedule may depend on it."""
        self._objective.start_epoch(self.current_epoch)

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Return the loss of a batch; a loss that is not a number stops the run with the batch saved."""
        tell_spacing(self.network, batch["spacing"])
        image = layout(batch["image"]) if self._compiled else batch["image"]
        losses = self._objective(self._objective.outputs(self.network, image), batch)
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

    def _stop_at(self, batch: Batch, what: str) -> NoReturn:
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
        decay = min(self._recipe.optimisation.average_decay, (1 + self.global_step) / (10 + self.global_step))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
            for mean, value in zip(self.average.buffers(), self.network.buffers(), strict=True):
                mean.copy_(value)

    def validation_step(self, batch: dict[str, Any], _index: int) -> None:
        """Collect the loss of a patch and the Dice of each annotated class of a whole volume, on the network's grid."""
        classes, annotated = batch["classes"], batch["annotated"]
        tell_spacing(self.average, batch["spacing"])
        loss = self._loss_of(batch["patch"])
        result = self._inferer(batch["image"], self._class_scores).argmax(1).to(classes.device)
        scores = [math.nan] * len(self._labels)
        for place, value in enumerate(self._labels.values):
            if annotated[0, value]:
                found, truth = result == value, classes == value
                total = float(found.sum() + truth.sum())
                scores[place] = 2.0 * float((found & truth).sum()) / total if total else 1.0
        self._found[int(batch["number"])] = (loss, scores)

    def _loss_of(self, patch: Batch) -> float:
        """Return the objective of the averaged weights, with the outputs that the network gives in training."""
        tell_spacing(self.average, patch["spacing"])
        self.average.train()
        for layer in _layers_with_memory(self.average):
            layer.eval()
        losses = self._objective(self._objective.outputs(self.average, patch["image"]), patch)
        self.average.eval()
        return float(losses["loss"])

    def _class_scores(self, image: Tensor) -> Tensor:
        outputs = self.average(image)
        return outputs if isinstance(outputs, Tensor) else outputs[0]

    def on_validation_epoch_end(self) -> None:
        """Log the loss, and the Dice of each label with the mean over the labels and the worst case."""
        found = self._of_all_processes()
        if not found:
            return
        scores = torch.tensor([dice for _, dice in found.values()])
        # The mean over the labels of their means over cases: a label that few cases have weighs as much as the others.
        labels = scores.nanmean(0)
        result = Validation(
            epoch=self.current_epoch + 1,
            loss=sum(loss for loss, _ in found.values()) / len(found),
            dice=dict(zip(self._labels.values, labels.tolist(), strict=True)),
            mean=float(labels.nanmean()),
            worst=float(scores.nanmean(1).nan_to_num(1.0).min()),
        )
        self.last_validation = result
        figures = {
            "validation_loss": result.loss,
            "validation_dice": result.mean,
            "validation_dice_worst": result.worst,
            **{f"validation_dice/{self._labels.by_value(value).name}": dice for value, dice in result.dice.items()},
        }
        for name, value in figures.items():
            if not math.isnan(value):
                self.log(name, value, sync_dist=self.trainer.world_size > 1)

    def _of_all_processes(self) -> dict[int, tuple[float, list[float]]]:
        """Return what every process found, by the number of the case, each case once."""
        found, self._found = self._found, {}
        if self.trainer.world_size == 1:
            return found
        gathered: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(gathered, found)
        merged = {number: one for part in gathered for number, one in part.items()}
        return dict(sorted(merged.items()))

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with linear warm-up and cosine decay to zero, set at every change of the weights."""
        settings = self._recipe.optimisation
        optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

        def factor(step: int) -> float:
            if step < settings.warmup_steps:
                return (step + 1) / settings.warmup_steps
            done = (step - settings.warmup_steps) / max(settings.moves - settings.warmup_steps, 1)
            return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether no number in ``tensors`` is infinite or not a number; asks the device once where that is so."""
    numbers = [tensor.detach() for tensor in tensors if tensor.is_floating_point()]
    # A sum takes a twentieth of the time that looking at each number takes, and only ever errs by overflowing.
    if not numbers or bool(torch.stack([tensor.sum().isfinite() for tensor in numbers]).all()):
        return True
    return all(bool(tensor.isfinite().all()) for tensor in numbers)


def _layers_with_memory(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers that in training keep statistics or draw numbers, which a validation must not."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)  # noqa: SLF001 - the only common bases
    return (layer for layer in network.modules() if isinstance(layer, kinds))
