"""What a run minimises: one file an objective, each chosen by the ``kind`` of the recipe's section ``loss``."""

from typing import Annotated

from pydantic import Field

from medseg.training.objectives.base import Batch, LossSection, Objective, centred
from medseg.training.objectives.dice import DiceCESection, MissingLabelDiceSection
from medseg.training.objectives.thin_thick import ThinThickSection
from medseg.training.objectives.tversky import TverskyCESection
from medseg.training.objectives.two_headed import TwoHeadedSection

AnyLoss = Annotated[
    DiceCESection | MissingLabelDiceSection | ThinThickSection | TverskyCESection | TwoHeadedSection,
    Field(discriminator="kind"),
]
"""Every kind of loss that a recipe may choose; a new objective is added here."""

__all__ = ["AnyLoss", "Batch", "DiceCESection", "LossSection", "Objective", "centred"]
