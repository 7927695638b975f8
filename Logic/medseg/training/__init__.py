"""Train a network on image/label pairs and export it as a model package.

Importing this package is cheap; Lightning, pydantic and YAML (extra ``train``) are imported when training starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.errors import RecipeError
from medseg.progress import NO_PROGRESS

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.progress import Progress
    from medseg.training.trainer import TrainingResult

__all__ = ["run_training"]


def run_training(
    recipe: Path,
    data: Path,
    output: Path,
    *,
    resume: bool = True,
    device: str = "auto",
    progress: Progress = NO_PROGRESS,
) -> TrainingResult:
    """Train as ``recipe`` (YAML) says on the pairs in ``data``; write checkpoints, logs and the package to ``output``.

    Parameters
    ----------
    recipe, data, output
        The recipe file, the folder with images and labels, the folder to write to (made when absent).
    resume
        Go on from the last checkpoint in ``output`` when there is one of the same recipe.
    device
        "auto", "cpu" or "cuda".

    Raises
    ------
    RecipeError
        When the recipe or the data cannot be used; said before the first step.
    TrainingError
        When training cannot go on (a loss that is not a number, a checkpoint of another recipe).
    """
    try:
        from medseg.training.trainer import train
    except ModuleNotFoundError as error:
        raise RecipeError(
            f"Training needs the Python package '{error.name}', which is not installed here.",
            advice='Install MedSeg with its training extra: pip install "medseg[train]".',
        ) from error
    return train(recipe, data, output, resume=resume, device=device, progress=progress)
