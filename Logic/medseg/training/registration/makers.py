"""The sources of a recipe at work: files found and read, pairs made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import RecipeError
from medseg.labels import Label, LabelTable
from medseg.labels.codes import ANATOMICAL_STRUCTURE
from medseg.labels.table import distinct_color
from medseg.progress import NO_PROGRESS, Progress
from medseg.training.pairs import matching, some
from medseg.training.registration.data import KeptAside
from medseg.training.registration.sources import LabelMapsSource, ShapesSource, TableSource
from medseg.training.registration.tables import read_real_pairs
from medseg.training.synthesis import Anatomy, Draws, SyntheticPair, pair_of_anatomies, pair_of_shapes, read_anatomies

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.training.registration.data import PairMaker
    from medseg.training.registration.recipe import RegistrationRecipe

FINER = 2
"""How much finer than the network's grid label maps are kept, so that reading them twice shows no steps."""

SHAPES = "Random shapes"
"""The one label of a run that knows no others."""

_HELD_OUT_SEED = 7_919_000_003
"""Far from the numbers of training pairs."""


def makers_of(
    recipe: RegistrationRecipe,
    labels: LabelTable | None,
    data: Path | None,
    recipe_folder: Path,
    progress: Progress = NO_PROGRESS,
) -> tuple[list[PairMaker], LabelTable]:
    """Return a maker for each source of a recipe, and the labels by which the network is measured.

    Parameters
    ----------
    labels
        The recipe's own label table.
    data
        What ``--data`` names: a folder of label maps or a table of pairs.
    recipe_folder
        Where the recipe's relative paths begin.

    Raises
    ------
    RecipeError
        When files are missing or cannot be used; every bad one is named.
    """
    makers: list[PairMaker] = []
    names = {label.value: label for label in labels or ()}
    count = len(recipe.sources)
    for number, source in enumerate(recipe.sources):
        part = progress.part(number / count, (number + 1) / count)
        if isinstance(source, ShapesSource):
            makers.append(ShapeMaker(source, recipe))
        elif isinstance(source, LabelMapsSource):
            folder = _place(data if data is not None and not data.is_file() else None, source.folder, recipe_folder)
            makers.append(AnatomyMaker(source, recipe, _anatomies(source, recipe, folder, part), set(names)))
        else:
            table = _place(data if data is not None and data.is_file() else None, source.csv, recipe_folder)
            makers.append(TableMaker(source, recipe, table, set(names), part))
    scored = {code for maker in makers for code in maker.codes}
    return makers, _table(scored, names)


class ShapeMaker:
    """Pairs of random shapes."""

    codes: frozenset[int] = frozenset()
    cases: tuple[list[str], list[str]] = ([], [])

    def __init__(self, source: ShapesSource, recipe: RegistrationRecipe) -> None:
        self._source, self._recipe = source, recipe
        self.share = source.share

    def training_pair(self, draws: Draws) -> SyntheticPair:
        """Return a pair to train on."""
        recipe = self._recipe
        return pair_of_shapes(
            draws, grid=recipe.grid, shapes=self._source, section=recipe.pairs, painting=recipe.painting
        )

    def kept_aside(self) -> list[KeptAside]:
        """Return pairs that are never trained on: of seeds that training does not reach."""
        return [
            KeptAside(f"shapes {number + 1}", "shapes", self.training_pair(Draws(_HELD_OUT_SEED + number)))
            for number in range(self._recipe.evaluation.pairs)
        ]


class AnatomyMaker:
    """Pairs of label maps, of the cases to train on and of those that are kept aside."""

    def __init__(
        self,
        source: LabelMapsSource,
        recipe: RegistrationRecipe,
        anatomies: tuple[Sequence[Anatomy], Sequence[Anatomy]],
        named: set[int],
    ) -> None:
        self._source, self._recipe, self.share = source, recipe, source.share
        self._training, self._aside = anatomies
        codes = self._training[0].codes
        place = {code: number for number, code in enumerate(codes)}
        inside = {code for code in codes if code and code not in source.outside}
        wanted = set(source.scored) if source.scored is not None else named & inside or inside
        missing = sorted({*wanted, *source.outside} - set(codes)) if source.scored is not None else []
        if missing:
            raise RecipeError(
                f"The label maps have no voxel of the labels {missing}, which the recipe's sources name.",
                advice="Correct scored and outside of the source label_maps.",
            )
        self.codes = frozenset(wanted & set(codes))
        self._scored = [place[code] for code in sorted(self.codes)]
        self._outside = [place[code] for code in source.outside if code in place]
        self._tissues = [source.tissue_of(code) for code in codes]
        self._painted_as = list(range(len(codes)))
        for group in source.alike:
            there = [place[code] for code in group if code in place]
            for one in there:
                self._painted_as[one] = there[0]

    @property
    def cases(self) -> tuple[list[str], list[str]]:
        """The names of the cases to train on and of those that are kept aside."""
        return [one.case for one in self._training], [one.case for one in self._aside]

    def training_pair(self, draws: Draws) -> SyntheticPair:
        """Return a pair to train on."""
        first = self._training[draws.whole(0, len(self._training) - 1)]
        second = first
        if len(self._training) > 1 and draws.chance(self._recipe.pairs.two_subjects):
            others = [one for one in self._training if one is not first]
            second = others[draws.whole(0, len(others) - 1)]
        return self._pair(first, second, draws)

    def kept_aside(self) -> list[KeptAside]:
        """Return pairs of the cases that are kept aside, in the contrasts of MR, so that all structures can be seen."""
        found = []
        for number in range(self._recipe.evaluation.pairs if self._aside else 0):
            first = self._aside[number % len(self._aside)]
            second = self._aside[(number + 1 + number // len(self._aside)) % len(self._aside)]
            pair = self._pair(first, second, Draws(_HELD_OUT_SEED + number), ct=False)
            values = tuple(first.codes[place] for place in pair.scored)
            found.append(KeptAside(f"{first.case} and {second.case}, {number + 1}", "label_maps", pair, values))
        return found

    def _pair(self, first: Anatomy, second: Anatomy, draws: Draws, *, ct: bool = True) -> SyntheticPair:
        recipe = self._recipe
        painting = recipe.painting if ct else recipe.painting.model_copy(update={"ct_probability": 0.0})
        return pair_of_anatomies(
            first,
            second,
            draws,
            grid=recipe.grid,
            section=recipe.pairs,
            painting=painting,
            scored=self._scored,
            outside=self._outside,
            tissues=self._tissues,
            painted_as=self._painted_as,
        )


class TableMaker:
    """Real pairs of a table."""

    def __init__(
        self, source: TableSource, recipe: RegistrationRecipe, table: Path, named: set[int], progress: Progress
    ) -> None:
        self._source, self.share = source, source.share
        pairs = read_real_pairs(table, source, recipe, named, progress)
        self.codes = frozenset(value for pair in pairs for value in pair.values)
        self._training = [pair for pair in pairs if pair.split == "training"]
        self._aside = [pair for pair in pairs if pair.split == "validation"]
        if not self._training:
            raise RecipeError("All pairs are kept aside and none is left to train on.", advice="Change the split.")

    @property
    def cases(self) -> tuple[list[str], list[str]]:
        """The names of the pairs to train on and of those that are kept aside."""
        return [one.case for one in self._training], [one.case for one in self._aside]

    def training_pair(self, draws: Draws) -> SyntheticPair:
        """Return a pair to train on: as large as the recipe's grid, at a random place, mirrored at random."""
        return self._training[draws.whole(0, len(self._training) - 1)].cropped(draws, self._source.flips)

    def kept_aside(self) -> list[KeptAside]:
        """Return the middle of the pairs that are not trained on."""
        return [KeptAside(pair.case, "pairs", pair.cropped(None, ()), pair.values) for pair in self._aside]


def _place(data: Path | None, name: str | None, recipe_folder: Path) -> Path:
    if data is not None:
        return data
    if name is None:
        raise RecipeError(
            "The recipe has a source without data.", advice="Give a folder of label maps or a table with --data."
        )
    return recipe_folder / name


def _anatomies(
    source: LabelMapsSource, recipe: RegistrationRecipe, folder: Path, progress: Progress
) -> tuple[list[Anatomy], list[Anatomy]]:
    if not folder.is_dir():
        raise RecipeError(f"There is no folder of label maps {folder}.", advice="Give one with --data.")
    files = matching(folder, source.labels)
    if not files:
        raise RecipeError(
            f"No file in {folder} matches the recipe's pattern '{source.labels}'.",
            advice="Correct sources.labels in the recipe or give another folder with --data.",
        )
    if source.keep_aside >= len(files):
        raise RecipeError(
            f"There are {len(files)} label maps ({some(files)}), and {source.keep_aside} are to be kept aside.",
            advice="Set keep_aside lower.",
        )
    found = read_anatomies(
        files,
        orientation=recipe.grid.orientation,
        spacing_mm=recipe.grid.spacing / FINER,
        ignore=source.ignore,
        progress=progress,
    )
    order = np.random.default_rng(recipe.seed).permutation(len(found))
    aside = sorted(order[: source.keep_aside].tolist())
    return [one for number, one in enumerate(found) if number not in aside], [found[number] for number in aside]


def _table(scored: set[int], names: dict[int, Label]) -> LabelTable:
    """Return the labels by which a network is measured, with the recipe's names where it has some."""
    if not scored:
        return LabelTable([Label(1, SHAPES, distinct_color(0), ANATOMICAL_STRUCTURE, ANATOMICAL_STRUCTURE)])
    return LabelTable(
        names.get(code)
        or Label(code, f"label {code}", distinct_color(place), ANATOMICAL_STRUCTURE, ANATOMICAL_STRUCTURE)
        for place, code in enumerate(sorted(scored))
    )
