"""A recipe that fits the data, to start from: ``medseg train --new``."""

from __future__ import annotations

from pathlib import Path

from medseg.errors import RecipeError
from medseg.progress import NO_PROGRESS, Progress
from medseg.training.starter.files import new_files, package_name, write_files
from medseg.training.starter.fine_tune import write_fine_tune
from medseg.training.starter.labels import table_of
from medseg.training.starter.plan import plan_for
from medseg.training.starter.survey import study
from medseg.training.starter.text import notes_on, recipe_text

MODALITIES = ("", "CT", "MR")


def write_starter(
    path: Path,
    data: Path,
    *,
    name: str = "",
    modality: str = "",
    start_from: str = "",
    progress: Progress = NO_PROGRESS,
) -> list[str]:
    """See :func:`medseg.training.start_recipe`."""
    path, data = Path(path), Path(data)
    if start_from:
        if modality:
            raise RecipeError("A model that is gone on from has its own modality.", advice="Leave the modality out.")
        return write_fine_tune(path, data, start_from, name=name, progress=progress)
    labels_path = new_files(path)
    if modality.upper() not in MODALITIES:
        raise RecipeError(f"There is no modality '{modality}'.", advice="Give CT or MR, or leave it out.")
    studied = study(data, progress)
    plan = plan_for(studied.cases, modality.upper())
    table, names_found = table_of(studied.folder, plan.values)
    text = recipe_text(
        plan,
        studied,
        name=package_name(name or (data.stem if data.is_file() else data.resolve().name)),
        labels_file=labels_path.name,
        labels=table,
    )
    write_files(text, path, table, labels_path)
    return notes_on(plan, studied.cases, table, labels_path, names_found=names_found)
