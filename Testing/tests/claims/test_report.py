"""What a claim test hands back."""

from __future__ import annotations

import pytest

from benchmarks.claims.report import ClaimReport


def a_report(**changes: object) -> ClaimReport:
    settings = {
        "title": "A title",
        "claim": "Somebody claims something.",
        "columns": ("network", "Dice"),
        "rows": (("ours", "0.9"), ("theirs", "0.8")),
        "verdict": "It holds.",
    }
    return ClaimReport(**{**settings, **changes})


def test_a_report_is_a_heading_a_table_and_the_verdict():
    text = a_report(notes=("One note.", "Another."), seconds=61.4).markdown()

    assert text == (
        "## A title\n\nSomebody claims something.\n\n"
        "| network | Dice |\n|---|---|\n| ours | 0.9 |\n| theirs | 0.8 |\n\n"
        "**Verdict.** It holds.\n\n- One note.\n- Another.\n\nTook 61 s.\n"
    )


def test_long_runs_are_told_in_minutes():
    assert "Took 15 min." in a_report(seconds=910).markdown()


def test_a_bar_or_a_line_break_in_a_cell_does_not_break_the_table():
    assert "| a \\| b c | 1 |" in a_report(rows=(("a | b\nc", "1"),)).markdown()


@pytest.mark.parametrize("rows", [(("only one",),), (("ours", "0.9"), ("theirs", "0.8", "more"))])
def test_a_row_of_another_width_is_named(rows: tuple[tuple[str, ...], ...]):
    with pytest.raises(ValueError, match=f"row {len(rows)} has {len(rows[-1])} cells for 2 columns"):
        a_report(rows=rows)


def test_a_report_without_columns_is_refused():
    with pytest.raises(ValueError, match="columns"):
        a_report(columns=(), rows=())
