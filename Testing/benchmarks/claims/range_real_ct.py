"""End to end on a real CT: the last part of the claim ``arbitrary-range``.

A small two-headed network is trained by the project's own recipe on a crop of nine centimetres whose labels another
program made, exported, and run on that crop and on the whole trunk, of which the crop is the lowest quarter. One crop
of one patient says nothing about accuracy: what is shown is that the way works, and what comes out.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.analysis.panoptic import Panoptic, panoptic_quality
from medseg.analysis.small_objects import remove_small_instances
from medseg.models import read_package
from medseg.progress import Progress
from medseg.segmentation import SegmentOptions, segment
from medseg.volumes import Volume, read_labelmap, read_volume

if TYPE_CHECKING:
    from medseg.segmentation import SegmentationResult

RECIPE = Path(__file__).parents[3] / "Resources" / "recipes" / "arbitrary-range-ct-example-swin.yaml"
FOLDER, CASE = "ct-totalseg", "example"
_LEAST_VOXELS = 20
"""Smaller slivers of the true bones, which the crop has cut, are not asked for."""


@dataclass(frozen=True)
class Group:
    """What was found of one kind of bone."""

    name: str
    crop: Panoptic
    whole: Panoptic
    """Of the part of the whole trunk that the crop shows."""
    in_trunk: int


@dataclass(frozen=True)
class RealCT:
    """What came out of the real CT."""

    groups: tuple[Group, ...]
    steps: int
    slices: tuple[int, int]
    notices: tuple[str, ...]
    organs: int
    seconds: float


def has_data(data: Path | None) -> bool:
    """Say whether the folder of real volumes holds the CT."""
    return data is not None and all(
        (data / FOLDER / f"{CASE}_{part}.nii.gz").is_file() for part in ("ct", "ct_sm", "seg")
    )


def run_real_ct(data: Path, epochs: int, progress: Progress) -> RealCT:
    """Train for ``epochs`` of the recipe on the crop, and segment the crop and the whole trunk."""
    from medseg.training import run_training

    with tempfile.TemporaryDirectory(prefix="medseg-claim-") as folder:
        recipe, settings = _recipe(Path(folder), epochs)
        trained = run_training(
            recipe, data / FOLDER, Path(folder) / "run", device="cpu", progress=progress.part(0.0, 0.85)
        )
        assert trained is not None
        package = read_package(trained.package)
        options = SegmentOptions(device="cpu")
        crop, trunk = (read_volume(data / FOLDER / f"{CASE}_{part}.nii.gz") for part in ("ct_sm", "ct"))
        on_crop = segment([crop], package, options, progress=progress.part(0.85, 0.9))
        on_trunk = segment([trunk], package, options, progress=progress.part(0.9, 1.0))
    truth = read_labelmap(data / FOLDER / f"{CASE}_seg.nii.gz")
    groups = []
    for group in package.instances.groups if package.instances else ():
        theirs = np.isin(truth.array, [int(v) for v, own in settings["data"]["values"].items() if own == group.label])
        bones = np.where(theirs, truth.array, 0).astype(np.int32)
        remove_small_instances(bones, _LEAST_VOXELS, keep_ends=False)
        ours, all_ours = (_instances(result, group.name) for result in (on_crop, on_trunk))
        part = all_ours.crop_to(crop.geometry)
        groups.append(
            Group(
                group.name,
                panoptic_quality(ours.array, bones),
                panoptic_quality(part.array, bones),
                len(np.unique(all_ours.array)) - 1,
            )
        )
    groups_of_bones = set(package.instances.values) if package.instances else set()
    organs = sum(
        entry.voxels > 0 and entry.value in package.labels.values and entry.value not in groups_of_bones
        for entry in on_trunk.statistics
    )
    return RealCT(
        tuple(groups),
        epochs * settings["optimisation"]["steps_per_epoch"],
        (crop.shape[0], trunk.shape[0]),
        tuple(on_trunk.notices),
        organs,
        trained.seconds,
    )


def _recipe(folder: Path, epochs: int) -> tuple[Path, dict[str, Any]]:
    """Write the project's recipe with other ``epochs`` and its label table into ``folder``."""
    import yaml

    settings = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    settings["optimisation"]["epochs"] = epochs
    settings["optimisation"]["warmup_steps"] = min(
        settings["optimisation"].get("warmup_steps", 50), epochs * settings["optimisation"]["steps_per_epoch"] // 4
    )
    labels = RECIPE.parent / settings["labels"]
    (folder / labels.name).write_bytes(labels.read_bytes())
    target = folder / RECIPE.name
    target.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return target, settings


def _instances(result: SegmentationResult, name: str) -> Volume:
    values = [label.value for label in result.labels if label.name.rpartition(" ")[0] == name]
    array = result.labelmap.array
    return result.labelmap.with_array(np.where(np.isin(array, values), array, 0).astype(np.int32))
