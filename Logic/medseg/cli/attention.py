"""``medseg analyse attention``: where a model looks from a point."""

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.segment import Device, DeviceOption, ModelOption


def attention(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT",
            help="A volume or DICOM folder; several when the model takes several images of one patient.",
            show_default=False,
        ),
    ],
    model: ModelOption,
    point: Annotated[
        str, typer.Option(metavar="R,A,S", help="The point in mm (right, anterior and superior are positive).")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The map (.nii.gz, .nii, .nrrd, .mha).")],
    *,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Write where a model looks from a point, as a coarse volume of weights that lies over the image.

    Only models whose network compares all parts of the image with each other can tell, such as MPU-Net.
    """
    from medseg.cli.cases import LABELMAP_ENDINGS, Case, case_name, find_cases, outputs_for
    from medseg.cli.console import Bar, remarks, results
    from medseg.models import ModelLibrary
    from medseg.segmentation.attention_map import attention_row
    from medseg.volumes import read_volume, write_volume

    package = ModelLibrary().find(model)
    if len(package.inputs) > 1:
        find_cases(inputs, len(package.inputs))
    case = Case(case_name(inputs[0]), tuple(inputs))
    (target,) = outputs_for("--output", str(output), [case], LABELMAP_ENDINGS)
    numbers = _numbers(point)
    with Bar(remarks()) as bar:
        progress = bar.start(case.name)
        volumes = [read_volume(path) for path in inputs]
        found = attention_row(volumes, package, numbers, device=device.value, progress=progress)
        write_volume(found.volume, target)
    for notice in found.notices:
        remarks().print(f"Note: {notice}", markup=False)
    results().print(f"Written: {target}", markup=False)


def _numbers(point: str) -> list[float]:
    try:
        return [float(part) for part in point.split(",")]
    except ValueError as error:
        raise typer.BadParameter(
            f"'{point}' is not three numbers with commas between them.", param_hint="--point"
        ) from error
