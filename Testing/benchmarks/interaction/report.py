"""The tables and the verdict, whichever way they come out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.interaction.summary import Reached, Seconds, Summary, busy_share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.interaction.cases import Group
    from benchmarks.interaction.methods import Contestant
    from benchmarks.interaction.records import Conditions, Record, Start

SHOWN = (1, 3, 5, 10)
DICES = (0.85, 0.90, 0.95)
GOAL_CLICKS = 5
GOALS: dict[bool, float] = {True: 0.90, False: 0.85}
"""The mean Dice after five clicks from nothing on structures seen in training, and on those held out."""
GOAL_SECONDS = {"cpu": 1.5, "cuda": 0.060}
"""The median answer after the first click of a session, in 3D, on two processor cores and on an H200."""
GOAL_THREADS = 2

_LEAST_SHARE = 0.8
_STARTS: dict[Start, str] = {"nothing": "nothing", "mask": "bad mask"}
_NONE = "–"


@dataclass(frozen=True)
class Table:
    """A heading, some sentences and a table.

    Raises
    ------
    ValueError
        When a row has another number of cells than there are columns.
    """

    title: str
    about: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    level: int = 3

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row has {len(row)} cells for {len(self.columns)} columns: {row}")

    def markdown(self) -> str:
        """Return it as Markdown."""
        lines = [_line(self.columns), "|" + "---|" * len(self.columns), *map(_line, self.rows)]
        parts = [f"{'#' * self.level} {self.title}", self.about, "\n".join(lines)]
        if self.notes:
            parts.append("\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join(filter(None, parts))


@dataclass(frozen=True)
class InteractionReport:
    """Everything that was measured.

    Attributes
    ----------
    setting
        Sentences on what holds for all tables.
    tables
        The one over all structures first.
    verdict
        Sentences on the goals.
    seconds
        How long this run took; what was measured before is not in it.
    """

    setting: tuple[str, ...]
    tables: tuple[Table, ...]
    verdict: tuple[str, ...]
    seconds: float = 0.0

    def markdown(self) -> str:
        """Return the report as Markdown, ready for ``Testing/benchmarks/RESULTS.md``."""
        first, *others = [table.markdown() for table in self.tables]
        parts = ["## Correcting by clicks", "\n".join(f"- {line}" for line in self.setting), first]
        parts += [f"**Verdict.** {' '.join(self.verdict)}", *others]
        if self.seconds:
            parts.append(f"This run took {self.seconds / 60:.0f} min.")
        return "\n\n".join(parts) + "\n"


def tables_of(
    groups: dict[str, Group], contestants: Sequence[Contestant], records: Sequence[Record], conditions: Conditions
) -> tuple[Table, ...]:
    """Return the table over all structures, then for each group one and, when it has several kinds, one by kinds."""
    found = [_overall(groups, contestants, records, conditions)]
    for name, group in groups.items():
        own = [record for record in records if record.group == name]
        if own:
            found.append(_of_group(group, contestants, own, conditions))
            if len({record.structure for record in own}) > 1:
                found.append(_by_kinds(contestants, own, conditions))
    return tuple(found)


def verdict_of(
    groups: dict[str, Group],
    contestants: Sequence[Contestant],
    records: Sequence[Record],
    conditions: Conditions,
    kind: str,
) -> tuple[str, ...]:
    """Return sentences on whether each network reaches the goals.

    Parameters
    ----------
    kind
        Of the device: "cpu" or "cuda".
    """
    lines = []
    if not any(contestant.side == "network" for contestant in contestants):
        lines.append("No network was asked, so no goal is judged.")
    for contestant in contestants:
        if contestant.side == "network":
            own = _of(contestant, records)
            lines += [_judged(contestant, groups, own, conditions, seen=seen) for seen in (True, False)]
            lines.append(_judged_seconds(contestant, own, conditions, kind))
    share = busy_share(records)
    if share < _LEAST_SHARE:
        lines.append(
            f"The machine was busy with other work: methods had {share:.0%} of one processor, so take no verdict on"
            " time from these seconds."
        )
    return tuple(lines)


# --- tables


def _overall(
    groups: dict[str, Group], contestants: Sequence[Contestant], records: Sequence[Record], conditions: Conditions
) -> Table:
    clicks = min(GOAL_CLICKS, conditions.clicks)
    columns = ["method"]
    for words in ("seen in training", "held out"):
        columns += [f"{words}: Dice after {clicks} clicks", f"to {GOALS[words != 'held out']:.2f} within {clicks}"]
    columns += ["first click (s)", "95 %", "later clicks (s)", "95 %"]
    rows = []
    for contestant in contestants:
        own = _of(contestant, records)
        cells = [contestant.title]
        for seen in (True, False):
            found = Summary(_begun_with_nothing(groups, own, seen=seen))
            reached = found.reached(GOALS[seen], within=clicks)
            cells += [_number(found.over_kinds(clicks), 3), f"{reached.count} of {found.of}" if found.of else _NONE]
        every = Summary(own)
        rows.append((*cells, *_seconds(every.first_click()), *_seconds(every.later_clicks())))
    about = (
        "From nothing, the mean over the kinds of structures; for how many structures the Dice is reached. Seconds of"
        " both ways to begin."
    )
    return Table("All structures", about, tuple(columns), tuple(rows))


def _of_group(
    group: Group, contestants: Sequence[Contestant], records: Sequence[Record], conditions: Conditions
) -> Table:
    shown = [clicks for clicks in SHOWN if clicks <= conditions.clicks]
    columns = (
        "begun with", "method", "structures", "Dice before", *(f"after {clicks}" for clicks in shown),
        *(f"clicks to {dice:.2f}" for dice in DICES), "first click (s)", "95 %", "later clicks (s)", "95 %",
    )  # fmt: skip
    rows = []
    for start, words in _STARTS.items():
        for contestant in contestants:
            own = [record for record in _of(contestant, records) if record.start == start]
            if own:
                rows.append(_row(words, contestant, own, shown, len(columns)))
    return Table(group.title, group.about, columns, tuple(rows), (*group.notes, *_failures(contestants, records)))


def _row(
    words: str, contestant: Contestant, records: Sequence[Record], shown: Sequence[int], width: int
) -> tuple[str, ...]:
    found = Summary(records)
    if not found.sessions:
        reasons = ", ".join(dict.fromkeys(record.reason for record in records))
        return (words, contestant.title, "0", reasons, *[_NONE] * (width - 4))
    done = len(found.sessions)
    return (
        words,
        contestant.title,
        str(done) if found.complete else f"{done} of {found.of}",
        _number(found.before, 3),
        *(_number(found.after(clicks), 3) for clicks in shown),
        *(_reached(found.reached(dice)) for dice in DICES),
        *_seconds(found.first_click()),
        *_seconds(found.later_clicks()),
    )


def _by_kinds(contestants: Sequence[Contestant], records: Sequence[Record], conditions: Conditions) -> Table:
    clicks = min(GOAL_CLICKS, conditions.clicks)
    rows = []
    for start, words in _STARTS.items():
        for kind in dict.fromkeys(record.structure for record in records):
            own = [record for record in records if record.structure == kind and record.start == start]
            if own:
                count = len({(record.scan, record.structure) for record in own})
                each = [Summary(_of(contestant, own)) for contestant in contestants]
                cells = [_number(one.after(clicks), 3) if one.sessions else _NONE for one in each]
                rows.append((words, kind, str(count), *cells))
    columns = ("begun with", "structure", "scans", *(contestant.title for contestant in contestants))
    return Table(f"By structure: Dice after {clicks} clicks", "", columns, tuple(rows), level=4)


def _failures(contestants: Sequence[Contestant], records: Sequence[Record]) -> list[str]:
    lines = []
    for contestant in contestants:
        failed = [record for record in _of(contestant, records) if record.status == "failed"]
        if failed:
            told = "; ".join(f"{record.scan} {record.structure}: {record.reason}" for record in failed)
            lines.append(f"{contestant.title} failed {len(failed)} times ({told}).")
    return lines


# --- goals


def _judged(
    contestant: Contestant, groups: dict[str, Group], records: Sequence[Record], conditions: Conditions, *, seen: bool
) -> str:
    where = "seen in training" if seen else "held out"
    own = _begun_with_nothing(groups, records, seen=seen)
    found = Summary(own)
    if not own or not found.complete or conditions.clicks < GOAL_CLICKS:
        return f"{contestant.title}: the goal on structures {where} is not judged, because not all were measured."
    mean, goal = found.over_kinds(GOAL_CLICKS), GOALS[seen]
    reached = found.reached(goal, within=GOAL_CLICKS)
    return (
        f"{contestant.title}: the goal, a mean Dice of {goal:.2f} after {GOAL_CLICKS} clicks from nothing on"
        f" structures {where}, is {'met' if mean >= goal else 'missed'} with {mean:.3f} (mean over the kinds);"
        f" {reached.count} of {reached.of} structures get there."
    )


def _judged_seconds(contestant: Contestant, records: Sequence[Record], conditions: Conditions, kind: str) -> str:
    found = Summary(records).later_clicks()
    goal = GOAL_SECONDS[kind]
    if math.isnan(found.median) or (kind == "cpu" and conditions.threads != GOAL_THREADS):
        return f"{contestant.title}: the goal on seconds is for {GOAL_THREADS} threads and is not judged."
    return (
        f"{contestant.title}: after the first click of a session the median answer takes {_time(found.median)} (95 %:"
        f" {_time(found.p95)}) on {conditions.device}; the goal, {_time(goal)}, is"
        f" {'met' if found.median <= goal else 'missed'}."
    )


# --- words


def _of(contestant: Contestant, records: Sequence[Record]) -> list[Record]:
    mine = (contestant.method, contestant.weights)
    return [record for record in records if (record.method, record.weights) == mine]


def _begun_with_nothing(groups: dict[str, Group], records: Sequence[Record], *, seen: bool) -> list[Record]:
    return [record for record in records if record.start == "nothing" and groups[record.group].seen == seen]


def _number(value: float, digits: int) -> str:
    return _NONE if math.isnan(value) else f"{value:.{digits}f}"


def _reached(found: Reached) -> str:
    return f"{found.clicks:.1f} ({found.count} of {found.of})"


def _seconds(found: Seconds) -> tuple[str, str]:
    return _number(found.median, 2 if found.median >= 0.1 else 3), _number(found.p95, 2 if found.p95 >= 0.1 else 3)


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
