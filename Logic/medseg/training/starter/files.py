"""The files that ``medseg train --new`` writes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from medseg.errors import WriteError
from medseg.files import atomic_path

if TYPE_CHECKING:
    from pathlib import Path


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


def write_text(text: str, path: Path) -> None:
    """Write a recipe, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def package_name(text: str) -> str:
    """Return the name of a package that is most like a text."""
    name = "-".join(re.findall(r"[a-z0-9]+", text.lower()))
    return name or "my-model"
