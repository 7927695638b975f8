"""The work behind ``medseg segment`` and ``medseg demo``: one model, loaded once, and its cases one after the other."""

from __future__ import annotations

import csv
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer

from medseg.cli.cases import LABELMAP_ENDINGS, OUTPUT_ENDINGS, SEGMENTATION_ENDING, Case, find_cases, outputs_for
from medseg.cli.console import Bar, remarks, results
from medseg.cli.failures import interruption_postponed, unexpected
from medseg.errors import Cancelled, MedSegError
from medseg.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from medseg.labels import Label, LabelTable
    from medseg.models import ModelPackage
    from medseg.progress import Progress
    from medseg.segmentation import SegmentationResult, SegmentStatistics
    from medseg.volumes import Volume


@dataclass(frozen=True)
class Targets:
    """The cases of one command and where their results go; lists are as long as ``cases`` or empty."""

    cases: list[Case]
    segmentations: list[Path]
    previews: list[Path] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)
    """One table a case, or one path for all cases."""

    @classmethod
    def plan(
        cls, inputs: Sequence[Path], package: ModelPackage, *, output: str, statistics: str | None, preview: str | None
    ) -> Targets:
        """Settle every path and check that it can be written, before anything is computed.

        Raises
        ------
        typer.BadParameter
            For a wrong command line.
        MedSegError
            When an input folder is empty, an output cannot be written, or a preview cannot be drawn here.
        """
        cases = find_cases(inputs, len(package.inputs))
        if preview is not None:
            from medseg.preview import check_preview

            check_preview()
        # A table may collect all cases, unless the name asks for one each.
        table_cases = cases if statistics is not None and "{name}" in statistics else cases[:1]
        return cls(
            cases,
            outputs_for("--output", output, cases, OUTPUT_ENDINGS),
            [] if preview is None else outputs_for("--preview", preview, cases, (".png",)),
            [] if statistics is None else outputs_for("--statistics", statistics, table_cases, (".csv",)),
        )


@dataclass
class _Batch:
    statistics: dict[str, Sequence[SegmentStatistics]] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)
    done: int = 0


def run_cases(targets: Targets, package: ModelPackage, device: str) -> SegmentationResult | None:
    """Segment all cases, print what was written, and return the last result.

    Exits with code 1 when one of several cases failed; the error of a single case is raised.
    ``device`` is "auto", "cpu" or "cuda".
    """
    from medseg.models import load_network
    from medseg.segmentation import SegmentOptions

    console, batch, many = remarks(), _Batch(), len(targets.cases) > 1
    result = None
    with Bar(console, len(targets.cases)) as bar:
        # Loaded once for all cases, and by the first run itself when there is one case, which has better words for it.
        network = load_network(package) if many else None
        options = SegmentOptions(device=device)
        for index, case in enumerate(targets.cases):
            progress = bar.start(case.name)
            try:
                result, image = _segment(case, package, options, network, progress)
                with interruption_postponed():
                    _write(targets, index, result, image, batch)
            except (Cancelled, KeyboardInterrupt):
                if many:
                    with bar.aside():
                        console.print(
                            f"{batch.done} of {len(targets.cases)} inputs were done; their results are whole."
                        )
                raise
            except Exception as error:
                if not many:
                    raise
                expected = isinstance(error, MedSegError)
                batch.failures.append((str(case.paths[0]), str(error) if expected else unexpected(error)))
                continue
            batch.done += 1
            with bar.aside():
                written = [targets.segmentations[index], *targets.previews[index : index + 1]]
                _report(console, result, written, details=not many)
    for path in targets.tables if batch.done else ():
        results().print(f"Written: {path}", markup=False)
    if many:
        _report_batch(console, batch, len(targets.cases))
    return result


def _segment(
    case: Case, package: ModelPackage, options: Any, network: Any, progress: Progress
) -> tuple[SegmentationResult, Volume]:
    from medseg.segmentation import segment
    from medseg.volumes import read_volume

    progress.update(0.0, "Reading")
    begun = time.perf_counter()
    volumes = [read_volume(path) for path in case.paths]
    seconds = time.perf_counter() - begun
    result = segment(volumes, package, options, network=network, progress=progress.part(0.02, 0.98))
    result.timings["read"] = seconds
    progress.update(0.98, "Writing")
    return result, volumes[0]


def _write(targets: Targets, index: int, result: SegmentationResult, image: Volume, batch: _Batch) -> None:
    case = targets.cases[index]
    write_result(result, targets.segmentations[index])
    if targets.previews:
        from medseg.preview import draw_preview

        draw_preview(image, result.labelmap, result.labels, targets.previews[index])
    if len(targets.tables) == len(targets.cases):
        write_table({case.name: result.statistics}, targets.tables[index])
    elif targets.tables:
        batch.statistics[case.name] = result.statistics
        # Written anew after every case, so that it is whole whenever the command ends.
        write_table(batch.statistics, targets.tables[0])


def write_result(result: SegmentationResult, path: Path) -> None:
    """Write ``result`` as a segmentation or a labelmap, as the ending of ``path`` says."""
    if path.name.lower().endswith(SEGMENTATION_ENDING):
        from medseg.segmentation.seg_nrrd import write_seg_nrrd

        write_seg_nrrd(result, path)
        return
    if not path.name.lower().endswith(LABELMAP_ENDINGS):
        raise AssertionError(path)
    from medseg.volumes import write_labelmap

    write_labelmap(result.labelmap, path)


def named(values: Iterable[int], source: Path | None, table: Path | None = None) -> LabelTable:
    """Return the labels of ``values``, with the names that the segmentation ``source`` or else the table knows."""
    from medseg.labels import LabelTable, read_labels
    from medseg.segmentation.seg_nrrd_labels import plain_label, segment_labels
    from medseg.volumes.folders import is_segmentation

    known: Iterable[Label] = ()
    if source is not None and is_segmentation(source):
        known = segment_labels(source)
    elif table is not None:
        known = read_labels(table)
    by_value = {label.value: label for label in known}
    return LabelTable([by_value.get(value) or plain_label(value) for value in values])


def write_table(statistics: Mapping[str, Sequence[SegmentStatistics]], path: Path) -> None:
    """Write the statistics of each input (its name first) as CSV: UTF-8, mL, intensities in the unit of the image."""
    from medseg.segmentation.statistics import STATISTICS_COLUMNS

    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("input", *STATISTICS_COLUMNS))
        for name, rows in statistics.items():
            for row in rows:
                numbers = (row.volume_ml, row.mean, row.std, row.minimum, row.maximum)
                cells = ["" if math.isnan(number) else f"{number:.6g}" for number in numbers]
                writer.writerow((name, row.name, row.value, row.voxels, *cells))


def _report(console: Console, result: SegmentationResult, written: Sequence[Path], *, details: bool) -> None:
    for notice in result.notices:
        console.print(f"Note: {notice}", markup=False)
    if details:
        _print_volumes(result)
        seconds = {name: result.timings.get(name, 0.0) for name in ("imports", "read", "network", "other")}
        console.print(
            f"Seconds on {result.device}: " + ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
        )
    for path in written:
        results().print(f"Written: {path}", markup=False)


def _print_volumes(result: SegmentationResult) -> None:
    """Print name, volume and intensity of every segment that was found."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Segment")
    for heading in ("Volume (mL)", "Mean", "SD"):
        table.add_column(heading, justify="right")
    for row in result.statistics:
        if row.voxels:
            table.add_row(row.name, f"{row.volume_ml:.2f}", f"{row.mean:.1f}", f"{row.std:.1f}")
    if table.row_count:
        results().print(table, soft_wrap=False)
    else:
        results().print("The model found none of its structures in this volume.")


def _report_batch(console: Console, batch: _Batch, count: int) -> None:
    results().print(f"{batch.done} of {count} inputs segmented.")
    if not batch.failures:
        return
    console.print(f"[red]{len(batch.failures)} failed:[/]")
    for name, reason in batch.failures:
        console.print(f"  {reason}" if name in reason else f"  {name}: {reason}", markup=False)
    raise typer.Exit(1)
