"""``medseg correct``: a segment is what points, scribbles, boxes and lassos say of it."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.instances import NamesOption
from medseg.cli.segment import Device, DeviceOption


def correct(
    volume: Annotated[
        Path,
        typer.Argument(metavar="VOLUME", help="The volume to look at, a file or a DICOM folder.", show_default=False),
    ],
    segmentation: Annotated[
        Path | None,
        typer.Argument(
            metavar="SEGMENTATION",
            help="What to correct: a segmentation (.seg.nrrd) or a labelmap on the volume's grid. Without it, the "
            "segment is drawn from nothing.",
            show_default=False,
        ),
    ] = None,
    *,
    segment: Annotated[
        str, typer.Option("--segment", "-s", help="The segment to correct: its name or its label value.")
    ],
    prompts: Annotated[
        Path,
        typer.Option(
            "--prompts",
            "-p",
            help='A list in order (.json) such as [{"type": "point", "ras": [12.5, -3, 40], "positive": true}]; a '
            "scribble, box or lasso has a list of such places. RAS mm.",
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="Where to write all segments: a segmentation (.seg.nrrd) or a labelmap (.nii.gz, .nii, .nrrd, .mha).",
        ),
    ],
    new: Annotated[bool, typer.Option("--new", help="Begin a segment of this name that is not there yet.")] = False,
    overwrite_others: Annotated[
        bool, typer.Option("--overwrite-others", help="Take voxels of other segments too, which then lose them.")
    ] = False,
    names: NamesOption = None,
    tool: Annotated[
        str,
        typer.Option(
            help="What follows the prompts: network (a trained model), slice (one for single slices), threshold, "
            "random-walker, fast-marching, smooth, or auto, which chooses by the first prompt."
        ),
    ] = "network",
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="With the tools network and slice: an installed model that follows clicks, or the folder of one.",
            show_default=False,
        ),
    ] = None,
    region: Annotated[
        float | None,
        typer.Option(
            metavar="MM",
            help="Edge of the box around a prompt in which voxels may change; left out, it follows the segment.",
            show_default=False,
        ),
    ] = None,
    low: Annotated[
        float | None,
        typer.Option(help="With threshold: the lowest intensity; else it is measured.", show_default=False),
    ] = None,
    high: Annotated[float | None, typer.Option(help="And the highest.", show_default=False)] = None,
    smooth: Annotated[
        float, typer.Option(metavar="MM", help="With smooth: spikes and channels thinner than this go.")
    ] = 3.0,
    plane: Annotated[
        str | None,
        typer.Option(
            help="With slice: axial, coronal or sagittal slices; left out, those in which the prompt lies, of several "
            "those of the best resolution.",
            show_default=False,
        ),
    ] = None,
    reach: Annotated[
        float,
        typer.Option(
            metavar="MM",
            help="With slice: go on so far to each side, slice by slice, until the area changes by more than 30 %.",
        ),
    ] = 0.0,
    device: DeviceOption = Device.AUTO,
    report: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Write to this file (.json) the box in which voxels may have changed, how many did, and by what.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Correct one segment of SEGMENTATION by prompts: what you point at, inside or outside of it.

    Outside of a box around the prompts nothing changes, nor do other segments without --overwrite-others.
    """
    from medseg.cli.cases import OUTPUT_ENDINGS, Case, case_name, outputs_for
    from medseg.cli.console import Bar, remarks
    from medseg.cli.correct_files import Job, correct_files, show
    from medseg.correction.pipeline import MODEL_TOOLS, CorrectionOptions, package_for
    from medseg.correction.prompts import read_prompts

    options = CorrectionOptions(
        tool=tool,  # type: ignore[arg-type] # it checks it itself
        region_mm=region,
        device=device.value,
        low=low,
        high=high,
        smooth_mm=smooth,
        plane=plane,  # type: ignore[arg-type] # it checks it itself
        reach_mm=reach,
    )
    if tool != "slice" and (plane is not None or reach):
        raise typer.BadParameter(f"The tool {tool} does not work in slices; leave --plane and --reach out.")
    if model is not None and tool not in ("auto", *MODEL_TOOLS):
        raise typer.BadParameter(f"The tool {tool} takes no model; leave --model out.")
    inputs = [path for path in (volume, segmentation, prompts, names) if path is not None]
    case = Case(case_name(segmentation or volume), tuple(inputs))
    (target,) = outputs_for("--output", output, [case], OUTPUT_ENDINGS)
    reports = [] if report is None else outputs_for("--report", report, [case], (".json",))
    job = Job(
        volume=volume,
        segmentation=segmentation,
        names=names,
        segment=segment,
        prompts=prompts,
        is_new=new or segmentation is None,
        overwrites=overwrite_others,
        output=target,
        report=reports[0] if reports else None,
    )
    given = read_prompts(prompts)
    package = package_for(options, model)
    with Bar(remarks()) as bar:
        done = correct_files(job, given, options, package, bar.start(volume.name))
    show(done, job)
