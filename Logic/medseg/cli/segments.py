"""Which segment of a file the user means."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from medseg.labels import Label, LabelTable
    from medseg.volumes import Volume


def names_of(path: Path, table: Path | None) -> LabelTable | None:
    """Return the names of the segments of a file, which ``table`` knows for a labelmap; ``None``: nothing tells them.

    Raises
    ------
    MedSegError
        When the segmentation or the table cannot be read, or its segments overlap.
    """
    from medseg.labels import read_labels
    from medseg.segmentation.seg_nrrd_labels import segment_labels
    from medseg.volumes.folders import is_segmentation

    if is_segmentation(path):
        return segment_labels(path)
    return read_labels(table) if table is not None else None


def known_label(text: str, labels: Iterable[Label]) -> Label | None:
    """Return the label of this name, as it is written or but for capitals, else that of this value."""
    labels, wanted = list(labels), text.strip()
    return (
        next((label for label in labels if label.name == wanted), None)
        or next((label for label in labels if label.name.casefold() == wanted.casefold()), None)
        or next((label for label in labels if label.value == value_in(text)), None)
    )


def value_in(text: str) -> int | None:
    """Return the label value that the user wrote; ``None`` when it is a name."""
    return int(text) if re.fullmatch(r"\d{1,5}", text.strip()) and int(text) else None


def chosen_label(text: str, labelmap: Volume, table: LabelTable | None) -> Label:
    """Return the label that the user means by its name or value; a value need not be in the table.

    Raises
    ------
    InputError
        When nothing is called so.
    """
    from medseg.segmentation.seg_nrrd_labels import plain_label

    found, value = known_label(text, table or ()), value_in(text)
    if found is not None:
        return found
    if value is not None:
        return plain_label(value)
    names = ", ".join(table.names[:12]) if table else ""
    present = f"The segments are: {names}." if names else f"Give a value up to {int(labelmap.array.max())}."
    raise InputError(f"There is no segment '{text}'.", advice=present)
