"""The label table of a model: which value is which structure, in which colour and with which codes."""

from __future__ import annotations

import colorsys
import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from medseg.errors import InputError, ReadError
from medseg.files import atomic_path
from medseg.labels.codes import MEDSEG_CONTEXT, REGION_CONTEXT, Code, TerminologyEntry

LARGEST_VALUE = 65535
"""The largest value that a labelmap of unsigned 16-bit integers holds."""

_LARGEST_FILE = 4 << 20
_SEQUENCES = (
    "SegmentedPropertyCategoryCodeSequence",
    "SegmentedPropertyTypeCodeSequence",
    "SegmentedPropertyTypeModifierCodeSequence",
    "AnatomicRegionSequence",
    "AnatomicRegionModifierSequence",
)
_PARTS = ("CodingSchemeDesignator", "CodeValue", "CodeMeaning")
COLUMNS = ("LabelValue", "Name", *(f"{sequence}.{part}" for sequence in _SEQUENCES for part in _PARTS), "Color")
"""The columns of ``labels.csv``, in order: those of MONAIAuto3DSeg and ``Color`` (``#rrggbb``)."""


@dataclass(frozen=True)
class Label:
    """One structure of a labelmap.

    Attributes
    ----------
    value
        The voxel value, 1 to 65535 (0 is the background and has no label).
    name
        What the user reads; unique within a table.
    color
        Red, green, blue, 0 to 255.
    category, type, type_modifier, region, region_modifier
        DICOM's segmented property category and type, their modifier, and the anatomic region.

    Raises
    ------
    InputError
        When a field is outside these limits.
    """

    value: int
    name: str
    color: tuple[int, int, int]
    category: Code
    type: Code
    type_modifier: Code | None = None
    region: Code | None = None
    region_modifier: Code | None = None

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not 1 <= self.value <= LARGEST_VALUE:
            raise InputError(
                f"The label value {self.value!r} is not a whole number from 1 to {LARGEST_VALUE}.",
                advice="Number the labels from 1; 0 is the background.",
            )
        if not isinstance(self.name, str) or not self.name.strip() or not self.name.isprintable():
            raise InputError(
                f"The label of value {self.value} has no readable name.", advice="Give every label a name."
            )
        if len(self.color) != 3 or not all(isinstance(part, int) and 0 <= part <= 255 for part in self.color):
            raise InputError(
                f"The colour of label '{self.name}' is {self.color!r}.",
                advice="Give red, green and blue from 0 to 255.",
            )

    @property
    def color_hex(self) -> str:
        """The colour as ``#rrggbb``."""
        return "#{:02x}{:02x}{:02x}".format(*self.color)

    def terminology_entry(self, context: str = MEDSEG_CONTEXT, region_context: str = REGION_CONTEXT) -> str:
        """Return the text of the segment tag ``TerminologyEntry``, exactly as 3D Slicer serialises it."""
        return str(
            TerminologyEntry(
                context,
                self.category,
                self.type,
                self.type_modifier,
                region_context,
                self.region,
                self.region_modifier,
            )
        )


@dataclass(frozen=True)
class LabelTable(Sequence[Label]):
    """The labels of a model, sorted by value; values and names are unique.

    Raises
    ------
    InputError
        When there is no label, or two have the same value or name.
    """

    labels: tuple[Label, ...]

    def __init__(self, labels: Iterable[Label]) -> None:
        ordered = tuple(sorted(labels, key=lambda label: label.value))
        if not ordered:
            raise InputError("A label table has no label.", advice="List at least one structure.")
        for what, seen in (
            ("value", [str(label.value) for label in ordered]),
            ("name", [label.name for label in ordered]),
        ):
            twice = {item for item in seen if seen.count(item) > 1} if len(set(seen)) < len(seen) else set()
            if twice:
                raise InputError(
                    f"Two labels have the same {what}: {', '.join(sorted(twice))}.",
                    advice=f"Give every label a {what} of its own.",
                )
        object.__setattr__(self, "labels", ordered)

    @overload
    def __getitem__(self, index: int) -> Label: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Label, ...]: ...

    def __getitem__(self, index: int | slice) -> Label | tuple[Label, ...]:
        return self.labels[index]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of their values."""
        return tuple(label.name for label in self.labels)

    @property
    def values(self) -> tuple[int, ...]:
        """The values, rising."""
        return tuple(label.value for label in self.labels)

    def by_value(self, value: int) -> Label:
        """Return the label of ``value``; raise ``KeyError`` when there is none."""
        for label in self.labels:
            if label.value == value:
                return label
        raise KeyError(value)

    def by_name(self, name: str) -> Label:
        """Return the label called ``name``; raise ``KeyError`` when there is none."""
        for label in self.labels:
            if label.name == name:
                return label
        raise KeyError(name)


def distinct_color(index: int) -> tuple[int, int, int]:
    """Return the ``index``-th of a series of well separated colours (hue in steps of the golden ratio: our choice)."""
    red, green, blue = colorsys.hsv_to_rgb((0.02 + index * 0.618033988749895) % 1.0, 0.55, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def write_labels(table: LabelTable, path: str | Path) -> None:
    """Write ``table`` as ``labels.csv`` (UTF-8, comma separated, :data:`COLUMNS`).

    Raises
    ------
    WriteError
        When the file cannot be written; what stood there before is untouched.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for label in table:
        codes = (label.category, label.type, label.type_modifier, label.region, label.region_modifier)
        cells = [cell for code in codes for cell in ((code.scheme, code.value, code.meaning) if code else ("", "", ""))]
        writer.writerow([str(label.value), label.name, *cells, label.color_hex])
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="\n")


def read_labels(path: str | Path) -> LabelTable:
    """Read ``labels.csv``: comma separated, UTF-8, with the columns :data:`COLUMNS` in any order.

    The columns of modifiers and regions may be absent, and so may ``Color`` (then :func:`distinct_color` is used);
    other columns are ignored.

    Raises
    ------
    ReadError
        When the file cannot be read as such a table; the sentence names the line.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ReadError(f"{path} is too large for a label table.", advice="Check that it is the right file.")
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except OSError as error:
        raise ReadError(
            f"The label table {path} cannot be read: {error.strerror or error}.", advice="Check that the file is there."
        ) from error
    except (ValueError, csv.Error) as error:
        raise ReadError(
            f"The label table {path} is not a UTF-8 text of comma separated values: {error}.",
            advice="The file is damaged or of another kind; get it again.",
        ) from error
    try:
        return LabelTable([_label(row, index) for index, row in enumerate(rows)])
    except InputError as error:
        raise ReadError(f"The label table {path} cannot be used. {error.message}", advice=error.advice) from error


def _label(row: dict[str, str], index: int) -> Label:
    line = index + 2

    def cell(column: str) -> str:
        return (row.get(column) or "").strip()

    def code(sequence: str) -> Code | None:
        parts = [cell(f"{sequence}.{part}") for part in _PARTS]
        return Code(*parts) if any(parts) else None

    value = cell("LabelValue")
    if not re.fullmatch(r"[0-9]{1,6}", value):
        raise InputError(
            f"Line {line} has '{value}' as LabelValue.", advice="It must be a whole number, and the column must exist."
        )
    color = cell("Color")
    if color and not re.fullmatch(r"#[0-9a-fA-F]{6}", color):
        raise InputError(f"Line {line} has '{color}' as Color.", advice="Write colours as #rrggbb.")
    codes = [code(sequence) for sequence in _SEQUENCES]
    category, kind, *others = codes
    if category is None or kind is None:
        raise InputError(
            f"Line {line} has no category or no type code.",
            advice="Fill the columns of SegmentedPropertyCategoryCodeSequence and SegmentedPropertyTypeCodeSequence.",
        )
    rgb = (int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)) if color else distinct_color(index)
    return Label(int(value), cell("Name"), rgb, category, kind, *others)
