"""``medseg segment``: one volume or many, one model."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Device(str, Enum):
    """Where to compute."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


DeviceOption = Annotated[
    Device, typer.Option(help="Where to compute; auto takes the graphics card when it can run the model.")
]
ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="Name of an installed model (see `medseg models`) or the folder of one.")
]
ChoicesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        help="What the model lets you choose, as NAME=VALUE; may be repeated. An nnU-Net model has configuration,"
        " folds, checkpoint and mirroring.",
        metavar="NAME=VALUE",
        show_default=False,
    ),
]


def segment(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT",
            help="Volumes (NIfTI, NRRD, MetaImage), DICOM folders, or folders of these.",
            show_default=False,
        ),
    ],
    model: ModelOption,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="A segmentation (.seg.nrrd) or a labelmap on the input's grid (.nii.gz, .nii, .nrrd, .mha). "
            "For several inputs a folder, or a name with {name} in it.",
        ),
    ],
    *,
    device: DeviceOption = Device.AUTO,
    option: ChoicesOption = None,
    statistics: Annotated[
        str | None, typer.Option(help="Write volumes and intensities of all segments to this .csv file.")
    ] = None,
    preview: Annotated[
        str | None,
        typer.Option(help="Draw slices and a 3D view to this .png file (several inputs: as for --output)."),
    ] = None,
) -> None:
    """Segment one or several volumes with a model.

    Failures of single inputs are listed at the end, the other inputs are done, and the exit code is 1.
    """
    from medseg.cli.run import Targets, run_cases
    from medseg.models import ModelLibrary, choose

    package = choose(ModelLibrary().find(model, "segment"), choices_of(option or []))
    targets = Targets.plan(inputs, package, output=output, statistics=statistics, preview=preview)
    run_cases(targets, package, device.value)


def choices_of(given: list[str]) -> dict[str, str]:
    """Return the pairs of ``NAME=VALUE``; raise :class:`typer.BadParameter` for what is no such pair."""
    found = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not (separator and name.strip() and value.strip()):
            raise typer.BadParameter(f"'{text}' is not NAME=VALUE, such as folds=0.", param_hint="--option")
        found[name.strip()] = value.strip()
    return found
