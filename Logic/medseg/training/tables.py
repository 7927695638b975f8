"""Tables (CSV) that users bring: pairs of files, and which labels are annotated in which case."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from medseg.labels import LabelTable

_NO = ("", "0", "no", "n", "false", "none", "-")
_YES = ("yes", "y", "true", "x")


@dataclass(frozen=True)
class Table:
    """A table: its lines with their numbers in the file; cells are stripped, missing ones are empty."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]


def read_table(path: Path) -> Table:
    """Read a table separated by commas, semicolons or tabs, whichever its first line has most of.

    Raises
    ------
    RecipeError
        When the file cannot be read as one, or two columns have one name.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecipeError(
            f"The table {path} cannot be read: {getattr(error, 'strerror', None) or error}.",
            advice="Save it as comma separated values in UTF-8.",
        ) from error
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if not lines:
        raise RecipeError(f"The table {path} is empty.", advice="Its first line must name the columns.")
    columns = tuple(lines[0][1])
    if len(set(columns)) < len(columns):
        raise RecipeError(f"The table {path} has two columns of one name.", advice="Rename or remove one of them.")
    rows = []
    for number, cells in lines[1:]:
        if len(cells) > len(columns):
            raise RecipeError(
                f"Line {number} of the table {path} has {len(cells)} cells and the first line {len(columns)}.",
                advice="Put texts that hold the separator in quotes.",
            )
        rows.append((number, dict(zip(columns, [*cells, *[""] * (len(columns) - len(cells))], strict=True))))
    return Table(path, columns, tuple(rows))


def annotated_values(
    table: Table, labels: LabelTable, columns: Mapping[int, str] | None, cases: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    """Return for each case the values of the labels that the table says are annotated.

    Raises
    ------
    RecipeError
        When a case or a column is missing, or a cell is neither yes nor no nor a number.
    """
    names = _columns_of(table, labels, columns)
    rows = {row.get("case", ""): (line, row) for line, row in table.rows}
    missing = [case for case in cases if case not in rows]
    if "case" not in table.columns or missing:
        reason = f"has no line for {', '.join(missing)}" if "case" in table.columns else "has no column 'case'"
        raise RecipeError(
            f"The table of annotations {table.path} {reason}.", advice="It needs one line for each case of the data."
        )
    found, wrong = {}, []
    for case in cases:
        line, row = rows[case]
        values = []
        for value, column in names.items():
            answer = _answer(row[column])
            if answer is None:
                wrong.append(f"line {line} has '{row[column]}' in the column '{column}'")
            elif answer:
                values.append(value)
        found[case] = tuple(values)
    if wrong:
        raise RecipeError(
            f"The table of annotations {table.path} cannot be used: {'; '.join(wrong)}.",
            advice="Write yes or no, or the number of voxels.",
        )
    return found


def _columns_of(table: Table, labels: LabelTable, columns: Mapping[int, str] | None) -> dict[int, str]:
    if columns is not None:
        unknown = [str(value) for value in columns if value not in labels.values]
        absent = [f"'{name}'" for name in columns.values() if name not in table.columns]
        unnamed = [label.name for label in labels if label.value not in columns]
        for what, which in (
            ("values that are not labels", unknown),
            ("columns that the table does not have", absent),
            ("no column for the labels", unnamed),
        ):
            if which:
                raise RecipeError(
                    f"data.annotated.columns names {what}: {', '.join(which)}.",
                    advice=f"The columns of {table.path} are: {', '.join(table.columns)}.",
                )
        return dict(columns)
    by_name = {_plain(column): column for column in table.columns}
    found = {}
    for label in labels:
        column = by_name.get(label.name.casefold()) or by_name.get(str(label.value))
        if column is None:
            raise RecipeError(
                f"The table of annotations {table.path} has no column for the label '{label.name}'.",
                advice=f"Name them in data.annotated.columns; the columns are: {', '.join(table.columns)}.",
            )
        found[label.value] = column
    return found


def _plain(column: str) -> str:
    text = column.casefold()
    for start in ("voxels of ", "annotated "):
        text = text.removeprefix(start)
    return text


def _answer(cell: str) -> bool | None:
    text = cell.casefold()
    if text in _NO or text in _YES:
        return text in _YES
    try:
        return float(text) > 0
    except ValueError:
        return None
