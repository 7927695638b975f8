"""How good a network of clicks is on scans that it was not trained on: a simulated user corrects like a real one."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.correction import first_click, next_click
from medseg.correction.engine import NetworkTool
from medseg.correction.prompts import Prompt
from medseg.correction.session import Corrector
from medseg.files import atomic_path
from medseg.metrics import dice
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


def measured(network: ClickNetwork, kept: KeptAside, recipe: CorrectionRecipe) -> StructureFigures:
    """Return the figures of a structure, from nothing, on the scan's own voxels; the network is put into eval mode."""
    scan = kept.scan
    volume = Volume(scan.image, Geometry.from_spacing(scan.image.shape, scan.spacing[::-1]))
    clicks = recipe.clicks
    tool = NetworkTool(network.eval(), volume, size=recipe.window, radius=clicks.radius, self_loop=clicks.self_loop)
    work = Corrector(tool, volume, np.zeros(volume.shape, bool))
    scores = scores_of(work, volume, scan.labels == kept.value, recipe.evaluation.clicks)
    return StructureFigures(kept.case, kept.structure, kept.seen, tuple(scores))


def scores_of(work: Corrector, volume: Volume, truth: np.ndarray, clicks: int) -> list[float]:
    """Return the Dice after each of so many clicks into the middle of the largest error of a corrector's segment.

    When nothing is wrong any more the score stays.
    """
    spacing = volume.geometry.spacing[::-1]
    click = next_click(work.mask, truth, spacing=spacing) if work.mask.any() else first_click(truth, spacing=spacing)
    scores: list[float] = []
    for _ in range(clicks):
        if click is not None:
            ras = volume.geometry.ijk_to_ras_points(np.array(click.place[::-1], np.float64))
            work.add(Prompt("point", ras, click.positive))
            click = next_click(work.mask, truth, spacing=spacing)
        scores.append(float(dice(work.mask, truth)))
    return scores


def write_figures(figures: Sequence[StructureFigures], path: Path) -> None:
    """Write a line for each structure (CSV)."""
    count = max((len(one.scores) for one in figures), default=0)
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["case", "structure", "seen", *(f"dice_{number}" for number in range(1, count + 1))])
        for one in figures:
            writer.writerow([one.case, one.structure, int(one.seen), *(f"{score:.6g}" for score in one.scores)])
