"""One segment of a segmentation node as a mask, whether or not its volume is in the scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.errors import GeometryError, InputError
from medseg.mrml.images import image_geometry
from medseg.mrml.labelmaps import resampled_labels, with_labelmaps
from medseg.mrml.segmentations import binary_labelmap_name, check_segmentation_node
from medseg.mrml.volumes import geometry_from_node, node_name
from medseg.volumes import Geometry, Volume


@dataclass(frozen=True)
class SegmentMask:
    """A segment as a volume of 0 and 1, uint8, with what belongs to it.

    Attributes
    ----------
    mask
        (k, j, i), on the grid that the segmentation was drawn on.
    volume_node
        The volume with that grid, under the same transform as the segmentation; ``None`` when there is none.
    name, terminology
        The segment's name and its tag ``TerminologyEntry`` ("" when it has none).
    """

    mask: Volume
    volume_node: Any
    name: str
    terminology: str


def segment_names(segmentation_node: Any) -> dict[str, str]:
    """Return the names of the segments by their IDs, in their order.

    Raises
    ------
    InputError
        When ``segmentation_node`` is not a segmentation.
    """
    check_segmentation_node(segmentation_node)
    segmentation = segmentation_node.GetSegmentation()
    return {identifier: segmentation.GetSegment(identifier).GetName() for identifier in segmentation.GetSegmentIDs()}


def segment_mask(segmentation_node: Any, segment_id: str) -> SegmentMask:
    """Return one segment on the grid that its segmentation was drawn on; other segments that overlap it do not count.

    The grid is that of the reference volume while it is in the scene and under the same transform, else the reference
    geometry that the segmentation keeps, else the box of its labelmaps.

    Raises
    ------
    InputError
        When the node is not a segmentation, or has no such segment.
    MedSegError
        When 3D surfaces cannot be converted into a labelmap.
    """
    import vtk

    names = segment_names(segmentation_node)
    if segment_id not in names:
        raise InputError(
            f"'{node_name(segmentation_node)}' has no segment '{segment_id}'.", advice="Choose another segment."
        )
    volume_node = reference_volume(segmentation_node)
    grid = geometry_from_node(volume_node) if volume_node is not None else _kept_grid(segmentation_node)
    segmentation = with_labelmaps(segmentation_node, grid)
    segment = segmentation.GetSegment(segment_id)
    image = segment.GetRepresentation(binary_labelmap_name())
    if grid is None:
        grid = image_geometry(image)
    array = resampled_labels(image, grid)
    mask = np.zeros(grid.shape, np.uint8) if array is None else (array == segment.GetLabelValue()).astype(np.uint8)
    text = vtk.reference("")
    terminology = str(text) if segment.GetTag(segment.GetTerminologyEntryTagName(), text) else ""
    return SegmentMask(Volume(mask, grid, name=names[segment_id]), volume_node, names[segment_id], terminology)


def reference_volume(segmentation_node: Any) -> Any:
    """Return the volume that a segmentation was drawn on; ``None``: it is gone, empty or under another transform."""
    check_segmentation_node(segmentation_node)
    volume_node = segmentation_node.GetNodeReference(segmentation_node.GetReferenceImageGeometryReferenceRole())
    if volume_node is None or volume_node.GetParentTransformNode() is not segmentation_node.GetParentTransformNode():
        return None
    try:
        geometry_from_node(volume_node)
    except (InputError, GeometryError):
        return None
    return volume_node


def _kept_grid(segmentation_node: Any) -> Geometry | None:
    """Return the reference geometry that a segmentation keeps as text, ``None`` when it keeps none."""
    import slicer

    converter = slicer.vtkSegmentationConverter
    text = segmentation_node.GetSegmentation().GetConversionParameter(
        converter.GetReferenceImageGeometryParameterName()
    )
    image = slicer.vtkOrientedImageData()
    if not text or not converter.DeserializeImageGeometry(text, image, False):
        return None
    return image_geometry(image)
