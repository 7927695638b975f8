"""The tables and the verdicts, whichever way they come out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.claims.report import ClaimReport
from benchmarks.registration.methods import METHODS
from benchmarks.registration.records import BEFORE
from benchmarks.registration.summary import Summary, summarise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.registration.pair import Group, Rival
    from benchmarks.registration.records import Record

MOST_FOLDED = 0.001
SHARE_OF_TIME = 0.2
"""The goal: SyN's accuracy on brain MR in at most a fifth of its time, with at most 0.1 % of the voxels folded."""

_LEAST_SHARE = 0.8
"""Processor seconds for each second below which a machine is taken to be busy."""

_COSTS = ("folds (worst pair)", "seconds", "processor seconds", "peak memory")
_COLUMNS = {
    "mm": ("method", "pairs", "mean error (mm)", "median", "95 %", "worst 30 %", *_COSTS),
    "dice": ("method", "pairs", "mean Dice", "worst 30 %", *_COSTS),
}
_NAMES: dict[Rival, str] = {"syn": "ANTs SyN", "elastix": "elastix"}


@dataclass(frozen=True)
class RegistrationReport:
    """Everything that was measured.

    Attributes
    ----------
    setting
        Sentences on what holds for all tables.
    parts
        One for each group.
    seconds
        How long this run took; what was measured before is not in it.
    """

    setting: tuple[str, ...]
    parts: tuple[ClaimReport, ...]
    seconds: float = 0.0

    def markdown(self) -> str:
        """Return the report as Markdown, ready for ``Testing/benchmarks/RESULTS.md``."""
        text = ["## Registration against ANTs, elastix and Demons\n", "\n".join(f"- {line}" for line in self.setting)]
        # A claim's heading is of the second level, a part of this report of the third.
        text.extend(f"#{part.markdown().rstrip()}" for part in self.parts)
        if self.seconds:
            text.append(f"This run took {self.seconds / 60:.0f} min.")
        return "\n\n".join(line.rstrip() for line in text) + "\n"


def report_on(group: Group, records: Sequence[Record]) -> ClaimReport:
    """Return the table and the verdict of one group; the methods come in the order in which they were measured."""
    methods = list(dict.fromkeys(record.method for record in records))
    rows, summaries = [], {}
    for method in methods:
        own = [record for record in records if record.method == method]
        found = summarise(method, group.measure, own)
        if found is None:
            rows.append(_empty_row(method, own, len(_COLUMNS[group.measure])))
        else:
            summaries[method] = found
            rows.append(_row(found, group))
    notes = [*group.notes, *_failures(records), *_busy(list(summaries.values()))]
    return ClaimReport(
        group.title, group.about, _COLUMNS[group.measure], tuple(rows), _verdict(group, summaries), tuple(notes)
    )


def _title(method: str) -> str:
    return "before registration" if method == BEFORE else METHODS[method].title


def _row(found: Summary, group: Group) -> tuple[str, ...]:
    cells = [_title(found.method), str(found.pairs) if found.complete else f"{found.pairs} of {found.of}"]
    if group.measure == "mm":
        cells += [f"{value:.2f}" for value in (found.accuracy, found.median, found.p95, found.worst)]
    else:
        cells += [f"{value:.3f}" for value in (found.accuracy, found.worst)]
    if found.method == BEFORE:
        return (*cells, *["–"] * len(_COSTS))
    cells.append(f"{100 * found.folded:.3f} % ({100 * found.most_folded:.3f} %)")
    cells += [f"{found.seconds:.1f}", f"{found.processor_seconds:.1f}", f"{found.peak_bytes / 1e9:.2f} GB"]
    return tuple(cells)


def _empty_row(method: str, records: Sequence[Record], width: int) -> tuple[str, ...]:
    reasons = ", ".join(dict.fromkeys(record.reason for record in records))
    return (_title(method), "0", reasons, *["–"] * (width - 3))


def _failures(records: Sequence[Record]) -> list[str]:
    """Return a line for each method that failed on some pairs."""
    lines = []
    for method in dict.fromkeys(record.method for record in records):
        failed = [record for record in records if record.method == method and record.status == "failed"]
        if failed:
            told = "; ".join(f"{record.pair}: {record.reason}" for record in failed)
            lines.append(f"{_title(method)} gave no transform for {len(failed)} pairs ({told}).")
    return lines


def _busy(summaries: Sequence[Summary]) -> list[str]:
    """Return a line when the methods waited for a processor: alone on a machine, each keeps at least one at work."""
    seconds = sum(one.seconds for one in summaries)
    share = sum(one.processor_seconds for one in summaries) / seconds if seconds else 1.0
    if share >= _LEAST_SHARE:
        return []
    line = (
        f"The machine was busy with other work: methods had {share:.0%} of one processor. Their seconds say little;"
        " compare the processor seconds, and take no verdict on time from this table."
    )
    return [line]


def _verdict(group: Group, summaries: dict[str, Summary]) -> str:
    ranked = sorted(
        (one for one in summaries.values() if one.method != BEFORE and one.complete),
        key=lambda one: one.accuracy if group.measure == "mm" else -one.accuracy,
    )
    if not ranked:
        return "No method gave a transform for every pair."
    ours = [one for one in ranked if METHODS[one.method].side == "ours"]
    text = f"Most accurate: {_figures(ranked[0], group)}"
    if ours and ours[0] is not ranked[0]:
        text += f"; of ours, {_figures(ours[0], group)}"
    text += "."
    if group.goal is None:
        return text
    rivals = [one for one in ranked if METHODS[one.method].side == group.goal]
    if not rivals:
        return f"{text} The goal is not judged: {_NAMES[group.goal]} is not in this table with every pair."
    return " ".join([text, *(_judged(group, ours, rival) for rival in rivals)])


def _judged(group: Group, ours: Sequence[Summary], rival: Summary) -> str:
    wanted = f"as accurate as {_title(rival.method)} ({_accuracy(rival, group)})"
    if group.goal == "syn":
        seconds, folded = SHARE_OF_TIME * rival.seconds, 100 * MOST_FOLDED
        wanted += f" in at most {seconds:.1f} s (a fifth of its time) with at most {folded:g} % folds in any pair"
    met = [one for one in ours if _meets(one, rival, group)]
    if met:
        return f"The goal, {wanted}, is met by {'; '.join(_figures(one, group) for one in met)}."
    return f"The goal, {wanted}, is not met."


def _meets(one: Summary, rival: Summary, group: Group) -> bool:
    sign = 1 if group.measure == "mm" else -1
    accurate = sign * one.accuracy <= sign * rival.accuracy
    if group.goal != "syn":
        return accurate
    return accurate and one.seconds <= SHARE_OF_TIME * rival.seconds and one.most_folded <= MOST_FOLDED


def _accuracy(one: Summary, group: Group) -> str:
    return f"{one.accuracy:.2f} mm" if group.measure == "mm" else f"Dice {one.accuracy:.3f}"


def _figures(one: Summary, group: Group) -> str:
    return f"{_title(one.method)} ({_accuracy(one, group)}, {one.seconds:.1f} s, {100 * one.folded:.3f} % folds)"
