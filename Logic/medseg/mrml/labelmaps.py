"""Segmentation nodes to labelmaps."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import MedSegError
from medseg.mrml.images import image_array, matrix_to_vtk
from medseg.mrml.segmentations import (
    binary_labelmap_name,
    check_segmentation_node,
    set_reference_geometry,
)
from medseg.mrml.volumes import geometry_from_node, node_name
from medseg.segmentation.segments import LABEL_VALUE_TAG
from medseg.volumes import Geometry, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST_VALUE = 65535


def label_values(segmentation_node: Any) -> dict[str, int]:
    """Return the label value of each segment ID, in the segments' order; values are unique and above 0.

    A segment that MedSeg made keeps the value of its model's label table (segment tag ``MedSeg.LabelValue``), however
    Slicer numbers it inside. Other segments, such as those that a user added, keep Slicer's number when it is still
    free, as it is in a segmentation that was imported from a labelmap, and get the lowest free value otherwise, as do
    copies that repeat a value (our choice).

    Raises
    ------
    InputError
        When ``segmentation_node`` is not a segmentation.
    """
    check_segmentation_node(segmentation_node)
    segmentation = segmentation_node.GetSegmentation()
    segments = {identifier: segmentation.GetSegment(identifier) for identifier in segmentation.GetSegmentIDs()}
    tagged = {identifier: _tagged_value(segment) for identifier, segment in segments.items()}
    values: dict[str, int] = {}

    def take(identifier: str, value: int | None) -> None:
        if identifier not in values and value is not None and value not in values.values():
            values[identifier] = value

    for identifier in segments:
        take(identifier, tagged[identifier])
    for identifier, segment in segments.items():
        own = segment.GetLabelValue()
        take(identifier, own if tagged[identifier] is None and 1 <= own <= _LARGEST_VALUE else None)
    for identifier in segments:
        take(identifier, next(value for value in itertools.count(1) if value not in values.values()))
    return {identifier: values[identifier] for identifier in segments}


def labelmap_from_segmentation(segmentation_node: Any, volume_node: Any) -> Volume:
    """Return the segments of a segmentation as one labelmap on the grid of a volume.

    Where segments overlap, the later one in the list wins. A segmentation on another grid, or under another transform
    than the volume, is resampled (nearest neighbour) to where it appears in the scene.

    Parameters
    ----------
    segmentation_node
        A ``vtkMRMLSegmentationNode``. It is not changed: a segmentation that has only 3D surfaces is converted in a
        copy.
    volume_node
        The ``vtkMRMLScalarVolumeNode`` with the grid.

    Returns
    -------
    Volume
        (k, j, i), uint8, or uint16 when a value is above 255. The values are those of :func:`label_values`.

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
    largest = max(values.values(), default=0)
    labels = np.zeros(geometry.shape, dtype=np.uint8 if largest < 256 else np.uint16)
    if values:
        segmentation = with_labelmaps(segmentation_node, geometry)
        transform = _transform_between(segmentation_node, volume_node)
        segments = [(segmentation.GetSegment(identifier), value) for identifier, value in values.items()]
        # Segments that share an image cannot overlap, so a run of them is one look-up; a later run overwrites.
        for _, run in itertools.groupby(
            segments, key=lambda entry: _image_of(entry[0]).GetAddressAsString("vtkObject")
        ):
            _write_run(labels, list(run), geometry, transform)
    return Volume(labels, geometry, name=segmentation_node.GetName() or "")


def _tagged_value(segment: Any) -> int | None:
    import vtk

    text = vtk.reference("")
    if not segment.GetTag(LABEL_VALUE_TAG, text):
        return None
    tag = str(text)
    return int(tag) if tag.isascii() and tag.isdigit() and 1 <= int(tag) <= _LARGEST_VALUE else None


def with_labelmaps(segmentation_node: Any, geometry: Geometry | None) -> Any:
    """Return a ``vtkSegmentation`` with binary labelmaps: the node's own, or a copy when it has surfaces only.

    ``geometry`` is the grid that surfaces are converted on; ``None``: the one that Slicer chooses.

    Raises
    ------
    MedSegError
        When surfaces cannot be converted.
    """
    import slicer

    segmentation = segmentation_node.GetSegmentation()
    if segmentation.ContainsRepresentation(binary_labelmap_name()):
        return segmentation
    copy = slicer.vtkSegmentation()
    copy.DeepCopy(segmentation)
    if geometry is not None:
        set_reference_geometry(copy, geometry)
    if not copy.CreateRepresentation(binary_labelmap_name()):
        raise MedSegError(
            f"The surfaces of '{node_name(segmentation_node)}' could not be converted into a labelmap.",
            advice="Create its binary labelmap representation in the Segmentations module.",
        )
    return copy


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


def _address_of_image(segment: Any) -> str:
    # Not id(): Python's wrapper of a VTK object may be made anew, and a freed one's id given to another.
    return str(_image_of(segment).GetAddressAsString("vtkObject"))


def resampled_labels(image: Any, geometry: Geometry, transform: Any = None) -> NDArray[Any] | None:
    """Return the labels (k, j, i) of an oriented image on another grid, nearest neighbour; ``None`` for an empty image.

    ``transform`` leads from the image's frame to that of the grid.

    Raises
    ------
    MedSegError
        When the image cannot be resampled.
    """
    import slicer

    if image.IsEmpty():
        return None
    reference = slicer.vtkOrientedImageData()  # a grid without voxels is enough
    reference.SetGeometryFromImageToWorldMatrix(matrix_to_vtk(geometry.ijk_to_ras))
    slices, rows, columns = geometry.shape
    reference.SetExtent(0, columns - 1, 0, rows - 1, 0, slices - 1)
    resampled = slicer.vtkOrientedImageData()
    resample = slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage
    if not resample(image, reference, resampled, False, False, transform):
        raise MedSegError(
            "The segmentation could not be resampled to the grid of the volume.",
            advice="Check the transforms of both in the Data module.",
        )
    return image_array(resampled)


def _write_run(labels: NDArray[Any], run: list[tuple[Any, int]], geometry: Geometry, transform: Any) -> None:
    """Write the segments of one image, as (``vtkSegment``, value), over ``labels``."""
    array = resampled_labels(_image_of(run[0][0]), geometry, transform)
    if array is None:
        return
    table = np.zeros(max(segment.GetLabelValue() for segment, _ in run) + 1, dtype=labels.dtype)
    for segment, value in run:
        table[segment.GetLabelValue()] = value
    if array.dtype.kind != "u" or int(array.max()) >= table.size:
        array = np.where((array > 0) & (array < table.size), array, 0).astype(np.int64)
    found = table[array]
    np.copyto(labels, found, where=found > 0)
