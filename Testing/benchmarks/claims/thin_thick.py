"""Thin slices segmented from labels drawn on thick ones: the joint loss beats repeating and interpolating the labels.

Gang ("A Novel Convolutional-Free Method for 3D Medical Imaging Segmentation") proposes three requirements for it and
measures none. Here one case at a time is drawn on its thick slices and a network trained on that drawing alone, with
the joint loss, with parts of it, and as the per-case tool of MedSeg does it; rivals need no training.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks.claims import thick_slice_data as data_of
from benchmarks.claims.fitting import each_on_one_thread, mean_of
from benchmarks.claims.report import ClaimReport
from benchmarks.claims.thick_slice_data import Drawing, Rule
from medseg.metrics import dice
from medseg.progress import NO_PROGRESS, Progress
from medseg.training.thin_thick import TransferOptions, transfer
from medseg.training.thin_thick.case import make_case
from medseg.training.thin_thick.guided import Schedule
from medseg.training.thin_thick.joint import fit_joint, joint_scores
from medseg.training.thin_thick.shapes import classes_of

STAIRS, CLASSIC, FILLED, THICK, JOINT, UPPER = "stairs", "classic", "filled", "thick", "joint", "upper"
SHAPE, GUIDED = "shape", "guided"
PARTS = {"without l1": (0.0, 1.0, 0.1), "without l2": (1.0, 0.0, 0.1), "without l3": (1.0, 1.0, 0.0)}
NAMES = {
    STAIRS: "(i) labels repeated (staircase)",
    CLASSIC: "(ii) shape-based interpolation, linear",
    FILLED: "(ii) 3D Slicer's Fill between slices",
    THICK: "(iii) network trained on thick slices only",
    JOINT: "(iv) network, joint loss",
    **{part: f"(iv) {part}" for part in PARTS},
    UPPER: "(v) network trained on the thin truth",
    SHAPE: "ours: shapes along cubic curves",
    GUIDED: "ours: the same, corrected by the image (default of the tool)",
}
_JOINT_WEIGHTS = (1.0, 1.0, 0.1)


@dataclass(frozen=True)
class Setup:
    """The size of the experiment; a step on an atrium takes four times as long as on the others."""

    steps: int = 300
    atrium_steps: int = 200
    guided_steps: int = 400
    ratios: tuple[int, ...] = (3, 5)
    atrium_ratios: tuple[int, ...] = (5, 8)
    edge: int = 64
    slices: int = 60
    rules: tuple[Rule, ...] = ("majority", "any touch")
    cases: int | None = None


QUICK = Setup(
    steps=2,
    atrium_steps=2,
    guided_steps=2,
    ratios=(3,),
    atrium_ratios=(8,),
    edge=24,
    slices=18,
    rules=("majority",),
    cases=1,
)


@dataclass(frozen=True)
class Column:
    """One group of drawings: a kind of data, a ratio, a rule of drawing."""

    kind: str
    ratio: int
    rule: Rule
    cases: tuple[str, ...]
    thorough: bool = False
    """Also without each part of the loss."""

    @property
    def title(self) -> str:
        """Heading in the table."""
        rule = "" if self.kind != "phantom" else f", {self.rule}"
        return f"{self.kind}, r = {self.ratio}{rule}"


@dataclass(frozen=True)
class Job:
    """One method on one drawing."""

    column: Column
    case: str
    method: str
    setup: Setup
    folder: Path | None


@dataclass(frozen=True)
class Score:
    """Means over the labels of a drawing: Dice, and the distance along the slices in mm; NaN where there is none."""

    dice: float
    distance: float


def run(
    *,
    quick: bool = False,
    seeds: int = 3,
    threads: int = 2,
    data: Path | None = None,
    progress: Progress = NO_PROGRESS,
) -> ClaimReport:
    """See :func:`benchmarks.claims.run_claim`; ``seeds`` is the number of phantoms."""
    begun = perf_counter()
    setup = QUICK if quick else Setup()
    columns = columns_of(setup, 1 if quick else seeds, data)
    jobs = [job for column in columns for job in _jobs(column, setup, data)]
    scores = each_on_one_thread(measure, jobs, workers=threads, progress=progress)
    found: dict[tuple[Column, str], list[Score]] = {}
    for job, score in zip(jobs, scores, strict=True):
        if score is not None:
            found.setdefault((job.column, job.method), []).append(score)
    table = {
        key: Score(mean_of(each.dice for each in some), mean_of(each.distance for each in some))
        for key, some in found.items()
    }
    cases = "; ".join(f"{column.title}: {len(column.cases)}" for column in columns)
    cells = (
        "Cells: mean Dice of the thin labels / mean over the labels of the 95th percentile of the distance along the"
        " slices (mm). Thin slices that belong to no thick one are left out."
    )
    networks = (
        f"Networks: {setup.steps} steps on one case, {setup.atrium_steps} on an atrium (2D U-Nets over slices with"
        f" their neighbours, from the image alone); the tool's default: {setup.guided_steps}. Cases: {cases}."
    )
    labels = (
        "Labels of the trunk are another tool's; those of atria and heads were drawn slice by slice. Fill between"
        " slices does not close a shape beyond its last drawn slice; the tool takes a drawing to follow the majority."
    )
    notes = [cells, networks, labels, "The tool's own methods were designed on other atria and on the same trunk."]
    if data is None:
        notes.append("No real volumes were given: phantoms only.")
    return ClaimReport(
        title="Thin slices from thick labels (thin-thick adaptation)",
        claim="The joint loss (iv) gives better thin labels than repeating the thick labels (i), than interpolating "
        "their shapes (ii) and than a network trained on thick slices only (iii).",
        columns=("method", *(column.title for column in columns)),
        rows=tuple(_row(method, columns, table) for method in NAMES if any((c, method) in table for c in columns)),
        verdict=verdict(columns, table),
        notes=tuple(notes),
        seconds=perf_counter() - begun,
    )


def columns_of(setup: Setup, seeds: int, data: Path | None) -> list[Column]:
    """Return the groups of drawings of the experiment."""
    phantoms = tuple(str(seed) for seed in range(seeds))
    columns = [
        Column("phantom", ratio, rule, phantoms, thorough=rule == "majority" and ratio == max(setup.ratios))
        for rule in setup.rules
        for ratio in setup.ratios
        if rule == "majority" or ratio == max(setup.ratios)
    ]
    if data is not None:
        atria = data_of.atria(data)[: setup.cases]
        if atria:
            columns += [Column("left atrium", ratio, "majority", atria) for ratio in setup.atrium_ratios]
        if setup.cases is None and data_of.has_trunk(data):
            columns.append(Column("trunk CT", 3, "majority", ("trunk",), thorough=True))
        heads = data_of.heads_and_necks(data) if setup.cases is None else ()
        if heads:
            columns.append(Column("head and neck CT", 3, "majority", heads))
    return columns


def _jobs(column: Column, setup: Setup, folder: Path | None) -> list[Job]:
    methods = [method for method in NAMES if method not in PARTS or column.thorough]
    return [Job(column, case, method, setup, folder) for case in column.cases for method in methods]


def drawing_of(job: Job) -> Drawing:
    """Return the drawing that a job is about."""
    column, folder = job.column, job.folder
    if column.kind == "phantom":
        volume = data_of.phantom(int(job.case), job.setup.edge, job.setup.slices)
    elif folder is None:
        raise ValueError(f"{column.kind} needs real volumes")
    elif column.kind == "left atrium":
        volume = data_of.atrium(folder, job.case)
    elif column.kind == "trunk CT":
        volume = data_of.trunk(folder)
    else:
        volume = data_of.head_and_neck(folder, job.case)
    return data_of.draw(*volume, column.ratio, column.rule)


def measure(job: Job, progress: Progress) -> Score | None:
    """Return how a method does on a drawing; ``None`` when it cannot be run here."""
    drawing = drawing_of(job)
    steps = job.setup.atrium_steps if job.column.kind == "left atrium" else job.setup.steps
    found = _METHODS[job.method](drawing, job.setup.guided_steps if job.method == GUIDED else steps, progress)
    if found is None:
        return None
    stop, spacing = drawing.covered, drawing.thin.geometry.spacing[2]
    pairs = [(found[:stop] == value, drawing.truth[:stop] == value) for value in drawing.values]
    return Score(
        mean_of(dice(*pair) for pair in pairs),
        mean_of(data_of.distance_along_slices(*pair, spacing) for pair in pairs),
    )


def _transferred(**options: object) -> Callable[[Drawing, int, Progress], np.ndarray]:
    def method(drawing: Drawing, steps: int, progress: Progress) -> np.ndarray:
        given = TransferOptions(**{"device": "cpu", "steps": steps, "seconds": 86_400.0, **options})
        return transfer(drawing.thin, drawing.drawn, given, progress=progress).labelmap.array

    return method


def _upper_bound(drawing: Drawing, steps: int, progress: Progress) -> np.ndarray:
    """Train the network of the joint loss directly on the thin truth of the same crop."""
    case = make_case(drawing.thin, drawing.drawn, TransferOptions().margin_mm)
    box = tuple(slice(start, start + size) for start, size in zip(case.start, case.image.shape, strict=True))
    truth = np.searchsorted([0, *case.values], drawing.truth[box]) * np.isin(drawing.truth[box], case.values)
    thin = dataclasses.replace(case, drawn=truth.astype(np.uint16), ratio=1, first=0)
    network, _ = fit_joint(thin, (1.0, 0.0, 0.0), Schedule(steps=steps, seconds=86_400.0), progress=progress)
    scores = (joint_scores(network, thin, slice_) for slice_ in range(len(thin.image)))
    return case.restored(np.stack([classes_of(each) for each in scores]), drawing.thin).array


_METHODS: dict[str, Callable[[Drawing, int, Progress], np.ndarray | None]] = {
    STAIRS: lambda drawing, _steps, _progress: data_of.staircase(drawing),
    FILLED: lambda drawing, _steps, _progress: data_of.fill_between_slices(drawing),
    CLASSIC: _transferred(method=SHAPE, interpolation="classic", keep_drawing=False),
    SHAPE: _transferred(method=SHAPE),
    GUIDED: _transferred(method=GUIDED),
    JOINT: _transferred(method=JOINT, weights=_JOINT_WEIGHTS),
    THICK: _transferred(method=JOINT, weights=(1.0, 0.0, 0.0)),
    **{part: _transferred(method=JOINT, weights=weights) for part, weights in PARTS.items()},
    UPPER: _upper_bound,
}


def _row(method: str, columns: Sequence[Column], table: dict[tuple[Column, str], Score]) -> tuple[str, ...]:
    cells = []
    for column in columns:
        score = table.get((column, method))
        cells.append("–" if score is None else f"{score.dice:.3f} / {_number(score.distance)}")
    return (NAMES[method], *cells)


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1f}"


def verdict(columns: Sequence[Column], table: dict[tuple[Column, str], Score]) -> str:
    """Return whether the claim held, group by group, and whether the tool's default does better."""

    def wins(method: str, rivals: Sequence[str]) -> int:
        return sum(
            all(table[column, method].dice > table[column, rival].dice for rival in rivals if (column, rival) in table)
            for column in columns
        )

    total = len(columns)
    held = wins(JOINT, (STAIRS, CLASSIC, FILLED, THICK))
    each = ", ".join(
        f"{name} in {wins(JOINT, rivals)}"
        for name, rivals in (("(i)", (STAIRS,)), ("(ii)", (CLASSIC, FILLED)), ("(iii)", (THICK,)))
    )
    ours = wins(GUIDED, (STAIRS, CLASSIC, FILLED, THICK, JOINT))
    answer = "The claim held" if held == total else "The claim did not hold" if held == 0 else "The claim held in part"
    return (
        f"{answer}: by mean Dice the joint loss is above all of (i), (ii) and (iii) in {held} of {total} groups"
        f" (above {each}). What the tool does by default is above all of these in {ours} of {total}."
    )
