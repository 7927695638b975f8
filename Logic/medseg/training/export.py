"""From trained weights to a measured model package."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.metrics import dice_per_label
from medseg.models import (
    FitInPlane,
    InputSlot,
    Measured,
    Normalize,
    Postprocessing,
    Preprocessing,
    ScalePercentiles,
    ScaleRange,
    Window,
    load_network,
    read_package,
    write_package,
)
from medseg.progress import NO_PROGRESS, Progress
from medseg.segmentation.stacks import stacking_axis
from medseg.training.data import annotated_labels, translated
from medseg.volumes import read_labelmap, read_volume

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from medseg.labels import LabelTable
    from medseg.training.data import Pair
    from medseg.training.recipe import DataSection, IntensityStep, Recipe


@dataclass(frozen=True)
class CaseResult:
    """The agreement of one label of one case that was not trained on, at full resolution."""

    case: str
    label: str
    dice: float
    seconds: float


def preprocessing_of(recipe: Recipe) -> Preprocessing:
    """Return the recipe's preprocessing as the package that it leads to will have it."""
    section = recipe.preprocessing
    fit = section.fit_in_plane
    return Preprocessing(
        section.orientation,
        section.spacing,
        tuple(_step(step) for step in section.intensity),
        None if fit is None else FitInPlane(fit.size, fit.threshold, fit.largest_component),
    )


def export_package(
    network: nn.Module,
    recipe: Recipe,
    labels: LabelTable,
    folder: Path,
    *,
    results: Sequence[CaseResult] = (),
    trained_on: int = 0,
    earlier: Mapping[str, float] | None = None,
    measured: Measured | None = None,
    spacings: Sequence[tuple[float, float, float]] = (),
) -> Path:
    """Write the network as a model package to ``folder``, replacing an earlier one, and return the folder.

    Weights are stored as float16, which halves the file; the figures in ``results`` are those of the stored weights.
    ``earlier`` are figures of the weights that the run started from; the card says so when they stand in for results.
    ``spacings`` are those of the training cases on the network's grid (mm); of a network that stacks slices the package
    carries the range of their distances.
    """
    about = recipe.package
    write_package(
        folder,
        name=about.name,
        title=about.title,
        description=about.description,
        version=about.version,
        license=about.license,
        inputs=[InputSlot(about.input_name, about.modality, about.input_description, about.minimum_slices)],
        labels=labels,
        network_target=recipe.network.target,
        network_arguments=recipe.network.arguments,
        preprocessing=preprocessing_of(recipe),
        window=Window(recipe.window.size, recipe.window.overlap),
        state_dict=network.state_dict(),
        postprocessing=Postprocessing(about.largest_component, about.fill_holes),
        instances=about.instances.build() if about.instances else None,
        slice_spacing_range=slice_spacings_of(recipe, spacings),
        measured=measured,
        metrics=_metrics(results) or earlier,
        anatomy=about.anatomy,
        authors=about.authors,
        copyright=about.copyright,
        citation=about.citation,
        data_source=about.data_sources,
        card=_card(recipe, results, trained_on, has_earlier=bool(earlier)),
        half=True,
        overwrite=True,
    )
    return folder


def slice_spacings_of(recipe: Recipe, spacings: Sequence[tuple[float, float, float]]) -> tuple[float, float] | None:
    """Return the least and the largest distance of slices (mm), ``None`` for a network that does not stack slices."""
    axis = stacking_axis(recipe.network.target, recipe.network.arguments)
    along = [] if axis is None else [spacing[axis] for spacing in spacings]
    return (min(along), max(along)) if along else None


def evaluate(
    folder: Path, pairs: Sequence[Pair], labels: LabelTable, section: DataSection, *, progress: Progress = NO_PROGRESS
) -> list[CaseResult]:
    """Segment each image with the package, as a user would, and compare with its labels on the image's own grid.

    Labels that are not annotated in a case have no result there.
    """
    from medseg.segmentation import SegmentOptions, segment

    package = read_package(folder)
    network = load_network(package)
    results = []
    for number, pair in enumerate(pairs):
        image, truth = read_volume(pair.image), translated(read_labelmap(pair.label), section)
        start = time.perf_counter()
        found = segment([image], package, SegmentOptions(device="cpu", statistics=False), network=network).labelmap
        seconds = time.perf_counter() - start
        annotated = annotated_labels(truth, labels, section)
        values = dice_per_label(found.array, truth.array, annotated)
        results += [
            CaseResult(pair.case, label.name, values[label.value], seconds) for label in labels if label.value in values
        ]
        progress.update((number + 1) / len(pairs), f"Measured {pair.case}")
    return results


def _step(step: IntensityStep) -> Any:
    arguments = step.model_dump(exclude={"kind"})
    kinds: dict[str, tuple[Any, tuple[str, ...]]] = {
        "scale_range": (ScaleRange, ("a_min", "a_max", "b_min", "b_max", "clip")),
        "normalize": (Normalize, ("mean", "std", "nonzero")),
        "scale_percentiles": (ScalePercentiles, ("lower", "upper", "b_min", "b_max", "clip")),
    }
    kind, names = kinds[step.kind]
    return kind(**{name: arguments[name] for name in names})


def _metrics(results: Sequence[CaseResult]) -> dict[str, float]:
    if not results:
        return {}
    values = [result.dice for result in results]
    return {"mean_dice": round(float(np.mean(values)), 4), "worst_dice": round(min(values), 4)}


def _card(recipe: Recipe, results: Sequence[CaseResult], trained_on: int, *, has_earlier: bool) -> str:
    settings = recipe.optimisation
    lines = [
        "## Training",
        "",
        f"Data: {recipe.package.data_sources}.",
        f"{trained_on} cases, {settings.epochs} epochs of {settings.steps_per_epoch} steps, seed {recipe.seed}.",
    ]
    if recipe.start_from is not None:
        lines.append("The run started from the weights of an earlier stage.")
    if results:
        lines += ["", f"## Dice on the {len({r.case for r in results})} cases that were not trained on", ""]
        lines += ["| case | structure | Dice |", "|---|---|---|"]
        lines += [f"| {r.case} | {r.label} | {r.dice:.3f} |" for r in sorted(results, key=lambda r: r.dice)]
    elif has_earlier:
        lines += [
            "",
            "The figures above were measured on the weights of the earlier stage, with cases that it had not seen. The",
            "weights in this package have been trained on these cases too: no unseen case is left to measure them on.",
        ]
    else:
        lines += ["", "These weights have not been measured on cases that they were not trained on."]
    if recipe.package.limits:
        lines += ["", "## Limits", "", recipe.package.limits]
    return "\n".join(lines)
