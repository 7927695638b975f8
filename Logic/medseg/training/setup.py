"""What a run needs before it looks at any case: label table, network, and the checkpoint to go on from."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import shutil
from typing import TYPE_CHECKING, Any

import lightning
import torch

from medseg.errors import DeviceMemoryError, MedSegError, ModelError, RecipeError, TrainingError
from medseg.files import atomic_path
from medseg.labels import LabelTable, read_labels, write_labels
from medseg.networks import build_network
from medseg.training.batches import noise_batch, tell_spacing
from medseg.training.fitting import CHECKPOINT
from medseg.training.instances import check_instances_exist
from medseg.training.tasks import recipe_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from medseg.training.recipe import Recipe
    from medseg.training.tasks import AnyRecipe

_LOG = logging.getLogger(__name__)

LARGEST_CLASS = 255
"""Class indices are held as unsigned 8-bit integers."""

STAMP, RECIPE_TEXT, LABELS = "recipe.json", "recipe.yaml", "labels.csv"
"""What is kept of the recipe in the output folder: as it was understood, as it was written, and its label table."""

SPLIT = "split.json"
"""Beside it: which cases are trained on and which are kept aside."""


def labels_of(recipe_path: Path, recipe: Recipe) -> LabelTable:
    """Return the recipe's label table.

    Raises
    ------
    RecipeError
        When it cannot be read, holds values that are too large, or lacks labels that the recipe names.
    """
    labels = label_table(recipe_path.parent / recipe.labels)
    if labels.values[-1] > LARGEST_CLASS:
        raise RecipeError(
            f"The label table holds the value {labels.values[-1]}, and training takes values up to {LARGEST_CLASS}.",
            advice="Number the labels from 1; channel v of the network becomes the label of value v.",
        )
    check_instances_exist(recipe, labels)
    for place, values in (
        ("data.values", set((recipe.data.values or {}).values())),
        ("augmentation.swap_on_flip", {value for pair in recipe.augmentation.swap_on_flip for value in pair}),
    ):
        unknown = sorted(values - set(labels.values))
        if unknown:
            raise RecipeError(
                f"{place} names the labels {unknown}, which the label table does not have.",
                advice="Name values of the label table.",
            )
    return labels


def label_table(path: Path) -> LabelTable:
    """Return the label table that a recipe names.

    Raises
    ------
    RecipeError
        When it cannot be read.
    """
    try:
        return read_labels(path)
    except MedSegError as error:
        raise RecipeError(f"The recipe's label table cannot be used: {error.message}", advice=error.advice) from error


def new_network(recipe_path: Path, recipe: Recipe, labels: LabelTable) -> nn.Module:
    """Return the recipe's network with its first weights, which depend on the seed alone.

    Raises
    ------
    RecipeError
        When it cannot be built, does not fit the labels, or ``start_from`` does not fit it.
    """
    expected = labels.values[-1] + 1
    for key, wanted, why in (
        ("out_channels", expected, "output channels, but the label table needs {} (with background)"),
        ("in_channels", len(recipe.package.slots), "input channels, but the package has {} inputs"),
    ):
        declared = recipe.network.arguments.get(key)
        if declared is not None and declared != wanted:
            raise RecipeError(
                f"The network has {declared} {why.format(wanted)}.", advice=f"Set network.arguments.{key} accordingly."
            )
    network = seeded_network(recipe)
    if recipe.start_from is not None:
        load_start(network, recipe_path.parent / recipe.start_from)
    return network


def seeded_network(recipe: AnyRecipe) -> nn.Module:
    """Return the network of a recipe of any task with random weights, which depend on the seed alone.

    Raises
    ------
    RecipeError
        When it cannot be built.
    """
    lightning.seed_everything(recipe.seed, workers=True, verbose=False)
    try:
        return build_network(recipe.network.target, recipe.network.arguments)
    except ModelError as error:
        raise RecipeError(error.message, advice="Correct network.target and network.arguments.") from error


def try_network(network: nn.Module, recipe: Recipe, labels: LabelTable, device: str) -> None:
    """Run a copy of the network and the loss once on noise, before any case is read.

    Raises
    ------
    RecipeError
        When they do not take the recipe's window, or the network gives something else than a score for each class.
    DeviceMemoryError
        When the GPU's memory is too small.
    """
    size, classes = recipe.window.size, labels.values[-1] + 1
    window = " x ".join(map(str, size))
    with on_trial("window", f"windows of {window} voxels"):
        batch = noise_batch(recipe, classes, device)
        trial = copy.deepcopy(network).to(device)
        tell_spacing(trial, batch["spacing"])
        objective = recipe.loss.build(classes).to(device)
        objective(objective.outputs(trial.train(), batch["image"]), batch)
        tell_spacing(trial, batch["spacing"][:1])
        scores = trial.eval()(batch["image"][:1])
    found = tuple((scores if isinstance(scores, torch.Tensor) else scores[0]).shape)
    if found != (1, classes, *size):
        raise RecipeError(
            f"The network gives an output of the shape {found} for a window of {window} voxels, and"
            f" {(1, classes, *size)} is needed: a score for each of {classes} classes at each voxel.",
            advice="Correct window.size or network.arguments in the recipe.",
        )


@contextlib.contextmanager
def on_trial(what: str, voxels: str) -> Iterator[None]:
    """Say in a sentence what is wrong when a network and its loss are tried on noise; no gradients, same random state.

    Parameters
    ----------
    what, voxels
        What they work on, by the name of the recipe's section ("window"), and in words with its size.

    Raises
    ------
    RecipeError
        When they do not take it.
    DeviceMemoryError
        When the GPU's memory is too small.
    """
    try:
        with torch.random.fork_rng(), torch.no_grad():
            yield
    except torch.cuda.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"The GPU's memory is too small for this network and {what}.",
            advice=f"Lower optimisation.batch_size or {what}.size in the recipe.",
        ) from error
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")
        raise RecipeError(
            f"The network and the loss cannot work on {voxels}: {reason}.",
            advice=f"Correct {what}.size, network.arguments or loss in the recipe.",
        ) from error


def checkpoint_to_resume(output: Path, recipe: AnyRecipe) -> Path | None:
    """Return the checkpoint in ``output`` that the recipe goes on from; ``None`` when there is none.

    Raises
    ------
    TrainingError
        When the folder holds a run of another recipe.
    """
    checkpoint = output / CHECKPOINT
    if not checkpoint.is_file():
        return None
    stored = stored_recipe(output)
    if stored is None or stored.digest() != recipe.digest():
        raise TrainingError(
            f"{output} holds a run of another recipe.",
            advice="Choose an empty output folder, or start over in this one with --no-resume.",
        )
    _LOG.info("Going on from %s", checkpoint)
    return checkpoint


def write_stamp(output: Path, recipe_path: Path, recipe: AnyRecipe, labels: LabelTable, *, anew: bool) -> None:
    """Keep the recipe and its label table in the output folder; ``anew`` first takes an earlier checkpoint away."""
    if anew:
        (output / CHECKPOINT).unlink(missing_ok=True)
    content: dict[str, Any] = {
        "digest": recipe.digest(),
        "folder": str(recipe_path.resolve().parent),
        "recipe": recipe.model_dump(mode="json"),
    }
    with atomic_path(output / STAMP) as path:
        path.write_text(json.dumps(content, indent=2), encoding="utf-8")
    with atomic_path(output / RECIPE_TEXT) as path:
        shutil.copyfile(recipe_path, path)
    write_labels(labels, output / LABELS)


def write_split(output: Path, training: Sequence[str], validation: Sequence[str]) -> None:
    """Keep the names of the cases that are trained on and of those that are not."""
    with atomic_path(output / SPLIT) as path:
        path.write_text(json.dumps({"training": training, "validation": validation}, indent=2), encoding="utf-8")


def read_split(output: Path) -> tuple[list[str], list[str]]:
    """Return the names that :func:`write_split` has kept; none where it has not."""
    try:
        split = json.loads((output / SPLIT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return [], []
    return list(split["training"]), list(split["validation"])


def stored_recipe(output: Path) -> AnyRecipe | None:
    """Return the recipe of the run in ``output``; ``None`` when there is none that this version understands."""
    try:
        content = json.loads((output / STAMP).read_text(encoding="utf-8"))["recipe"]
        section = content.get("preprocessing", {})
        # Earlier versions kept the keys of all kinds of steps in each of them, with these values where they had none.
        if "intensity" in section:
            section["intensity"] = [
                {name: value for name, value in step.items() if value is not None and value is not False}
                for step in section["intensity"]
            ]
        return recipe_of(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def figures_of_the_start(recipe_folder: Path, recipe: Recipe) -> Mapping[str, float] | None:
    """Return the measured figures of the package that the run started from; ``None`` when there was none."""
    from medseg.models import read_package

    return None if recipe.start_from is None else read_package(recipe_folder / recipe.start_from).metrics


def load_start(network: nn.Module, folder: Path) -> None:
    """Give a network the weights of a package.

    Raises
    ------
    RecipeError
        When the package cannot be used or does not fit.
    """
    from medseg.models import load_network, read_package

    try:
        weights = load_network(read_package(folder), "cpu").state_dict()
        network.load_state_dict(weights)
    except ModelError as error:
        raise RecipeError(f"start_from cannot be used: {error.message}", advice=error.advice) from error
    except RuntimeError as error:
        raise RecipeError(
            f"The weights of {folder.name} do not fit the recipe's network.",
            advice="Give start_from a package that was trained with the same network and arguments.",
        ) from error
