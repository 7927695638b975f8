"""``medseg bench``: experiments of the source tree, run and printed."""

import importlib
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

bench = typer.Typer(
    no_args_is_help=True,
    help="Measure: the claims of the papers behind MedSeg, registration and clicks against their rivals.",
)

DataOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of real volumes (default: MEDSEG_TEST_DATA, or shared/data beside the clone).", show_default=False
    ),
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write the report to this file too (.md).", show_default=False)
]


@bench.command()
def claims(
    name: Annotated[
        str | None, typer.Argument(help="The claim; without it, all are listed.", show_default=False)
    ] = None,
    *,
    data: DataOption = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Seconds instead of minutes; says nothing about the claim.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="How many times every network is trained.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the network's computations.")] = 2,
    output: OutputOption = None,
) -> None:
    """Run the experiment of a claim and print its table and verdict, whichever way it comes out."""
    from medseg.cli.cases import check_writable
    from medseg.cli.console import Bar, remarks
    from medseg.errors import InputError

    catalogue = _benchmarks("claims")
    known: dict[str, str] = catalogue.available()
    if name is None:
        _list(known)
        return
    if name not in known:
        raise InputError(f"There is no claim '{name}'.", advice=f"The claims here are: {', '.join(known)}.")
    if output is not None:
        check_writable([output])
    folder = _data_folder(data)
    begun = time.perf_counter()
    with Bar(remarks()) as bar:
        report = catalogue.run_claim(
            name, quick=quick, seeds=seeds, threads=threads, data=folder, progress=bar.start(name)
        )
    _publish(replace(report, seconds=report.seconds or time.perf_counter() - begun).markdown(), output)


@bench.command()
def registration(
    *,
    data: DataOption = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Three coarse pairs, minutes instead of hours; says nothing about accuracy.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help="A table, or a part of a pair's name; may be repeated.", show_default=False),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option("--method", help="A method; may be repeated (default: all).", show_default=False),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of every method.")] = 2,
    records: Annotated[
        Path | None,
        typer.Option(
            help="Keep every measurement in this file (.json), and go on from those in it.", show_default=False
        ),
    ] = None,
    output: OutputOption = None,
) -> None:
    """Register the same pairs with MedSeg, ANTs SyN, elastix and Demons, and print what each is worth.

    The rivals are installed with the extra `bench`; those that are missing are left out, and the tables say so.
    """
    from medseg.cli.cases import check_writable
    from medseg.cli.console import Bar, remarks

    runner = _benchmarks("registration.runner")
    check_writable([path for path in (output, records) if path is not None])
    folder = _data_folder(data)
    with Bar(remarks()) as bar:
        report = runner.run(
            data=folder,
            quick=quick,
            only=only or (),
            methods=methods or (),
            threads=threads,
            records=records,
            progress=bar.start("registration"),
        )
    _publish(report.markdown(), output)


@bench.command()
def interaction(
    *,
    data: DataOption = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="A model that follows clicks, name or folder; may be repeated (default: MedSeg's).",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="The recipe that says which scans it was not trained on (default: any-structure.)", show_default=False
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One structure a table, three clicks; says nothing about accuracy.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help="A table, or a part of a scan's or structure's name; may be repeated.", show_default=False),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option("--method", help="A method; may be repeated (default: all).", show_default=False),
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Structures of each table.")] = 12,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the networks on a processor.")] = 2,
    device: Annotated[str, typer.Option(help="Of the networks: auto, cpu, cuda or cuda:N.")] = "cpu",
    records: Annotated[
        Path | None,
        typer.Option(
            help="Keep every session in this file (a line of JSON each), and go on from those in it.",
            show_default=False,
        ),
    ] = None,
    output: OutputOption = None,
) -> None:
    """Let a simulated user correct unseen structures with networks of clicks, a random walker and grow-cut.

    Prints the Dice after 1, 3, 5 and 10 clicks from nothing and from a bad mask, the clicks to a Dice, and the seconds.
    """
    from medseg.cli.cases import check_writable
    from medseg.cli.console import Bar, remarks

    runner = _benchmarks("interaction.runner")
    check_writable([path for path in (output, records) if path is not None])
    folder = _data_folder(data)
    with Bar(remarks()) as bar:
        report = runner.run(
            data=folder,
            models=models or (),
            recipe=recipe,
            quick=quick,
            only=only or (),
            methods=methods or (),
            most=most,
            threads=threads,
            device=device,
            records=records,
            progress=bar.start("interaction"),
        )
    _publish(report.markdown(), output)


def repository_root() -> Path | None:
    """Return the top folder of the source tree that this package runs from, ``None`` when it was installed."""
    import medseg

    logic = Path(medseg.__file__).resolve().parents[1]
    return logic.parent if logic.name == "Logic" and (logic.parent / "Testing").is_dir() else None


def _benchmarks(name: str) -> Any:
    """Return a module of the benchmarks, which lie in the source tree only."""
    from medseg.errors import InputError

    root = repository_root()
    if root is None or not (root / "Testing" / "benchmarks" / "__init__.py").is_file():
        raise InputError(
            "The benchmarks are part of MedSeg's source tree, and this is an installed copy without it.",
            advice="Clone the repository, install it with `pip install -e .[train]`, and run the command again.",
        )
    testing = str(root / "Testing")
    if testing not in sys.path:
        sys.path.insert(0, testing)
    return importlib.import_module(f"benchmarks.{name}")


def _data_folder(given: Path | None) -> Path | None:
    """Return the folder of real volumes; ``None`` when none was named and none lies beside the clone."""
    from medseg.errors import InputError

    named = given or (Path(text) if (text := os.environ.get("MEDSEG_TEST_DATA", "").strip()) else None)
    if named is not None:
        if not named.is_dir():
            raise InputError(f"The folder {named} does not exist.", advice="Name the folder of the real volumes.")
        return named
    root = repository_root()
    beside = root.parent / "shared" / "data" if root else None
    return beside if beside and beside.is_dir() else None


def _publish(text: str, output: Path | None) -> None:
    from medseg.files import atomic_path

    typer.echo(text, nl=False)
    if output is not None:
        with atomic_path(output) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _list(known: dict[str, str]) -> None:
    from rich.table import Table

    from medseg.cli.console import results

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Claim")
    table.add_column("What is claimed", overflow="fold")
    for claim, line in known.items():
        table.add_row(claim, line)
    results().print(table, soft_wrap=False)
