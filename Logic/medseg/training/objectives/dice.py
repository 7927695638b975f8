"""Dice and cross-entropy, for cases in which all or only some of the classes are annotated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from monai.losses import DiceCELoss
from pydantic import Field

from medseg.losses import deeply_supervised, marginal_cross_entropy, missing_label_dice
from medseg.losses.missing_label_dice import BackgroundRule  # noqa: TC001 - pydantic reads it
from medseg.training.objectives.base import LossSection, Objective, centred, class_scores

if TYPE_CHECKING:
    from torch import Tensor

    from medseg.training.objectives.base import Batch


class DiceCESection(LossSection):
    """Soft Dice without background plus cross-entropy; what is not annotated counts as background."""

    kind: Literal["dice_ce"] = "dice_ce"
    dice_weight: Annotated[float, Field(ge=0)] = 1.0
    cross_entropy_weight: Annotated[float, Field(ge=0)] = 1.0

    def build(self, _classes: int) -> Objective:
        """See :class:`LossSection`."""
        return DiceCE(self)


class DiceCE(Objective):
    """See :class:`DiceCESection`; logits in, deep supervision where the network offers it."""

    compiles = True

    def __init__(self, section: DiceCESection) -> None:
        super().__init__()
        self._loss = DiceCELoss(
            to_onehot_y=True,
            softmax=True,
            include_background=False,
            batch=True,
            smooth_nr=1e-5,
            lambda_dice=section.dice_weight,
            lambda_ce=section.cross_entropy_weight,
        )

    def forward(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """See :class:`Objective`."""
        scores = class_scores(outputs)
        target = centred(batch["classes"], scores.shape[-3:])[:, None].long()
        return {"loss": deeply_supervised(scores, 3, lambda scores: self._loss(scores, target))}


class MissingLabelDiceSection(LossSection):
    """Soft Dice over the classes that are annotated in the case; the paper's when everything is left at its default.

    ``background`` "merged" and a ``cross_entropy_weight`` above 0 (then the unannotated classes are merged with the
    background) are ours. ``missing`` "background" trains as if everything were annotated: what it costs to believe a
    label file that lacks organs.
    """

    kind: Literal["missing_label_dice"]
    alpha: Annotated[float, Field(ge=0)] = 0.0
    beta: Annotated[float, Field(gt=0)] = 1e-5
    background: BackgroundRule = "as_labelled"
    cross_entropy_weight: Annotated[float, Field(ge=0)] = 0.0
    missing: Literal["ignored", "background"] = "ignored"

    def build(self, _classes: int) -> Objective:
        """See :class:`LossSection`."""
        return MissingLabelDice(self)


class MissingLabelDice(Objective):
    """See :class:`MissingLabelDiceSection`; logits in, deep supervision where the network offers it."""

    compiles = True

    def __init__(self, section: MissingLabelDiceSection) -> None:
        super().__init__()
        self._section = section

    def forward(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """See :class:`Objective`."""
        section, annotated, outputs = self._section, batch["annotated"], class_scores(outputs)
        if section.missing == "background":
            annotated = annotated.new_ones(annotated.shape)
        target = centred(batch["classes"], outputs.shape[-3:])

        def dice(scores: Tensor) -> Tensor:
            return missing_label_dice(
                scores.softmax(1),
                target,
                annotated,
                alpha=section.alpha,
                beta=section.beta,
                background=section.background,
            )

        overlap = deeply_supervised(outputs, 3, dice)
        if not section.cross_entropy_weight:
            return {"loss": overlap}
        entropy = deeply_supervised(outputs, 3, lambda scores: marginal_cross_entropy(scores, target, annotated))
        return {
            "loss": overlap + section.cross_entropy_weight * entropy,
            "dice_loss": overlap,
            "cross_entropy": entropy,
        }
