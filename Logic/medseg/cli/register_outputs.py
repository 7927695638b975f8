"""What the commands of the registration write and print."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from medseg.cli.cases import LABELMAP_ENDINGS, OUTPUT_ENDINGS, SEGMENTATION_ENDING, Case, is_folder, outputs_for
from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from medseg.cli.register_options import Settings
    from medseg.progress import Progress
    from medseg.registration import RegistrationResult, SpatialTransform
    from medseg.registration.pairs import Pair, PairFiles
    from medseg.registration.quality import Quality
    from medseg.volumes import Volume

ORIGIN = {"name": "registration", "weights_sha256": ""}
"""What a warped segmentation says it comes from: no model of the library, and this version of MedSeg."""


@dataclass(frozen=True)
class Outputs:
    """The files to write, those that were asked for."""

    transform: Path | None = None
    inverse: Path | None = None
    volume: Path | None = None
    labels: Path | None = None
    jacobian: Path | None = None
    checkerboard: Path | None = None
    difference: Path | None = None
    preview: Path | None = None
    report: Path | None = None

    @property
    def paths(self) -> list[Path]:
        """All of them, in the order in which they are written; the report comes last."""
        return [path for item in dataclasses.fields(self) if (path := getattr(self, item.name)) is not None]

    @classmethod
    def planned(
        cls, given: Mapping[str, str | None], files: PairFiles, *, linear: bool, initial: Path | None = None
    ) -> Outputs:
        """Return the files that the command line names, after checking that all can be written.

        Parameters
        ----------
        given
            What the user wrote, by the fields of this class: file names, or folders, whose names may end with a slash.
        linear
            Whether the method is one that does not deform.
        initial
            A further input that may not be overwritten.

        Raises
        ------
        typer.BadParameter
            For a wrong command line.
        MedSegError
            When an output cannot be written, would overwrite an input, or a preview cannot be drawn here.
        """
        from medseg.registration.files import FIELDS, TRANSFORMS, ending_of

        texts = {name: text for name, text in given.items() if text is not None}
        if not texts:
            raise typer.BadParameter(
                "Give --output-transform, --output-volume, --report or another output: nothing would be kept."
            )
        if "labels" in texts and files.moving_labels is None:
            raise typer.BadParameter("It needs --moving-labels.", param_hint="--output-labels")
        if "jacobian" in texts and linear:
            raise typer.BadParameter(
                "A linear method does not deform; choose --method model, lapirn or field.",
                param_hint="--output-jacobian",
            )
        if "preview" in texts:
            from medseg.preview import check_preview

            check_preview()
        transforms = (*TRANSFORMS, *FIELDS)
        endings = {
            "transform": transforms, "inverse": transforms, "labels": OUTPUT_ENDINGS,
            "preview": (".png",), "report": (".json",),
        }  # fmt: skip
        case = Case(files.name, (*files.paths.values(), *([initial] if initial else [])))
        found: dict[str, Path] = {}
        for name, text in texts.items():
            allowed = endings.get(name, LABELMAP_ENDINGS)
            if allowed is transforms and not is_folder(text) and ending_of(text) in (".txt", ".mat") and not linear:
                raise InputError(f"A {ending_of(text)} file holds linear transforms only.", advice="Write .h5 instead.")
            option = f"--{name}" if name in ("preview", "report") else f"--output-{name}"
            (found[name],) = outputs_for(option, text, [case], allowed)
        if len({path.resolve() for path in found.values()}) < len(found):
            raise typer.BadParameter("Two outputs have one name; give each a file name of its own.")
        return cls(**found)


def register_files(
    files: PairFiles,
    outputs: Outputs,
    settings: Settings,
    *,
    network: nn.Module | None,
    progress: Progress,
    initial: SpatialTransform | None = None,
) -> tuple[RegistrationResult, dict[str, Any]]:
    """Read a pair, register it and write what is wanted of it; return the result and its report.

    A report of an earlier time goes before anything else is overwritten: one that lies there tells of what lies beside
    it, whatever happens meanwhile.

    Raises
    ------
    MedSegError
        When a file cannot be read or written, or the pair not be registered.
    """
    from medseg.cli.cases import make_folder
    from medseg.cli.failures import interruption_postponed
    from medseg.files import remove_file
    from medseg.registration.batch import register_pair, report_of

    progress.update(0.0, "Reading")
    pair = files.read()
    options = settings.options(initial=initial, inverse=outputs.inverse is not None)
    result = register_pair(
        pair,
        options,
        landmarks_measure_only=settings.landmarks_measure_only,
        network=network,
        progress=progress.part(0.02, 0.98),
    )
    progress.update(0.98, "Writing")
    report = report_of(files, pair, result, settings.to_dict(), outputs=outputs.paths)
    for path in outputs.paths:
        make_folder(path.parent)
    with interruption_postponed():
        if outputs.report is not None:
            remove_file(outputs.report)
        write_outputs(outputs, files, pair, result, report)
    return result, report


def write_outputs(
    outputs: Outputs, files: PairFiles, pair: Pair, result: RegistrationResult, report: Mapping[str, Any]
) -> None:
    """Write what was asked for, the report last."""
    from medseg.registration import write_report, write_transform
    from medseg.registration.maps import checkerboard, difference, jacobian_map, warp_labels
    from medseg.volumes import write_volume

    grid = pair.fixed.geometry
    board = checkerboard(pair.fixed, result.warped) if outputs.checkerboard or outputs.preview else None
    if outputs.transform is not None:
        write_transform(result.transform, outputs.transform, grid=grid)
    if outputs.inverse is not None and result.inverse is not None:
        write_transform(result.inverse, outputs.inverse, grid=pair.moving.geometry)
    if outputs.volume is not None:
        write_volume(result.warped, outputs.volume)
    if outputs.labels is not None and pair.moving_labels is not None:
        warped = warp_labels(pair.moving_labels, result.transform, grid)
        _write_labels(warped, pair.fixed, files.moving_labels, outputs.labels)
    if outputs.jacobian is not None and result.field is not None:
        write_volume(jacobian_map(result.field, grid), outputs.jacobian)
    if outputs.checkerboard is not None and board is not None:
        write_volume(board, outputs.checkerboard)
    if outputs.difference is not None:
        write_volume(difference(pair.fixed, result.warped), outputs.difference)
    if outputs.preview is not None and board is not None:
        _draw(outputs.preview, pair, result, board)
    if outputs.report is not None:
        write_report(outputs.report, report)


def _write_labels(labelmap: Volume, image: Volume, source: Path | None, path: Path) -> None:
    import numpy as np

    from medseg.cli.run import named, write_result
    from medseg.segmentation.results import SegmentationResult
    from medseg.segmentation.statistics import measure_segments
    from medseg.version import VERSION
    from medseg.volumes import write_labelmap

    if not path.name.lower().endswith(SEGMENTATION_ENDING):
        write_labelmap(labelmap, path)
        return
    values = [int(value) for value in np.unique(labelmap.array) if value]
    names = named(values, source)
    small = labelmap.astype(np.uint8 if max(values, default=0) < 256 else np.uint16)
    model = {**ORIGIN, "version": VERSION}
    write_result(SegmentationResult(small, names, measure_segments(small, image, names), model=model), path)


def _draw(path: Path, pair: Pair, result: RegistrationResult, board: Volume) -> None:
    from medseg.preview.registration import write_registration
    from medseg.registration import SpatialTransform

    deformation = result.transform if result.field is None else SpatialTransform((result.field,))
    what = "the linear transform" if result.field is None else "the deformation, without the linear part before it"
    write_registration(
        pair.fixed,
        pair.moving,
        result.warped,
        board,
        path,
        where=deformation.apply,
        caption=(" · ".join(figures_in_words(result.quality)), f"The grid shows {what}. Not for diagnosis."),
    )


def figures_in_words(quality: Quality) -> list[str]:
    """Return what is known about a registration, a short phrase for each figure."""
    said = [
        f"Correlation {quality.correlation_before:.3f} before, {quality.correlation_after:.3f} after",
        f"Mutual information {quality.information_before:.3f} before, {quality.information_after:.3f} after",
    ]
    if (overlap := quality.overlap) is not None:
        said.append(f"Mean Dice {overlap.mean_dice_before:.3f} before, {overlap.mean_dice_after:.3f} after")
    if (before := quality.landmarks_before) is not None and (after := quality.landmarks_after) is not None:
        said.append(f"Landmarks {before.mean_mm:.2f} mm apart before, {after.mean_mm:.2f} mm after")
    if quality.deformation is not None:
        said.append(f"Folded voxels {100 * quality.deformation.folded_share:.3f} %")
    if quality.inverse_error_mm is not None:
        said.append(f"The inverse is right to {quality.inverse_error_mm:.2g} mm")
    return said


def show(result: RegistrationResult, written: Sequence[Path]) -> None:
    """Print the figures and what was written."""
    from medseg.cli.console import remarks, results
    from medseg.registration.pipeline import NO_NETWORK

    console = results()
    for notice in result.notices:
        remarks().print(f"Note: {notice}", markup=False)
    for line in figures_in_words(result.quality):
        console.print(line)
    if result.start != NO_NETWORK:
        remarks().print(f"The deformation began with {result.start}.", markup=False)
    seconds = ", ".join(f"{name} {value:.1f}" for name, value in result.timings.items())
    remarks().print(f"Seconds: {seconds}")
    for path in written:
        console.print(f"Written: {path}", markup=False)
