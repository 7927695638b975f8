"""A result as a segmentation node: names, colours, codes, grid, place, origin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import GeometryError, InputError, MedSegError
from medseg.mrml.hierarchy import place_beside
from medseg.mrml.images import allocate_image, matrix_to_vtk
from medseg.mrml.volumes import geometry_from_node, node_name
from medseg.segmentation.segments import found_labels, origin_tags, segment_ids, segment_tags

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medseg.labels import Label
    from medseg.segmentation import SegmentationResult
    from medseg.volumes import Geometry

_GRID_TOLERANCE_MM = 1e-3


def segmentation_to_node(
    result: SegmentationResult,
    volume_node: Any,
    scene: Any,
    *,
    segmentations_logic: Any = None,
    node: Any = None,
    name: str | None = None,
    subject_hierarchy: Any = None,
) -> Any:
    """Write a result into a segmentation node that is complete: exportable as DICOM SEG and traceable to its model.

    All segments share one binary labelmap, cropped to what is not background, so the cost is one copy of that region
    whatever the number of labels. A label without a voxel gets no segment: an empty segment would be listed as if
    something had been found, and Slicer's DICOM SEG export refuses a segmentation that has only such segments. The
    statistics and the notices of the result name those labels. With no voxel at all the node has no segment.

    Parameters
    ----------
    result
        Labelmap (k, j, i) on the grid of the volume, label table, model.
    volume_node
        The ``vtkMRMLScalarVolumeNode`` that was segmented. The segmentation gets its grid as reference geometry, its
        parent transform and its place in the subject hierarchy. ``None`` (the volume was deleted in the meantime)
        keeps the result: then the reference geometry is the labelmap's grid.
    scene
        The ``vtkMRMLScene``.
    segmentations_logic
        Not needed, accepted so that callers need not know: nothing of the logic is used.
    node
        A ``vtkMRMLSegmentationNode`` of ``scene`` to write into. All its segments are replaced and 3D surfaces are
        removed; name (unless ``name`` is given), display and place stay. When the scene keeps undo states and undo is
        enabled for the node, the state before is saved. By default a new node is made, so that a second run never
        touches what a user has corrected by hand.
    name
        The name of a new node (made unique), by default the names of volume and model.
    subject_hierarchy
        The ``vtkMRMLSubjectHierarchyNode``, by default that of the scene.

    Returns
    -------
    vtkMRMLSegmentationNode

    Raises
    ------
    InputError
        When ``volume_node`` or ``node`` is not in ``scene`` or of another kind, or the labelmap not of whole numbers.
    GeometryError
        When the volume's grid is not the labelmap's: it was changed (cropped, hardened) after the run began, and the
        result would appear in the wrong place.
    """
    del segmentations_logic
    _check_nodes(result.labelmap.geometry, volume_node, node, scene)
    segments = _segments(result)

    import slicer

    if node is None:
        target = scene.CreateNodeByClass("vtkMRMLSegmentationNode")
        if target.GetReferenceCount() > 1:  # the scene's reference, which C++ callers take over and Python's adds to
            target.UnRegister(None)
        target.SetName(scene.GenerateUniqueName(name or _default_name(result, volume_node)))
    else:
        target = node
        scene.SaveStateForUndo()
        if name:
            node.SetName(name)

    modified = target.StartModify()
    try:
        segmentation = target.GetSegmentation()
        if segmentation is None:
            segmentation = slicer.vtkSegmentation()
            target.SetAndObserveSegmentation(segmentation)
        _remove_all_segments(segmentation)
        segmentation.SetSourceRepresentationName(binary_labelmap_name())
        for identifier, segment in segments:
            segmentation.AddSegment(segment, identifier)
        for attribute, text in origin_tags(result.model).items():
            target.SetAttribute(attribute, text)
        if node is None:
            # Segments first, then the scene: 3D Slicer's subject hierarchy lists them once instead of once per segment.
            scene.AddNode(target)
        if volume_node is None:
            set_reference_geometry(segmentation, result.labelmap.geometry)
        else:
            target.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
            target.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    finally:
        target.EndModify(modified)
    target.CreateDefaultDisplayNodes()
    place_beside(target, volume_node, subject_hierarchy)
    return target


def create_closed_surface(segmentation_node: Any) -> None:
    """Make the 3D surfaces of all segments and show them.

    Takes seconds for large segmentations (0.5 s a segment of a full-size CT): only on request.

    Raises
    ------
    InputError
        When ``segmentation_node`` is not a segmentation or has no segment.
    MedSegError
        When the surfaces cannot be made, as without the conversion rules of Slicer's Segmentations logic.
    """
    check_segmentation_node(segmentation_node)
    if segmentation_node.GetSegmentation().GetNumberOfSegments() == 0:
        raise InputError(
            f"'{node_name(segmentation_node)}' has no segment to show in 3D.",
            advice="Segment a volume first; the table tells which structures were not found.",
        )
    if not segmentation_node.CreateClosedSurfaceRepresentation():
        raise MedSegError(
            f"The surfaces of '{node_name(segmentation_node)}' could not be made.",
            advice="Check that the Segmentations module is loaded and that memory is left.",
        )
    display = segmentation_node.GetDisplayNode()
    if display is not None:
        display.SetPreferredDisplayRepresentationName3D(closed_surface_name())
        display.SetVisibility3D(True)


def _check_nodes(geometry: Geometry, volume_node: Any, node: Any, scene: Any) -> None:
    if node is not None:
        check_segmentation_node(node)
        if node.GetScene() is not scene:
            raise InputError(
                f"The segmentation '{node_name(node)}' is not in the scene.", advice="Choose another or a new one."
            )
    if volume_node is None:
        return
    if volume_node.GetScene() is not scene:
        raise InputError(
            f"The volume '{node_name(volume_node)}' is no longer in the scene.",
            advice="Load it again, or write the result without a volume.",
        )
    if not geometry_from_node(volume_node).is_close(geometry, _GRID_TOLERANCE_MM):
        raise GeometryError(
            f"The volume '{node_name(volume_node)}' has another voxel grid than when it was segmented.",
            advice="It was cropped, moved or hardened in the meantime: segment it again.",
        )


def check_segmentation_node(node: Any) -> None:
    """Raise an :class:`~medseg.errors.InputError` when ``node`` is not a segmentation node."""
    if node is None or not node.IsA("vtkMRMLSegmentationNode"):
        what = "No segmentation is chosen." if node is None else f"'{node_name(node)}' is not a segmentation."
        raise InputError(what, advice="Choose a segmentation.")


def _remove_all_segments(segmentation: Any) -> None:
    # A segment with a labelmap is first copied out of the one that it shares: 4 s for 25 segments of a full-size CT.
    for identifier in segmentation.GetSegmentIDs():
        segmentation.GetSegment(identifier).RemoveAllRepresentations()
    segmentation.RemoveAllSegments()


def _segments(result: SegmentationResult) -> list[tuple[str, Any]]:
    """Return (ID, ``vtkSegment``) of every label with a voxel; all share one oriented image."""
    import slicer

    array = result.labelmap.array
    if array.dtype.kind not in "iu":
        raise InputError(f"The labelmap is of {array.dtype}, not of whole numbers.", advice="Round it first.")
    box = _bounding_box(array)
    if box is None:
        return []
    image = slicer.vtkOrientedImageData()
    image.SetGeometryFromImageToWorldMatrix(matrix_to_vtk(result.labelmap.geometry.ijk_to_ras))
    start, stop = box
    cropped = array[tuple(slice(first, last) for first, last in zip(start, stop, strict=True))]
    largest = max(label.value for label in result.labels)
    dtype = np.uint8 if largest < 256 else np.uint16
    allocate_image(image, start, cropped.shape, dtype)[...] = cropped

    identifiers = segment_ids(result.labels)
    return [(identifiers[label.value], _segment(label, image, result)) for label in found_labels(result)]


def _segment(label: Label, image: Any, result: SegmentationResult) -> Any:
    import slicer

    segment = slicer.vtkSegment()
    segment.SetName(label.name)
    segment.SetColor(*(channel / 255 for channel in label.color))
    # Otherwise Slicer may replace both when the user picks another terminology entry.
    segment.SetNameAutoGenerated(False)
    segment.SetColorAutoGenerated(False)
    segment.SetLabelValue(label.value)
    for name, text in segment_tags(label, result.model).items():
        segment.SetTag(name, text)
    segment.AddRepresentation(binary_labelmap_name(), image)
    return segment


def _bounding_box(array: NDArray[Any]) -> tuple[tuple[int, int, int], tuple[int, int, int]] | None:
    """Return (first, one past the last) index (k, j, i) of what is not 0, or ``None``."""
    start: list[int] = []
    stop: list[int] = []
    region = array
    for axis in range(3):
        filled = np.flatnonzero(region.any(axis=tuple(other for other in range(3) if other != axis)))
        if filled.size == 0:
            return None
        start.append(int(filled[0]))
        stop.append(int(filled[-1]) + 1)
        # The next axis need only look at what this one left over.
        region = region[(slice(None),) * axis + (slice(start[-1], stop[-1]),)]
    return (start[0], start[1], start[2]), (stop[0], stop[1], stop[2])


def _default_name(result: SegmentationResult, volume_node: Any) -> str:
    volume_name = result.labelmap.name if volume_node is None else volume_node.GetName()
    return " ".join(part for part in (volume_name, result.model.get("name", "")) if part) or "Segmentation"


def set_reference_geometry(segmentation: Any, geometry: Geometry) -> None:
    """Make ``geometry`` the grid that a ``vtkSegmentation`` is edited, converted and saved on."""
    import slicer

    matrix = matrix_to_vtk(geometry.ijk_to_ras)
    slices, rows, columns = geometry.shape
    extent = [0, columns - 1, 0, rows - 1, 0, slices - 1]
    converter = slicer.vtkSegmentationConverter
    segmentation.SetConversionParameter(
        converter.GetReferenceImageGeometryParameterName(), converter.SerializeImageGeometry(matrix, extent)
    )


def binary_labelmap_name() -> str:
    """Return Slicer's name of the representation that is a labelmap."""
    import slicer

    return str(slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName())


def closed_surface_name() -> str:
    """Return Slicer's name of the representation that is a 3D surface."""
    import slicer

    return str(slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName())
