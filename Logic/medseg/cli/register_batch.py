"""``medseg register-many`` and ``medseg register-series``: many registrations, one after the other."""

import dataclasses
import json
import math
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medseg.cli.register_options import (
    Effort,
    FixedLabelsOption,
    FixedMaskOption,
    GammaOption,
    MeasureOnlyOption,
    MethodOption,
    Metric,
    MetricOption,
    ModelOption,
    RefineBy,
    RefineByOption,
    RefineOption,
    Regulariser,
    RegulariserOption,
    SeedOption,
    Settings,
    Similarity,
    SimilarityOption,
    SmoothnessOption,
    SpacingOption,
    StartAt,
    StartOption,
)
from medseg.cli.segment import Device, DeviceOption

if TYPE_CHECKING:
    from medseg.cli.register_outputs import Outputs
    from medseg.registration.batch import Outcome, Status
    from medseg.registration.pairs import PairFiles


class Extra(str, Enum):
    """What can be written for each pair besides transform, volume and report."""

    INVERSE = "inverse"
    JACOBIAN = "jacobian"
    CHECKERBOARD = "checkerboard"
    DIFFERENCE = "difference"
    PREVIEW = "preview"


FolderOption = Annotated[
    Path, typer.Option("--output-dir", "-o", help="Folder for the results, one folder in it for each pair.")
]
ResumeOption = Annotated[
    bool,
    typer.Option("--resume", help="Skip what was registered with the same settings and whose files did not change."),
]
AlsoOption = Annotated[
    list[Extra] | None,
    typer.Option("--also", help="Write this too, for each pair; may be given several times.", show_default=False),
]

_SUMMARY = "summary.csv"
_FILE_NAMES = {
    "transform": "transform.h5",
    "volume": "warped.nii.gz",
    "labels": "labels.nii.gz",
    "inverse": "inverse.h5",
    "jacobian": "jacobian.nii.gz",
    "checkerboard": "checkerboard.nii.gz",
    "difference": "difference.nii.gz",
    "preview": "preview.png",
    "report": "report.json",
}
_SHOWN = {
    "correlation_after": "Correlation",
    "dice_after": "Dice",
    "dice_worst": "worst",
    "tre_after_mm": "TRE (mm)",
    "tre_worst_mm": "worst",
    "folded_share": "Folds (%)",
    "seconds": "Seconds",
}


def register_many(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS",
            help="A table (.csv) with the columns fixed and moving, and fixed_mask, moving_mask, fixed_labels, "
            "moving_labels, landmarks, name where there are any. Its paths start from its own folder.",
            show_default=False,
        ),
    ],
    output_dir: FolderOption,
    *,
    also: AlsoOption = None,
    resume: ResumeOption = False,
    method: MethodOption = None,
    model: ModelOption = None,
    refine: RefineOption = Effort.QUICK,
    refine_by: RefineByOption = RefineBy.AUTO,
    similarity: SimilarityOption = Similarity.AUTO,
    regulariser: RegulariserOption = Regulariser.DIFFUSION,
    smoothness: SmoothnessOption = None,
    gamma: GammaOption = 2.0,
    spacing: SpacingOption = None,
    start: StartOption = StartAt.CENTRE,
    metric: MetricOption = Metric.MUTUAL_INFORMATION,
    landmarks_measure_only: MeasureOnlyOption = False,
    seed: SeedOption = 0,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Register every pair of a table.

    Each pair gets a folder with transform.h5, warped.nii.gz and report.json, and labels.nii.gz when there are labels of
    the moving volume. A pair that fails is listed in summary.csv with its reason, the others are done, and the exit
    code is 1.
    """
    from medseg.registration.pairs import pairs_of
    from medseg.training.tables import read_table

    content = read_table(table)
    pairs = pairs_of(content.columns, content.rows, table.parent)
    settings = Settings(
        method=method,
        model=model,
        refine=refine,
        refine_by=refine_by,
        similarity=similarity,
        regulariser=regulariser,
        smoothness=smoothness,
        gamma=gamma,
        spacing=spacing,
        start=start,
        metric=metric,
        landmarks_measure_only=landmarks_measure_only,
        seed=seed,
        device=device.value,
    )
    planned = _planned(pairs, output_dir, settings, also or [], inputs=[table])
    _run(planned, output_dir, settings, resume=resume)


def register_series(
    fixed: Annotated[Path, typer.Argument(help="The volume that stays.", show_default=False)],
    moving: Annotated[
        list[Path],
        typer.Argument(help="The volumes that are brought onto it, such as later scans.", show_default=False),
    ],
    output_dir: FolderOption,
    *,
    groupwise: Annotated[
        bool,
        typer.Option("--groupwise", help="Register all volumes, FIXED too, to their mean, which is written as well."),
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="How often the mean is taken.")] = 2,
    fixed_mask: FixedMaskOption = None,
    fixed_labels: FixedLabelsOption = None,
    also: AlsoOption = None,
    resume: ResumeOption = False,
    method: MethodOption = None,
    model: ModelOption = None,
    refine: RefineOption = Effort.QUICK,
    refine_by: RefineByOption = RefineBy.AUTO,
    similarity: SimilarityOption = Similarity.AUTO,
    regulariser: RegulariserOption = Regulariser.DIFFUSION,
    smoothness: SmoothnessOption = None,
    gamma: GammaOption = 2.0,
    spacing: SpacingOption = None,
    start: StartOption = StartAt.CENTRE,
    metric: MetricOption = Metric.MUTUAL_INFORMATION,
    seed: SeedOption = 0,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Register many volumes of one patient to one, or to the mean of all.

    Each moving volume gets a folder as `medseg register-many` writes it. With --groupwise the mean lies where FIXED
    lies, and is the fixed volume of every transform.
    """
    from medseg.registration.pairs import series_of

    settings = Settings(
        method=method,
        model=model,
        refine=refine,
        refine_by=refine_by,
        similarity=similarity,
        regulariser=regulariser,
        smoothness=smoothness,
        gamma=gamma,
        spacing=spacing,
        start=start,
        metric=metric,
        landmarks_measure_only=False,
        seed=seed,
        device=device.value,
    )
    volumes = [fixed, *moving] if groupwise else list(moving)
    mean = _Mean(volumes, output_dir, settings, rounds, fixed_mask)
    pairs = [
        dataclasses.replace(pair, fixed_mask=fixed_mask, fixed_labels=fixed_labels)
        for pair in series_of(mean.path if groupwise else fixed, volumes)
    ]
    planned = _planned(pairs, output_dir, settings, also or [])
    if groupwise:
        mean.make(resume=resume)
    _run(planned, output_dir, settings, resume=resume)


def _planned(
    pairs: "Sequence[PairFiles]",
    folder: Path,
    settings: Settings,
    also: Sequence[Extra],
    *,
    inputs: Sequence[Path] = (),
) -> "list[tuple[PairFiles, Outputs]]":
    """Return what is written for each pair, after saying all that can be wrong with the command line and the folder.

    ``inputs`` are further files that may not be overwritten.
    """
    from medseg.cli.cases import Case, check_writable, make_folder, spare_inputs
    from medseg.preview import check_preview

    if settings.is_linear and Extra.JACOBIAN in also:
        raise typer.BadParameter("jacobian is for methods that deform.", param_hint="--also")
    if Extra.PREVIEW in also:
        check_preview()
    summary = make_folder(folder) / _SUMMARY
    spare_inputs([summary], [Case("", (*inputs, *(path for files in pairs for path in files.paths.values())))])
    check_writable([summary])
    return [(files, _outputs(files, folder, also)) for files in pairs]


def _run(planned: "Sequence[tuple[PairFiles, Outputs]]", folder: Path, settings: Settings, *, resume: bool) -> None:
    """Register all pairs, write the summary after each, print it, and exit with code 1 when one failed."""
    from medseg.cli.console import Bar, remarks, results
    from medseg.cli.failures import unexpected
    from medseg.cli.register_outputs import register_files
    from medseg.errors import Cancelled, MedSegError
    from medseg.registration.batch import Outcome, figures_of, finished_report, write_summary

    console, outcomes, summary = remarks(), [], folder / _SUMMARY
    network = settings.network
    with Bar(console, len(planned)) as bar:
        for files, outputs in planned:
            progress = bar.start(files.name)
            assert outputs.report is not None
            report = finished_report(outputs.report, files, settings.to_dict(), outputs.paths) if resume else None
            status: Status = "done" if report is None else "skipped"
            try:
                if report is None:
                    _, report = register_files(files, outputs, settings, network=network, progress=progress)
                outcomes.append(Outcome(files.name, status, figures_of(report)))
            except (Cancelled, KeyboardInterrupt):
                with bar.aside():
                    console.print(f"{len(outcomes)} of {len(planned)} pairs were worked on; their results are whole.")
                raise
            except Exception as error:  # noqa: BLE001 - a defect fails its pair, is reported, and the others go on
                message = str(error) if isinstance(error, MedSegError) else unexpected(error)
                outcomes.append(Outcome(files.name, "failed", message=message))
            write_summary(summary, outcomes)
    _show(outcomes)
    results().print(f"Written: {summary}", markup=False)
    if any(one.status == "failed" for one in outcomes):
        raise typer.Exit(1)


def _outputs(files: "PairFiles", folder: Path, also: Sequence[Extra]) -> "Outputs":
    """Return what is written for a pair; its folder is made when there is something to put into it."""
    from medseg.cli.cases import Case, spare_inputs
    from medseg.cli.register_outputs import Outputs

    wanted = ["transform", "volume", "report", *(extra.value for extra in also)]
    if files.moving_labels is not None:
        wanted.append("labels")
    outputs = Outputs(**{name: folder / files.name / _FILE_NAMES[name] for name in wanted})
    spare_inputs(outputs.paths, [Case(files.name, tuple(files.paths.values()))])
    return outputs


@dataclasses.dataclass(frozen=True)
class _Mean:
    """The mean of volumes in a folder, and beside it what it was made of."""

    volumes: Sequence[Path]
    folder: Path
    settings: Settings
    rounds: int
    fixed_mask: Path | None

    @property
    def path(self) -> Path:
        return self.folder / "mean.nii.gz"

    @property
    def _record(self) -> Path:
        return self.folder / "mean.json"

    @property
    def _inputs(self) -> list[Path]:
        return [*self.volumes, *([self.fixed_mask] if self.fixed_mask else [])]

    @property
    def _made_of(self) -> dict[str, Any]:
        return {
            "volumes": [str(volume) for volume in self.volumes],
            "fixed_mask": str(self.fixed_mask or ""),
            "rounds": self.rounds,
            "settings": self.settings.to_dict(),
        }

    def make(self, *, resume: bool) -> None:
        """Write both, unless they are there of the same inputs and may stay."""
        import functools

        from medseg.cli.cases import Case, spare_inputs
        from medseg.cli.console import Bar, remarks, results
        from medseg.cli.failures import interruption_postponed
        from medseg.files import remove_file
        from medseg.registration import write_report
        from medseg.registration.groupwise import mean_image
        from medseg.volumes import read_labelmap, read_volume, write_volume

        spare_inputs([self.path, self._record], [Case("", tuple(self._inputs))])
        if resume and self._is_newest():
            return
        console = remarks()
        with Bar(console) as bar:
            found = mean_image(
                [functools.partial(read_volume, volume) for volume in self.volumes],
                self.settings.options(),
                rounds=self.rounds,
                fixed_mask=None if self.fixed_mask is None else read_labelmap(self.fixed_mask),
                network=self.settings.network,
                progress=bar.start("Mean"),
            )
            with interruption_postponed():
                remove_file(self._record)  # which would tell of another mean
                write_volume(found.volume, self.path)
                write_report(self._record, {**self._made_of, "left_out": list(found.left_out)})
        for sentence in found.left_out:
            console.print(f"Note: A volume is not in the mean. {sentence}", markup=False)
        results().print(f"Written: {self.path}", markup=False)

    def _is_newest(self) -> bool:
        """Return whether the mean that lies there was made of these inputs as they are, and of all of them."""
        from medseg.registration.batch import changed_at

        try:
            known = json.loads(self._record.read_text(encoding="utf-8"))
            age = self.path.stat().st_mtime
            return known == {**self._made_of, "left_out": []} and all(changed_at(one) <= age for one in self._inputs)
        except (OSError, ValueError):
            return False


def _show(outcomes: "Sequence[Outcome]") -> None:
    from rich.table import Table

    from medseg.cli.console import remarks, results
    from medseg.registration.batch import mean_figures

    console, means = results(), mean_figures(outcomes)
    columns = [column for column in _SHOWN if column in means]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Pair", overflow="fold")
    for column in columns:
        table.add_column(_SHOWN[column], justify="right")
    rows = [(one.name, one.figures) for one in outcomes if one.status != "failed"]
    for name, figures in [*rows, *([("Mean", means)] if len(rows) > 1 else [])]:
        table.add_row(name, *(_cell(column, figures.get(column, math.nan)) for column in columns))
    if rows:
        console.print(table, soft_wrap=False)
    failed = [one for one in outcomes if one.status == "failed"]
    skipped = sum(one.status == "skipped" for one in outcomes)
    console.print(
        f"{len(rows) - skipped} of {len(outcomes)} pairs registered" + (f", {skipped} done before." if skipped else ".")
    )
    if failed:
        remarks().print(f"[red]{len(failed)} failed:[/]")
    for one in failed:
        remarks().print(f"  {one.name}: {one.message}", markup=False)


def _cell(column: str, value: float) -> str:
    if math.isnan(value):
        return ""
    if column == "folded_share":
        return f"{100 * value:.3f}"
    return f"{value:.1f}" if column == "seconds" else f"{value:.3f}"
