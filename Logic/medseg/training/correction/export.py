"""From trained weights to a package that follows clicks, and what its card says of the training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from medseg.labels import Label, LabelTable
from medseg.labels.codes import ANATOMICAL_STRUCTURE
from medseg.labels.table import distinct_color
from medseg.models import Correction, InputSlot, Window, correction_preprocessing
from medseg.training.card import card_of
from medseg.training.correction.measuring import metrics_of
from medseg.training.export import trial_package, write_trained

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.models import Measured
    from medseg.training.correction.measuring import StructureFigures
    from medseg.training.correction.recipe import CorrectionRecipe


def export_correction_package(
    network: nn.Module,
    recipe: CorrectionRecipe,
    labels: LabelTable,
    folder: Path,
    *,
    figures: Sequence[StructureFigures] = (),
    measured: Measured | None = None,
    epochs: int | None = None,
) -> Path:
    """Write the network as a package that follows clicks to ``folder``, replacing an earlier one, and return that.

    ``labels`` are the structures by which it was measured; the rest is as for
    :func:`medseg.training.export.export_package`, errors too.
    """
    write_trained(
        network,
        recipe,
        labels,
        folder,
        inputs=[InputSlot("Volume", "", "A CT or MR volume")],
        preprocessing=correction_preprocessing(),
        window=Window(recipe.window[::-1]),
        measured=measured,
        metrics=metrics_of(figures),
        card=correction_card(recipe, figures, epochs=epochs),
        correction=Correction(recipe.package.domain, recipe.clicks.radius, recipe.clicks.self_loop),
    )
    return folder


def correction_card(recipe: CorrectionRecipe, figures: Sequence[StructureFigures], *, epochs: int | None = None) -> str:
    """Return the part of the card (Markdown) that follows its tables."""
    settings, total = recipe.optimisation, sum(source.share for source in recipe.sources)
    seen = "; ".join(f"{100 * source.share / total:.0f} % {source.about}" for source in recipe.sources)
    how = [
        f"Samples: {seen}. Up to {recipe.clicks.most} more clicks than the first of a simulated user before each step.",
        f"{settings.epochs} epochs of {settings.steps_per_epoch} steps, seed {recipe.seed}.",
        *(["Single slices across all three axes of the scans."] if recipe.is_flat else []),
        f"Loss: normalised focal (gamma {recipe.gamma:g}), Dice (weight {recipe.dice_weight:g}).",
    ]
    return card_of(recipe, how, _accuracy(figures, flat=recipe.is_flat), epochs=epochs)


def _accuracy(figures: Sequence[StructureFigures], *, flat: bool) -> list[str]:
    if not figures:
        return ["", "These weights have not been measured on scans that they were not trained on."]
    slices = " Means over three slices, one in each direction, in which the structure is largest." if flat else ""
    count = len(figures[0].scores)
    head = ["Scan", "Structure", "Trained on its kind", *(str(number) for number in range(1, count + 1))]
    return [
        "",
        f"## Dice after 1 to {count} clicks, on scans that were not trained on",
        "",
        "From nothing; a simulated user clicks into the middle of the largest error, on the scan's own voxels."
        + slices,
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(one.row()) + " |" for one in figures),
    ]


def check_correction_package(recipe: CorrectionRecipe, path: Path) -> None:
    """Write the package that the recipe ``path`` leads to as a trial, without weights.

    Raises
    ------
    RecipeError
        When :mod:`medseg.models` refuses it: better now than after hours of training.
    """
    with trial_package(path) as folder:
        export_correction_package(nn.Module(), recipe, structure_table([]), folder)


def structure_table(names: Sequence[str]) -> LabelTable:
    """Return a label table of the kinds of structures by which a network is measured, of one kind without any."""
    codes = {"category": ANATOMICAL_STRUCTURE, "type": ANATOMICAL_STRUCTURE}
    return LabelTable(
        Label(value, name, distinct_color(value), **codes) for value, name in enumerate(names or ["Structure"], start=1)
    )
