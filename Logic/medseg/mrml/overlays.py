"""A volume that was computed, as a coloured overlay of the volume that it was computed from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.mrml.display import color_node
from medseg.mrml.hierarchy import place_beside
from medseg.mrml.volumes import volume_to_node
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
        color = color_node(scene, COLORS)
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
