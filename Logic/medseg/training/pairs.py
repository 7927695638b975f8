"""Which files belong together: the pairs of a folder or of a table, and which of them are kept aside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from medseg.errors import RecipeError
from medseg.training.tables import Table, annotated_values, read_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from medseg.labels import LabelTable
    from medseg.training.recipe import DataSection

Split = Literal["training", "validation"]

SPLITS: dict[str, Split] = {
    "train": "training",
    "training": "training",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
}


@dataclass(frozen=True)
class Pair:
    """One training case: the files of its image and of its labels.

    Attributes
    ----------
    more
        The files of further images, for a model of several inputs.
    annotated
        The label values that a table says are annotated in the case; ``None`` when no table says so.
    split
        What a table says of the case; ``None`` when no table says so.
    """

    case: str
    image: Path
    label: Path
    more: tuple[Path, ...] = ()
    annotated: tuple[int, ...] | None = None
    split: Split | None = None

    @property
    def images(self) -> tuple[Path, ...]:
        """All images, in the order of the model's inputs."""
        return (self.image, *self.more)


def find_pairs(
    data: Path | None, section: DataSection, *, labels: LabelTable | None = None, recipe_folder: Path | None = None
) -> list[Pair]:
    """Return the pairs of a folder or of a table of pairs (CSV), ordered by case.

    Parameters
    ----------
    data
        What ``--data`` names; ``None``: the recipe's ``data.csv``.
    labels
        Names the labels of tables that say what is annotated.
    recipe_folder
        Where relative paths of the recipe begin.

    Raises
    ------
    RecipeError
        When there is nothing to read, files lack their partner, or a table cannot be used; every bad line is named.
    """
    if data is None:
        if section.csv is None or recipe_folder is None:
            raise RecipeError("No data was given.", advice="Give a folder or a table of pairs with --data.")
        data = recipe_folder / section.csv
    if data.is_dir():
        pairs, table, folder = _of_folder(data, section), None, data
    elif data.is_file():
        table, folder = read_table(data), data.parent
        pairs = _of_table(table, folder, labels)
    else:
        raise RecipeError(
            f"The data {data} does not exist.", advice="Give a folder or a table of pairs (.csv) with --data."
        )
    if section.annotated in ("all", "present"):
        return pairs
    return _with_annotations(pairs, section, table, labels, [folder, *([recipe_folder] if recipe_folder else [])])


def split_pairs(pairs: Sequence[Pair], section: DataSection, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Deal the pairs into training and validation as the table or the recipe says; the same seed, the same split.

    Raises
    ------
    RecipeError
        When there are fewer pairs than folds, the recipe keeps a case aside that is not there, or none is left to
        train on.
    """
    if any(pair.split for pair in pairs):
        held_out = {pair.case for pair in pairs if pair.split == "validation"}
    elif section.validation is not None:
        held_out = set(section.validation)
        unknown = sorted(held_out - {pair.case for pair in pairs})
        if unknown:
            raise RecipeError(
                f"data.validation names cases that are not there: {', '.join(unknown)}.",
                advice="Name cases of the data, without the endings of the files.",
            )
    elif section.folds == 1:
        held_out = set()
    elif len(pairs) < section.folds:
        raise RecipeError(
            f"There are {len(pairs)} cases, too few for {section.folds} folds.",
            advice="Add cases or set data.folds lower.",
        )
    else:
        order = np.random.default_rng(seed).permutation(len(pairs))
        held_out = {pairs[index].case for index in order[section.fold :: section.folds]}
    training = [pair for pair in pairs if pair.case not in held_out]
    if not training:
        raise RecipeError("All cases are kept aside and none is left to train on.", advice="Change the split.")
    return training, [pair for pair in pairs if pair.case in held_out]


def _of_folder(folder: Path, section: DataSection) -> list[Pair]:
    if not section.images or section.label is None:
        raise RecipeError(
            "The recipe does not say how the files in a folder are named.",
            advice="Add data.image and data.label, for example '{case}.nii.gz' and '{case}_label.nii.gz'.",
        )
    labels = matching(folder, section.label)
    channels = [matching(folder, pattern) for pattern in section.images]
    # '{case}.nii.gz' also matches 'case_label.nii.gz': what is a label, or a later image, is not a first image.
    taken = set(labels.values())
    for later in reversed(channels):
        for case in [case for case, path in later.items() if path in taken]:
            del later[case]
        taken |= set(later.values())
    images = channels[0]
    if not images:
        raise RecipeError(
            f"No file in {folder} matches the recipe's image pattern '{section.images[0]}'.",
            advice="Correct data.image in the recipe or give another folder with --data.",
        )
    for pattern, found in zip([section.label, *section.images[1:]], [labels, *channels[1:]], strict=True):
        what = "label" if found is labels else "image"
        missing = sorted(set(images) - set(found))
        if missing:
            raise RecipeError(
                f"{len(missing)} images in {folder} have no {what} file '{pattern}': {some(missing)}.",
                advice=f"Add the {what} files, or move these images elsewhere.",
            )
        orphans = sorted(set(found) - set(images))
        if orphans:
            raise RecipeError(
                f"{len(orphans)} {what} files in {folder} have no image '{section.images[0]}': {some(orphans)}.",
                advice=f"Add the images, or move these {what}s elsewhere.",
            )
    return [
        Pair(case, images[case], labels[case], tuple(channel[case] for channel in channels[1:]))
        for case in sorted(images)
    ]


def _of_table(table: Table, folder: Path, labels: LabelTable | None) -> list[Pair]:
    columns = _image_columns(table)
    pairs, problems = [], []
    for line, row in table.rows:
        files = [row[column] for column in (*columns, "label")]
        if not all(files):
            problems.append(f"line {line} lacks a file")
            continue
        paths = [folder / name for name in files]
        absent = [name for name, path in zip(files, paths, strict=True) if not path.exists()]
        problems += [f"line {line}: {name} does not exist" for name in absent]
        split = None
        if "split" in table.columns:
            split = SPLITS.get(row["split"].lower())
            if split is None:
                problems.append(f"line {line}: '{row['split']}' is not a split")
        annotated = None
        if "annotated" in table.columns:
            annotated, unknown = _listed(row["annotated"], labels)
            problems += [f"line {line}: '{name}' is not a label" for name in unknown]
        case = row.get("case") or _stem(paths[0])
        pairs.append(Pair(case, paths[0], paths[-1], tuple(paths[1:-1]), annotated, split))
    problems += _repeated(pairs)
    if problems:
        raise RecipeError(
            f"The table of pairs {table.path} cannot be used: {'; '.join(problems)}.",
            advice="Paths are relative to the table; splits are 'training' and 'validation'; each case comes once.",
        )
    if not pairs:
        raise RecipeError(f"The table of pairs {table.path} has no line.", advice="Add a line for each case.")
    return sorted(pairs, key=lambda pair: pair.case)


def _image_columns(table: Table) -> list[str]:
    numbered = sorted(
        (column for column in table.columns if column.removeprefix("image_").isdigit() and column.startswith("image_")),
        key=lambda column: int(column.removeprefix("image_")),
    )
    columns = (["image"] if "image" in table.columns else []) + numbered
    if not columns or "label" not in table.columns:
        raise RecipeError(
            f"The table of pairs {table.path} needs columns 'image' and 'label' and has {', '.join(table.columns)}.",
            advice="Name the columns image (for several images image_1, image_2, ...), label and, if you like, case, "
            "split and annotated.",
        )
    return columns


def _listed(cell: str, labels: LabelTable | None) -> tuple[tuple[int, ...], list[str]]:
    """Return the values of labels that are listed by name or value, separated by semicolons, and what is no label."""
    known = {} if labels is None else {label.name.casefold(): label.value for label in labels}
    known |= {} if labels is None else {str(label.value): label.value for label in labels}
    names = [name.strip() for name in cell.split(";") if name.strip()]
    values = {known[name.casefold()] for name in names if name.casefold() in known}
    return tuple(sorted(values)), [name for name in names if name.casefold() not in known and labels is not None]


def _repeated(pairs: Sequence[Pair]) -> list[str]:
    """Return a sentence part for every case name and label file that occurs twice."""
    problems = []
    for what, entries in (
        ("the case", [pair.case for pair in pairs]),
        ("the image", [str(pair.image) for pair in pairs]),
        ("the label file", [str(pair.label) for pair in pairs]),
    ):
        twice = sorted(
            {entry for entry in entries if entries.count(entry) > 1} if len(set(entries)) < len(entries) else ()
        )
        problems += [f"{what} {entry} comes more than once" for entry in twice]
    return problems


def _with_annotations(
    pairs: list[Pair], section: DataSection, pairs_table: Table | None, labels: LabelTable | None, folders: list[Path]
) -> list[Pair]:
    asked = section.annotated
    assert not isinstance(asked, str)
    if asked.table is not None:
        path = next((folder / asked.table for folder in folders if (folder / asked.table).is_file()), None)
        if path is None:
            raise RecipeError(
                f"The table of annotations {asked.table} is neither beside the data nor beside the recipe.",
                advice="Correct data.annotated.table.",
            )
        table = read_table(path)
    elif pairs_table is not None:
        table = pairs_table
    else:
        raise RecipeError(
            "data.annotated names no table, and the data are a folder.", advice="Add data.annotated.table."
        )
    if labels is None:
        return pairs
    values = annotated_values(table, labels, asked.columns, [pair.case for pair in pairs])
    return [replace(pair, annotated=values[pair.case]) for pair in pairs]


def matching(folder: Path, pattern: str) -> dict[str, Path]:
    """Return the files in ``folder`` that have the name ``pattern``, by what stands in the place of ``{case}``."""
    before, after = pattern.split("{case}")
    found = {}
    for path in sorted(folder.glob(f"{_literal(before)}*{_literal(after)}")):
        name = path.relative_to(folder).as_posix()
        found[name[len(before) : len(name) - len(after)]] = path
    return found


def _literal(text: str) -> str:
    """Return a pattern for glob that means the text itself; ``*`` and ``?`` keep their meaning."""
    return text.replace("[", "[[]")


def _stem(path: Path) -> str:
    from medseg.volumes.folders import stem

    return stem(path)


def some(names: Iterable[str], most: int = 5) -> str:
    """Return the first few names, and how many more there are."""
    listed = list(names)
    shown = ", ".join(listed[:most])
    return shown if len(listed) <= most else f"{shown} and {len(listed) - most} more"
