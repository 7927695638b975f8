"""``medseg train --export`` of a run that is there: its last checkpoint as a model package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from medseg.errors import MedSegError, TrainingError
from medseg.labels import read_labels
from medseg.models.placing import folder_beside
from medseg.networks import build_network
from medseg.progress import NO_PROGRESS, Progress
from medseg.training.export import place_package
from medseg.training.fitting import CHECKPOINT
from medseg.training.setup import LABELS, stored_recipe
from medseg.training.tasks import task_for

if TYPE_CHECKING:
    from typing import Any

    from medseg.training.tasks import AnyRecipe

_PREFIX = "average."


def export_last(output: Path, target: Path, *, progress: Progress = NO_PROGRESS) -> Path:
    """See :func:`medseg.training.export_run`."""
    output, target = Path(output), Path(target)
    progress.update(0.0, "Reading the checkpoint")
    recipe = stored_recipe(output)
    checkpoint = _checkpoint(output)
    if recipe is None or checkpoint is None:
        raise TrainingError(
            f"{output} holds no run that has finished an epoch.",
            advice="Give the output folder of a training run with --output.",
        )
    epochs = int(checkpoint["epoch"]) + 1
    finished = output / recipe.package.name
    if epochs >= recipe.optimisation.epochs and finished.is_dir():
        return place_package(finished, target)
    progress.update(0.3, "Writing the package")
    weights = {
        name.removeprefix(_PREFIX): tensor
        for name, tensor in checkpoint["state_dict"].items()
        if name.startswith(_PREFIX)
    }
    with folder_beside(output) as temporary:
        package = _exported(output, recipe, weights, epochs, temporary / recipe.package.name)
        placed = place_package(package, target)
    progress.update(1.0, "Done")
    return placed


def _exported(output: Path, recipe: AnyRecipe, weights: dict[str, Any], epochs: int, folder: Path) -> Path:
    """Write the package of unfinished weights to ``folder``."""
    try:
        labels = read_labels(output / LABELS)
        network = build_network(recipe.network.target, recipe.network.arguments)
        network.load_state_dict(weights)
    except (MedSegError, RuntimeError) as error:
        raise TrainingError(
            f"The run in {output} was made by a version of MedSeg that this one does not understand.",
            advice="Export it with the version that it was trained with.",
        ) from error
    return task_for(recipe).export_unfinished(network, labels, folder, output, epochs)


def _checkpoint(output: Path) -> dict[str, Any] | None:
    path = output / CHECKPOINT
    if not path.is_file():
        return None
    return torch.load(path, map_location="cpu", weights_only=True)
