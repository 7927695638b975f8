"""Samples on their way to the network, the same in every run and dealt out to several processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import torch
from torch import Tensor
from torch.utils.data import Dataset

from medseg.training.drawn import DrawnData, chosen
from medseg.training.synthesis import Draws

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.training.correction.makers import SampleMaker
    from medseg.training.correction.recipe import CorrectionRecipe


class SampleBatch(TypedDict):
    """What a step takes: image, truth and start (B, 1, \\*size) float32, and a number for the simulated user (B,)."""

    image: Tensor
    truth: Tensor
    start: Tensor
    number: Tensor


class CorrectionData(DrawnData):
    """New samples (:class:`SampleBatch`) in every step, and the structures kept aside."""

    def __init__(self, recipe: CorrectionRecipe, makers: Sequence[SampleMaker], kept_aside: int) -> None:
        super().__init__(recipe.optimisation, TrainingSamples(recipe, makers), kept_aside)


class TrainingSamples(Dataset):
    """Samples by number: number ``n`` is the same sample in every run of the recipe, also after a restart."""

    def __init__(self, recipe: CorrectionRecipe, makers: Sequence[SampleMaker]) -> None:
        self._recipe, self._makers = recipe, makers

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        draws = Draws(self._recipe.seed * 1_000_003 + number)
        sample = chosen(self._makers, draws).training_sample(draws)
        return {**sample._asdict(), "number": torch.tensor(number, dtype=torch.int64)}
