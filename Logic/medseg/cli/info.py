"""``medseg info``: what MedSeg sees in a volume."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def info(
    volume: Annotated[Path, typer.Argument(help="A volume or a DICOM folder.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Write everything as JSON.")] = False,
) -> None:
    """Show geometry, modality and what is uneven or missing in a volume."""
    from medseg.volumes import describe, read_volume

    facts = {"file": str(volume), **describe(read_volume(volume))}
    if as_json:
        typer.echo(json.dumps(facts, indent=2, allow_nan=False))
        return
    _print(facts)


def _print(facts: dict[str, Any]) -> None:
    from rich.table import Table

    from medseg.cli.console import results

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in facts.items():
        for number, line in enumerate(_lines(value)):
            table.add_row(_title(key) if number == 0 else "", line)
    results().print(table, soft_wrap=False)


def _title(key: str) -> str:
    words = key.replace("_ras_mm", " (RAS, mm)").replace("_mm", " (mm)").replace("_", " ")
    return words[0].upper() + words[1:]


def _lines(value: Any) -> list[str]:
    if isinstance(value, list | tuple) and any(isinstance(part, str) for part in value):
        return [str(part) for part in value]
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], list | tuple):
            return [line for part in value for line in _lines(part)]
        return (
            ["  ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)] if value else ["none"]
        )
    if isinstance(value, float):
        return [f"{value:g}"]
    return [str(value)]
