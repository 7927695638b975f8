"""``medseg models``: what is installed, what it takes and what it costs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.models import ModelPackage


def models(
    words: Annotated[
        list[str] | None,
        typer.Argument(help="Show only models that match every word (name, anatomy, modality).", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write everything that is known as JSON.")] = False,
    install: Annotated[
        Path | None,
        typer.Option(help="Install this model package first: a .zip file or a folder.", show_default=False),
    ] = None,
) -> None:
    """List the installed models."""
    from medseg.cli.console import remarks
    from medseg.models import ModelLibrary

    library = ModelLibrary()
    if install is not None:
        _install(install)
    found = library.search(" ".join(words or []))
    if as_json:
        typer.echo(json.dumps([package.summary() for package in found], indent=2))
    elif found:
        _print_table(found)
    else:
        remarks().print(
            f"No model matches '{' '.join(words)}'; `medseg models` shows all." if words else "No model is installed."
        )
    for folder, error in library.broken():
        remarks().print(f"[yellow]Left out:[/] {folder.name}: {error}")


def _install(path: Path) -> None:
    from medseg.cli.console import remarks
    from medseg.models import import_zip, install_folder

    package = install_folder(path) if path.is_dir() else import_zip(path)
    remarks().print(f"Installed: {package.name}", markup=False)


def _print_table(found: "Sequence[ModelPackage]") -> None:
    from rich.table import Table

    from medseg.cli.console import results

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, justify in (
        ("Name", "left"),
        ("What", "left"),
        ("Input", "left"),
        ("Segments", "left"),
        ("CPU", "right"),
        ("Memory", "right"),
        ("Licence", "left"),
    ):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for package in found:
        names = list(package.labels.names)
        measured = package.measured
        table.add_row(
            package.name,
            package.title,
            " + ".join(slot.modality or "any" for slot in package.inputs),
            ", ".join(names) if len(names) <= 4 else f"{len(names)}: {', '.join(names[:3])}, …",
            "not measured" if measured.seconds_cpu is None else f"{measured.seconds_cpu:.0f} s",
            "" if measured.memory_mb_cpu is None else f"{measured.memory_mb_cpu / 1000:.1f} GB",
            package.license,
        )
    results().print(table, soft_wrap=False)
    for package in found:
        for problem in package.problems():
            results().print(f"[yellow]{package.name}:[/] {problem}")
