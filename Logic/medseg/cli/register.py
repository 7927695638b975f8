"""``medseg register``: a transform that brings a moving volume onto a fixed one, and what it is worth."""

import csv
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.segment import Device, DeviceOption

if TYPE_CHECKING:
    import numpy as np

    from medseg.registration import RegistrationResult


class Method(str, Enum):
    """How to register."""

    RIGID = "rigid"
    AFFINE = "affine"
    LAPIRN = "lapirn"
    FIELD = "field"


class Effort(str, Enum):
    """How long a deformable method works on the pair."""

    QUICK = "quick"
    FULL = "full"


class StartAt(str, Enum):
    """Where the alignment begins."""

    CENTRE = "centre"
    MOMENTS = "moments"


class Metric(str, Enum):
    """What the alignment compares."""

    MUTUAL_INFORMATION = "mutual_information"
    CORRELATION = "correlation"


def register(
    fixed: Annotated[Path, typer.Argument(help="The volume that stays, a file or a DICOM folder.", show_default=False)],
    moving: Annotated[Path, typer.Argument(help="The volume that is brought onto it.", show_default=False)],
    *,
    output_transform: Annotated[
        Path | None,
        typer.Option(
            help="Where to write the transform: .h5 (any), .tfm, or a displacement field (.nrrd, .nii.gz, .mha).",
            show_default=False,
        ),
    ] = None,
    output_inverse: Annotated[Path | None, typer.Option(help="Where to write its inverse.", show_default=False)] = None,
    output_volume: Annotated[
        Path | None,
        typer.Option(help="Where to write the moving volume on the fixed one's grid.", show_default=False),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write the figures to this file (.json).", show_default=False)
    ] = None,
    method: Annotated[
        Method,
        typer.Option(
            help="rigid, affine, or deformable: lapirn fits a network to this pair, field moves every voxel by itself."
        ),
    ] = Method.AFFINE,
    refine: Annotated[Effort, typer.Option(help="How long a deformable method works on the pair.")] = Effort.QUICK,
    smoothness: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Of a deformable method: 0 follows the images, 1 is stiff.")
    ] = 0.4,
    start: Annotated[
        StartAt, typer.Option(help="Begin with the middles or the centres of brightness on each other.")
    ] = StartAt.CENTRE,
    metric: Annotated[
        Metric, typer.Option(help="correlation is for two volumes of the same kind.")
    ] = Metric.MUTUAL_INFORMATION,
    initial_transform: Annotated[
        Path | None, typer.Option(help="A linear transform to begin with.", show_default=False)
    ] = None,
    landmarks: Annotated[
        Path | None,
        typer.Option(
            help="A table (.csv) with the columns fixed_r, fixed_a, fixed_s, moving_r, moving_a, moving_s (RAS mm).",
            show_default=False,
        ),
    ] = None,
    fixed_mask: Annotated[
        Path | None, typer.Option(help="Compare only where this label map is above 0.", show_default=False)
    ] = None,
    moving_mask: Annotated[
        Path | None, typer.Option(help="The same for the moving volume.", show_default=False)
    ] = None,
    fixed_labels: Annotated[
        Path | None, typer.Option(help="A segmentation of the fixed volume, for the figures.", show_default=False)
    ] = None,
    moving_labels: Annotated[
        Path | None, typer.Option(help="The same structures in the moving volume.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same result.")] = 0,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Register MOVING to FIXED; the transform takes points of the fixed volume to points of the moving one.

    That is how ITK resamples and how 3D Slicer reads such a file: put the moving volume under the transform.
    """
    from medseg.cli.cases import check_writable
    from medseg.cli.console import Bar, remarks
    from medseg.cli.failures import interruption_postponed
    from medseg.registration import RegistrationOptions, read_transform, write_transform
    from medseg.registration import register as run
    from medseg.registration.files import ending_of
    from medseg.registration.instance import Objective
    from medseg.volumes import read_labelmap, read_volume, write_volume

    outputs = [path for path in (output_transform, output_inverse, output_volume, report) if path is not None]
    if not outputs:
        raise typer.BadParameter("Give --output-transform, --output-volume or --report: nothing would be kept.")
    for path in (output_transform, output_inverse):
        if path is not None:
            ending_of(path)
    check_writable(outputs)
    points = None if landmarks is None else _landmarks(landmarks)
    start_from = None if initial_transform is None else read_transform(initial_transform)
    with Bar(remarks()) as bar:
        progress = bar.start(moving.name)
        stays, moves = read_volume(fixed), read_volume(moving)
        masks_and_labels = [
            None if path is None else read_labelmap(path)
            for path in (fixed_mask, moving_mask, fixed_labels, moving_labels)
        ]
        options = RegistrationOptions(
            method=method.value,
            refine=refine.value,
            objective=Objective.for_pair(stays, moves, smoothness=smoothness),
            start=start.value,
            metric=metric.value,
            initial=start_from,
            landmarks=points,
            inverse=output_inverse is not None,
            device=device.value,
            seed=seed,
        )
        result = run(
            stays,
            moves,
            options,
            fixed_mask=masks_and_labels[0],
            moving_mask=masks_and_labels[1],
            fixed_labels=masks_and_labels[2],
            moving_labels=masks_and_labels[3],
            progress=progress,
        )
        with interruption_postponed():
            if output_transform is not None:
                write_transform(result.transform, output_transform, grid=stays.geometry)
            if output_inverse is not None and result.inverse is not None:
                write_transform(result.inverse, output_inverse, grid=moves.geometry)
            if output_volume is not None:
                write_volume(result.warped, output_volume)
            if report is not None:
                _write_report(report, result, method.value)
    _show(result, outputs)


def _landmarks(path: Path) -> "tuple[np.ndarray, np.ndarray]":
    import numpy as np

    from medseg.errors import ReadError

    columns = [f"{side}_{axis}" for side in ("fixed", "moving") for axis in "ras"]
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [[float(row[name]) for name in columns] for row in csv.DictReader(stream)]
    except OSError as error:
        raise ReadError(f"{path} cannot be read: {error.strerror}.", advice="Check the name of the table.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ReadError(
            f"{path} is not a table of landmarks.", advice=f"It needs the columns {', '.join(columns)} with numbers."
        ) from error
    values = np.array(rows, dtype=float).reshape(-1, 6)
    return values[:, :3], values[:, 3:]


def _write_report(path: Path, result: "RegistrationResult", method: str) -> None:
    from medseg.registration import write_report

    content = {
        "method": method,
        "quality": result.quality.to_dict(),
        "matrix": result.alignment.matrix.tolist(),
        "losses": list(result.losses),
        "seconds": dict(result.timings),
        "notices": list(result.notices),
    }
    write_report(path, content)


def _show(result: "RegistrationResult", written: list[Path]) -> None:
    from medseg.cli.console import remarks, results

    console, quality = results(), result.quality
    for notice in result.notices:
        remarks().print(f"Note: {notice}", markup=False)
    console.print(f"Correlation {quality.correlation_before:.3f} before, {quality.correlation_after:.3f} after")
    console.print(f"Mutual information {quality.information_before:.3f} before, {quality.information_after:.3f} after")
    if quality.labels:
        before = sum(one.dice_before for one in quality.labels.values()) / len(quality.labels)
        after = sum(one.dice_after for one in quality.labels.values()) / len(quality.labels)
        console.print(f"Mean Dice {before:.3f} before, {after:.3f} after")
    if quality.landmark_errors_after_mm:
        before, after = (
            sum(errors) / len(errors)
            for errors in (quality.landmark_errors_before_mm, quality.landmark_errors_after_mm)
        )
        console.print(f"Landmarks {before:.2f} mm apart before, {after:.2f} mm after")
    if quality.deformation is not None:
        console.print(f"Folded voxels {100 * quality.deformation.folded_share:.3f} %")
    if quality.inverse_error_mm is not None:
        console.print(f"The inverse is right to {quality.inverse_error_mm:.2g} mm")
    seconds = ", ".join(f"{name} {value:.1f}" for name, value in result.timings.items())
    remarks().print(f"Seconds: {seconds}")
    for path in written:
        console.print(f"Written: {path}", markup=False)
