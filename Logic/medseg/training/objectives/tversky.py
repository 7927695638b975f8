"""Tversky loss and cross-entropy of probability maps, with deep supervision that fades out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from torch import Tensor

from medseg.errors import TrainingError
from medseg.losses.tversky import CrossEntropyForm, class_cross_entropy, tversky_loss
from medseg.training.objectives.base import LossSection, Objective, centred

if TYPE_CHECKING:
    from medseg.training.objectives.base import Batch

_LEAST_SUM, _LARGEST_SUM = 0.97, 1.03
"""Between these lies the sum of a voxel's class probabilities; half precision rounds."""


class TverskyCESection(LossSection):
    """``L(output) + a sum L(auxiliary outputs)`` with ``L`` = Tversky loss + cross-entropy of probabilities.

    Made for MPU-Net, which gives probabilities; the defaults are what its authors ran, but for ``bce``: their
    cross-entropy took probabilities for logits ("as_published"). ``a`` begins as ``auxiliary_weight`` and is multiplied
    by ``auxiliary_decay`` every ``auxiliary_every`` epochs. ``softmax: true`` is for networks that give logits.

    A case in which not every class is annotated is scored on those that are, and the probabilities of the others count
    as background, where their voxels are in its labels (our choice; the paper has one structure).
    """

    kind: Literal["tversky_ce"]
    alpha: Annotated[float, Field(ge=0)] = 0.3
    beta: Annotated[float, Field(ge=0)] = 0.7
    smooth: Annotated[float, Field(gt=0)] = 1.0
    cross_entropy_weight: Annotated[float, Field(ge=0)] = 1.0
    bce: CrossEntropyForm = "paper"
    auxiliary_weight: Annotated[float, Field(ge=0)] = 0.4
    auxiliary_decay: Annotated[float, Field(gt=0, le=1)] = 0.8
    auxiliary_every: Annotated[int, Field(ge=1)] = 30
    softmax: bool = False

    def build(self, classes: int) -> Objective:
        """See :class:`LossSection`."""
        return TverskyCE(self, classes)


class TverskyCE(Objective):
    """See :class:`TverskyCESection`.

    Outputs may be one map (B, n_classes, I, J, K), a tuple of maps of which the last is the network's output, or the
    stack (B, levels, n_classes, I, J, K) of MONAI's deeply supervised networks, whose first level is its output.
    """

    def __init__(self, section: TverskyCESection, classes: int) -> None:
        super().__init__()
        self._section, self._classes = section, classes
        self._auxiliary_weight = section.auxiliary_weight
        self._checked = section.softmax

    @property
    def auxiliary_weight(self) -> float:
        """The weight of the auxiliary outputs in this epoch."""
        return self._auxiliary_weight

    def start_epoch(self, epoch: int) -> None:
        """See :class:`Objective`."""
        section = self._section
        self._auxiliary_weight = section.auxiliary_weight * section.auxiliary_decay ** (
            epoch // section.auxiliary_every
        )

    def forward(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """See :class:`Objective`; beside the loss, the Tversky loss and the cross-entropy of the network's output.

        Raises
        ------
        TrainingError
            When the network does not give one map of probabilities for each class.
        """
        output, auxiliary = _sorted(outputs)
        overlap, entropy = self._terms(output, batch)
        weight = self._section.cross_entropy_weight
        loss = overlap + weight * entropy
        parts = {"tversky_loss": overlap, "cross_entropy": entropy}
        if auxiliary and self._auxiliary_weight > 0:
            terms = [self._terms(one, batch) for one in auxiliary]
            parts["auxiliary_loss"] = torch.stack([first + weight * second for first, second in terms]).sum()
            loss = loss + self._auxiliary_weight * parts["auxiliary_loss"]
        return {"loss": loss, **parts}

    def _terms(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        section = self._section
        probabilities = torch.softmax(output.float(), 1) if section.softmax else output.float()
        self._check(probabilities)
        counted = batch["annotated"]
        classes = centred(batch["classes"], probabilities.shape[-3:]).long()
        truth = F.one_hot(classes, self._classes).movedim(-1, 1).to(probabilities.dtype)
        if not bool(counted.all()):
            probabilities = _merged(probabilities, counted)
        overlap = tversky_loss(
            probabilities, truth, alpha=section.alpha, beta=section.beta, smooth=section.smooth, counted=counted
        )
        return overlap, class_cross_entropy(probabilities, truth, form=section.bce, counted=counted)

    def _check(self, probabilities: Tensor) -> None:
        """Refuse, once and before any harm is done, what is not a map of probabilities for each class."""
        if probabilities.ndim != 5 or probabilities.shape[1] != self._classes:
            raise TrainingError(
                f"The loss 'tversky_ce' needs one map for each of {self._classes} classes, and the network gives an"
                f" output of the shape {tuple(probabilities.shape)}.",
                advice="Set network.arguments.out_channels to the number of labels + 1, or choose another loss.",
            )
        if self._checked:
            return
        self._checked = True
        values = probabilities.detach()
        sums = values.sum(1)
        wrong = bool(values.min() < 0) or bool(sums.min() < _LEAST_SUM) or bool(sums.max() > _LARGEST_SUM)
        if wrong and bool(torch.isfinite(values).all()):
            raise TrainingError(
                "The loss 'tversky_ce' needs probabilities, and the network gives scores that do not sum to 1.",
                advice="Set loss.softmax to true in the recipe.",
            )


def _sorted(outputs: Any) -> tuple[Tensor, list[Tensor]]:
    """Return the network's output and its auxiliary outputs."""
    if isinstance(outputs, Tensor):
        if outputs.ndim == 6:
            return outputs[:, 0], list(outputs[:, 1:].unbind(1))
        return outputs, []
    return outputs[-1], list(outputs[:-1])


def _merged(probabilities: Tensor, annotated: Tensor) -> Tensor:
    """Give the probabilities of the classes that are not annotated to the background; their maps no longer count."""
    hidden = (~annotated)[:, :, None, None, None]
    hidden = torch.cat([torch.zeros_like(hidden[:, :1]), hidden[:, 1:]], 1)
    unseen = (probabilities * hidden).sum(1, keepdim=True)
    return torch.cat([probabilities[:, :1] + unseen, probabilities[:, 1:]], 1)
