"""What the card of a trained package says of its training: data, split, figures of each structure, limits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from medseg.training.evaluation import case_scores, figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.labels import LabelTable
    from medseg.training.evaluation import CaseResult, Spread
    from medseg.training.recipe import Recipe
    from medseg.training.tasks import AnyRecipe

_WORST_CASES = 3


def training_card(
    recipe: Recipe,
    labels: LabelTable,
    results: Sequence[CaseResult],
    *,
    trained_on: int,
    kept_aside: Sequence[str] = (),
    has_earlier: bool = False,
    picture: str | None = None,
    epochs: int | None = None,
) -> str:
    """Return the part of the card (Markdown) that follows its tables.

    Parameters
    ----------
    has_earlier
        The package carries figures of the weights that the run started from.
    picture
        The name of a picture beside the card.
    epochs
        How far a run has come that was not finished.
    """
    settings = recipe.optimisation
    how = [f"{trained_on} cases, {settings.epochs} epochs of {settings.steps_per_epoch} steps, seed {recipe.seed}."]
    lines = []
    if kept_aside:
        names = f": {', '.join(kept_aside)}" if recipe.package.case_names else ""
        lines.append(f"{len(kept_aside)} cases were kept aside and never trained on{names}.")
    if results:
        lines += _accuracy(recipe, labels, results)
    elif has_earlier:
        lines += [
            "",
            "The figures above were measured on the weights of the earlier stage, with cases that it had not seen. The",
            "weights in this package have been trained on these cases too: no unseen case is left to measure them on.",
        ]
    else:
        lines += ["", "These weights have not been measured on cases that they were not trained on."]
    if picture:
        lines += ["", f"![A case kept aside]({picture})"]
    return card_of(recipe, how, lines, epochs=epochs)


def card_of(recipe: AnyRecipe, how: Sequence[str], found: Sequence[str], *, epochs: int | None) -> str:
    """Return the card of a recipe of any task: the data, ``how`` it was trained, what was ``found``, and its limits.

    Parameters
    ----------
    epochs
        How far a run has come that was not finished.
    """
    about = recipe.package
    lines = ["## Training", "", f"Data: {about.data_sources.strip().rstrip('.')}.", *how]
    if epochs is not None:
        lines.append(f"The run was not finished: these are the weights after {epochs} epochs.")
    if recipe.start_from is not None:
        lines.append("The run started from the weights of an earlier stage.")
    lines += found
    if about.limits:
        lines += ["", "## Limits", "", about.limits.strip()]
    return "\n".join(lines)


def _accuracy(recipe: Recipe, labels: LabelTable, results: Sequence[CaseResult]) -> list[str]:
    tolerance = recipe.evaluation.tolerance_mm
    cases = case_scores(results)
    lines = [
        "",
        f"## Accuracy on the {len(cases)} cases that were not trained on",
        "",
        "Mean ± standard deviation over the cases in which the structure is annotated, and the worst of them, on the",
        f"images' own grids. Surface Dice at {tolerance:g} mm; HD95 is the 95th percentile of the surface distance.",
        "",
        f"| structure | cases | Dice | worst | surface Dice ({tolerance:g} mm) | worst | HD95 (mm) | worst |",
        "|---|---|---|---|---|---|---|---|",
    ]
    structures = figures(results, labels)
    for one in structures:
        cells = [
            one.label.replace("|", "\\|"),
            str(one.cases),
            _spread(one.dice, 3),
            _number(one.dice.worst, 3),
            _spread(one.surface_dice, 3),
            _number(one.surface_dice.worst, 3),
            _spread(one.hd95_mm, 1),
            _number(one.hd95_mm.worst, 1),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    undefined = [f"{one.label} in {one.undefined}" for one in structures if one.undefined]
    if undefined:
        lines += ["", f"Not found, or found where there is none (no HD95): {', '.join(undefined)} cases."]
    if recipe.package.case_names:
        worst = [f"{case} ({score:.3f})" for case, score in list(cases.items())[:_WORST_CASES]]
        lines += ["", f"Worst cases by the mean Dice of their structures: {', '.join(worst)}."]
    return lines


def _spread(spread: Spread, digits: int) -> str:
    if math.isnan(spread.mean):
        return "–"
    return f"{spread.mean:.{digits}f} ± {spread.deviation:.{digits}f}"


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
