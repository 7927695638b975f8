"""Registers every pair in every way, and measures what comes back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.registration.cases import cases
from benchmarks.registration.groups import GROUPS
from benchmarks.registration.job import Costs
from benchmarks.registration.measure import measure
from benchmarks.registration.methods import METHODS
from benchmarks.registration.process import register_apart
from benchmarks.registration.records import BEFORE, Conditions, Record, Records
from benchmarks.registration.report import RegistrationReport, report_on
from medseg.errors import InputError
from medseg.progress import NO_PROGRESS, Progress
from medseg.registration import SpatialTransform

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.registration.pair import Case, Group, Pair

_SEED = 0
_SPACING_OF_A_QUICK_RUN_MM = 4.0


def run(
    *,
    data: Path | None,
    quick: bool = False,
    only: Sequence[str] = (),
    methods: Sequence[str] = (),
    threads: int = 2,
    records: Path | None = None,
    progress: Progress = NO_PROGRESS,
) -> RegistrationReport:
    """Compare the methods on the pairs.

    Parameters
    ----------
    data
        Folder of real volumes.
    quick
        Three coarse pairs: shows that everything runs, and nothing about the methods.
    only
        Names of groups, or parts of names of pairs; without any, all.
    methods
        Names of methods; without any, all but those that run when they are asked for only.
    threads
        Of every method.
    records
        A file in which every measurement is kept; those that it holds are not made again.

    Raises
    ------
    InputError
        When there is no folder of real volumes, or a name fits nothing.
    Cancelled
        When the user asked to stop; what was measured is in ``records``.
    """
    if data is None:
        raise InputError(
            "There is no folder of real volumes to register.",
            advice="Name it with --data or MEDSEG_TEST_DATA.",
        )
    return compare(
        _chosen_cases(cases(data), only, quick),
        _chosen_methods(methods),
        Records(Conditions(threads, quick), records),
        progress=progress,
    )


def compare(
    chosen: Sequence[Case],
    methods: Sequence[str],
    records: Records,
    *,
    groups: dict[str, Group] = GROUPS,
    progress: Progress = NO_PROGRESS,
) -> RegistrationReport:
    """Register the pairs of ``chosen`` by ``methods``, as far as ``records`` does not hold them yet, and report."""
    begun = time.perf_counter()
    found: list[Record] = []
    for number, case in enumerate(chosen):
        part = progress.part(number / len(chosen), (number + 1) / len(chosen))
        found.extend(_measured(case, groups[case.group], methods, records, part))
    parts = [
        report_on(group, [record for record in found if record.group == name])
        for name, group in groups.items()
        if any(record.group == name for record in found)
    ]
    return RegistrationReport(_setting(methods, records.conditions), tuple(parts), time.perf_counter() - begun)


def _chosen_cases(known: Sequence[Case], only: Sequence[str], quick: bool) -> list[Case]:
    found = [case for case in known if case.quick] if quick and not only else list(known)
    for name in only:
        if not any(_fits(case, name) for case in known):
            groups = ", ".join(dict.fromkeys(case.group for case in known))
            raise InputError(f"No pair and no group is called '{name}'.", advice=f"The groups here are: {groups}.")
    if only:
        found = [case for case in found if any(_fits(case, name) for name in only)]
    if not found:
        raise InputError(
            "The folder holds none of the volumes that are registered.", advice="Name another with --data."
        )
    return found


def _fits(case: Case, name: str) -> bool:
    return name == case.group or name in case.name


def _chosen_methods(names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in METHODS:
            raise InputError(f"There is no method '{name}'.", advice=f"The methods are: {', '.join(METHODS)}.")
    return [name for name, method in METHODS.items() if (name in names if names else not method.asked)]


def _measured(case: Case, group: Group, methods: Sequence[str], records: Records, progress: Progress) -> list[Record]:
    """Return the records of one pair; it is made only when something is left to measure."""
    # What is made for two contrasts has no place in the other tables; what cannot take two has a line that says so.
    names = [
        BEFORE,
        *(name for name in methods if METHODS[name].contrasts != "several" or group.contrasts == "several"),
    ]
    found, pair = [], None
    for number, name in enumerate(names):
        progress.update(number / len(names), f"{case.name}: {name}")
        record = records.find(case.group, case.name, name)
        if record is None:
            if pair is None and not _left_out(name, group):
                pair = case.build(_SPACING_OF_A_QUICK_RUN_MM if records.conditions.quick else None)
            record = _registered(case, group, name, pair, records.conditions.threads, progress)
            records.add(record)
        found.append(record)
    return found


def _left_out(name: str, group: Group) -> str:
    """Return why a method is not tried on a group, "" when it is."""
    if name == BEFORE:
        return ""
    if group.contrasts == "several" and METHODS[name].contrasts == "one":
        return "compares brightness, so not for two contrasts"
    return METHODS[name].missing()


def _registered(case: Case, group: Group, name: str, pair: Pair | None, threads: int, progress: Progress) -> Record:
    why = _left_out(name, group)
    if why or pair is None:
        return Record(case.name, case.group, name, "left out", why)
    if name == BEFORE:
        return Record(case.name, case.group, name, measured=measure(SpatialTransform(), pair), costs=Costs(0.0, 0.0, 0))
    outcome = register_apart(pair, name, threads=threads, seed=_SEED, progress=progress)
    if isinstance(outcome, str):
        return Record(case.name, case.group, name, "failed", outcome)
    transform, costs = outcome
    return Record(case.name, case.group, name, measured=measure(transform, pair), costs=costs)


def _setting(methods: Sequence[str], conditions: Conditions) -> tuple[str, ...]:
    packages = [METHODS[name].version() for name in methods]
    versions = [*dict.fromkeys(filter(None, packages))]
    lines = [
        (
            "Every method is given the same two files and the same masks, and has a process of its own with"
            f" {_threads(conditions.threads)}. It hands back a transform; errors, Dice and folds are taken from that by"
            " the same code."
        ),
        (
            "Seconds: from the volumes in memory to the transform, without starting, importing and reading; ours with"
            " their figures of quality. Peak memory: of the whole process with its libraries, the largest of all pairs."
        ),
        (
            "Worst 30 %: mean error of the worst 30 % of the points of a pair, averaged over the pairs; or mean of the"
            " worst 30 % of the Dice values of all structures and pairs. Folds: share of the voxels of the fixed volume"
            " whose Jacobian determinant (central differences) is not positive."
        ),
        (
            f"Rivals: {', '.join(versions)}, called with their defaults; nothing is tuned. Ours are called with their"
            " defaults too, unless their name says otherwise."
        ),
    ]
    if conditions.quick:
        lines.append("A quick run: it shows that everything works. Its figures say nothing about the methods.")
    lines += [f"Missing: {METHODS[name].title}. {why}." for name in methods if (why := METHODS[name].missing())]
    return tuple(lines)


def _threads(count: int) -> str:
    return "one thread" if count == 1 else f"{count} threads"
