"""The command ``medseg``: its global options and the commands it is made of."""

from __future__ import annotations

from typing import Annotated

import typer

from medseg.cli.analyse import analyse
from medseg.cli.bench import bench
from medseg.cli.correct import correct
from medseg.cli.demo import demo
from medseg.cli.failures import CarefulGroup
from medseg.cli.info import info
from medseg.cli.models import models
from medseg.cli.register import register
from medseg.cli.register_batch import register_many, register_series
from medseg.cli.segment import segment
from medseg.cli.thick import thick, transfer
from medseg.cli.train import train
from medseg.version import VERSION

app = typer.Typer(
    cls=CarefulGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medseg {VERSION}")
        raise typer.Exit


@app.callback()
def medseg(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an unexpected error.")] = False,
) -> None:
    """Segment, correct and register CT and MR volumes, on your own machine."""


app.command()(segment)
app.command()(correct)
app.add_typer(models, name="models")
app.command()(register)
app.command("register-many")(register_many)
app.command("register-series")(register_series)
app.command()(info)
app.command()(train)
app.command()(thick)
app.command()(transfer)
app.command()(demo)
app.add_typer(analyse, name="analyse")
app.add_typer(bench, name="bench")


def main() -> None:
    """Run the command line; what the script ``medseg`` calls."""
    app()
