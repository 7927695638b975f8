"""``medseg register``: a transform that brings a moving volume onto a fixed one, and what it is worth."""

from pathlib import Path
from typing import Annotated

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

_PATH = "PATH"
"""Outputs are read as text: a path forgets the closing slash, which says that a folder is to be made."""


def register(
    fixed: Annotated[Path, typer.Argument(help="The volume that stays, a file or a DICOM folder.", show_default=False)],
    moving: Annotated[Path, typer.Argument(help="The volume that is brought onto it.", show_default=False)],
    *,
    output_transform: Annotated[
        str | None,
        typer.Option(
            metavar=_PATH,
            help="Where to write the transform: .h5 (any), .tfm, or a displacement field (.nrrd, .nii.gz, .mha).",
            show_default=False,
        ),
    ] = None,
    output_inverse: Annotated[
        str | None, typer.Option(metavar=_PATH, help="Where to write its inverse.", show_default=False)
    ] = None,
    output_volume: Annotated[
        str | None,
        typer.Option(
            metavar=_PATH, help="Where to write the moving volume on the fixed one's grid.", show_default=False
        ),
    ] = None,
    output_labels: Annotated[
        str | None,
        typer.Option(
            metavar=_PATH,
            help="Where to write --moving-labels on the fixed volume's grid: .seg.nrrd or a label map.",
            show_default=False,
        ),
    ] = None,
    output_jacobian: Annotated[
        str | None,
        typer.Option(
            metavar=_PATH,
            help="Where to write the volume change of the deformation: 1 is none, 0.5 half, below 0 a fold.",
            show_default=False,
        ),
    ] = None,
    output_checkerboard: Annotated[
        str | None,
        typer.Option(metavar=_PATH, help="Where to write both volumes in turns, 0 to 1.", show_default=False),
    ] = None,
    output_difference: Annotated[
        str | None,
        typer.Option(
            metavar=_PATH,
            help="Where to write moving minus fixed, for volumes of one modality.",
            show_default=False,
        ),
    ] = None,
    preview: Annotated[
        str | None, typer.Option(metavar=_PATH, help="Draw slices to this .png file.", show_default=False)
    ] = None,
    report: Annotated[
        str | None, typer.Option(metavar=_PATH, help="Write the figures to this file (.json).", show_default=False)
    ] = None,
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
    initial_transform: Annotated[
        Path | None, typer.Option(help="A linear transform to begin with.", show_default=False)
    ] = None,
    landmarks: Annotated[
        Path | None,
        typer.Option(
            help="A table (.csv) with the columns fixed_r, fixed_a, fixed_s, moving_r, moving_a, moving_s (RAS mm): "
            "where to begin, and what is measured.",
            show_default=False,
        ),
    ] = None,
    landmarks_measure_only: MeasureOnlyOption = False,
    fixed_mask: FixedMaskOption = None,
    moving_mask: Annotated[
        Path | None, typer.Option(help="The same for the moving volume.", show_default=False)
    ] = None,
    fixed_labels: FixedLabelsOption = None,
    moving_labels: Annotated[
        Path | None, typer.Option(help="The same structures in the moving volume.", show_default=False)
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Register MOVING to FIXED; the transform takes points of the fixed volume to points of the moving one.

    That is how ITK resamples and how 3D Slicer reads such a file: put the moving volume under the transform.
    """
    from medseg.cli.cases import case_name
    from medseg.cli.console import Bar, remarks
    from medseg.cli.register_outputs import Outputs, register_files, show
    from medseg.registration.pairs import PairFiles

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
        initial=initial_transform,
    )
    if landmarks is not None and initial_transform is not None and not landmarks_measure_only:
        raise typer.BadParameter(
            "--landmarks and --initial-transform both say where to begin: leave one out, or add "
            "--landmarks-measure-only."
        )
    if fixed_labels is not None and moving_labels is None:
        raise typer.BadParameter("--fixed-labels are compared with --moving-labels: give both.")
    files = PairFiles(case_name(moving), fixed, moving, fixed_mask, moving_mask, fixed_labels, moving_labels, landmarks)
    given = {
        "transform": output_transform,
        "inverse": output_inverse,
        "volume": output_volume,
        "labels": output_labels,
        "jacobian": output_jacobian,
        "checkerboard": output_checkerboard,
        "difference": output_difference,
        "preview": preview,
        "report": report,
    }
    outputs = Outputs.planned(given, files, linear=settings.is_linear, initial=initial_transform)
    initial, network = settings.read_initial(), settings.network
    with Bar(remarks()) as bar:
        progress = bar.start(moving.name)
        result, _ = register_files(files, outputs, settings, network=network, initial=initial, progress=progress)
    show(result, outputs.paths)
