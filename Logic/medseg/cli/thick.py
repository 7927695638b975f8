"""``medseg thick`` and ``medseg transfer``: draw on thick slices, have a segmentation of the thin ones."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.segment import Device, DeviceOption

if TYPE_CHECKING:
    from medseg.training.thin_thick import TransferResult

ThinArgument = Annotated[
    Path, typer.Argument(metavar="INPUT", help="The volume with thin slices, or a DICOM folder.", show_default=False)
]


class Axis(str, Enum):
    """Index axes of a volume."""

    I = "i"  # noqa: E741 - the name of the axis
    J = "j"
    K = "k"


class Method(str, Enum):
    """How to transfer."""

    GUIDED = "guided"
    SHAPE = "shape"
    JOINT = "joint"


def thick(
    volume: ThinArgument,
    thickness: Annotated[
        float, typer.Option("--thickness", "-t", help="Slice thickness in mm; rounded to whole slices.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where to write the thick copy (.nii.gz, .nii, .nrrd, .mha).")
    ],
    *,
    axis: Annotated[Axis, typer.Option(help="The index axis across the slices.")] = Axis.K,
) -> None:
    """Write a copy with thick slices, means of neighbouring ones, to draw labels on."""
    from medseg.cli.cases import LABELMAP_ENDINGS, Case, outputs_for
    from medseg.cli.console import remarks, results
    from medseg.training.thin_thick import thick_copy
    from medseg.volumes import read_volume, write_volume

    (target,) = outputs_for("--output", str(output), [Case(volume.name, (volume,))], LABELMAP_ENDINGS)
    copy = thick_copy(read_volume(volume), thickness_mm=thickness, axis=axis.value)
    place = "ijk".index(axis.value)
    made = copy.geometry.spacing[place]
    if abs(made - thickness) > 1e-3 * thickness:
        remarks().print(f"Note: The slices are {made:.4g} mm thick, the nearest whole number of thin ones.")
    write_volume(copy, target)
    results().print(f"{copy.geometry.size[place]} slices of {made:.4g} mm")
    results().print(f"Written: {target}", markup=False)


def transfer(
    volume: ThinArgument,
    labels: Annotated[
        Path,
        typer.Option(
            "--labels", "-l", help="What was drawn on the thick copy: a segmentation (.seg.nrrd) or a labelmap."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="A segmentation (.seg.nrrd) or a labelmap (.nii.gz, .nii, .nrrd, .mha)."),
    ],
    *,
    report: Annotated[
        Path | None, typer.Option(help="Write how far each thick slice agrees with the result to this .csv file.")
    ] = None,
    names: Annotated[
        Path | None, typer.Option(help="The names of a labelmap's values (labels.csv of a model).", show_default=False)
    ] = None,
    method: Annotated[
        Method,
        typer.Option(
            help="guided: shapes between the slices, corrected by the image. shape: without the image, in a second. "
            "joint: from the image alone, as the paper has it."
        ),
    ] = Method.GUIDED,
    steps: Annotated[int, typer.Option(help="Length of the training.")] = 400,
    seed: Annotated[int, typer.Option(help="The same seed gives the same result.")] = 0,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Turn labels that were drawn on a thick copy (`medseg thick`) into labels on the thin slices.

    A small network is trained on this one case, which takes about a minute.
    """
    from medseg.cli.cases import OUTPUT_ENDINGS, Case, outputs_for
    from medseg.cli.console import Bar, remarks
    from medseg.cli.failures import interruption_postponed
    from medseg.cli.run import named, write_result
    from medseg.training.thin_thick import TransferOptions, write_agreement_csv
    from medseg.training.thin_thick import transfer as run
    from medseg.training.thin_thick.result import as_segmentation
    from medseg.volumes import read_labelmap, read_volume

    options = TransferOptions(method=method.value, steps=steps, seed=seed, device=device.value)
    case = Case(volume.name, (volume, labels))
    (target,) = outputs_for("--output", str(output), [case], OUTPUT_ENDINGS)
    tables = outputs_for("--report", str(report), [case], (".csv",)) if report else []
    with Bar(remarks()) as bar:
        progress = bar.start(volume.name)
        thin, drawn = read_volume(volume), read_labelmap(labels)
        result = run(thin, drawn, options, progress=progress)
        segmentation = as_segmentation(result, named(result.values, labels, names), thin)
        with interruption_postponed():
            write_result(segmentation, target)
            for path in tables:
                write_agreement_csv(path, result.agreement)
    _report(result, segmentation.notices, [target, *tables])


def _report(result: "TransferResult", notices: list[str], written: list[Path]) -> None:
    from medseg.cli.console import remarks, results

    console = remarks()
    for notice in notices:
        console.print(f"Note: {notice}", markup=False)
    seconds = ", ".join(f"{name} {value:.1f}" for name, value in result.timings.items())
    console.print(f"Seconds on {result.device}: {seconds}")
    for path in written:
        results().print(f"Written: {path}", markup=False)
