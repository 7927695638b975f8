"""``medseg demo``: the main job on a volume of yours, or on a synthetic heart whose left atrium is known."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medseg.cli.segment import Device, DeviceOption

if TYPE_CHECKING:
    from medseg.segmentation import SegmentationResult
    from medseg.volumes import Volume

_DEMO_MODEL = "left-atrium-mr"


def demo(
    volume: Annotated[
        Path | None,
        typer.Argument(help="A volume or DICOM folder; without one, a synthetic heart.", show_default=False),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("output"),
    model: Annotated[str, typer.Option("--model", "-m", help="Name or folder of the model.")] = _DEMO_MODEL,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Segment one volume and write the segmentation, the table and a preview; tell the Dice where truth is known."""
    from medseg.cli.cases import case_name, make_folder
    from medseg.cli.run import Targets, run_cases
    from medseg.models import ModelLibrary

    package = ModelLibrary().find(model)
    make_folder(output)
    truth = None
    if volume is None:
        volume, truth = _write_phantom(output)
    name = case_name(volume)
    segmentation = output / f"{name}.seg.nrrd"
    targets = Targets.plan(
        [volume],
        package,
        output=str(segmentation),
        statistics=str(output / f"{name}.csv"),
        preview=str(output / f"{name}.png"),
    )
    result = run_cases(targets, package, device.value)
    if truth is not None and result is not None:
        _report_dice(result, truth)


def _write_phantom(folder: Path) -> "tuple[Path, Volume]":
    from medseg.phantom import left_atrium_phantom
    from medseg.volumes import write_labelmap, write_volume

    image, truth = left_atrium_phantom()
    path = folder / "synthetic-heart.nii.gz"
    write_volume(image, path)
    write_labelmap(truth, folder / "synthetic-heart-truth.nii.gz")
    return path, truth


def _report_dice(result: "SegmentationResult", truth: "Volume") -> None:
    from medseg.cli.console import results
    from medseg.metrics import dice

    score = dice(result.labelmap.array > 0, truth.array > 0)
    results().print(f"Dice with the known truth of the synthetic heart: {score:.3f}")
