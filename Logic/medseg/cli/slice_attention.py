"""``medseg analyse slice-attention``: which slices informed which."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.segment import Device, DeviceOption, ModelOption


def slice_attention(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT",
            help="A volume or DICOM folder; several when the model takes several images of one patient.",
            show_default=False,
        ),
    ],
    model: ModelOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="The table (.csv).")],
    *,
    index: Annotated[
        int | None,
        typer.Option("--slice", min=0, help="Only what informed this slice, counted from 0.", show_default=False),
    ] = None,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Write which slices of an image inform which when a model with attention between slices segments it.

    A line for each slice that is informed and a column for each that informs it; every line sums to 1.
    """
    from medseg.cli.cases import Case, case_name, find_cases, outputs_for
    from medseg.cli.console import Bar, remarks, results
    from medseg.models import ModelLibrary
    from medseg.segmentation.slice_attention import slice_attention as look
    from medseg.segmentation.slice_attention import write_slice_attention
    from medseg.volumes import read_volume

    package = ModelLibrary().find(model)
    if len(package.inputs) > 1:
        find_cases(inputs, len(package.inputs))
    case = Case(case_name(inputs[0]), tuple(inputs))
    (target,) = outputs_for("--output", str(output), [case], [".csv"])
    with Bar(remarks()) as bar:
        progress = bar.start(case.name)
        volumes = [read_volume(path) for path in inputs]
        found = look(volumes, package, device=device.value, progress=progress)
        write_slice_attention(found, target, index)
    for notice in found.notices:
        remarks().print(f"Note: {notice}", markup=False)
    results().print(f"Written: {target} (slices along the {found.axis} axis)", markup=False)
