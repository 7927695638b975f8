"""``medseg models``: the models that are here and those that can be; what each takes and costs; add and remove."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from medseg.models import ModelPackage
    from medseg.models.catalogue import CatalogueEntry

_LIST = "list"


class _ListingGroup(TyperGroup):
    """Lists when no command is named, so that ``medseg models liver`` needs no further word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = [word for word in args if not word.startswith("-")]
        wants_help = any(word in ("-h", "--help") for word in args)
        if not wants_help and (not words or words[0] not in self.commands):
            args = [_LIST, *args]
        return super().parse_args(ctx, args)


models = typer.Typer(
    cls=_ListingGroup, help="List the installed models; add, remove, check and export them, or see what can be added."
)

WordsArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Show only models that match every word (name, anatomy, modality).", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write everything that is known as JSON.")]


@models.command(_LIST)
def list_models(words: WordsArgument = None, as_json: JsonOption = False) -> None:
    """List the installed models; this is what `medseg models` does by itself."""
    from medseg.cli.console import remarks
    from medseg.models import ModelLibrary

    library = ModelLibrary()
    found = library.search(" ".join(words or []))
    if as_json:
        typer.echo(json.dumps([package.summary() for package in found], indent=2))
    elif found:
        _print_installed(found)
    else:
        remarks().print(
            f"No model matches '{' '.join(words)}'; `medseg models` shows all." if words else "No model is installed."
        )
    for folder, error in library.broken():
        remarks().print(f"[yellow]Left out:[/] {folder.name}: {error}")


@models.command()
def catalogue(words: WordsArgument = None, as_json: JsonOption = False) -> None:
    """List public models that can be added by their names; nothing is downloaded for it."""
    from medseg.cli.console import remarks
    from medseg.models.catalogue import load_catalogue

    found = load_catalogue().search(" ".join(words or []))
    if as_json:
        typer.echo(json.dumps([entry.summary() for entry in found], indent=2))
    elif found:
        _print_catalogue(found)
    else:
        remarks().print("The catalogue has no such model." if words else "The catalogue is empty.")


@models.command()
def add(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder or zip file, an address (https://...), or the name of a model in the catalogue.",
            show_default=False,
        ),
    ],
    *,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Accept the model's licence without being asked.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an installed model of the same name.")] = False,
    sha256: Annotated[
        str | None,
        typer.Option(help="The SHA-256 that the file must have, for one that is not in the catalogue.", metavar="HEX"),
    ] = None,
) -> None:
    """Add a model. A download that was interrupted goes on where it ended; nothing is ever half-installed.

    Proxies are taken from the environment (HTTPS_PROXY). MEDSEG_MIRROR names addresses to try first, MEDSEG_OFFLINE=1
    forbids connections, and MEDSEG_CATALOGUE is a catalogue of your own.
    """
    from medseg.cli.console import Bar, remarks, results
    from medseg.models.adding import add_model
    from medseg.models.checksums import Checksum
    from medseg.models.licensing import LicenseError

    checksum = Checksum("sha256", sha256.strip().lower()) if sha256 else None

    def install(*, accepted: bool) -> "ModelPackage":
        with Bar(remarks()) as bar:
            return add_model(
                source, checksum=checksum, accept_license=accepted, overwrite=replace, progress=bar.start("Adding")
            )

    _tell_about(source)
    try:
        package = install(accepted=accept_license)
    except LicenseError as error:
        _ask(error)
        package = install(accepted=True)
    results().print(f"Installed: {package.name}", markup=False)


@models.command()
def remove(
    names: Annotated[list[str], typer.Argument(help="The models to remove.", show_default=False)],
) -> None:
    """Remove models that were added; those that come with MedSeg stay."""
    from medseg.cli.console import results
    from medseg.models import remove_model

    for name in names:
        remove_model(name)
        results().print(f"Removed: {name}", markup=False)


@models.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="The models to check (default: all).", show_default=False)
    ] = None,
) -> None:
    """Compare the files of the installed models with their checksums; the exit code is 1 when one is damaged."""
    from medseg.cli.console import Bar, remarks, results
    from medseg.models import ModelLibrary
    from medseg.models.verifying import verify_library

    with Bar(remarks()) as bar:
        found = verify_library(ModelLibrary(), tuple(names or ()), bar.start("Checking"))
    for one in found:
        if one.problems:
            results().print(f"{one.name}: {' '.join(one.problems)}", markup=False)
        elif not one.compared:
            results().print(f"{one.name}: no checksum is known to compare it with", markup=False)
        else:
            results().print(f"{one.name}: sound ({one.compared} file{'s' if one.compared > 1 else ''})", markup=False)
    if not all(one.is_sound for one in found):
        raise typer.Exit(1)


@models.command()
def export(
    name: Annotated[str, typer.Argument(help="The model.", show_default=False)],
    output: Annotated[Path, typer.Argument(help="The zip file to write, or a folder.", show_default=False)],
) -> None:
    """Write a model as a zip file that `medseg models add` takes."""
    from medseg.cli.console import Bar, remarks, results
    from medseg.models import ModelLibrary
    from medseg.models.exporting import export_model

    with Bar(remarks()) as bar:
        path = export_model(ModelLibrary().find(name), output, bar.start("Exporting"))
    results().print(f"Written: {path}", markup=False)


def _tell_about(source: str) -> None:
    """Say what is going to be downloaded and under which licence."""
    from medseg.cli.console import remarks
    from medseg.models.catalogue import load_catalogue

    entry = load_catalogue().find(source.strip())
    if entry is None or Path(source).exists():
        return
    size = f", {entry.remote.bytes / 1e6:.0f} MB" if entry.remote.bytes else ""
    remarks().print(f"{entry.title}: {entry.license} licence{size}. {entry.checksum_text}", markup=False)
    if entry.remarks:
        remarks().print(entry.remarks, markup=False)


def _ask(error: Any) -> None:
    """Show the licence and ask; whoever cannot be asked gets the sentence with the option."""
    from medseg.cli.console import remarks
    from medseg.errors import ModelError

    if error.text:
        remarks().print(error.text, markup=False)
    try:
        accepted = typer.confirm(f"{error.message} Do you accept it?", err=True)
    except typer.Abort:
        accepted = False
    if not accepted:
        raise ModelError(
            error.message, advice="Read the licence, and give --accept-license if you accept it."
        ) from error


def _print_installed(found: "Sequence[ModelPackage]") -> None:
    from medseg.cli.console import results

    table = _table("Name", "What", "Input", "Segments", "CPU>", "Memory>", "Licence")
    for package in found:
        measured = package.measured
        table.add_row(
            package.name,
            package.title,
            " + ".join(slot.modality or "any" for slot in package.inputs),
            _names(package.labels.names, len(package.labels.names)),
            "not measured" if measured.seconds_cpu is None else f"{measured.seconds_cpu:.0f} s",
            "" if measured.memory_mb_cpu is None else f"{measured.memory_mb_cpu / 1000:.1f} GB",
            package.license,
        )
    results().print(table, soft_wrap=False)
    for package in found:
        for problem in package.problems():
            results().print(f"[yellow]{package.name}:[/] {problem}")


def _print_catalogue(found: "Sequence[CatalogueEntry]") -> None:
    from medseg.cli.console import remarks, results

    table = _table("Name", "What", "Input", "Segments", "Size>", "Checksum", "Licence")
    for entry in found:
        checksum = entry.remote.checksum
        table.add_row(
            entry.name,
            entry.title + (" (cannot be run yet)" if entry.problem else ""),
            " + ".join(entry.modalities),
            _names(entry.structures, entry.structure_count),
            f"{entry.remote.bytes / 1e6:.0f} MB" if entry.remote.bytes else "",
            "none published" if checksum is None else checksum.title,
            entry.license,
        )
    results().print(table, soft_wrap=False)
    remarks().print("Add one with `medseg models add NAME`.", markup=False)


def _names(names: Sequence[str], count: int) -> str:
    return ", ".join(names) if count <= min(len(names), 4) else f"{count}: {', '.join(names[:3])}, …"


def _table(*headings: str) -> Any:
    """Return a table without lines; a heading that ends in ``>`` stands to the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        justify: Literal["left", "right"] = "right" if heading.endswith(">") else "left"
        # Names are typed again by whoever reads them, so they stay whole.
        table.add_column(heading.rstrip(">"), justify=justify, overflow="fold", no_wrap=heading == "Name")
    return table
