"""``medseg train``: a recipe and a folder of data in, a model package out."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.segment import Device, DeviceOption


def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe (.yaml): network, data, schedule.", show_default=False)],
    data: Annotated[Path, typer.Option(help="Folder with the images and their labels.")],
    output: Annotated[Path, typer.Option(help="Folder for checkpoints, logs and the finished model package.")],
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint in the output folder.")] = True,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Train a model as a recipe says and export it as a package that `medseg segment --model FOLDER` runs."""
    from medseg.cli.console import progress_bar, remarks, results
    from medseg.training import run_training

    with progress_bar(remarks()) as start:
        result = run_training(
            recipe, data, output, resume=resume, device=device.value, progress=start(f"Training {recipe.stem}")
        )
    results().print(str(result))
