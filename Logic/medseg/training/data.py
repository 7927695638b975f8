"""Cases as the network takes them: images and labels on its grid, with what patches are drawn by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from medseg.volumes import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.labels import LabelTable
    from medseg.models.package import Preprocessing
    from medseg.training.pairs import Pair
    from medseg.training.recipe import DataSection
    from medseg.volumes import Geometry


@dataclass(frozen=True)
class PreparedCase:
    """A case on the network's grid.

    Attributes
    ----------
    image
        (C, I, J, K) float32, intensities preprocessed, one channel for each input of the model.
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

    @property
    def bytes(self) -> int:
        """What the arrays take in memory."""
        arrays = [self.image, self.label, *self.foreground, *([] if self.instances is None else [self.instances])]
        return sum(array.numel() * array.element_size() for array in arrays)


def prepare(
    pair: Pair,
    image: Volume,
    label: Volume,
    *,
    labels: LabelTable,
    section: DataSection,
    preprocessing: Preprocessing,
    seed: int,
    more: Sequence[Volume] = (),
) -> PreparedCase:
    """Bring a pair onto the network's grid, exactly as the pipeline does with images in use.

    Labels are resampled linearly, class by class, and the class with the largest share wins, which keeps boundaries
    smooth where nearest neighbours would leave steps. The numbers of instances take the nearest neighbour's. Further
    images (``more``) that lie on another grid are brought onto the first's.
    """
    from medseg.segmentation.preprocess import shown_geometry, to_network_grid

    shown = shown_geometry(image, preprocessing)
    channels = [to_network_grid(_placed(one, image.geometry), preprocessing, shown=shown) for one in (image, *more)]
    target = channels[0].geometry
    named = translated(label, section)
    classes = named.reorient(preprocessing.orientation)
    if not classes.geometry.is_close(target):
        classes = _resample_classes(classes, target, np.unique(named.array).tolist())
    indices = torch.from_numpy(np.ascontiguousarray(classes.array_ijk)).to(torch.uint8)
    annotated = torch.zeros(labels.values[-1] + 1, dtype=torch.bool)
    annotated[[0, *annotated_labels(pair, named, labels, section)]] = True
    instances = None
    if section.instances:
        numbers = label.with_array(np.where(np.isin(named.array, section.instances), label.array, 0).astype(np.int16))
        numbers = numbers.reorient(preprocessing.orientation)
        if not numbers.geometry.is_close(target):
            numbers = numbers.resample(target, interpolation="nearest", fill=0.0)
        instances = torch.from_numpy(np.ascontiguousarray(numbers.array_ijk)).to(torch.int16)
        owners = owners_of(torch.from_numpy(label.array.astype(np.int64)), torch.from_numpy(named.array))
        instances = within_owner(instances, owners, indices)
    return PreparedCase(
        case=pair.case,
        image=torch.from_numpy(np.ascontiguousarray(np.stack([channel.array_ijk for channel in channels]))),
        label=indices,
        spacing=target.spacing,
        foreground=_some_voxels(indices, seed),
        annotated=annotated,
        instances=instances,
    )


def owners_of(numbers: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return the class of each instance by its number; ``numbers`` and ``classes`` (any equal shape) tell it."""
    numbers = numbers.long()
    owners = classes.new_zeros(int(numbers.max()) + 1)
    owners[numbers] = classes
    owners[0] = 0
    return owners


def within_owner(numbers: torch.Tensor, owners: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return ``numbers``, 0 where ``classes`` has another class than that of the instance.

    Resampling rounds numbers and classes in different ways: where two groups touch, a fringe of one would carry the
    number of the other and pass for an instance of its own.
    """
    return numbers * (owners[numbers.long()] == classes)


def _placed(image: Volume, geometry: Geometry) -> Volume:
    if image.geometry.is_close(geometry):
        return image
    return image.resample(geometry, interpolation="linear", fill=float(image.array.min()))


def translated(label: Volume, section: DataSection) -> Volume:
    """Return the labels of a file with the values of the label table, uint8."""
    if section.values is None:
        return label.with_array(label.array.astype(np.uint8))
    table = np.zeros(max(int(label.array.max()), *section.values) + 1, np.uint8)
    for value, becomes in section.values.items():
        table[value] = becomes
    return label.with_array(table[label.array])


def annotated_labels(pair: Pair, named: Volume, labels: LabelTable, section: DataSection) -> tuple[int, ...]:
    """Return the values of the labels that are annotated in a case: what a table says, or its labels (``named``)."""
    if pair.annotated is not None:
        return pair.annotated
    if section.annotated != "present":
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
