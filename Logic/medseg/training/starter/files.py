"""The files that ``medseg train --new`` writes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from medseg.errors import WriteError
from medseg.files import atomic_path
from medseg.labels import write_labels
from medseg.training.recipe import read_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.labels import LabelTable


def new_files(path: Path) -> Path:
    """Return where the label table of a new recipe goes.

    Raises
    ------
    WriteError
        When the recipe or the table is there already.
    """
    labels_path = path.with_name(f"{path.stem}.labels.csv")
    for file in (path, labels_path):
        if file.exists():
            raise WriteError(f"{file} exists already.", advice="Choose another name for the recipe, or remove it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    return labels_path


def write_files(text: str, path: Path, labels: LabelTable, labels_path: Path) -> None:
    """Write a recipe and its label table, each whole or not at all, and read the recipe as a training will.

    Raises
    ------
    RecipeError
        When it is none.
    """
    write_labels(labels, labels_path)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    read_recipe(path)


def package_name(text: str) -> str:
    """Return the name of a package that is most like a text."""
    name = "-".join(re.findall(r"[a-z0-9]+", text.lower()))
    return name or "my-model"
