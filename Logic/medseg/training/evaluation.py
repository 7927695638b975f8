"""How a package does on cases that it was not trained on, measured as a user would run it."""

from __future__ import annotations

import csv
import dataclasses
import math
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.files import atomic_path
from medseg.metrics import dice, surface_agreement
from medseg.models import load_network, read_package
from medseg.progress import NO_PROGRESS, Progress
from medseg.training.data import annotated_labels, translated
from medseg.volumes import read_labelmap, read_volume, write_labelmap

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from medseg.labels import LabelTable
    from medseg.training.objectives import LossSection
    from medseg.training.pairs import Pair
    from medseg.training.recipe import DataSection

_COLUMNS = ("case", "label", "dice", "surface_dice", "hd95_mm", "seconds")


@dataclass(frozen=True)
class CaseResult:
    """The agreement of one label of one case that was not trained on, at full resolution.

    Attributes
    ----------
    surface_dice, hd95_mm
        See :class:`medseg.metrics.SurfaceAgreement`; the distance is NaN where the label was missed or invented.
    seconds
        Of the segmentation of the case, without imports.
    """

    case: str
    label: str
    dice: float
    surface_dice: float
    hd95_mm: float
    seconds: float


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation (0 of a single value) and the worst of some figures; NaN of none."""

    mean: float
    deviation: float
    worst: float

    @classmethod
    def of(cls, values: Iterable[float], *, worst: str) -> Spread:
        """Return the spread of the values that are numbers; ``worst`` is "min" or "max"."""
        known = [value for value in values if not math.isnan(value)]
        if not known:
            return cls(math.nan, math.nan, math.nan)
        deviation = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
        return cls(float(np.mean(known)), deviation, min(known) if worst == "min" else max(known))


@dataclass(frozen=True)
class StructureFigures:
    """The figures of one label over the cases in which it is annotated.

    ``hd95_mm`` is over the cases that have a distance; ``undefined`` counts the others.
    """

    label: str
    cases: int
    dice: Spread
    surface_dice: Spread
    hd95_mm: Spread
    undefined: int


def evaluate(
    folder: Path,
    pairs: Sequence[Pair],
    labels: LabelTable,
    section: DataSection,
    *,
    loss: LossSection | None = None,
    tolerance_mm: float = 2.0,
    device: str = "cpu",
    keep: Path | None = None,
    progress: Progress = NO_PROGRESS,
) -> list[CaseResult]:
    """Segment each case with the package, as a user would, and compare with its labels on the image's own grid.

    Labels that are not annotated in a case have no result there. A model that tells instances apart is measured on its
    classes.

    Parameters
    ----------
    loss
        Knows how to compare where labels lie on another grid than their image.
    tolerance_mm
        Of the surface Dice.
    keep
        A folder for the results, one label map a case (:func:`result_path`).
    """
    from medseg.segmentation import SegmentOptions, segment

    package = dataclasses.replace(read_package(folder), instances=None)
    network = load_network(package)
    options = SegmentOptions(device=device, statistics=False)
    results = []
    for number, pair in enumerate(pairs):
        part = progress.part(number / len(pairs), (number + 1) / len(pairs))
        text = f"Measuring {pair.case} ({number + 1} of {len(pairs)})"
        images = [read_volume(path) for path in pair.images]
        drawn = read_labelmap(pair.label)
        truth = translated(drawn if loss is None else loss.on_image_grid(drawn, images[0]), section)
        start = time.perf_counter()
        told = Progress(lambda fraction, _, part=part, text=text: part.update(fraction, text))  # type: ignore[misc]
        result = segment(images, package, options, network=network, progress=told)
        seconds = time.perf_counter() - start - result.timings.get("imports", 0.0)
        found = result.labelmap
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            write_labelmap(found, result_path(keep, pair.case))
        if loss is not None:
            found = loss.as_labelled(found, drawn)
        spacing = found.geometry.spacing[::-1]
        annotated = annotated_labels(pair, truth, labels, section)
        for label in labels:
            if label.value not in annotated:
                continue
            part.check()
            mine, real = found.array == label.value, truth.array == label.value
            surface = surface_agreement(mine, real, spacing, tolerance_mm=tolerance_mm)
            results.append(
                CaseResult(
                    pair.case, label.name, dice(mine, real), surface.surface_dice, surface.hd95_mm, round(seconds, 3)
                )
            )
    return results


def result_path(folder: Path, case: str) -> Path:
    """Return where the result of a case is kept; what a file name cannot hold is replaced."""
    return folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', case)}.nii.gz"


def figures(results: Sequence[CaseResult], labels: LabelTable) -> list[StructureFigures]:
    """Return the figures of every label that has results, in the order of the table."""
    found = []
    for label in labels:
        own = [result for result in results if result.label == label.name]
        if own:
            distances = [result.hd95_mm for result in own]
            found.append(
                StructureFigures(
                    label=label.name,
                    cases=len(own),
                    dice=Spread.of((result.dice for result in own), worst="min"),
                    surface_dice=Spread.of((result.surface_dice for result in own), worst="min"),
                    hd95_mm=Spread.of(distances, worst="max"),
                    undefined=sum(math.isnan(distance) for distance in distances),
                )
            )
    return found


def mean_of_means(structures: Sequence[StructureFigures]) -> tuple[float, float, float]:
    """Return Dice, surface Dice and HD95 (mm): the mean over the structures of their means over cases."""
    return (
        _mean([structure.dice.mean for structure in structures]),
        _mean([structure.surface_dice.mean for structure in structures]),
        _mean([structure.hd95_mm.mean for structure in structures]),
    )


def case_scores(results: Sequence[CaseResult]) -> dict[str, float]:
    """Return the mean Dice over the labels of each case, the worst case first."""
    by_case: dict[str, list[float]] = {}
    for result in results:
        by_case.setdefault(result.case, []).append(result.dice)
    return dict(sorted(((case, _mean(values)) for case, values in by_case.items()), key=lambda entry: entry[1]))


def write_results(results: Sequence[CaseResult], path: Path) -> None:
    """Write one line for each label of each case as CSV; a distance that is not defined is left empty."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for result in results:
            numbers = (result.dice, result.surface_dice, result.hd95_mm, result.seconds)
            writer.writerow([result.case, result.label, *("" if math.isnan(n) else f"{n:.6g}" for n in numbers)])


def read_results(path: Path) -> list[CaseResult]:
    """Return what :func:`write_results` has written; nothing when the file is not there or is another."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        return [
            CaseResult(row["case"], row["label"], *(float(row[name] or "nan") for name in _COLUMNS[2:])) for row in rows
        ]
    except (OSError, ValueError, KeyError):
        return []


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
