"""``medseg train``: a recipe and a folder of data in, a model package out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.segment import Device, DeviceOption

if TYPE_CHECKING:
    from medseg.training.trainer import TrainingResult


def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe (.yaml): network, data, schedule.", show_default=False)],
    data: Annotated[Path, typer.Option(help="Folder with the images and their labels.")],
    output: Annotated[Path, typer.Option(help="Folder for checkpoints, logs and the finished model package.")],
    *,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint in the output folder.")] = True,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Train a model as a recipe says and export it as a package that `medseg segment --model FOLDER` runs."""
    from medseg.cli.console import Bar, remarks
    from medseg.training import run_training

    with Bar(remarks()) as bar:
        progress = bar.start(f"Training {recipe.stem}")
        result = run_training(recipe, data, output, resume=resume, device=device.value, progress=progress)
    if result is not None:
        _report(result)


def _report(result: "TrainingResult") -> None:
    from rich.table import Table

    from medseg.cli.console import results

    console = results()
    if result.cases:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("Case kept aside")
        table.add_column("Label")
        table.add_column("Dice", justify="right")
        for case in result.cases:
            table.add_row(case.case, case.label, f"{case.dice:.3f}")
        console.print(table, soft_wrap=False)
        scores = [case.dice for case in result.cases]
        console.print(f"Mean Dice {sum(scores) / len(scores):.3f}, worst {min(scores):.3f}")
    console.print(f"Model: {result.package}", markup=False)
    console.print(f"Run it: medseg segment INPUT --model {result.package} --output OUT.seg.nrrd", markup=False)
