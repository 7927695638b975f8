"""Recipes of every task and what is done with them: the one place that tells the tasks apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.errors import RecipeError
from medseg.training.correction.recipe import CorrectionRecipe, read_correction_recipe
from medseg.training.recipe import Recipe, read_recipe
from medseg.training.registration.recipe import RegistrationRecipe, read_registration_recipe
from medseg.training.yaml_files import TASKS, read_yaml, task_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medseg.training.sampled_run import SampledTask
    from medseg.training.trainer import SegmentationTask

SampledRecipe = RegistrationRecipe | CorrectionRecipe
"""A recipe of a task whose samples are made on the spot."""

AnyRecipe = Recipe | SampledRecipe
"""A recipe of any task."""

_RECIPES: dict[str, tuple[type[AnyRecipe], Callable[[Path], AnyRecipe]]] = {
    "segmentation": (Recipe, read_recipe),
    "registration": (RegistrationRecipe, read_registration_recipe),
    "correction": (CorrectionRecipe, read_correction_recipe),
}


def task_for(recipe: AnyRecipe) -> SegmentationTask | SampledTask:
    """Return how a recipe is trained, checked and exported."""
    # They read the recipes that runs have kept, of every task, and so import this module.
    from medseg.training.correction.run import correction_task
    from medseg.training.registration.run import registration_task
    from medseg.training.trainer import SegmentationTask

    if isinstance(recipe, RegistrationRecipe):
        return registration_task(recipe)
    if isinstance(recipe, CorrectionRecipe):
        return correction_task(recipe)
    return SegmentationTask(recipe)


def read_any_recipe(path: Path) -> AnyRecipe:
    """Read and check a recipe of whatever task it names.

    Raises
    ------
    RecipeError
        Naming every wrong key with its place, when the file is not a recipe or its task is not known.
    """
    task = task_of(read_yaml(path))
    if task not in TASKS:
        raise RecipeError(
            f"The recipe {path} is for the task '{task}', which there is not.", advice=f"Write {' or '.join(TASKS)}."
        )
    _, read = _RECIPES[task]
    return read(path)


def recipe_of(content: dict[str, Any]) -> AnyRecipe:
    """Return a recipe from its keys; raise pydantic's ``ValidationError`` for wrong ones."""
    kind, _ = _RECIPES.get(task_of(content), _RECIPES["segmentation"])
    return kind.model_validate(content)
