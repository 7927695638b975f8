"""Segmentations as label maps in two steps, so that the main thread is not kept: it reads, any thread computes.

:func:`medseg.mrml.labelmap_from_segmentation` does both at once, which takes a second or more for a usual CT.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk

from medseg.errors import GeometryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medseg.volumes import Geometry, Volume


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


@dataclass(frozen=True)
class LabelReading:
    """What was read of a segmentation on the main thread; :meth:`labelmap` may run in any."""

    geometry: Geometry
    parts: tuple[SharedLabels, ...]
    largest: int

    def labelmap(self) -> Volume:
        """Return the label map (k, j, i), uint8 or uint16; where segments overlap, the later one in the list wins."""
        from medseg.volumes import Volume

        labels = np.zeros(self.geometry.shape, np.uint8 if self.largest < 256 else np.uint16)
        for part in self.parts:
            _write(part, labels)
        return Volume(labels, self.geometry)


def readLabels(segmentationNode: Any, volumeNode: Any) -> LabelReading:
    """Read the segments of a segmentation, to be put on the grid of a volume.

    Only those that lie on another grid, or under another transform than the volume, are resampled here.

    Raises
    ------
    MedSegError
        As :func:`medseg.mrml.labelmap_from_segmentation`.
    """
    from medseg.mrml import geometry_from_node, label_values
    from medseg.mrml.labelmaps import with_labelmaps

    geometry = geometry_from_node(volumeNode)
    values = label_values(segmentationNode)
    segmentation = with_labelmaps(segmentationNode, geometry) if values else None
    transform = _transformBetween(segmentationNode, volumeNode)
    segments = [(segmentation.GetSegment(identifier), value) for identifier, value in values.items()]
    parts = []
    for _address, run in itertools.groupby(
        segments, key=lambda entry: _image(entry[0]).GetAddressAsString("vtkObject")
    ):
        shared = list(run)
        numbers = {int(segment.GetLabelValue()): value for segment, value in shared}
        part = _read(_image(shared[0][0]), numbers, geometry, transform)
        if part is not None:
            parts.append(part)
    return LabelReading(geometry, tuple(parts), max(values.values(), default=0))


def _read(image: Any, values: Mapping[int, int], geometry: Geometry, transform: Any) -> SharedLabels | None:
    from medseg.mrml.images import image_array
    from medseg.mrml.labelmaps import resampled_labels

    if image.IsEmpty():
        return None
    start = None if transform is not None else _start(image, geometry)
    if start is not None:
        return SharedLabels(image_array(image), start, values)
    array = resampled_labels(image, geometry, transform)
    return None if array is None else SharedLabels(array, (0, 0, 0), values)


def _start(image: Any, geometry: Geometry) -> tuple[int, int, int] | None:
    """Return where an image begins on a grid, None when its voxels are not those of the grid."""
    from medseg.mrml.images import matrix_from_vtk
    from medseg.volumes import Geometry

    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    toWorld = matrix_from_vtk(matrix)
    toWorld[:3, 3] += toWorld[:3, :3] @ np.array(image.GetExtent()[::2], dtype=np.float64)
    columns, rows, slices = image.GetDimensions()
    try:
        return geometry.offset_of(Geometry((slices, rows, columns), toWorld))
    except GeometryError:
        return None


def _image(segment: Any) -> Any:
    return segment.GetRepresentation(slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName())


def _transformBetween(segmentationNode: Any, volumeNode: Any) -> Any:
    """Return the transform from the segmentation's to the volume's frame, None when both are under the same."""
    source, target = segmentationNode.GetParentTransformNode(), volumeNode.GetParentTransformNode()
    if source is target:
        return None
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(source, target, transform)
    return transform


def _write(part: SharedLabels, labels: np.ndarray) -> None:
    """Write the segments of one image over ``labels``."""
    target, source = [], []
    for begin, length, room in zip(part.start, part.array.shape, labels.shape, strict=True):
        low, high = max(begin, 0), max(min(begin + length, room), begin, 0)
        target.append(slice(low, high))
        source.append(slice(low - begin, high - begin))
    array = part.array[tuple(source)]
    table = np.zeros(max(max(part.values) + 1, 256), labels.dtype)
    for number, value in part.values.items():
        table[number] = value
    if array.dtype != np.uint8:
        array = np.where((array > 0) & (array < table.size), array, 0).astype(np.intp)
    found = table[array]
    np.copyto(labels[tuple(target)], found, where=found > 0)
