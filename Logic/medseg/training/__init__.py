"""Train a network on image/label pairs and export it as a model package.

Importing this package is cheap; Lightning, pydantic and YAML (extra ``train``) are imported when training starts.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from medseg.errors import RecipeError
from medseg.progress import NO_PROGRESS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from medseg.progress import Progress
    from medseg.training.inspection import Checked
    from medseg.training.results import TrainingResult

__all__ = ["check_data", "export_run", "run_training", "start_recipe"]


def run_training(
    recipe: Path,
    data: Path | None,
    output: Path,
    *,
    resume: bool = True,
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    strategy: str = "auto",
    export: Path | None = None,
    progress: Progress = NO_PROGRESS,
) -> TrainingResult | None:
    """Train as ``recipe`` (YAML) says on the pairs in ``data``; write checkpoints, logs and the package to ``output``.

    Parameters
    ----------
    recipe, output
        The recipe file; the folder to write to (made when absent).
    data
        A folder with images and labels, or a table of pairs (CSV); ``None``: the recipe's ``data.csv``.
    resume
        Go on from the last checkpoint in ``output`` when there is one of the same recipe.
    device
        "auto", "cpu" or "cuda".
    devices, nodes, strategy
        Processes on each machine, machines, and Lightning's strategy for them ("auto", "ddp").
    export
        Where the finished package goes besides: a folder, or a file that ends in ``.zip``.

    Returns
    -------
    TrainingResult | None
        ``None`` in a process that only helps the first one.

    Raises
    ------
    RecipeError
        When the recipe or the data cannot be used; said before the first step.
    TrainingError
        When training cannot go on (a loss that is not a number, a checkpoint of another recipe).
    Cancelled
        When somebody asked to stop, through ``progress`` or :func:`medseg.training.run_files.request_stop`.
    """
    with _training_extra():
        from medseg.training.fitting import Hardware
        from medseg.training.trainer import train
    hardware = Hardware(device, devices, nodes, strategy)
    return train(recipe, data, output, resume=resume, hardware=hardware, export=export, progress=progress)


def check_data(recipe: Path, data: Path | None, *, progress: Progress = NO_PROGRESS) -> Checked:
    """Do everything that comes before the first step, and train nothing; nothing is written.

    Raises
    ------
    RecipeError
        As :func:`run_training` would.
    """
    with _training_extra():
        from medseg.training.inspection import check
    return check(recipe, data, progress=progress)


def export_run(output: Path, target: Path, *, progress: Progress = NO_PROGRESS) -> Path:
    """Export the model of the last checkpoint in ``output`` without training on; return where it is.

    Parameters
    ----------
    target
        A folder, or a file that ends in ``.zip``.

    Raises
    ------
    TrainingError
        When the folder holds no run that has finished an epoch.
    """
    with _training_extra():
        from medseg.training.exporting import export_last
    return export_last(output, target, progress=progress)


def start_recipe(
    path: Path,
    data: Path,
    *,
    name: str = "",
    modality: str = "",
    start_from: str = "",
    progress: Progress = NO_PROGRESS,
) -> list[str]:
    """Write a recipe and a label table that fit the data, to start from; return what the user should look at.

    Parameters
    ----------
    path
        The recipe (``.yaml``); its label table lies beside it.
    data
        A folder with images and labels, or a table of pairs (CSV).
    name
        Of the model; the folder's when empty.
    modality
        "CT" or "MR"; guessed from the intensities when empty.
    start_from
        A model, by its name or folder: the recipe is for going on from it with a few cases, so network, preprocessing
        and labels are the model's.

    Raises
    ------
    RecipeError
        When no pairs are found or a case cannot be read, or the labels of the data are not those of ``start_from``.
    ModelError
        When there is no such model, or it does not segment.
    WriteError
        When the recipe exists already or cannot be written.
    """
    with _training_extra():
        from medseg.training.starter import write_starter
    return write_starter(path, data, name=name, modality=modality, start_from=start_from, progress=progress)


@contextlib.contextmanager
def _training_extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise RecipeError(
            f"Training needs the Python package '{error.name}', which is not installed here.",
            advice='Install MedSeg with its training extra: pip install "medseg[train]".',
        ) from error
