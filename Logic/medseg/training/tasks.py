"""Recipes of every task: which kind a file is, and which kind a run in an output folder had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.errors import RecipeError
from medseg.training.correction.recipe import CorrectionRecipe, read_correction_recipe
from medseg.training.recipe import Recipe, read_recipe
from medseg.training.registration.recipe import RegistrationRecipe, read_registration_recipe
from medseg.training.yaml_files import TASKS, read_yaml, task_of

if TYPE_CHECKING:
    from pathlib import Path

AnyRecipe = Recipe | RegistrationRecipe | CorrectionRecipe
"""A recipe of any task."""


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
    if task == "correction":
        return read_correction_recipe(path)
    return read_registration_recipe(path) if task == "registration" else read_recipe(path)


def recipe_of(content: dict[str, Any]) -> AnyRecipe:
    """Return a recipe from its keys; raise pydantic's ``ValidationError`` for wrong ones."""
    kinds: dict[str, type[AnyRecipe]] = {"registration": RegistrationRecipe, "correction": CorrectionRecipe}
    return kinds.get(task_of(content), Recipe).model_validate(content)
