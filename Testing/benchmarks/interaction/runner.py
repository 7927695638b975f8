"""Clicks at every structure with every method, from nothing and from a bad mask, and measures what comes back."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.interaction import starts
from benchmarks.interaction.cases import groups
from benchmarks.interaction.methods import METHODS, NETWORKS, RIVALS, contestants
from benchmarks.interaction.records import Conditions, Record, Records
from benchmarks.interaction.report import InteractionReport, tables_of, verdict_of
from benchmarks.interaction.rivals import SHARP_BETA
from benchmarks.interaction.users import clicked
from medseg.correction.pipeline import correction_package
from medseg.device import choose_device
from medseg.errors import InputError, MedSegError
from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.interaction.cases import Case, Group, Scan
    from benchmarks.interaction.methods import Contestant
    from benchmarks.interaction.records import Start
    from medseg.models import ModelPackage

CLICKS, CLICKS_OF_A_QUICK_RUN = 10, 3
RECIPE = Path(__file__).resolve().parents[3] / "Resources" / "recipes" / "any-structure.yaml"
"""Of the network that MedSeg brings along."""

_STARTS: tuple[Start, ...] = ("nothing", "mask")


def run(
    *,
    data: Path | None,
    recipe: Path | None = None,
    models: Sequence[str] = (),
    quick: bool = False,
    only: Sequence[str] = (),
    methods: Sequence[str] = (),
    most: int = 12,
    threads: int = 2,
    device: str = "cpu",
    records: Path | None = None,
    progress: Progress = NO_PROGRESS,
) -> InteractionReport:
    """Compare methods on the structures that the network was not trained on.

    Parameters
    ----------
    data
        Folder of real volumes.
    recipe
        With which the network was trained: it says which scans and structures it has not seen; ``None``:
        :data:`RECIPE`.
    models
        Names or folders of packages; without any, the one that MedSeg takes by default. The first one is also run
        without the Self-Loop and without TSIP.
    quick
        One structure a group and three clicks: shows that everything runs, and nothing about the methods.
    only
        Names of groups, or parts of names of scans and structures; without any, all.
    methods
        Names of methods; without any, all.
    most
        Structures of each group, those of the first scans first.
    threads
        Of the networks on a processor.
    device
        Of the networks; "auto", "cpu", "cuda" or "cuda:N".
    records
        A file in which every session is kept; those that it holds are not done again.

    Raises
    ------
    InputError
        When there is no folder of real volumes, or a name fits nothing.
    MedSegError
        When the recipe or a package cannot be used.
    Cancelled
        When the user asked to stop; what was measured is in ``records``.
    """
    from medseg.training.correction.recipe import read_correction_recipe

    if data is None:
        raise InputError(
            "There is no folder of real volumes to click at.", advice="Name it with --data or MEDSEG_TEST_DATA."
        )
    chosen = _chosen_methods(methods)
    packages = _packages(models) if set(chosen) & set(NETWORKS) else []
    hardware = choose_device(device)
    known = groups(read_correction_recipe(recipe or RECIPE), data)
    conditions = Conditions(threads, hardware.name, CLICKS_OF_A_QUICK_RUN if quick else CLICKS)
    with _threads(threads):
        return compare(
            known,
            _chosen_cases(known, only, 1 if quick else most),
            contestants(chosen, packages, hardware.device),
            Records(conditions, records),
            kind=hardware.device.partition(":")[0],
            progress=progress,
        )


def compare(
    known: dict[str, Group],
    cases: Sequence[Case],
    rivals: Sequence[Contestant],
    records: Records,
    *,
    kind: str = "cpu",
    progress: Progress = NO_PROGRESS,
) -> InteractionReport:
    """Let all contestants correct the structures of ``cases``, as far as ``records`` does not hold it yet, and report.

    Parameters
    ----------
    kind
        Of the device of the networks: "cpu" or "cuda".
    """
    begun = time.perf_counter()
    found: list[Record] = []
    ready: set[int] = set()
    for number, case in enumerate(cases):
        part = progress.part(number / len(cases), (number + 1) / len(cases))
        found.extend(_measured(case, rivals, records, ready, part))
    return InteractionReport(
        _setting(rivals, records.conditions),
        tables_of(known, rivals, found, records.conditions),
        verdict_of(known, rivals, found, records.conditions, kind),
        time.perf_counter() - begun,
    )


def _chosen_methods(names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in METHODS:
            raise InputError(f"There is no method '{name}'.", advice=f"The methods are: {', '.join(METHODS)}.")
    return [name for name in METHODS if not names or name in names]


def _packages(models: Sequence[str]) -> list[ModelPackage]:
    return [correction_package(name) for name in models] or [correction_package()]


def _chosen_cases(known: dict[str, Group], only: Sequence[str], most: int) -> list[Case]:
    """Return the structures of the groups that are named, or those whose names hold something that is named."""
    names = [name for name in only if name not in known]
    # Reading a group takes seconds: when only groups are named, the others are left alone.
    loaded = {group: known[group].load() for group in known if names or not only or group in only}
    for name in names:
        if not any(name in case.name for cases in loaded.values() for case in cases):
            raise InputError(
                f"No scan, no structure and no group is called '{name}'.",
                advice=f"The groups here are: {', '.join(known)}.",
            )
    found = []
    for group, cases in loaded.items():
        wanted = [case for case in cases if not only or group in only or any(name in case.name for name in names)]
        found += wanted[:most]
    if not found:
        raise InputError(
            "The folder holds none of the volumes that are clicked at.", advice="Name another with --data."
        )
    return found


def _measured(
    case: Case, rivals: Sequence[Contestant], records: Records, ready: set[int], progress: Progress
) -> Iterator[Record]:
    """Yield the records of one structure; it is read only when something is left to measure."""
    scan: Scan | None = None
    jobs = [(start, contestant) for start in _STARTS for contestant in rivals]
    for number, (start, contestant) in enumerate(jobs):
        part = progress.part(number / len(jobs), (number + 1) / len(jobs))
        part.update(0.0, f"{case.name}: {contestant.title}, from {start}")
        names = (case.group, case.scan, case.structure, contestant.method, contestant.weights)
        record = records.find((*names, start))
        if record is None:
            if contestant.missing:
                record = Record(*names, start, "left out", contestant.missing)
            else:
                scan = scan or case.build()
                record = _session(names, start, contestant, scan, records.conditions.clicks, ready, part)
            records.add(record)
        yield record


def _session(
    names: tuple[str, str, str, str, str],
    start: Start,
    contestant: Contestant,
    scan: Scan,
    clicks: int,
    ready: set[int],
    progress: Progress,
) -> Record:
    volume, truth = scan
    mask = np.zeros(truth.shape, bool)
    try:
        if id(contestant) not in ready:
            # What is only slow the first time, such as importing, is no matter of clicks.
            clicked(contestant.make_tool(volume), volume, truth, mask, 1)
            ready.add(id(contestant))
        if start == "mask":
            mask = starts.bad_mask(truth, volume.geometry.spacing[::-1], starts.seed_of("/".join(names[:3])))
        session = clicked(contestant.make_tool(volume), volume, truth, mask, clicks, progress)
    except MedSegError as error:
        return Record(*names, start, "failed", error.message)
    return Record(*names, start, session=session)


def _setting(rivals: Sequence[Contestant], conditions: Conditions) -> tuple[str, ...]:
    used = [RIVALS[one.method] for one in rivals if one.method in RIVALS]
    lines = [
        (
            f"A simulated user makes {conditions.clicks} clicks, each into the middle of the largest error: the largest"
            " connected piece of what is missing or too much. Dice on the scan's own voxels. Every method has its own"
            " user: the first click of a structure is the same for all, each later one answers to the method's own"
            " error, as is usual for counting clicks."
        ),
        (
            "Begun with nothing, or with a bad mask: the border of the truth moved in and out smoothly until the Dice"
            f" is {starts.DICE:.2f}, the same mask for all."
        ),
        (
            "Clicks to a Dice: mean over the structures, and how many reach it; those that never do count as"
            f" {conditions.clicks}. Seconds: from a click to the segment after it, median and 95th percentile; the"
            " first click of a session, which also looks at the image, apart. Each method answers once before it is"
            " timed."
        ),
        f"Networks on {conditions.device}, {conditions.threads} threads on a processor; rivals on the processor.",
    ]
    if used:
        versions = " and ".join(filter(None, dict.fromkeys(rival.version() for rival in used)))
        lines.append(
            f"Rivals ({versions or 'none is installed'}) see the same window of 64 voxels a side as the network, which"
            " lies, grows and moves by the same rules, and their answers enter the segment by the same rules. Seeds:"
            " the balls of the clicks, and the border of the window as background; a mask is turned into seeds, but for"
            " a band along its border and the surroundings of clicks that say otherwise. They are called with their"
            f" defaults; the widths of both, and beta {SHARP_BETA:g} of the random walker, were chosen in their favour"
            " on structures of this comparison."
        )
    lines += [f"Missing: {one.title}. {one.missing}." for one in rivals if one.missing]
    if conditions.clicks < CLICKS:
        lines.append("A quick run: it shows that everything works. Its figures say nothing about the methods.")
    return tuple(lines)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Give torch so many threads for a while."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
