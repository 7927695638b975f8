"""``medseg train --check``: everything that comes before the first step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.progress import NO_PROGRESS, Progress
from medseg.training.pairs import find_pairs, split_pairs
from medseg.training.preparation import check_cases
from medseg.training.recipe import read_recipe
from medseg.training.setup import labels_of, new_network, try_network
from medseg.training.summary import LABEL_HEAD, data_rows, label_rows

if TYPE_CHECKING:
    from medseg.labels import LabelTable
    from medseg.training.checks import CaseFacts


@dataclass(frozen=True)
class CheckedData:
    """Data that a recipe can be trained on."""

    facts: tuple[CaseFacts, ...]
    labels: LabelTable

    def rows(self) -> list[tuple[str, str]]:
        """Return what there is, each with a text."""
        return data_rows(self.facts)

    def label_table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return the head and the rows of a table with a line for each label."""
        return LABEL_HEAD, label_rows(self.facts, self.labels)


def check(recipe_path: Path, data: Path | None, *, progress: Progress = NO_PROGRESS) -> CheckedData:
    """See :func:`medseg.training.check_data`."""
    recipe_path = Path(recipe_path)
    recipe = read_recipe(recipe_path)
    labels = labels_of(recipe_path, recipe)
    pairs = find_pairs(data, recipe.data, labels=labels, recipe_folder=recipe_path.parent)
    training, validation = split_pairs(pairs, recipe.data, recipe.seed)
    try_network(new_network(recipe_path, recipe, labels), recipe, labels, "cpu")
    return CheckedData(check_cases(training, validation, recipe, labels, progress), labels)
