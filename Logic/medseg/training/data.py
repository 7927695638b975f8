"""Image/label pairs: found, checked before the first step, brought onto the network's grid, kept in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from medseg.errors import InputError, RecipeError
from medseg.volumes import Geometry, Volume, read_labelmap, read_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.labels import LabelTable
    from medseg.models.package import Preprocessing
    from medseg.training.recipe import DataSection


@dataclass(frozen=True)
class Pair:
    """One training case: the files of its image and of its labels."""

    case: str
    image: Path
    label: Path


@dataclass(frozen=True)
class PreparedCase:
    """A case on the network's grid.

    Attributes
    ----------
    image
        (1, I, J, K) float32, intensities preprocessed.
    label
        (I, J, K) uint8 label values; 0 is the background. Channel v of the network stands for value v.
    spacing
        Voxel size in mm along I, J, K.
    foreground
        For each label in the case, (N, 3) int32 indices of some of its voxels, drawn once, for patches that hold it.
    annotated
        (n_classes,) bool: which classes are annotated; the background always is.
    instances
        (I, J, K) int16 numbers of instances, 0 elsewhere; ``None`` when the recipe names no labels with instances.
    """

    case: str
    image: torch.Tensor
    label: torch.Tensor
    spacing: tuple[float, float, float]
    foreground: tuple[torch.Tensor, ...]
    annotated: torch.Tensor
    instances: torch.Tensor | None = None


def find_pairs(folder: Path, section: DataSection) -> list[Pair]:
    """Return the pairs in ``folder``, ordered by case.

    Raises
    ------
    RecipeError
        When the folder does not exist, holds no pair, or images lack their label or labels their image.
    """
    if not folder.is_dir():
        raise RecipeError(f"The data folder {folder} does not exist.", advice="Give it with --data.")
    images, labels = _matching(folder, section.image), _matching(folder, section.label)
    # '{case}.nii.gz' also matches 'case_label.nii.gz': what is a label is not an image.
    label_files = set(labels.values())
    images = {case: path for case, path in images.items() if path not in label_files}
    if not images:
        raise RecipeError(
            f"No file in {folder} matches the recipe's image pattern '{section.image}'.",
            advice="Correct data.image in the recipe or give another folder with --data.",
        )
    missing = sorted(set(images) - set(labels))
    if missing:
        raise RecipeError(
            f"{len(missing)} images in {folder} have no label file '{section.label}': {_some(missing)}.",
            advice="Add the label files, or move these images elsewhere.",
        )
    orphans = sorted(set(labels) - set(images))
    if orphans:
        raise RecipeError(
            f"{len(orphans)} label files in {folder} have no image '{section.image}': {_some(orphans)}.",
            advice="Add the images, or move these labels elsewhere.",
        )
    return [Pair(case, images[case], labels[case]) for case in sorted(images)]


def split_pairs(pairs: Sequence[Pair], section: DataSection, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Deal the pairs into training and validation as the recipe says; the same seed gives the same split.

    Raises
    ------
    RecipeError
        When there are fewer pairs than folds.
    """
    if section.folds == 1:
        return list(pairs), []
    if len(pairs) < section.folds:
        raise RecipeError(
            f"There are {len(pairs)} cases, too few for {section.folds} folds.",
            advice="Add cases or set data.folds lower.",
        )
    order = np.random.default_rng(seed).permutation(len(pairs))
    held_out = set(order[section.fold :: section.folds].tolist())
    training = [pair for index, pair in enumerate(pairs) if index not in held_out]
    return training, [pair for index, pair in enumerate(pairs) if index in held_out]


def read_pair(pair: Pair, labels: LabelTable, section: DataSection) -> tuple[Volume, Volume]:
    """Read a pair and check that it can be trained on; return image and labels, these as they are in the file.

    Raises
    ------
    RecipeError
        When a file cannot be read, the grids differ, the label is empty or holds values that the label table lacks.
    """
    try:
        image, label = read_volume(pair.image), read_labelmap(pair.label)
    except InputError as error:
        raise RecipeError(f"Case {pair.case} cannot be read: {error.message}", advice=error.advice) from error
    if not image.geometry.is_close(label.geometry):
        raise RecipeError(
            f"Case {pair.case}: image and label lie on different grids ({_grid(image.geometry)} and "
            f"{_grid(label.geometry)}).",
            advice="Resample the label onto the image's grid.",
        )
    values = set(np.unique(label.array).tolist()) - {0}
    known = set(labels.values) if section.values is None else set(section.values)
    unknown = sorted(values - known)
    if unknown and section.values is None:
        raise RecipeError(
            f"Case {pair.case}: the label holds the values {unknown}, which the label table does not name.",
            advice="Add them to the label table, translate them with data.values, or remove them from the file.",
        )
    if not values & known:
        raise RecipeError(f"Case {pair.case}: the label is empty.", advice="Draw it or remove the case.")
    if not np.isfinite(image.array).all():
        raise RecipeError(f"Case {pair.case}: the image holds values that are not numbers.", advice="Repair it.")
    return image, label


def prepare(
    pair: Pair,
    image: Volume,
    label: Volume,
    *,
    labels: LabelTable,
    section: DataSection,
    preprocessing: Preprocessing,
    seed: int,
) -> PreparedCase:
    """Bring a pair onto the network's grid, exactly as the pipeline does with an image in use.

    Labels are resampled linearly, class by class, and the class with the largest share wins, which keeps boundaries
    smooth where nearest neighbours would leave steps. The numbers of instances take the nearest neighbour's.
    """
    from medseg.segmentation.preprocess import to_network_grid

    prepared = to_network_grid(image, preprocessing)
    named = translated(label, section)
    classes = named.reorient(preprocessing.orientation)
    if not classes.geometry.is_close(prepared.geometry):
        classes = _resample_classes(classes, prepared.geometry, np.unique(named.array).tolist())
    indices = torch.from_numpy(np.ascontiguousarray(classes.array_ijk)).to(torch.uint8)
    annotated = torch.zeros(labels.values[-1] + 1, dtype=torch.bool)
    annotated[[0, *annotated_labels(named, labels, section)]] = True
    instances = None
    if section.instances:
        numbers = label.with_array(np.where(np.isin(named.array, section.instances), label.array, 0).astype(np.int16))
        numbers = numbers.reorient(preprocessing.orientation)
        if not numbers.geometry.is_close(prepared.geometry):
            numbers = numbers.resample(prepared.geometry, interpolation="nearest", fill=0.0)
        instances = torch.from_numpy(np.ascontiguousarray(numbers.array_ijk)).to(torch.int16)
        # An instance ends where its class does.
        instances = instances * torch.isin(indices, torch.tensor(section.instances, dtype=torch.uint8))
    return PreparedCase(
        case=pair.case,
        image=torch.from_numpy(np.ascontiguousarray(prepared.array_ijk, dtype=np.float32))[None],
        label=indices,
        spacing=prepared.geometry.spacing,
        foreground=_some_voxels(indices, seed),
        annotated=annotated,
        instances=instances,
    )


def translated(label: Volume, section: DataSection) -> Volume:
    """Return the labels of a file with the values of the label table, uint8."""
    if section.values is None:
        return label.with_array(label.array.astype(np.uint8))
    table = np.zeros(max(int(label.array.max()), *section.values) + 1, np.uint8)
    for value, becomes in section.values.items():
        table[value] = becomes
    return label.with_array(table[label.array])


def annotated_labels(named: Volume, labels: LabelTable, section: DataSection) -> tuple[int, ...]:
    """Return the values of the labels that are annotated in a case, from its labels in the table's values."""
    if section.annotated == "all":
        return labels.values
    present = set(np.unique(named.array).tolist())
    return tuple(value for value in labels.values if value in present)


_VOXELS_KEPT = 2048


def _some_voxels(indices: torch.Tensor, seed: int) -> tuple[torch.Tensor, ...]:
    """Return some voxels of each class, so that a rare or small one is met as often as a large one."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for value in indices.unique().tolist():
        if value:
            voxels = torch.nonzero(indices == value).to(torch.int32)
            found.append(voxels[torch.randperm(len(voxels), generator=generator)[:_VOXELS_KEPT]])
    return tuple(found)


def _resample_classes(classes: Volume, target: Geometry, values: Sequence[int]) -> Volume:
    share = classes.with_array((classes.array == 0).astype(np.float32)).resample(target, fill=1.0).array.copy()
    best = np.zeros(target.shape, dtype=np.uint8)
    for value in values:
        if value == 0:
            continue
        mask = classes.with_array((classes.array == value).astype(np.float32))
        found = mask.resample(target, interpolation="linear", fill=0.0).array
        wins = found > share
        best[wins] = value
        share[wins] = found[wins]
    return Volume(best, target)


def _matching(folder: Path, pattern: str) -> dict[str, Path]:
    before, after = pattern.split("{case}")
    found = {}
    for path in sorted(folder.glob(f"{before}*{after}")):
        name = path.relative_to(folder).as_posix()
        found[name[len(before) : len(name) - len(after)]] = path
    return found


def _grid(geometry: Geometry) -> str:
    size, spacing = geometry.size, geometry.spacing
    return f"{size[0]} x {size[1]} x {size[2]} voxels of {spacing[0]:.3g} x {spacing[1]:.3g} x {spacing[2]:.3g} mm"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
