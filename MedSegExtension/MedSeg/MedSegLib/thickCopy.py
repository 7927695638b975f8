"""A thick copy of a volume as nodes of the scene: the copy, and an empty segmentation to draw on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

if TYPE_CHECKING:
    from medseg.volumes import Volume

THIN_ROLE = "MedSegThinVolume"
"""Node reference from a thick copy to the volume that it was made of."""


def addThickCopy(thick: Volume, thickness: float, volumeNode: Any) -> Any:
    """Add the thick copy of a volume to its scene: where the volume lies, beside it, with its window and level.

    What :func:`medseg.mrml.make_thick_copy` does after the copy is computed, which it does on the main thread.
    """
    from medseg.mrml import place_beside, volume_to_node
    from medseg.mrml.volumes import node_name

    name = _("{volume} thick {thickness} mm").format(volume=node_name(volumeNode), thickness=f"{thickness:.3g}")
    node = volume_to_node(thick, volumeNode.GetScene(), name=name)
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    shown, display = volumeNode.GetDisplayNode(), node.GetDisplayNode()
    if shown is not None and display is not None and shown.IsA("vtkMRMLScalarVolumeDisplayNode"):
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(shown.GetWindow(), shown.GetLevel())
        display.SetAndObserveColorNodeID(shown.GetColorNodeID())
    place_beside(node, volumeNode)
    node.SetNodeReferenceID(THIN_ROLE, volumeNode.GetID())
    return node


def addDrawing(thickNode: Any) -> Any:
    """Add an empty segmentation to draw on a thick copy."""
    from medseg.mrml import place_beside

    scene = thickNode.GetScene()
    name = scene.GenerateUniqueName(_("{volume} drawn").format(volume=thickNode.GetName()))
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(thickNode)
    node.SetAndObserveTransformNodeID(thickNode.GetTransformNodeID())
    place_beside(node, thickNode)
    return node
