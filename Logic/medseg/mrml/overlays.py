"""A volume that was computed, as a coloured overlay of the volume that it was computed from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.errors import InputError
from medseg.mrml.hierarchy import place_beside
from medseg.mrml.volumes import node_name, volume_to_node
from medseg.segmentation.segments import origin_tags

if TYPE_CHECKING:
    from medseg.volumes.derived import DerivedVolume

KIND_ATTRIBUTE = "MedSeg.Derived"
"""The node attribute that marks a volume as computed; its value says what it is, such as "attention"."""

COLORS = ("Inferno", "Plasma", "Warm1", "Rainbow")
"""Colour tables for an overlay, the preferred one first; which there are depends on the application."""


def overlay_to_node(result: DerivedVolume, volume_node: Any, scene: Any, node: Any = None) -> Any:
    """Write a computed volume into a scalar volume node that is shown in colours, and transparent where it is low.

    Voxels below the mean are not shown: for weights that sum to 1, the mean is what each would have if none counted
    more than another.

    Parameters
    ----------
    result
        The volume; its values are not negative.
    volume_node
        The ``vtkMRMLScalarVolumeNode`` that it was computed from: the overlay goes under its transform and beside it.
    scene
        The ``vtkMRMLScene``.
    node
        An earlier overlay of ``scene`` to overwrite, by default a new one.

    Returns
    -------
    vtkMRMLScalarVolumeNode

    Raises
    ------
    InputError
        When ``node`` cannot be written to.
    """
    node = volume_to_node(result.volume, scene, node=node)
    node.SetAttribute(KIND_ATTRIBUTE, result.kind)
    for attribute, text in origin_tags(result.model).items():
        node.SetAttribute(attribute, text)
    node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    place_beside(node, volume_node)
    display = node.GetDisplayNode()
    mean, highest = float(result.volume.array.mean()), float(result.volume.array.max())
    modified = display.StartModify()
    try:
        color = _color_node(scene)
        if color is not None:
            display.SetAndObserveColorNodeID(color.GetID())
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(0.0, max(highest, 1e-12))
        display.AutoThresholdOff()
        display.SetThreshold(mean, max(highest, mean))
        display.ApplyThresholdOn()
        display.InterpolateOn()
    finally:
        display.EndModify(modified)
    return node


def point_in_volume(markups_node: Any, volume_node: Any) -> tuple[float, float, float]:
    """Return the last point of a point list as (R, A, S) in mm in the frame of a volume, transforms undone.

    Raises
    ------
    InputError
        When the list has no point that was placed.
    """
    import slicer
    import vtk

    placed = [
        index
        for index in range(markups_node.GetNumberOfControlPoints())
        if markups_node.GetNthControlPointPositionStatus(index) == markups_node.PositionDefined
    ]
    if not placed:
        raise InputError(f"'{node_name(markups_node)}' has no point.", advice="Place one in a slice view.")
    position = [0.0, 0.0, 0.0]
    markups_node.GetNthControlPointPositionWorld(placed[-1], position)
    transform_node = volume_node.GetParentTransformNode()
    if transform_node is not None:
        transform = vtk.vtkGeneralTransform()
        slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, transform_node, transform)
        position = list(transform.TransformPoint(position))
    return position[0], position[1], position[2]


def _color_node(scene: Any) -> Any:
    for name in COLORS:
        node = scene.GetFirstNodeByName(name)
        if node is not None and node.IsA("vtkMRMLColorNode"):
            return node
    return None
