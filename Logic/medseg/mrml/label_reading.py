"""Segmentations as label maps in two steps: reading is quick and belongs on the main thread, computing may be anywhere.

A segmentation of a usual CT takes a second or more to become a label map, too long for the thread that draws windows.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import GeometryError
from medseg.mrml.images import image_array, matrix_from_vtk
from medseg.mrml.labelmaps import label_values, resampled_labels, with_labelmaps
from medseg.mrml.segmentations import binary_labelmap_name, check_segmentation_node
from medseg.mrml.volumes import geometry_from_node
from medseg.volumes import Geometry, Volume

if TYPE_CHECKING:
    from collections.abc import Mapping

_COMMON_NUMBERS = 256


@dataclass(frozen=True)
class SharedLabels:
    """Segments that share an image, so that they cannot overlap.

    Attributes
    ----------
    array
        (k, j, i), the numbers that Slicer gives the segments in it. A view: it holds the memory, whatever becomes of
        the segments.
    start
        Index (k, j, i) of its first voxel on the grid of the label map; may be negative.
    values
        Label values by Slicer's numbers.
    """

    array: np.ndarray
    start: tuple[int, int, int]
    values: Mapping[int, int]

    def write(self, labels: np.ndarray) -> None:
        """Write the segments over ``labels`` (k, j, i)."""
        target, source = [], []
        for begin, length, room in zip(self.start, self.array.shape, labels.shape, strict=True):
            low, high = max(begin, 0), max(min(begin + length, room), begin, 0)
            target.append(slice(low, high))
            source.append(slice(low - begin, high - begin))
        array = self.array[tuple(source)]
        table = np.zeros(max(max(self.values) + 1, _COMMON_NUMBERS), labels.dtype)
        for number, value in self.values.items():
            table[number] = value
        if array.dtype != np.uint8:
            array = np.where((array > 0) & (array < table.size), array, 0).astype(np.intp)
        found = table[array]
        np.copyto(labels[tuple(target)], found, where=found > 0)


@dataclass(frozen=True)
class LabelReading:
    """What was read of a segmentation on the main thread; :meth:`labelmap` may run in any."""

    geometry: Geometry
    parts: tuple[SharedLabels, ...]
    largest: int
    name: str

    def labelmap(self) -> Volume:
        """Return the label map (k, j, i), uint8 or uint16; where segments overlap, the later one in the list wins."""
        labels = np.zeros(self.geometry.shape, np.uint8 if self.largest < _COMMON_NUMBERS else np.uint16)
        for part in self.parts:
            part.write(labels)
        return Volume(labels, self.geometry, name=self.name)


def read_labels(segmentation_node: Any, volume_node: Any) -> LabelReading:
    """Read the segments of a segmentation, to be put on the grid of a volume.

    Only those that lie on another grid, or under another transform than the volume, are resampled here (nearest
    neighbour), to where they appear in the scene.

    Parameters
    ----------
    segmentation_node
        A ``vtkMRMLSegmentationNode``. It is not changed: a segmentation that has only 3D surfaces is converted in a
        copy.
    volume_node
        The ``vtkMRMLScalarVolumeNode`` with the grid.

    Raises
    ------
    InputError
        When a node is of another kind, or the volume has no voxels.
    GeometryError
        When the volume's matrix is singular or not finite.
    MedSegError
        When 3D surfaces cannot be converted into a labelmap.
    """
    check_segmentation_node(segmentation_node)
    geometry = geometry_from_node(volume_node)
    values = label_values(segmentation_node)
    if not values:
        return LabelReading(geometry, (), 0, segmentation_node.GetName() or "")
    segmentation = with_labelmaps(segmentation_node, geometry)
    transform = _transform_between(segmentation_node, volume_node)
    segments = [(segmentation.GetSegment(identifier), value) for identifier, value in values.items()]
    parts = []
    # The address, not id(): Python's wrapper of a VTK object may be made anew, and a freed one's id given to another.
    for _, run in itertools.groupby(segments, key=lambda entry: _image_of(entry[0]).GetAddressAsString("vtkObject")):
        shared = list(run)
        numbers = {int(segment.GetLabelValue()): value for segment, value in shared}
        part = _read(_image_of(shared[0][0]), numbers, geometry, transform)
        if part is not None:
            parts.append(part)
    return LabelReading(geometry, tuple(parts), max(values.values()), segmentation_node.GetName() or "")


def labelmap_from_segmentation(segmentation_node: Any, volume_node: Any) -> Volume:
    """Return the segments of a segmentation as one labelmap on the grid of a volume.

    Where segments overlap, the later one in the list wins.

    Returns
    -------
    Volume
        (k, j, i), uint8, or uint16 when a value is above 255. The values are those of
        :func:`~medseg.mrml.labelmaps.label_values`.

    Raises
    ------
    MedSegError
        As :func:`read_labels`.
    """
    return read_labels(segmentation_node, volume_node).labelmap()


def _read(image: Any, values: Mapping[int, int], geometry: Geometry, transform: Any) -> SharedLabels | None:
    if image.IsEmpty():
        return None
    start = None if transform is not None else _start_of(image, geometry)
    if start is not None:
        return SharedLabels(image_array(image), start, values)
    array = resampled_labels(image, geometry, transform)
    return None if array is None else SharedLabels(array, (0, 0, 0), values)


def _start_of(image: Any, geometry: Geometry) -> tuple[int, int, int] | None:
    """Return where an image begins on a grid, ``None`` when its voxels are not those of the grid."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    to_world = matrix_from_vtk(matrix)
    to_world[:3, 3] += to_world[:3, :3] @ np.array(image.GetExtent()[::2], dtype=np.float64)
    columns, rows, slices = image.GetDimensions()
    try:
        return geometry.offset_of(Geometry((slices, rows, columns), to_world))
    except GeometryError:
        return None


def _transform_between(segmentation_node: Any, volume_node: Any) -> Any:
    """Return the transform from the segmentation's to the volume's frame, ``None`` when both are under the same."""
    import slicer
    import vtk

    source, target = segmentation_node.GetParentTransformNode(), volume_node.GetParentTransformNode()
    if source is target:
        return None
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(source, target, transform)
    return transform


def _image_of(segment: Any) -> Any:
    return segment.GetRepresentation(binary_labelmap_name())
