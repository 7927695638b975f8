"""How good a network of clicks is on scans that it was not trained on: a simulated user corrects like a real one."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from medseg.correction import next_click
from medseg.correction.engine import NetworkTool
from medseg.correction.prompts import PLANES, Prompt, axis_across
from medseg.correction.session import Corrector
from medseg.correction.slices import SliceTool
from medseg.files import atomic_path
from medseg.metrics import dice
from medseg.training.correction.samples import FEWEST, slice_axes
from medseg.volumes import Geometry, Volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.networks import ClickNetwork
    from medseg.training.correction.makers import KeptAside
    from medseg.training.correction.recipe import CorrectionRecipe


@dataclass(frozen=True)
class StructureFigures:
    """The Dice of one structure after each click.

    Attributes
    ----------
    seen
        Whether structures of this kind were trained on, in other scans.
    """

    case: str
    structure: str
    seen: bool
    scores: tuple[float, ...]

    def row(self) -> tuple[str, ...]:
        """Return scan, structure, whether its kind was trained, and the Dice after each click, as texts."""
        return (self.case, self.structure, "yes" if self.seen else "no", *(f"{score:.3f}" for score in self.scores))


def measured(network: ClickNetwork, kept: KeptAside, recipe: CorrectionRecipe) -> StructureFigures:
    """Return the figures of a structure, from nothing, on the scan's own voxels; the network is put into eval mode.

    Those of a network for slices are means over the slices in which the structure is largest, one in each direction.
    """
    if recipe.is_flat:
        found = [_scores_in_slice(network, recipe, part) for part in largest_slices(kept)]
        scores = np.mean(found, axis=0)
        return StructureFigures(kept.case, kept.structure, kept.seen, tuple(scores.tolist()))
    scan = kept.scan
    volume = Volume(scan.image, Geometry.from_spacing(scan.image.shape, scan.spacing[::-1]))
    clicks = recipe.clicks
    tool = NetworkTool(network.eval(), volume, size=recipe.window, radius=clicks.radius, self_loop=clicks.self_loop)
    work = Corrector(tool, volume, np.zeros(volume.shape, bool))
    # As in use, whatever the training computes in.
    with torch.autocast(next(network.parameters()).device.type, enabled=False):
        scores = scores_of(work, volume, scan.labels == kept.value, recipe.evaluation.clicks)
    return StructureFigures(kept.case, kept.structure, kept.seen, tuple(scores))


SliceOfScan = tuple[int, Volume, np.ndarray]
"""Across which axis (k, j, i) it lies, itself as a volume of one slice, and the structure in it, bool."""


def largest_slices(kept: KeptAside) -> list[SliceOfScan]:
    """Return the slices with the most of a structure, one across each axis.

    Directions in which a slice of the scan is a line, or the structure has less than 8 pixels, are left out unless all
    are.
    """
    scan, (low, high) = kept.scan, kept.scan.structures[kept.value]
    inside = scan.labels[tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))] == kept.value
    found, good = [], []
    for axis in range(3):
        areas = inside.sum(tuple(other for other in range(3) if other != axis))
        place = int(low[axis] + areas.argmax())
        image, labels = (array.take([place], axis) for array in (scan.image, scan.labels))
        volume = Volume(image, Geometry.from_spacing(image.shape, scan.spacing[::-1]))
        found.append((axis, volume, labels == kept.value))
        if areas.max() >= FEWEST and axis in slice_axes(scan):
            good.append(found[-1])
    return good or found


def _scores_in_slice(network: ClickNetwork, recipe: CorrectionRecipe, part: SliceOfScan) -> list[float]:
    axis, volume, truth = part
    plane = next(name for name in PLANES if axis_across(name, volume.geometry) == axis)
    clicks = recipe.clicks
    tool = SliceTool(
        network.eval(), volume, plane=plane, size=recipe.size, radius=clicks.radius, self_loop=clicks.self_loop
    )
    work = Corrector(tool, volume, np.zeros(volume.shape, bool))
    return scores_of(work, volume, truth, recipe.evaluation.clicks, axis=axis)


def scores_of(
    work: Corrector, volume: Volume, truth: np.ndarray, clicks: int, *, axis: int | None = None
) -> list[float]:
    """Return the Dice after each of so many clicks into the middle of the largest error of a corrector's segment.

    When nothing is wrong any more the score stays. With ``axis`` the volume is one slice across it, and the middle that
    of an area.
    """

    def seen(array: np.ndarray) -> np.ndarray:
        return array if axis is None else array.squeeze(axis)

    spacing = volume.geometry.spacing[::-1]
    spacing = spacing if axis is None else tuple(np.delete(spacing, axis))
    wanted = seen(truth)
    click = next_click(seen(work.mask), wanted, spacing=spacing)
    scores: list[float] = []
    for _ in range(clicks):
        if click is not None:
            place = click.place if axis is None else np.insert(click.place, axis, 0)
            ras = volume.geometry.ijk_to_ras_points(np.array(place[::-1], np.float64))
            work.add(Prompt("point", ras, click.positive))
            click = next_click(seen(work.mask), wanted, spacing=spacing)
        scores.append(float(dice(work.mask, truth)))
    return scores


def by_kind(figures: Sequence[StructureFigures], seen: str, others: str) -> list[tuple[str, list[StructureFigures]]]:
    """Return those of kinds that were trained and those that were held out, under these names, where there are any."""
    groups = ((seen, [one for one in figures if one.seen]), (others, [one for one in figures if not one.seen]))
    return [(name, group) for name, group in groups if group]


def mean_score(figures: Sequence[StructureFigures], place: int) -> float:
    """Return the mean Dice after a click, the first one at place 0."""
    return sum(one.scores[place] for one in figures) / len(figures)


def metrics_of(figures: Sequence[StructureFigures]) -> dict[str, float]:
    """Return the figures of a package: mean Dice after the first and the last click, of trained kinds and of others."""
    found = {}
    for name, group in by_kind(figures, "trained structures", "structures held out"):
        for clicks in sorted({1, len(group[0].scores)}):
            key = f"dice after {clicks} click{'s' * (clicks > 1)}, {name}"
            found[key] = round(mean_score(group, clicks - 1), 4)
    return found


def write_figures(figures: Sequence[StructureFigures], path: Path) -> None:
    """Write a line for each structure (CSV)."""
    count = max((len(one.scores) for one in figures), default=0)
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["case", "structure", "seen", *(f"dice_{number}" for number in range(1, count + 1))])
        for one in figures:
            writer.writerow([one.case, one.structure, int(one.seen), *(f"{score:.6g}" for score in one.scores)])
