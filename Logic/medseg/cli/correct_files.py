"""The work behind ``medseg correct``: files are read, one segment is corrected, and everything else is handed on."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.cli.cases import SEGMENTATION_ENDING
from medseg.cli.segments import known_label, names_of, value_in
from medseg.errors import GeometryError, InputError
from medseg.labels.table import LARGEST_VALUE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from medseg.correction.pipeline import Correction, CorrectionOptions
    from medseg.correction.prompts import Prompt
    from medseg.labels import Label
    from medseg.models import ModelPackage
    from medseg.progress import Progress
    from medseg.volumes import Geometry, Volume


@dataclass(frozen=True)
class Job:
    """What the user asked for.

    Attributes
    ----------
    names
        A label table for a labelmap.
    is_new
        The segment is not there yet.
    overwrites
        Voxels of other segments may be taken.
    """

    volume: Path
    segmentation: Path | None
    names: Path | None
    segment: str
    prompts: Path
    is_new: bool
    overwrites: bool
    output: Path
    report: Path | None


@dataclass(frozen=True, eq=False)
class Done:
    """What came out.

    Attributes
    ----------
    report
        As it is written.
    notices
        What the user should know, whole sentences.
    """

    report: Mapping[str, Any]
    notices: Sequence[str]


def correct_files(
    job: Job,
    prompts: Sequence[Prompt],
    options: CorrectionOptions,
    package: ModelPackage | None,
    progress: Progress,
) -> Done:
    """Read, correct, write.

    A report of an earlier time goes before the output is overwritten: one that lies there tells of what lies beside it.

    Raises
    ------
    MedSegError
        When a file cannot be used or written, or a prompt not be followed.
    """
    from medseg.cli.failures import interruption_postponed
    from medseg.correction.pipeline import MODEL_TOOLS, correct
    from medseg.files import atomic_path, remove_file
    from medseg.version import VERSION
    from medseg.volumes import read_volume

    if not prompts:
        raise InputError(f"There is no prompt in {job.prompts}.", advice="List at least one, such as a point.")
    progress.update(0.0, "Reading")
    volume = read_volume(job.volume)
    labelmap, labels, notices = _read_segments(job, volume)
    label = _chosen(job, labels)
    labels = {label.value: label, **labels}
    mask = labelmap.array == label.value
    allowed = None if job.overwrites else mask | (labelmap.array == 0)
    _check_prompts(prompts, labelmap, labels, allowed)
    found = correct(
        volume, mask, prompts, options, package=package, allowed=allowed, progress=progress.part(0.05, 0.95)
    )
    progress.update(0.95, "Writing")
    corrected, taken = _with_segment(labelmap, label.value, mask, found)
    package = package if found.tool in MODEL_TOOLS else None
    if package is None:
        model = {"name": found.tool, "version": VERSION, "weights_sha256": ""}
    else:
        model = {"name": package.name, "version": package.version, "weights_sha256": package.weights_sha256}
    report = {
        **_figures(job, label, volume.geometry, mask, found),
        "taken": {labels[value].name: count for value, count in taken.items()},
        "prompts": len(prompts),
        "tool": found.tool,
        "model": None if package is None else model,
        "settings": {**dataclasses.asdict(options), "overwrite_others": job.overwrites},
    }
    text = json.dumps(report, indent=2) + "\n"
    with interruption_postponed():
        if job.report is not None:
            remove_file(job.report)
        _write(job, corrected, labels, label.value, model)
        if job.report is not None:
            with atomic_path(job.report) as temporary:
                temporary.write_text(text, encoding="utf-8")
    return Done(report, [*volume.notes, *notices])


# --- what is there


def _read_segments(job: Job, volume: Volume) -> tuple[Volume, dict[int, Label], list[str]]:
    """Return the labelmap on the volume's grid, its labels by value, and what the user should know."""
    from medseg.segmentation.seg_nrrd_labels import plain_label
    from medseg.volumes import read_labelmap

    if job.segmentation is None:
        return volume.with_array(np.zeros(volume.shape, np.uint8)), {}, []
    # The names come first: they say in better words when segments overlap.
    table = names_of(job.segmentation, job.names)
    labelmap = read_labelmap(job.segmentation)
    labels = {label.value: label for label in table or ()}
    try:
        labels.update({value: plain_label(value) for value in sorted(_values(labelmap) - set(labels))})
    except InputError as error:
        raise InputError(f"{job.segmentation} cannot be corrected. {error.message}", advice=error.advice) from error
    placed = _on_grid(labelmap, volume, job)
    notices = []
    if placed.shape != labelmap.shape:
        notices.append(f"{job.segmentation} covers a part of the volume; the result covers all of it.")
    return placed, labels, notices


def _values(labelmap: Volume) -> set[int]:
    """Return the values of all voxels but those of the background."""
    found: set[int] = set()
    for plane in labelmap.array:  # plane by plane, since unique sorts a copy
        found.update(np.unique(plane).tolist())
    return found - {0}


def _on_grid(labelmap: Volume, volume: Volume, job: Job) -> Volume:
    """Return the same voxels on the volume's grid, of which they may be a part or a turned copy: never resampled."""
    grid = volume.geometry
    if labelmap.geometry.is_close(grid):
        return dataclasses.replace(labelmap, geometry=grid)
    turned = labelmap.reorient(grid.orientation)
    start = grid.offset_of(turned.geometry)
    if start is not None and all(
        0 <= low <= size - count for low, size, count in zip(start, grid.shape, turned.shape, strict=True)
    ):
        return turned.pad_to(grid)
    raise GeometryError(
        f"The voxels of {job.segmentation} are not those of {job.volume}.",
        advice="Give the volume that it was drawn on. Or export it to a labelmap with this volume as the reference in "
        "3D Slicer's module Segmentations, and correct that.",
    )


def _chosen(job: Job, labels: Mapping[int, Label]) -> Label:
    """Return the label that is to be corrected, a new one when it was asked for."""
    from medseg.segmentation.seg_nrrd_labels import plain_label

    found, value = known_label(job.segment, labels.values()), value_in(job.segment)
    if found is not None:
        if job.is_new:
            raise InputError(f"There is a segment '{found.name}' already.", advice="Leave --new out to correct it.")
        return found
    if not job.is_new:
        names = ", ".join([label.name for label in labels.values()][:12])
        present = f"The segments are: {names}." if names else f"{job.segmentation} has none."
        raise InputError(
            f"There is no segment '{job.segment}'.", advice=f"{present} Add --new to begin it from nothing."
        )
    if value is not None:
        return plain_label(value)
    free = max([0, *labels]) + 1
    if free > LARGEST_VALUE:
        raise InputError(f"{job.segmentation} has no label value left.", advice="Give a free value as --segment.")
    return plain_label(free, job.segment.strip())


def _check_prompts(
    prompts: Sequence[Prompt], labelmap: Volume, labels: Mapping[int, Label], allowed: np.ndarray | None
) -> None:
    """Raise now, and with its number, what following a prompt would raise after the earlier ones."""
    for number, prompt in enumerate(prompts, start=1):
        voxels = prompt.voxels(labelmap.geometry)
        what = f"Prompt {number}, a {prompt.kind},"
        if not len(voxels):
            raise InputError(
                f"{what} lies outside of the volume.",
                advice=f"Give R, A, S in mm; the volume goes {_in_words(*_whole(labelmap.geometry))}.",
            )
        places = tuple(voxels.T)
        if allowed is not None and not allowed[places].any():
            met = labels[int(labelmap.array[places][0])].name
            raise InputError(
                f"{what} lies in the segment '{met}', which is not to change.",
                advice="Add --overwrite-others to take voxels of other segments.",
            )


# --- what becomes of it


def _with_segment(labelmap: Volume, value: int, mask: np.ndarray, found: Correction) -> tuple[Volume, dict[int, int]]:
    """Return the labelmap with the corrected segment, uint8 or uint16, and the voxels that others lost, by value."""
    high = max(int(labelmap.array.max()), value)
    array = labelmap.array.astype(np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16)
    if found.region is None:
        return labelmap.with_array(array), {}
    part, before, after = (each[found.region.slices] for each in (array, mask, found.mask))
    lost, counts = np.unique(part[after & ~before], return_counts=True)
    part[before & ~after] = 0
    part[after] = value
    return labelmap.with_array(array), {int(one): int(count) for one, count in zip(lost, counts, strict=True) if one}


def _figures(job: Job, label: Label, geometry: Geometry, mask: np.ndarray, found: Correction) -> dict[str, Any]:
    from medseg.version import VERSION

    before, after = int(np.count_nonzero(mask)), int(np.count_nonzero(found.mask))
    added = (found.changed + after - before) // 2
    bounds = None if found.region is None else found.region.bounds_ras(geometry)
    return {
        "version": VERSION,
        "files": {
            "volume": job.volume.name,
            "segmentation": None if job.segmentation is None else job.segmentation.name,
            "prompts": job.prompts.name,
        },
        "output": job.output.name,
        "segment": {"name": label.name, "value": label.value, "new": job.is_new},
        "region_ras_mm": None if bounds is None else {"low": bounds[0], "high": bounds[1]},
        "voxels": {"before": before, "added": added, "removed": found.changed - added, "after": after},
        "volume_ml": after * geometry.voxel_volume_mm3 / 1000.0,
        "seconds": found.seconds,
    }


def _write(job: Job, labelmap: Volume, labels: Mapping[int, Label], value: int, model: Mapping[str, str]) -> None:
    if not job.output.name.lower().endswith(SEGMENTATION_ENDING):
        from medseg.volumes import write_labelmap

        write_labelmap(labelmap, job.output)
        return
    from medseg.segmentation.seg_nrrd_edit import write_edited
    from medseg.volumes.folders import is_segmentation

    shown = set(labels)
    if job.segmentation is None or not is_segmentation(job.segmentation):
        # A table of names may list a hundred structures that are not there.
        shown = _values(labelmap) | {value}
    segments = [labels[one] for one in sorted(shown)]
    write_edited(labelmap, segments, value, job.output, model=model, source=job.segmentation)


def _whole(geometry: Geometry) -> tuple[Sequence[float], Sequence[float]]:
    from medseg.correction.region import Region

    return Region((0, 0, 0), geometry.shape).bounds_ras(geometry)


def _in_words(low: Sequence[float], high: Sequence[float]) -> str:
    return ", ".join(f"{axis} {start:.1f} to {stop:.1f}" for axis, start, stop in zip("RAS", low, high, strict=True))


def show(done: Done, job: Job) -> None:
    """Print what changed, where it may have, and what was written."""
    from medseg.cli.console import remarks, results

    report, voxels = done.report, done.report["voxels"]
    for notice in done.notices:
        remarks().print(f"Note: {notice}", markup=False)
    for name, count in report["taken"].items():
        remarks().print(f"Note: '{name}' lost {count} voxels.", markup=False)
    change = f"{voxels['added']} voxels added, {voxels['removed']} removed"
    results().print(f"{report['segment']['name']}: {change}, now {report['volume_ml']:.2f} mL", markup=False)
    box = report["region_ras_mm"]
    results().print(f"Nothing changed outside of {_in_words(box['low'], box['high'])} mm.")
    remarks().print(f"Seconds: {report['seconds']:.1f}")
    for path in (job.output, job.report):
        if path is not None:
            results().print(f"Written: {path}", markup=False)
