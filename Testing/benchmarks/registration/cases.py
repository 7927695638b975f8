"""The pairs: real ones with landmarks or labels, real volumes under known warps, and brains painted from label maps."""

from __future__ import annotations

import csv
import dataclasses
import functools
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.registration.known_warp import other_contrast, warped_pair
from benchmarks.registration.painted import painted_pair
from benchmarks.registration.pair import Case, Pair
from medseg.registration import AlignmentOptions, SpatialTransform, align
from medseg.registration.working_grid import smoothed
from medseg.volumes import Volume, read_labelmap, read_volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.registration.painted import Contrast

_HEADS, _HIPPOCAMPI = 7, 11
_BRAIN_MM, _PAINTED_MM = 1.0, 1.5
_SMALL = 100_000
"""Volumes with so few voxels are never made coarser."""


def cases(data: Path) -> list[Case]:
    """Return the pairs for which the folder of real volumes holds the files, in the order of the tables."""
    makers = (
        _brains, _brain_contrasts, _ct_mr, _lungs, _trunks, _heads, _hearts, _hippocampi, _painted_brains,
    )  # fmt: skip
    return [case for maker in makers for case in maker(data)]


def coarser(volume: Volume, spacing_mm: float | None, *, labels: bool = False) -> Volume:
    """Return a volume with voxels of at least ``spacing_mm`` on every axis; itself for ``None`` or when it is small.

    Detail that the new voxels cannot hold is smoothed away before; label maps take the nearest label.
    """
    if spacing_mm is None or min(volume.geometry.spacing) >= spacing_mm or volume.array.size <= _SMALL:
        return volume
    grid = volume.geometry.with_spacing([max(step, spacing_mm) for step in volume.geometry.spacing])
    if labels:
        return volume.resample(grid, interpolation="nearest")
    return smoothed(volume, spacing_mm).resample(grid, fill=float(volume.array.min()))


def _volume(path: Path, modality: str, spacing_mm: float | None) -> Volume:
    volume = coarser(read_volume(path), spacing_mm)
    return dataclasses.replace(volume, array=volume.array.astype(np.float32), modality=modality)


def _labels(path: Path, spacing_mm: float | None) -> Volume:
    return coarser(read_labelmap(path), spacing_mm, labels=True)


def _here(*paths: Path) -> bool:
    return all(path.is_file() for path in paths)


def _brains(data: Path) -> Iterable[Case]:
    for name in ("chris_t1", "spm152", "MR_Gd"):
        path = data / "brain-mr" / f"{name}.nii.gz"
        if _here(path):
            for seed in (1, 2):
                build = functools.partial(_warped_brain, path, 10 * seed)
                yield Case(f"{name}, warp {seed}", "brain-mr", build, quick=name == "chris_t1" and seed == 1)


def _warped_brain(path: Path, seed: int, spacing_mm: float | None) -> Pair:
    return warped_pair(_brain(path, spacing_mm), seed)


def _brain(path: Path, spacing_mm: float | None) -> Volume:
    return _volume(path, "MR", max(spacing_mm or 0, _BRAIN_MM))


def _brain_contrasts(data: Path) -> Iterable[Case]:
    t1, density, average = (data / "brain-mr" / f"{name}.nii.gz" for name in ("chris_t1", "chris_PD", "spm152"))
    if _here(t1, density):
        for seed in (3, 4):
            build = functools.partial(_density_to_t1, density, t1, 10 * seed)
            yield Case(f"proton density to T1, warp {seed}", "brain-contrasts", build)
    if _here(average):
        for seed in (5, 6):
            build = functools.partial(_made_up_contrast, average, 10 * seed)
            yield Case(f"spm152 to another contrast, warp {seed}", "brain-contrasts", build, quick=seed == 5)


def _density_to_t1(density: Path, t1: Path, seed: int, spacing_mm: float | None) -> Pair:
    source, moving = (_brain(path, spacing_mm) for path in (density, t1))
    frames = SpatialTransform((np.eye(4),))
    alignment = align(source, moving, AlignmentOptions("rigid", "given", initial=frames))
    return warped_pair(source, seed, moving=moving, alignment=alignment)


def _made_up_contrast(path: Path, seed: int, spacing_mm: float | None) -> Pair:
    source = _brain(path, spacing_mm)
    return warped_pair(source, seed, moving=other_contrast(source))


def _ct_mr(data: Path) -> Iterable[Case]:
    for number, patient in enumerate(("002", "003", "015", "018")):
        ct, mr = (data / "ct-mr-pet-sarcoma" / f"STS_{patient}_{kind}.nii.gz" for kind in ("ct", "mrt1"))
        if _here(ct, mr):
            yield Case(f"STS_{patient}", "ct-mr", functools.partial(_ct_to_mr, ct, mr, 70 + 10 * number))


def _ct_to_mr(ct: Path, mr: Path, seed: int, spacing_mm: float | None) -> Pair:
    moving = _volume(mr, "MR", spacing_mm)
    return warped_pair(_volume(ct, "CT", spacing_mm), seed, moving=moving, kinds=("CT", "MR"))


def _lungs(data: Path) -> Iterable[Case]:
    if _here(data / "ct-lung-pair" / "landmarks_lps_mm.csv"):
        yield Case("ct-lung-pair", "lung-ct", functools.partial(_lung_pair, data / "ct-lung-pair"))


def _lung_pair(folder: Path, spacing_mm: float | None) -> Pair:
    with (folder / "landmarks_lps_mm.csv").open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["inside_both"] == "1"]
    lps = [[[float(row[f"{side}_{axis}"]) for axis in "xyz"] for row in rows] for side in ("base", "follow")]
    fixed_points, moving_points = (np.array(points) * [-1.0, -1.0, 1.0] for points in lps)
    return Pair(
        fixed=_volume(folder / "baseline_ct.nii.gz", "CT", spacing_mm),
        moving=_volume(folder / "followup_ct.nii.gz", "CT", spacing_mm),
        fixed_points=fixed_points,
        moving_points=moving_points,
        fixed_mask=_labels(folder / "baseline_lungmask.nii.gz", spacing_mm),
        moving_mask=_labels(folder / "followup_lungmask.nii.gz", spacing_mm),
    )


def _trunks(data: Path) -> Iterable[Case]:
    for number, name in enumerate(("thorax_crop_a", "thorax_crop_b")):
        path = data / "ct-totalseg" / f"{name}.nii.gz"
        if _here(path):
            yield Case(name, "trunk-ct", functools.partial(_warped_trunk, path, 110 + 10 * number))


def _warped_trunk(path: Path, seed: int, spacing_mm: float | None) -> Pair:
    return warped_pair(_volume(path, "CT", spacing_mm), seed, kinds=("CT", "CT"))


def _heads(data: Path) -> Iterable[Case]:
    folder = data / "ct-head-neck"
    if not _here(folder / "cases.csv"):
        return []
    with (folder / "cases.csv").open(newline="", encoding="utf-8") as stream:
        whole = [
            row["case"] for row in csv.DictReader(stream) if all(int(n) for key, n in row.items() if key != "case")
        ]
    return _neighbours(folder, whole[:_HEADS], "head-neck-ct", "CT", "_label")


def _hearts(data: Path) -> Iterable[Case]:
    folder = data / "mr-cardiac-cine"
    for path in sorted(folder.glob("*_ed.nii.gz")):
        name = path.name.removesuffix("_ed.nii.gz")
        yield Case(name, "cardiac-mr", functools.partial(_labelled, folder, f"{name}_ed", f"{name}_es", "MR", "_gt"))


def _hippocampi(data: Path) -> Iterable[Case]:
    folder = data / "mr-hippocampus"
    found = sorted(path.name.removesuffix("_label.nii.gz") for path in folder.glob("*_label.nii.gz"))
    chain = _neighbours(folder, found[:_HIPPOCAMPI], "hippocampus-mr", "MR", "_label")
    return [dataclasses.replace(case, quick=number == 0) for number, case in enumerate(chain)]


def _neighbours(folder: Path, names: Sequence[str], group: str, modality: str, ending: str) -> list[Case]:
    """Return each with the next."""
    return [
        Case(f"{fixed} and {moving}", group, functools.partial(_labelled, folder, fixed, moving, modality, ending))
        for fixed, moving in itertools.pairwise(names)
    ]


def _labelled(folder: Path, fixed: str, moving: str, modality: str, ending: str, spacing_mm: float | None) -> Pair:
    names = (fixed, moving)
    volumes = [_volume(folder / f"{name}.nii.gz", modality, spacing_mm) for name in names]
    labels = [_labels(folder / f"{name}{ending}.nii.gz", spacing_mm) for name in names]
    return Pair(volumes[0], volumes[1], fixed_labels=labels[0], moving_labels=labels[1])


def _painted_brains(data: Path) -> Iterable[Case]:
    pairs: tuple[tuple[int, int, Contrast, Contrast], ...] = (
        (6, 9, "T1", "T1"), (10, 13, "T1", "T1"), (6, 9, "T1", "T2"), (10, 13, "T1", "T2"),
    )  # fmt: skip
    for seed, (fixed, moving, *contrasts) in enumerate(pairs):
        paths = [data / "brain-labels" / f"brain_labels_{number:02d}.nii.gz" for number in (fixed, moving)]
        if _here(*paths):
            build = functools.partial(_painted, paths, tuple(contrasts), seed)
            name = f"{fixed:02d} ({contrasts[0]}) and {moving:02d} ({contrasts[1]})"
            yield Case(name, "painted-brains", build)


def _painted(paths: Sequence[Path], contrasts: tuple[Contrast, Contrast], seed: int, spacing_mm: float | None) -> Pair:
    fixed, moving = (_labels(path, max(spacing_mm or 0, _PAINTED_MM)) for path in paths)
    return painted_pair(fixed, moving, contrasts, seed)
