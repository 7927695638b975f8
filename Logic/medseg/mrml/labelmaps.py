"""The label values of segments, and their voxels on another grid."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from medseg.errors import MedSegError
from medseg.mrml.images import image_array, matrix_to_vtk
from medseg.mrml.segmentations import (
    binary_labelmap_name,
    check_segmentation_node,
    set_reference_geometry,
)
from medseg.mrml.volumes import node_name
from medseg.segmentation.segments import LABEL_VALUE_TAG

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medseg.volumes import Geometry

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
