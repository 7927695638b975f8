"""How good a registration network is on pairs that it was not trained on."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from medseg.files import atomic_path
from medseg.metrics.deformation import folded_share, std_log_jacobian
from medseg.networks.spatial import warp

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from medseg.networks import RegistrationNetwork
    from medseg.training.registration.data import KeptAside
    from medseg.training.registration.recipe import RegistrationRecipe

HEAD = ("Pair", "Source", "Dice before", "Dice after", "Folded (%)", "Spread of log J")
"""Of the table of :meth:`PairFigures.row`."""


@dataclass(frozen=True)
class PairFigures:
    """Figures of one pair on the network's grid; NaN where there are no labels.

    Attributes
    ----------
    dice_before, dice_after
        The mean over the structures that the fixed image shows, 0 for one that the moving image lacks; after, labels
        are read at the nearest voxel.
    dice
        By value of the label table, after, of the structures that it names.
    folded
        Share of the voxels where the field folds, 0 to 1.
    spread
        Standard deviation of the logarithm of the Jacobian determinant.
    """

    name: str
    source: str
    dice_before: float
    dice_after: float
    dice: dict[int, float]
    folded: float
    spread: float

    def row(self) -> tuple[str, ...]:
        """Return the figures as texts, in the order of :data:`HEAD`."""
        numbers = (f"{self.dice_before:.3f}", f"{self.dice_after:.3f}", f"{100 * self.folded:.3g}")
        return (self.name, self.source, *numbers, f"{self.spread:.3f}")


def mean_row(figures: Sequence[PairFigures]) -> tuple[str, ...]:
    """Return the means over pairs as the last row of a table of them."""
    columns = zip(*((f.dice_before, f.dice_after, f.folded, f.spread) for f in figures), strict=True)
    before, after, folded, spread = (mean(column) for column in columns)
    return PairFigures("Mean", "", before, after, {}, folded, spread).row()


@torch.no_grad()
def measured(network: RegistrationNetwork, kept: KeptAside, recipe: RegistrationRecipe) -> PairFigures:
    """Register a held-out pair with one pass of the network, at the usual smoothness, and return its figures."""
    device = next(network.parameters()).device
    fixed, moving = (image[None, None].to(device) for image in (kept.pair.fixed, kept.pair.moving))
    return figures_of(kept, network(fixed, moving, recipe.loss.usual_smoothness))


def figures_of(kept: KeptAside, displacement: Tensor) -> PairFigures:
    """Return the figures of a held-out pair that a displacement (1, 3, I, J, K) in voxels registers."""
    pair, device = kept.pair, displacement.device
    moved = warp(pair.moving_labels[None, None].to(device, torch.float32), displacement.float(), "nearest")[0, 0]
    truth = pair.fixed_labels.to(device)
    before = _dice(truth, pair.moving_labels.to(device), pair.scored)
    after = _dice(truth, moved.to(torch.uint8), pair.scored)
    field = displacement.float().cpu()
    return PairFigures(
        name=kept.name,
        source=kept.source,
        dice_before=mean(before),
        dice_after=mean(after),
        dice=dict(zip(kept.values, after, strict=True)) if kept.values else {},
        folded=folded_share(field),
        spread=std_log_jacobian(field).std,
    )


def write_figures(figures: Sequence[PairFigures], path: Path) -> None:
    """Write a line for each pair (CSV)."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["pair", "source", "dice_before", "dice_after", "folded_percent", "std_log_jacobian"])
        for one in figures:
            numbers = (one.dice_before, one.dice_after, 100 * one.folded, one.spread)
            writer.writerow([one.name, one.source, *("" if math.isnan(n) else f"{n:.6g}" for n in numbers)])


def metrics_of(figures: Sequence[PairFigures]) -> dict[str, float]:
    """Return the figures of a package: means over all pairs, and for each source when there are several."""
    if not figures:
        return {}
    found = {
        "mean_dice": mean([one.dice_after for one in figures]),
        "mean_dice_before": mean([one.dice_before for one in figures]),
        "worst_dice": min((one.dice_after for one in figures if not math.isnan(one.dice_after)), default=math.nan),
        "mean_folded_percent": 100 * mean([one.folded for one in figures]),
        "mean_std_log_jacobian": mean([one.spread for one in figures]),
    }
    sources = dict.fromkeys(one.source for one in figures)
    if len(sources) > 1:
        for source in sources:
            found[f"dice {source.replace('_', ' ')}"] = mean([f.dice_after for f in figures if f.source == source])
    return {name: round(value, 4) for name, value in found.items() if not math.isnan(value)}


def mean(values: Sequence[float]) -> float:
    """Return the mean of the values that are numbers; NaN when there is none."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _dice(truth: Tensor, found: Tensor, values: Sequence[int]) -> list[float]:
    """Return the Dice of each value; NaN for one that the truth does not show."""
    first, second = truth.flatten().long(), found.flatten().long()
    both = torch.bincount(first[first == second], minlength=256)
    counts = [torch.bincount(one, minlength=256) for one in (first, second)]
    return [
        2 * int(both[value]) / int(counts[0][value] + counts[1][value]) if counts[0][value] else math.nan
        for value in values
    ]
