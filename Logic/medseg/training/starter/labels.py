"""The names of the labels of a data set, where its folder tells them."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

from medseg.errors import MedSegError
from medseg.labels import Label, LabelTable, read_labels
from medseg.labels.codes import TISSUE
from medseg.labels.table import distinct_color

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def table_of(folder: Path, values: Mapping[int, int]) -> tuple[LabelTable, bool]:
    """Return a label table, and whether the folder names the labels.

    Parameters
    ----------
    folder
        May hold ``labels.csv`` (as models have it, or with the columns value and name) or ``dataset.json`` (Medical
        Segmentation Decathlon, nnU-Net).
    values
        The values of the label files and those of the table.
    """
    try:
        known = {label.value: label for label in read_labels(folder / "labels.csv")}
        if set(values) <= set(known):
            return LabelTable([_renumbered(known[value], becomes) for value, becomes in values.items()]), True
    except MedSegError:
        pass  # no such table: the names of a simpler one, or none
    names = _of_csv(folder / "labels.csv") | _of_json(folder / "dataset.json")
    table = LabelTable(
        [
            Label(becomes, _readable(names.get(value, f"label {value}")), distinct_color(place), TISSUE, TISSUE)
            for place, (value, becomes) in enumerate(values.items())
        ]
    )
    return table, set(values) <= set(names)


def _renumbered(label: Label, value: int) -> Label:
    codes = (label.category, label.type, label.type_modifier, label.region, label.region_modifier)
    return Label(value, label.name, label.color, *codes)


def _of_csv(path: Path) -> dict[int, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
        return {int(row["value"]): row["name"] for row in rows if row["name"]}
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return {}


def _of_json(path: Path) -> dict[int, str]:
    """Return the names in a ``dataset.json``: {"1": "liver"} or {"liver": 1}."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["labels"].items()
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}
    names = {}
    for key, content in entries:
        if isinstance(content, int):
            names[content] = str(key)
        elif str(key).isdigit() and isinstance(content, str):
            names[int(key)] = content
    return {value: name for value, name in names.items() if value}


def _readable(name: str) -> str:
    text = " ".join(name.replace("_", " ").split())
    text = "".join(letter for letter in text if letter.isprintable()) or "label"
    return text[:1].upper() + text[1:]
