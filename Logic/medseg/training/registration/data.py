"""The pairs of a registration run: where they come from, which are kept aside, and their way to the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from medseg.training.drawn import DrawnData, chosen
from medseg.training.registration.objective import NOTHING
from medseg.training.synthesis import Draws, SyntheticPair

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from medseg.training.registration.recipe import RegistrationRecipe

    class PairMaker(Protocol):
        """Makes the pairs of one source."""

        share: float

        def training_pair(self, draws: Draws) -> SyntheticPair:
            """Return a pair to train on."""

        def kept_aside(self) -> Sequence[KeptAside]:
            """Return the pairs that are never trained on."""

        @property
        def cases(self) -> tuple[list[str], list[str]]:
            """The names of the files or lines that are trained on, and of those that are kept aside."""

        @property
        def codes(self) -> frozenset[int]:
            """The values of the labels by which the network is measured."""


_LEAST_VOXELS = 10
"""Fewest voxels in both images of a label that is trained in a step."""


@dataclass(frozen=True)
class KeptAside:
    """A pair on which the network is measured.

    Attributes
    ----------
    name, source
        What it is called, and the kind of its source.
    values
        For each of ``pair.scored`` the value of the label table under which its Dice is told; empty for labels that
        the table does not name.
    """

    name: str
    source: str
    pair: SyntheticPair
    values: tuple[int, ...] = ()


class RegistrationData(DrawnData):
    """New pairs in every step, each used both ways (:class:`~medseg.training.registration.objective.PairBatch`)."""

    def __init__(self, recipe: RegistrationRecipe, makers: Sequence[PairMaker], kept_aside: int) -> None:
        super().__init__(recipe.optimisation, TrainingPairs(recipe, makers), kept_aside, both_ways)


class TrainingPairs(Dataset):
    """Pairs by number: number ``n`` is the same pair in every run of the recipe, also after a restart."""

    def __init__(self, recipe: RegistrationRecipe, makers: Sequence[PairMaker]) -> None:
        self._recipe, self._makers = recipe, makers

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        draws = Draws(self._recipe.seed * 1_000_003 + number)
        maker = chosen(self._makers, draws)
        smoothness = draws.uniform(*self._recipe.loss.range_of_smoothness)
        return item_of(maker.training_pair(draws), self._recipe.loss.labels_a_step, smoothness, draws)


def item_of(pair: SyntheticPair, labels: int, smoothness: float, draws: Draws) -> dict[str, Tensor]:
    """Return a pair as a :class:`~medseg.training.registration.objective.PairBatch` without its batch axis.

    Of the labels that count and that both images have, up to ``labels`` are drawn.
    """
    seen = [value for value in _seen_in_both(pair) if value in pair.scored]
    chosen = [seen[place] for place in draws.order(len(seen))[:labels]]
    return {
        "fixed": pair.fixed[None],
        "moving": pair.moving[None],
        "fixed_labels": pair.fixed_labels,
        "moving_labels": pair.moving_labels,
        "classes": torch.tensor(chosen + [NOTHING] * (labels - len(chosen)), dtype=torch.int64),
        "smoothness": torch.tensor(smoothness, dtype=torch.float32),
    }


def both_ways(items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return a batch of all pairs and of the same pairs with fixed and moving swapped (J. Chen et al. use both)."""
    batch = default_collate(list(items))
    swapped = {
        **batch,
        "fixed": batch["moving"],
        "moving": batch["fixed"],
        "fixed_labels": batch["moving_labels"],
        "moving_labels": batch["fixed_labels"],
    }
    return {name: torch.cat([batch[name], swapped[name]]) for name in batch}


def _seen_in_both(pair: SyntheticPair) -> list[int]:
    first, second = (
        torch.bincount(labels.flatten(), minlength=256) for labels in (pair.fixed_labels, pair.moving_labels)
    )
    return torch.nonzero(torch.minimum(first, second) >= _LEAST_VOXELS).flatten().tolist()
