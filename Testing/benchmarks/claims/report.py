"""What a claim test hands back: one table, and the verdict, whichever way it came out."""

from __future__ import annotations

from dataclasses import dataclass

QUICK_RUN = "A quick run, which says nothing about the claim."
"""What the verdict of such a run begins with."""


@dataclass(frozen=True)
class ClaimReport:
    """One experiment as measured.

    Parameters
    ----------
    title
        Heading of the report.
    claim
        What is claimed and by whom, in a sentence or two.
    columns, rows
        The table, as text; every row has a cell for each column.
    verdict
        Whether the claim held here, with the figures that decide.
    notes
        Set-up, and what limits the conclusion.
    seconds
        How long the experiment took.

    Raises
    ------
    ValueError
        When there is no column, or a row has another number of cells than there are columns.
    """

    title: str
    claim: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    verdict: str
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if not self.columns:
            raise ValueError("a report needs columns")
        for number, row in enumerate(self.rows, start=1):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number} has {len(row)} cells for {len(self.columns)} columns: {row}")

    def markdown(self) -> str:
        """Return the report as Markdown, ready for ``Testing/benchmarks/RESULTS.md``."""
        table = [_line(self.columns), "|" + "---|" * len(self.columns), *map(_line, self.rows)]
        parts = [f"## {self.title}", self.claim, "\n".join(table), f"**Verdict.** {self.verdict}"]
        if self.notes:
            parts.append("\n".join(f"- {note}" for note in self.notes))
        if self.seconds:
            parts.append(f"Took {_duration(self.seconds)}.")
        return "\n\n".join(parts) + "\n"


def counted(number: int, what: str) -> str:
    """Return "1 seed", "3 seeds"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def capitalised(text: str) -> str:
    """Return a text as it begins a sentence, the rest of it as it is."""
    return f"{text[:1].upper()}{text[1:]}"


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
