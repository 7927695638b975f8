"""Class scores by the missing-label Dice, embeddings by the discriminative loss: networks with two heads.

Source: P. Melander and M. Thanell, "Vision transformers for segmenting organs and tissues in CT scans of arbitrary
imaging ranges" (Lund University 2024:E46). The weight between the two losses is not given there; 1 is our choice. When
the Dice stalls, 0.1 is worth a try.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from medseg.errors import RecipeError
from medseg.losses import Margins, discriminative_loss, missing_label_dice
from medseg.losses.missing_label_dice import BackgroundRule  # noqa: TC001 - pydantic reads it
from medseg.training.objectives.base import LossSection, Objective, centred
from medseg.training.section import Section

if TYPE_CHECKING:
    from torch import Tensor

    from medseg.training.objectives.base import Batch


class InstanceLossSection(Section):
    """The discriminative loss, as published but for what is changed here.

    ``groups`` are the values of the labels whose instances the embeddings separate; a label whose instances are told
    apart by connected components (the ribs of systems 3 and 4) is not among them. ``joint`` takes the instances of all
    groups together.
    """

    groups: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    weight: Annotated[float, Field(ge=0)] = 1.0
    joint: bool = False
    delta_v: Annotated[float, Field(ge=0)] = Margins().pull
    delta_d: Annotated[float, Field(ge=0)] = Margins().push
    variance_weight: Annotated[float, Field(ge=0)] = Margins().variance
    distance_weight: Annotated[float, Field(ge=0)] = Margins().distance
    regular_weight: Annotated[float, Field(ge=0)] = Margins().regular

    @model_validator(mode="after")
    def _each_once(self) -> InstanceLossSection:
        if len(set(self.groups)) < len(self.groups):
            raise ValueError("groups names a label twice")
        return self

    def margins(self) -> Margins:
        """Return the distances and weights as the loss takes them."""
        return Margins(self.delta_v, self.delta_d, self.variance_weight, self.distance_weight, self.regular_weight)


class TwoHeadedSection(LossSection):
    """Missing-label Dice of the class probabilities plus the weighted discriminative loss of the embeddings.

    Without ``instance`` only the Dice is left, and the network may have one head (systems 5 and 6).
    """

    kind: Literal["two_headed"]
    alpha: Annotated[float, Field(ge=0)] = 0.0
    beta: Annotated[float, Field(gt=0)] = 1e-5
    background: BackgroundRule = "as_labelled"
    instance: InstanceLossSection | None = None

    def build(self, classes: int) -> Objective:
        """See :class:`LossSection`.

        Raises
        ------
        RecipeError
            When a group is not one of the labels.
        """
        unknown = [value for value in self.instance.groups if value >= classes] if self.instance else []
        if unknown:
            raise RecipeError(
                f"loss.instance.groups names the labels {unknown}, which the label table does not have.",
                advice="Name labels of the recipe's label table.",
            )
        return TwoHeaded(self)

    @property
    def instance_labels(self) -> tuple[int, ...]:
        """See :class:`LossSection`."""
        return self.instance.groups if self.instance else ()


class TwoHeaded(Objective):
    """See :class:`TwoHeadedSection`; logits, or logits and embeddings, in."""

    def __init__(self, section: TwoHeadedSection) -> None:
        super().__init__()
        self._section = section

    def forward(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """See :class:`Objective`; the parts are named "dice_loss" and "instance_loss".

        Raises
        ------
        RecipeError
            When the recipe asks for the loss of embeddings and the network gives none.
        """
        section, instance = self._section, self._section.instance
        scores, embeddings = outputs if isinstance(outputs, (tuple, list)) else (outputs, None)
        spatial = scores.shape[-3:]
        classes = centred(batch["classes"], spatial)
        overlap = missing_label_dice(
            scores.float().softmax(1),
            classes,
            batch["annotated"],
            alpha=section.alpha,
            beta=section.beta,
            background=section.background,
        )
        if instance is None:
            return {"loss": overlap}
        if embeddings is None:
            raise RecipeError(
                "The recipe's loss has a part for embeddings, but the network gives class scores only.",
                advice="Give the network embedding_channels, or take loss.instance out of the recipe.",
            )
        separation = discriminative_loss(
            embeddings,
            classes,
            centred(batch["instances"], spatial),
            instance.groups,
            joint=instance.joint,
            margins=instance.margins(),
        )
        return {
            "loss": overlap + instance.weight * separation,
            "dice_loss": overlap,
            "instance_loss": separation,
        }
