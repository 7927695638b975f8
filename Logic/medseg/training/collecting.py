"""A folder of corrected cases to train from: one case after the other, in one numbering of labels, whole or not at all.

Of every case the folder holds ``case_0001_image.nii.gz``, ``case_0001_label.nii.gz`` and ``case_0001_clicks.json``, and
of all cases ``labels.csv`` (what the values mean) and ``cases.csv`` (what was drawn in which case; the table of
annotations of a recipe). No name of a patient, a study or a file and no date is written. Needs no torch.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import InputError, WriteError
from medseg.files import try_lock, write_error
from medseg.labels import Label, LabelTable, read_labels, write_labels
from medseg.labels.codes import TISSUE
from medseg.labels.table import LARGEST_VALUE
from medseg.training.pairs import matching

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from medseg.correction.prompts import Prompt
    from medseg.volumes import Volume

IMAGE, LABEL = "{case}_image.nii.gz", "{case}_label.nii.gz"
"""How a recipe names the files of the folder."""

LABELS, CASES = "labels.csv", "cases.csv"

OTHERS = "any other label"
"""The column of ``cases.csv`` for labels that the folder does not know: drawn in no case."""

FORMAT = 1
_CLICKS = "{case}_clicks.json"
_LOCK = ".medseg-lock"
_NEW, _READY = ".medseg-new-", ".medseg-ready-"
_NUMBER = re.compile(r"case_(\d+)_")
LOCK_SECONDS = 60.0
"""How long another program is waited for that adds a case to the same folder."""


@dataclass(frozen=True)
class AppendedCase:
    """What became of a case.

    Attributes
    ----------
    name
        "case_0001".
    replaced
        The same image was in the folder before, and its label map and clicks were replaced.
    cases
        How many there are now.
    new_labels
        Names of labels that the folder did not know before.
    """

    name: str
    replaced: bool
    cases: int
    new_labels: tuple[str, ...]


def append_case(
    folder: str | Path,
    image: Volume,
    labelmap: Volume,
    labels: LabelTable,
    prompts: Mapping[str, Sequence[Prompt]] | None = None,
) -> AppendedCase:
    """Add a case to a training folder, or bring it up to date when the same image is there already.

    An image is known again by its voxels, so that a case comes once, however often and from whichever segmentation it
    is added. Labels keep the values that the folder has for their names, or for their codes where these are the codes
    of one label only; new ones get the next values. Programs that add cases at the same time wait for each other, and
    what an interrupted one has left is completed or removed.

    Parameters
    ----------
    folder
        Made when it does not exist.
    image
        (k, j, i), as the model is to see it; no transform is applied.
    labelmap
        (k, j, i), whole numbers, on the grid of the image.
    labels
        What was drawn, also where it has no voxel; the values are those of ``labelmap``.
    prompts
        Per name of a label, what the user pointed at, RAS mm in the frame of the image.

    Raises
    ------
    InputError
        When the grids differ, nothing is drawn, a value has no label, or the folder's ``labels.csv`` cannot be used.
    WriteError
        When the folder cannot be written to, the disk is full, or another program keeps it.
    """
    folder = Path(folder)
    _check(image, labelmap, labels)
    digest = image_digest(image)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            _tidy(folder)
            before = read_labels(folder / LABELS) if (folder / LABELS).exists() else None
            table, values = merged_labels(before, labels)
            known = _case_of(folder, digest)
            name = known or f"case_{_next_number(folder):04d}"
            content = {
                "format": FORMAT,
                "image": digest,
                "labels": [
                    {
                        "value": values[label.value],
                        "name": table.by_value(values[label.value]).name,
                        "clicks": [prompt.to_dict() for prompt in (prompts or {}).get(label.name, ())],
                    }
                    for label in labels
                ],
            }
            cases = _write(folder, name, image, _renumbered(labelmap, values), table=table, content=content)
    except OSError as error:
        raise write_error(folder, error) from error
    new = tuple(label.name for label in table if before is None or label.value not in before.values)
    return AppendedCase(name, known is not None, cases, new)


def image_digest(image: Volume) -> str:
    """Return by what an image is known again: a hash (hexadecimal) of its voxels, their type and their number."""
    array = np.ascontiguousarray(image.array)
    found = hashlib.blake2b(array.data, digest_size=16)
    found.update(f"{array.dtype.str} {array.shape}".encode())
    return found.hexdigest()


def merged_labels(known: LabelTable | None, labels: LabelTable) -> tuple[LabelTable, dict[int, int]]:
    """Return a table of both, and for each value of ``labels`` the value in it; ``known`` labels stay as they are."""
    values: dict[int, int] = {}
    for find in (_of_name, _of_codes):  # all names first: codes are the weaker sign
        for label in labels:
            same = find(label, known or (), labels)
            if label.value not in values and same is not None and same.value not in values.values():
                values[label.value] = same.value
    added, following = [], max(known.values, default=0) + 1 if known else 1
    for label in labels:
        if label.value not in values:
            if following > LARGEST_VALUE:
                raise InputError("The training folder has no value left for a new label.", advice="Choose another one.")
            values[label.value] = following
            added.append(with_value(label, following))
            following += 1
    return LabelTable([*(known or ()), *added]), values


def with_value(label: Label, value: int) -> Label:
    """Return a label with another value."""
    codes = (label.category, label.type, label.type_modifier, label.region, label.region_modifier)
    return Label(value, label.name, label.color, *codes)


def same_label(label: Label, among: Sequence[Label], others: Sequence[Label]) -> Label | None:
    """Return the label of ``among`` that means the same, by its name or else by its codes.

    Codes count only where they belong to no other label on either side (the instances of a bone share theirs), and not
    those of "Tissue", which Slicer gives to every segment.

    Parameters
    ----------
    others
        The labels that ``label`` is one of.
    """
    return _of_name(label, among, others) or _of_codes(label, among, others)


def _of_name(label: Label, among: Sequence[Label], _others: Sequence[Label]) -> Label | None:
    plain = label.name.strip().casefold()
    found = [one for one in among if one.name.strip().casefold() == plain]
    return next((one for one in found if one.name == label.name), found[0] if found else None)


def _of_codes(label: Label, among: Sequence[Label], others: Sequence[Label]) -> Label | None:
    codes = _codes(label)
    if codes is None or sum(_codes(one) == codes for one in others) > 1:
        return None
    found = [one for one in among if _codes(one) == codes]
    return found[0] if len(found) == 1 else None


def _codes(label: Label) -> tuple[str | None, ...] | None:
    codes = (label.type, label.type_modifier, label.region, label.region_modifier)
    if codes == (TISSUE, None, None, None):
        return None
    return tuple(None if code is None else f"{code.scheme} {code.value}" for code in codes)


def _check(image: Volume, labelmap: Volume, labels: LabelTable) -> None:
    if not labelmap.geometry.is_close(image.geometry):
        raise InputError(
            "The image and the label map lie on different grids.", advice="Put the label map on the grid of the image."
        )
    found = set(np.unique(labelmap.array).tolist()) - {0}
    if not found:
        raise InputError(
            "Nothing is drawn, so there is nothing to learn from this case.", advice="Correct or draw a segment first."
        )
    unknown = sorted(found - set(labels.values))
    if unknown:
        raise InputError(f"The label map has values without a label: {unknown}.", advice="Name every label.")


def _renumbered(labelmap: Volume, values: Mapping[int, int]) -> Volume:
    array = labelmap.array
    table = np.zeros(int(array.max()) + 1, np.uint8 if max(values.values()) < 256 else np.uint16)
    for value, becomes in values.items():
        if value < table.size:
            table[value] = becomes
    return labelmap.with_array(table[array.astype(np.intp, copy=False)])


def _write(
    folder: Path, name: str, image: Volume, labelmap: Volume, *, table: LabelTable, content: Mapping[str, Any]
) -> int:
    """Write all files beside, then move them; return the number of cases. The caller holds the lock."""
    from medseg.volumes import write_labelmap, write_volume

    staged = Path(tempfile.mkdtemp(prefix=_NEW, dir=folder))
    try:
        write_volume(image, staged / IMAGE.format(case=name))
        write_labelmap(labelmap, staged / LABEL.format(case=name))
        (staged / _CLICKS.format(case=name)).write_text(json.dumps(content, indent=1), encoding="utf-8")
        write_labels(table, staged / LABELS)
        drawn = {**_drawn_in(folder), name: {entry["value"] for entry in content["labels"]}}
        _write_cases(staged / CASES, table, drawn)
        ready = folder / f"{_READY}{name}"
        staged.rename(ready)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    _move_out(ready, folder)
    return len(drawn)


def _move_out(ready: Path, folder: Path) -> None:
    for path in sorted(ready.iterdir()):
        path.replace(folder / path.name)
    ready.rmdir()


def _tidy(folder: Path) -> None:
    """Complete what a program wrote in full and was stopped while it moved it; remove what it wrote in part."""
    for ready in folder.glob(f"{_READY}*"):
        _move_out(ready, folder)
    for staged in folder.glob(f"{_NEW}*"):
        shutil.rmtree(staged, ignore_errors=True)


def _write_cases(path: Path, table: LabelTable, drawn: Mapping[str, set[int] | None]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["case", *(column_of(label.value) for label in table), OTHERS])
        for case in sorted(drawn):
            values = drawn[case]
            writer.writerow([case, *(int(values is None or value in values) for value in table.values), 0])


def column_of(value: int) -> str:
    """Return the name of the column of ``cases.csv`` that says whether a label of the folder was drawn."""
    return f"label {value}"


def _drawn_in(folder: Path) -> dict[str, set[int] | None]:
    """Return for every case of the folder the values of what was drawn; ``None`` when nobody says so: everything."""
    found: dict[str, set[int] | None] = {}
    for case in set(matching(folder, IMAGE)) & set(matching(folder, LABEL)):
        entries = _content_of(folder / _CLICKS.format(case=case)).get("labels")
        try:
            found[case] = None if entries is None else {int(entry["value"]) for entry in entries}
        except (TypeError, ValueError, KeyError):
            found[case] = None
    return found


def _case_of(folder: Path, digest: str) -> str | None:
    """Return the case that has the image."""
    images = matching(folder, IMAGE)
    for case, path in matching(folder, _CLICKS).items():
        if case in images and _content_of(path).get("image") == digest:
            return case
    return None


def _content_of(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _next_number(folder: Path) -> int:
    numbers = [int(match[1]) for match in map(_NUMBER.match, os.listdir(folder)) if match]  # noqa: PTH208
    return max(numbers, default=0) + 1


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other programs from adding to the folder meanwhile. The system lets go of it when this process ends."""
    with (folder / _LOCK).open("ab") as stream:
        deadline = time.monotonic() + LOCK_SECONDS
        # Where a network folder knows no locks, the number of a case is still taken only once, by a rename.
        while not try_lock(stream.fileno()):
            if time.monotonic() > deadline:
                raise WriteError(
                    f"Another program is adding a case to {folder} and does not end.",
                    advice="Wait until it is done, or close it.",
                )
            time.sleep(0.05)
        yield
