"""``medseg train``: a recipe and data in, a model package out."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.segment import Device, DeviceOption

if TYPE_CHECKING:
    from medseg.training.inspection import Checked
    from medseg.training.results import TrainingResult


class Strategy(str, Enum):
    """How several processes share a run; Lightning's names."""

    AUTO = "auto"
    DDP = "ddp"
    DDP_UNUSED = "ddp_find_unused_parameters_true"


def train(
    recipe: Annotated[
        Path | None,
        typer.Argument(help="The recipe (.yaml): network, data, schedule.", show_default=False),
    ] = None,
    *,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with images and labels, or a table of pairs (.csv).", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for checkpoints, logs, report and the finished model package.", show_default=False),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            help="Also put the model package into this folder, or into a file that ends in .zip. Without a recipe: "
            "export the last checkpoint of --output and train nothing.",
            show_default=False,
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check recipe and data, and show what they are.")] = False,
    new: Annotated[
        Path | None,
        typer.Option(help="Write a recipe that fits the data to this file (.yaml), to start from.", show_default=False),
    ] = None,
    name: Annotated[str, typer.Option(help="With --new: the name of the model.", show_default=False)] = "",
    modality: Annotated[
        str, typer.Option(help="With --new: CT or MR; guessed from the intensities.", show_default=False)
    ] = "",
    start_from: Annotated[
        str,
        typer.Option(
            "--from",
            help="With --new: the recipe goes on from this model (name or folder) with a few cases, such as corrected "
            "ones.",
            show_default=False,
        ),
    ] = "",
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint in the output folder.")] = True,
    device: DeviceOption = Device.AUTO,
    devices: Annotated[int, typer.Option(min=1, help="GPUs (or processes of the CPU) on each machine.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines; started on each, or by SLURM or torchrun.")] = 1,
    strategy: Annotated[Strategy, typer.Option(help="How several of them share the work.")] = Strategy.AUTO,
) -> None:
    """Train a model as a recipe says and export it as a package that `medseg segment --model FOLDER` runs.

    Two commands from data to a model: `medseg train --new RECIPE.yaml --data DATA`, and then
    `medseg train RECIPE.yaml --data DATA --output OUT`. A run that was stopped or killed goes on with the same command.
    """
    if new is not None:
        _refuse(recipe, "--new writes a recipe", "RECIPE")
        if start_from and modality:
            raise typer.BadParameter("Leave out --modality: --from takes that of the model.")
        _start(new, _needed(data, "--data"), name=name, modality=modality, start_from=start_from)
    elif start_from:
        raise typer.BadParameter("--from goes with --new, which writes the recipe; a recipe names its start itself.")
    elif recipe is None:
        if export is None or output is None:
            raise typer.BadParameter("Give a recipe, or --new to write one, or --output and --export.")
        _export(output, export)
    elif check:
        _check(recipe, data)
    else:
        _train(
            recipe,
            data,
            _needed(output, "--output"),
            resume=resume,
            device=device.value,
            devices=devices,
            nodes=nodes,
            strategy=strategy.value,
            export=export,
        )


def _train(recipe: Path, data: Path | None, output: Path, *, devices: int, nodes: int, **options: object) -> None:
    from medseg.cli.console import Bar, remarks
    from medseg.training import run_training
    from medseg.training.processes import is_first

    if not is_first(devices * nodes):
        run_training(recipe, data, output, devices=devices, nodes=nodes, **options)  # type: ignore[arg-type]
        return
    with Bar(remarks()) as bar:
        result = run_training(
            recipe,
            data,
            output,
            devices=devices,
            nodes=nodes,
            progress=bar.start(f"Training {recipe.stem}"),
            **options,  # type: ignore[arg-type]
        )
    assert result is not None
    _report(result)


def _start(path: Path, data: Path, **options: str) -> None:
    from medseg.cli.console import Bar, remarks, results
    from medseg.training import start_recipe

    with Bar(remarks()) as bar:
        notes = start_recipe(path, data, progress=bar.start("Looking at the data"), **options)
    console = results()
    for note in notes:
        console.print(note, markup=False)
    console.print(f"Written: {path}", markup=False)
    console.print(f"Train it: medseg train {path} --data {data} --output OUT", markup=False)


def _export(output: Path, target: Path) -> None:
    from medseg.cli.console import Bar, remarks, results
    from medseg.training import export_run

    with Bar(remarks()) as bar:
        placed = export_run(output, target, progress=bar.start("Exporting"))
    results().print(f"Model: {placed}", markup=False)


def _check(recipe: Path, data: Path | None) -> None:
    from medseg.cli.console import Bar, remarks
    from medseg.training import check_data

    with Bar(remarks()) as bar:
        checked = check_data(recipe, data, progress=bar.start("Checking"))
    _show(checked)


def _show(checked: "Checked") -> None:
    from rich.table import Table

    from medseg.cli.console import results

    console = results()
    facts = Table(box=None, pad_edge=False, show_header=False)
    for what, text in checked.rows():
        facts.add_row(what, text)
    console.print(facts, soft_wrap=False)
    head, rows = checked.label_table()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, heading in enumerate(head):
        table.add_column(heading, justify="right" if place else "left")
    for row in rows:
        table.add_row(*row)
    console.print()
    console.print(table, soft_wrap=False)
    console.print("Recipe and data can be trained on.")


def _report(result: "TrainingResult") -> None:
    from rich.table import Table

    from medseg.cli.console import results

    console = results()
    structures = result.structures
    if structures:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("Structure")
        for heading in ("Cases", "Dice", "Worst", "Surface Dice", "HD95 (mm)"):
            table.add_column(heading, justify="right")
        for one in structures:
            figures = (one.dice.mean, one.dice.worst, one.surface_dice.mean)
            table.add_row(one.label, str(one.cases), *(f"{value:.3f}" for value in figures), f"{one.hd95_mm.mean:.1f}")
        console.print("On the cases that were kept aside:")
        console.print(table, soft_wrap=False)
        means = [one.dice.mean for one in structures]
        worst = min(one.dice.worst for one in structures)
        console.print(f"Mean Dice {sum(means) / len(means):.3f}, worst {worst:.3f}")
    for remark in result.remarks:
        console.print(remark, markup=False)
    if result.report is not None:
        console.print(f"Report: {result.report}", markup=False)
    package = result.exported or result.package
    console.print(f"Model: {package}", markup=False)
    if package.suffix.lower() == ".zip":
        console.print(f"Install it: medseg models add {package}", markup=False)
    elif result.usage:
        console.print(f"Run it: {result.usage}", markup=False)


def _needed(value: Path | None, option: str) -> Path:
    if value is None:
        raise typer.BadParameter(f"{option} is missing.")
    return value


def _refuse(value: Path | None, why: str, what: str) -> None:
    if value is not None:
        raise typer.BadParameter(f"{why}; leave out {what}.")
