"""The training step and its data, as Lightning wants them."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import lightning
import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from medseg.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import nn

    from medseg.training.augmentation import PatchSampler
    from medseg.training.data import PreparedCase
    from medseg.training.objectives import Batch, Objective
    from medseg.training.recipe import Recipe


class _Patches(Dataset):
    """Patches by number: number ``n`` is the same patch in every run of the recipe, also after a restart."""

    def __init__(self, cases: Sequence[PreparedCase], sampler: PatchSampler, seed: int) -> None:
        self._cases, self._sampler, self._seed = cases, sampler, seed

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        # Every case comes once in a round, in an order of the round's own.
        round_number, place = divmod(number, len(self._cases))
        order = torch.randperm(
            len(self._cases), generator=torch.Generator().manual_seed(self._seed * 7919 + round_number)
        )
        case = self._cases[int(order[place])]
        return self._sampler.draw(case, self._seed * 1_000_003 + number)


class _Numbers(Sampler[int]):
    """The patch numbers of an epoch; Lightning tells the epoch through ``set_epoch``."""

    def __init__(self, per_epoch: int) -> None:
        self._per_epoch, self._epoch = per_epoch, 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        first = self._epoch * self._per_epoch
        return iter(range(first, first + self._per_epoch))

    def __len__(self) -> int:
        return self._per_epoch


class TrainingData(lightning.LightningDataModule):
    """Augmented patches of the training cases, whole volumes of the validation cases."""

    def __init__(
        self,
        recipe: Recipe,
        training: Sequence[PreparedCase],
        validation: Sequence[PreparedCase],
        sampler: PatchSampler,
    ) -> None:
        super().__init__()
        self._recipe, self._training, self._validation = recipe, training, validation
        self._sampler = sampler

    def train_dataloader(self) -> DataLoader:
        """Return ``steps_per_epoch`` batches (:class:`~medseg.training.objectives.Batch`)."""
        settings = self._recipe.optimisation
        return DataLoader(
            _Patches(self._training, self._sampler, self._recipe.seed),
            batch_size=settings.batch_size,
            sampler=_Numbers(settings.steps_per_epoch * settings.batch_size),
            num_workers=settings.workers,
            persistent_workers=settings.workers > 0,
            worker_init_fn=_one_thread,
        )

    def val_dataloader(self) -> DataLoader | list:
        """Return the validation volumes, one a batch."""
        if not self._validation:
            return []
        volumes = [
            {
                "image": case.image,
                "classes": case.label,
                "annotated": case.annotated,
                "spacing": torch.tensor(case.spacing),
            }
            for case in self._validation
        ]
        return DataLoader(volumes, batch_size=1)


class TrainingModule(lightning.LightningModule):
    """The recipe's loss, AdamW, warm-up and cosine decay, and an average of the weights that is what gets exported.

    The exponential moving average of the weights costs one copy of the network and spares a small batch size's noise.
    """

    def __init__(self, network: nn.Module, recipe: Recipe, classes: int, output: Path) -> None:
        super().__init__()
        self.network = network
        self.average = copy.deepcopy(network).requires_grad_(requires_grad=False).eval()
        self._recipe, self._classes, self._output = recipe, classes, output
        self._objective: Objective = recipe.loss.build(classes)
        self._inferer = SlidingWindowInferer(recipe.window.size, sw_batch_size=1, overlap=0.25, mode="gaussian")
        self._scores: list[Tensor] = []

    def on_train_epoch_start(self) -> None:
        """Tell the objective the epoch; its schedule may depend on it."""
        self._objective.start_epoch(self.current_epoch)

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Return the loss of a batch; a loss that is not a number stops the run with the batch saved."""
        _tell_spacing(self.network, batch["spacing"])
        losses = self._objective(self.network(batch["image"]), batch)
        loss = losses.pop("loss")
        if not torch.isfinite(loss):
            path = self._output / "bad_batch.pt"
            tensors = {name: tensor.cpu() for name, tensor in batch.items()}
            torch.save({**tensors, "step": self.global_step}, path)
            raise TrainingError(
                f"The loss is not a number at step {self.global_step}; the batch is saved in {path}.",
                advice="Lower optimisation.learning_rate or set optimisation.precision to '32', then start again.",
            )
        self.log("loss", loss, prog_bar=True, on_step=True, on_epoch=True)
        self.log_dict({name: value.detach() for name, value in losses.items()}, on_step=False, on_epoch=True)
        return loss

    def on_train_batch_end(self, _outputs: Any, _batch: Any, _index: int) -> None:
        """Move the average towards the new weights; early on faster, so that it forgets the random start."""
        decay = min(self._recipe.optimisation.average_decay, (1 + self.global_step) / (10 + self.global_step))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
            for mean, value in zip(self.average.buffers(), self.network.buffers(), strict=True):
                mean.copy_(value)

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Collect the Dice of each annotated class of a whole volume, on the network's grid; NaN for the others."""
        classes, annotated = batch["classes"], batch["annotated"]
        _tell_spacing(self.average, batch["spacing"])
        result = self._inferer(batch["image"], self._class_scores).argmax(1)
        scores = torch.full((self._classes - 1,), torch.nan)
        for index in range(1, self._classes):
            if annotated[0, index]:
                found, truth = result == index, classes == index
                total = float(found.sum() + truth.sum())
                scores[index - 1] = 2.0 * float((found & truth).sum()) / total if total else 1.0
        self._scores.append(scores)

    def _class_scores(self, image: Tensor) -> Tensor:
        outputs = self.average(image)
        return outputs if isinstance(outputs, Tensor) else outputs[0]

    def on_validation_epoch_end(self) -> None:
        """Log the mean and the worst Dice over classes and cases."""
        if not self._scores:
            return
        scores = torch.stack(self._scores)
        self._scores = []
        # The mean over the classes of their means over cases: a class that few cases have weighs as much as the others.
        self.log("validation_dice", scores.nanmean(0).nanmean(), prog_bar=True)
        self.log("validation_dice_worst", scores.nanmean(1).nan_to_num(1.0).min(), prog_bar=True)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with linear warm-up and cosine decay to zero, set per step."""
        settings = self._recipe.optimisation
        steps = max(settings.epochs * settings.steps_per_epoch // settings.accumulate, 1)
        optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

        def factor(step: int) -> float:
            if step < settings.warmup_steps:
                return (step + 1) / settings.warmup_steps
            done = (step - settings.warmup_steps) / max(steps - settings.warmup_steps, 1)
            return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _tell_spacing(network: nn.Module, spacing: Tensor) -> None:
    """Tell a network that asks for it how far apart the slices of each stack of the batch are (mm)."""
    if hasattr(network, "slice_spacing"):
        network.slice_spacing = spacing[:, int(network.slice_axis)]


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
