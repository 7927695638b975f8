"""The training step and the validation of a segmentation network, as Lightning wants them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn

from medseg.training.averaging import AveragedModule, Validation
from medseg.training.batches import noise_batch, tell_spacing
from medseg.training.compiling import compile_in_place, layout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from medseg.labels import LabelTable
    from medseg.training.objectives import Batch, Objective
    from medseg.training.recipe import Recipe

_MOST_SCORES = 1 << 31
"""Bytes of class scores of a validation volume that a GPU holds; larger ones are put together in main memory."""


class TrainingModule(AveragedModule):
    """The recipe's loss, and a validation on whole volumes."""

    def __init__(self, network: nn.Module, recipe: Recipe, labels: LabelTable, output: Path) -> None:
        super().__init__(network, recipe.optimisation, output)
        self._recipe, self._labels = recipe, labels
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
        self._compiled = False

    def on_train_start(self) -> None:
        """Compile the network when the recipe says so."""
        super().on_train_start()
        if self._recipe.optimisation.compile:
            with torch.random.fork_rng():
                batch = noise_batch(self._recipe, self._classes, self.device)
            tell_spacing(self.network, batch["spacing"])
            precision = self.trainer.precision_plugin.forward_context()
            self._compiled = compile_in_place(self.network, self._objective, batch, precision)

    def on_train_epoch_start(self) -> None:
        """Tell the objective the epoch; its schedule may depend on it."""
        self._objective.start_epoch(self.current_epoch)

    def losses_of(self, batch: Batch) -> dict[str, Tensor]:
        """See :class:`~medseg.training.averaging.AveragedModule`."""
        tell_spacing(self.network, batch["spacing"])
        image = layout(batch["image"]) if self._compiled else batch["image"]
        return self._objective(self._objective.outputs(self.network, image), batch)

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
        found, self._found = self.gathered(self._found), {}
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
        self.tell(result, self._labels)


def _layers_with_memory(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers that in training keep statistics or draw numbers, which a validation must not."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)  # noqa: SLF001 - the only common bases
    return (layer for layer in network.modules() if isinstance(layer, kinds))
