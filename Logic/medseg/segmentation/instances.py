"""From what the windows give to one labelmap: a label for every bone, numbered from the head to the feet.

Sections 10 and 11 of the digest of "Vision transformers for segmenting organs and tissues in CT scans of arbitrary
imaging ranges" (Melander and Thånell, Lund 2024): connected components of groups without embeddings, removal of small
objects, then the original grid by nearest neighbour. The paper keeps organs and instances apart; how they share one
labelmap is our choice: an instance lies where the blended class is its group, another group or background, and never on
another organ.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.analysis.components import connected_components, touching_ends
from medseg.analysis.naming import head_to_feet, instance_labels, numbered_table
from medseg.analysis.small_objects import remove_small_components, remove_small_instances, voxel_threshold
from medseg.progress import NO_PROGRESS, Progress
from medseg.segmentation.grids import sampling_between
from medseg.segmentation.instance_windows import WindowResult, run_windows

if TYPE_CHECKING:
    import torch

    from medseg.labels import Label, LabelTable
    from medseg.models.instances import InstanceGroup
    from medseg.models.package import ModelPackage
    from medseg.segmentation.predictor import Predictor
    from medseg.volumes import Geometry

logger = logging.getLogger(__name__)

_NAMED_AT_MOST = 6


@dataclass(frozen=True)
class SeparatedLabels:
    """Labels with instances.

    Attributes
    ----------
    labels
        uint8 or uint16, (k, j, i) of the network's grid.
    table
        The model's labels, and behind them one for every instance.
    notices
        What the user should know, whole sentences.
    """

    labels: np.ndarray
    table: LabelTable
    notices: list[str]


def segment_instances(
    image: torch.Tensor,
    predictor: Predictor,
    package: ModelPackage,
    grid: Geometry,
    *,
    overlap: float | None = None,
    small_objects: bool = True,
    progress: Progress = NO_PROGRESS,
) -> SeparatedLabels:
    """Segment the prepared ``image`` (C, I, J, K) and separate the instances that the package asks for.

    Parameters
    ----------
    predictor, overlap
        As :func:`~medseg.segmentation.instance_windows.run_windows`.
    grid
        The network's grid, on which the image lies.
    small_objects
        Remove what is smaller than the package says.

    Raises
    ------
    ModelError, DeviceError, DeviceMemoryError, Cancelled
        As :func:`~medseg.segmentation.instance_windows.run_windows`.
    InputError
        When there are more instances than a labelmap can number.
    """
    found = run_windows(image, predictor, package, overlap=overlap, progress=progress.part(0.0, 0.95))
    covered = grid.extent_mm[2] / 10
    logger.info("%d windows along %.1f cm", found.windows, covered)
    progress.update(0.95, "Separating the instances")
    return _Composer(found, package, grid, small_objects=small_objects).composed()


def nearest_on(labels: np.ndarray, grid: Geometry, target: Geometry, out: np.ndarray) -> None:
    """Write ``labels`` (k, j, i) of ``grid`` into ``out`` (k, j, i) of ``target``, which has the same axes.

    The value of the nearest voxel; beyond the outermost voxel centres their value goes on. Raises ``GeometryError``
    when the axes differ.
    """
    i, j, k = (
        np.where(axis.weight >= 0.5, axis.upper, axis.lower)  # halfway goes up, on every axis alike
        for axis in sampling_between(grid, target)
    )
    for plane, index in zip(out, k, strict=True):
        plane[:] = labels[index][np.ix_(j, i)]


@dataclass
class _Group:
    """A group and its instances: int32 from the head, their order, the value of the first."""

    group: InstanceGroup
    label: Label
    found: np.ndarray
    order: np.ndarray
    first: int = 0

    @property
    def values(self) -> range:
        return range(self.first, self.first + len(self.order))


class _Composer:
    """Puts classes and instances into one array, and makes the table that explains it."""

    def __init__(self, found: WindowResult, package: ModelPackage, grid: Geometry, *, small_objects: bool) -> None:
        assert package.instances is not None
        self._package = package
        self._section = package.instances
        self._grid = grid
        self._small_objects = small_objects
        self._notices = found.notices
        self._stitched = found.stitched
        self._upwards = package.preprocessing.orientation[2] == "S"
        self._largest = max(package.labels.values)
        self._classes = self._named(found.classes)

    def composed(self) -> SeparatedLabels:
        """Return the labels on the network's grid."""
        if self._small_objects:
            voxel = self._grid.voxel_volume_mm3
            remove_small_components(self._classes, {v: size / voxel for v, size in self._section.minimum_mm3.items()})
        groups = [self._separated(group) for group in self._section.groups]
        table = list(self._package.labels)
        for each in groups:
            each.first = self._largest + 1 + len(table) - len(self._package.labels)
            names = [label.name for label in table]
            table += instance_labels(each.label, len(each.order), each.first, name=each.group.name, taken=names)
        labels = self._painted(groups, np.uint8 if table[-1].value <= 255 else np.uint16)
        for each in groups:
            if self._settle(labels, each) and len(each.order):
                rest = dataclasses.replace(each.label, name=f"{each.label.name} (not separated)")
                table[table.index(each.label)] = rest
        full = numbered_table(table)
        cut = [full.by_value(int(value)).name for value in touching_ends(labels) if value > self._largest]
        if cut:
            names_of_cut = ", ".join(cut) if len(cut) <= _NAMED_AT_MOST else f"{len(cut)} instances"
            self._notices.append(f"At the top or bottom of the scan, perhaps cut by it: {names_of_cut}.")
        return SeparatedLabels(labels[::-1] if self._upwards else labels, full, self._notices)

    def _named(self, classes: np.ndarray) -> np.ndarray:
        """Return the classes as label values; a class without a label is background."""
        values = self._package.labels.values
        channels = self._package.output_channels
        named = np.zeros(max(channels, 2), np.uint8 if max(values) <= 255 else np.uint16)
        known = [value for value in values if value < len(named)]
        named[known] = known
        if channels == 1:
            named[1] = values[0]
        return named[classes]

    def _separated(self, group: InstanceGroup) -> _Group:
        """Return the instances of a group, small ones removed."""
        if group.method == "embedding":
            found = self._stitched[group.label].instances
        else:
            found = connected_components(self._classes == group.label, group.connectivity)
        if self._small_objects:
            fewest = voxel_threshold(group.minimum_mm3, self._grid.voxel_volume_mm3, group.minimum_voxels)
            remove_small_instances(found, fewest)
        order = head_to_feet(found[::-1] if self._upwards else found, self._grid)
        return _Group(group, self._package.labels.by_value(group.label), found, order)

    def _painted(self, groups: list[_Group], dtype: type) -> np.ndarray:
        """Return classes and instances in one array."""
        labels: np.ndarray = self._classes.astype(dtype)
        open_to_bones = np.isin(self._classes, (0, *self._section.values))
        for each in groups:
            numbers: np.ndarray = np.zeros(int(each.found.max(initial=0)) + 1, dtype)
            numbers[each.order] = each.values
            # Where two groups claim a voxel, the blended class says whose it is, else the first group has it.
            place = (self._classes == each.group.label) | (open_to_bones & (labels <= self._largest))
            place &= each.found > 0
            labels[place] = numbers[each.found[place]]
        return labels

    def _settle(self, labels: np.ndarray, each: _Group) -> bool:
        """Deal with the voxels of a group that no instance has; return whether some keep the group's label."""
        rest = labels == each.group.label
        voxels = int(np.count_nonzero(rest))
        if voxels == 0 or each.group.remainder == "keep":
            return voxels > 0
        if each.group.remainder == "nearest" and len(each.order):
            labels[rest] = _nearest_instances(labels, rest, each.values, self._grid.spacing)
            return False
        labels[rest] = 0
        volume = voxels * self._grid.voxel_volume_mm3 / 1000
        self._notices.append(
            f"{volume:.1f} mL of '{each.label.name}' belonged to no instance, or to one too small, and were left out."
        )
        return False


def _nearest_instances(
    labels: np.ndarray, rest: np.ndarray, values: range, spacing: tuple[float, float, float]
) -> np.ndarray:
    """Return for the voxels of ``rest`` the nearest of ``values`` by distance in mm."""
    import SimpleITK as sitk

    those = np.where((labels >= values.start) & (labels < values.stop), labels, 0)
    image = sitk.GetImageFromArray(those.astype(np.uint16))
    image.SetSpacing(spacing)
    transform = sitk.DanielssonDistanceMapImageFilter()
    transform.SetInputIsBinary(False)
    transform.SetUseImageSpacing(True)
    transform.Execute(image)
    # The view does not keep the image alive: it needs a name of its own.
    nearest = transform.GetVoronoiMap()
    return sitk.GetArrayViewFromImage(nearest)[rest].astype(labels.dtype)
