"""What the card of a package that registers says of its training: pairs, figures, limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.training.card import card_of
from medseg.training.registration.measuring import HEAD, mean_row
from medseg.training.registration.sources import LabelMapsSource, ShapesSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.training.registration.measuring import PairFigures
    from medseg.training.registration.recipe import RegistrationRecipe
    from medseg.training.registration.sources import AnySource


def registration_card(recipe: RegistrationRecipe, figures: Sequence[PairFigures], *, epochs: int | None = None) -> str:
    """Return the part of the card (Markdown) that follows its tables.

    Parameters
    ----------
    epochs
        How far a run has come that was not finished.
    """
    settings, loss = recipe.optimisation, recipe.loss
    total = sum(source.share for source in recipe.sources)
    pairs = "; ".join(f"{100 * source.share / total:.0f} % {_said(source)}" for source in recipe.sources)
    low, high = loss.range_of_smoothness
    smoothness = f"{low:g}" if low == high else f"drawn from {low:g} to {high:g} for each pair"
    images = {"none": "labels alone", "lncc": f"local correlation (window {loss.window})"}
    how = [
        f"Pairs: {pairs}; each used both ways.",
        f"{settings.epochs} epochs of {settings.steps_per_epoch} steps, seed {recipe.seed}.",
        f"Loss: {images.get(loss.similarity, loss.similarity)}, Dice of warped labels (weight {loss.dice_weight:g}),",
        f"{loss.regulariser.replace('_', ' ')} regularisation; smoothness {smoothness}.",
        *([f"What folds costs {loss.fold_weight:g} times as much as it is inverted."] if loss.fold_weight else []),
    ]
    return card_of(recipe, how, _accuracy(figures, loss.usual_smoothness), epochs=epochs)


def _accuracy(figures: Sequence[PairFigures], smoothness: float) -> list[str]:
    if not figures:
        return ["", "These weights have not been measured on pairs that they were not trained on."]
    return [
        "",
        f"## Accuracy on {len(figures)} pairs that were not trained on",
        "",
        f"One pass of the network, smoothness {smoothness:g}, on the network's grid, without refinement. Dice is the",
        "mean over the structures that the fixed image shows; one that the moving image lacks counts as 0.",
        "",
        "| " + " | ".join(HEAD) + " |",
        "|" + "---|" * len(HEAD),
        *("| " + " | ".join(one.row()) + " |" for one in figures),
        "| " + " | ".join(mean_row(figures)) + " |",
    ]


def _said(source: AnySource) -> str:
    """Return what a source makes, in words."""
    if isinstance(source, LabelMapsSource):
        return "images painted on label maps of real anatomy"
    if isinstance(source, ShapesSource):
        return "images painted on random smooth shapes"
    return "real pairs"
