"""``medseg train --check``: everything that comes before the first step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.progress import NO_PROGRESS, Progress
from medseg.training.correction.makers import KeptAside as KeptStructure
from medseg.training.correction.makers import makers_of as sample_makers_of
from medseg.training.correction.recipe import CorrectionRecipe
from medseg.training.correction.run import new_correction_network, try_correction
from medseg.training.pairs import find_pairs, split_pairs
from medseg.training.preparation import check_cases
from medseg.training.registration.makers import makers_of
from medseg.training.registration.recipe import RegistrationRecipe
from medseg.training.registration.run import named_labels, new_registration_network, try_registration
from medseg.training.setup import labels_of, new_network, try_network
from medseg.training.summary import LABEL_HEAD, data_rows, label_rows
from medseg.training.tasks import read_any_recipe

if TYPE_CHECKING:
    from medseg.labels import LabelTable
    from medseg.training.checks import CaseFacts
    from medseg.training.registration.data import KeptAside


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


@dataclass(frozen=True)
class CheckedSources:
    """Sources of pairs that a registration recipe can be trained on."""

    recipe: RegistrationRecipe
    kept_aside: tuple[KeptAside, ...]

    def rows(self) -> list[tuple[str, str]]:
        """Return what there is, each with a text."""
        total = sum(source.share for source in self.recipe.sources)
        sources = ", ".join(f"{one.kind} ({100 * one.share / total:.0f} %)" for one in self.recipe.sources)
        size = " x ".join(map(str, self.recipe.grid.size))
        return [
            ("Sources", sources),
            ("Grid", f"{size} voxels of {self.recipe.grid.spacing:g} mm, {self.recipe.grid.orientation}"),
            ("Pairs kept aside", str(len(self.kept_aside))),
        ]

    def label_table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return the head and the rows of a table with a line for each held-out pair."""
        rows = [(one.name, one.source, str(len(one.pair.scored))) for one in self.kept_aside]
        return ("Pair kept aside", "Source", "Structures that count"), list(rows)


@dataclass(frozen=True)
class CheckedScans:
    """Sources of samples that a correction recipe can be trained on."""

    recipe: CorrectionRecipe
    cases: int
    kept_aside: tuple[KeptStructure, ...]

    def rows(self) -> list[tuple[str, str]]:
        """Return what there is, each with a text."""
        total = sum(source.share for source in self.recipe.sources)
        sources = ", ".join(f"{one.kind} ({100 * one.share / total:.0f} %)" for one in self.recipe.sources)
        return [
            ("Sources", sources),
            ("Window", " x ".join(map(str, self.recipe.window)) + " voxels"),
            ("Cases to train on", str(self.cases)),
            ("Structures kept aside", str(len(self.kept_aside))),
        ]

    def label_table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return the head and the rows of a table with a line for each structure that is measured."""
        rows = [(one.case, one.structure, "yes" if one.seen else "no") for one in self.kept_aside]
        return ("Case kept aside", "Structure", "Its kind is trained"), list(rows)


Checked = CheckedData | CheckedSources | CheckedScans
"""What a recipe of any task can be trained on."""


def check(recipe_path: Path, data: Path | None, *, progress: Progress = NO_PROGRESS) -> Checked:
    """See :func:`medseg.training.check_data`."""
    recipe_path = Path(recipe_path)
    recipe = read_any_recipe(recipe_path)
    if isinstance(recipe, RegistrationRecipe):
        try_registration(new_registration_network(recipe_path, recipe), recipe, "cpu")
        makers, _ = makers_of(recipe, named_labels(recipe_path, recipe), data, recipe_path.parent, progress)
        return CheckedSources(recipe, tuple(pair for maker in makers for pair in maker.kept_aside()))
    if isinstance(recipe, CorrectionRecipe):
        try_correction(new_correction_network(recipe_path, recipe), recipe, "cpu")
        samples = sample_makers_of(recipe, data, progress)
        cases = sum(len(maker.cases[0]) for maker in samples)
        return CheckedScans(recipe, cases, tuple(one for maker in samples for one in maker.kept_aside()))
    labels = labels_of(recipe_path, recipe)
    pairs = find_pairs(data, recipe.data, labels=labels, recipe_folder=recipe_path.parent)
    training, validation = split_pairs(pairs, recipe.data, recipe.seed)
    try_network(new_network(recipe_path, recipe, labels), recipe, labels, "cpu")
    return CheckedData(check_cases(training, validation, recipe, labels, progress), labels)
