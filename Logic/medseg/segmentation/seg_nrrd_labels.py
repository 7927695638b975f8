"""The names, colours and codes in 3D Slicer's segmentation file, for those who start from one.

The keys are those of Slicer's ``vtkMRMLSegmentationStorageNode`` (5.0 and later): ``Segment0_Name``,
``Segment0_LabelValue``, ``Segment0_Color``, ``Segment0_Tags``.
"""

from __future__ import annotations

import re
from pathlib import Path

from medseg.errors import InputError, ReadError
from medseg.labels import Label, LabelTable, parse_terminology_entry
from medseg.labels.codes import TISSUE
from medseg.labels.table import distinct_color

_MOST_HEADER = 1 << 22
_KEY = re.compile(r"Segment(\d{1,5})_(Name|LabelValue|Color|Tags|Layer)")


def segment_labels(path: str | Path) -> LabelTable:
    """Return the segments that the header of a ``.seg.nrrd`` describes; the voxels are not read.

    Raises
    ------
    ReadError
        When the file cannot be read, or its header describes no segment.
    """
    path = Path(path)
    segments: dict[int, dict[str, str]] = {}
    for key, value in header_pairs(path).items():
        match = _KEY.fullmatch(key)
        if match:
            segments.setdefault(int(match[1]), {})[match[2]] = value.replace("\n", " ")
    if any(fields.get("Layer", "0") != "0" for fields in segments.values()):
        raise ReadError(
            f"The segments of {path} overlap, so they do not fit into one label map.",
            advice="Export the segment that you want to work on to a segmentation of its own.",
        )
    try:
        return LabelTable([_label(fields, index) for index, fields in sorted(segments.items())])
    except InputError as error:
        raise ReadError(f"The segments of {path} cannot be used. {error.message}", advice=error.advice) from error


def header_pairs(path: Path) -> dict[str, str]:
    """Return the key/value pairs in the header of a NRRD file, in their order; the voxels are not read.

    Raises
    ------
    ReadError
        When the file cannot be read.
    """
    pairs: dict[str, str] = {}
    try:
        with path.open("rb") as file:
            while file.tell() < _MOST_HEADER:
                line = file.readline(_MOST_HEADER).decode("utf-8", "replace").rstrip("\r\n")
                if not line:
                    break
                key, is_pair, value = line.partition(":=")
                if is_pair and not line.startswith("#"):
                    pairs[_unescaped(key)] = _unescaped(value)
    except OSError as error:
        raise ReadError(
            f"{path} cannot be read: {error.strerror or error}.", advice="Check that the file is there."
        ) from error
    return pairs


def _unescaped(text: str) -> str:
    return re.sub(r"\\([\\n])", lambda match: "\n" if match[1] == "n" else match[1], text)


def plain_label(value: int, name: str = "") -> Label:
    """Return a label for a value of which nothing else is known: a colour of the series, Slicer's default code."""
    return Label(value, name or f"Label {value}", distinct_color(value), TISSUE, TISSUE)


def _label(fields: dict[str, str], index: int) -> Label:
    text = fields.get("LabelValue", str(index + 1))
    if not re.fullmatch(r"\d{1,9}", text):
        raise InputError(f"Segment {index} has the label value {text!r}.", advice="Save the segmentation again.")
    label = plain_label(int(text), "".join(mark for mark in fields.get("Name", "") if mark.isprintable()).strip())
    color = label.color
    parts = fields.get("Color", "").split()
    if len(parts) == 3 and all(re.fullmatch(r"[0-9.eE+-]{1,24}", part) for part in parts):
        red, green, blue = (min(max(round(float(part) * 255), 0), 255) for part in parts)
        color = (red, green, blue)
    tags = dict(tag.split(":", 1) for tag in fields.get("Tags", "").split("|") if ":" in tag)
    return with_terminology(Label(label.value, label.name, color, TISSUE, TISSUE), tags.get("TerminologyEntry", ""))


def with_terminology(label: Label, entry: str) -> Label:
    """Return ``label`` with the codes of a segment's tag ``TerminologyEntry``; as it is when that says nothing."""
    try:
        codes = parse_terminology_entry(entry)
    except InputError:
        return label
    return Label(
        label.value,
        label.name,
        label.color,
        codes.category,
        codes.type,
        codes.type_modifier,
        codes.region,
        codes.region_modifier,
    )
