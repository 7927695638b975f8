"""The place of a node in the subject hierarchy."""

from __future__ import annotations

from typing import Any


def subject_hierarchy_of(scene: Any) -> Any:
    """Return the subject hierarchy node of ``scene``; the class creates one where there is none."""
    import slicer

    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


def place_beside(node: Any, volume_node: Any, subject_hierarchy: Any = None) -> int:
    """Put ``node`` where ``volume_node`` is in the subject hierarchy: in the same study or folder.

    3D Slicer gives every node an item as it is added to the scene; slicer-core, which has no subject hierarchy
    plugins, does not, so the item is created here when it is missing. A volume without an item, or no volume, means
    the top of the hierarchy.

    Parameters
    ----------
    node
        A node that is in a scene.
    volume_node
        The ``vtkMRMLScalarVolumeNode`` that ``node`` was made from, or ``None``.
    subject_hierarchy
        The ``vtkMRMLSubjectHierarchyNode``; that of the node's scene by default.

    Returns
    -------
    int
        The item of ``node``.
    """
    hierarchy = subject_hierarchy or subject_hierarchy_of(node.GetScene())
    missing = hierarchy.GetInvalidItemID()
    parent = hierarchy.GetSceneItemID()
    volume_item = missing if volume_node is None else hierarchy.GetItemByDataNode(volume_node)
    if volume_item != missing:
        parent = hierarchy.GetItemParent(volume_item)
    item: int = hierarchy.GetItemByDataNode(node)
    if item == missing:
        item = hierarchy.CreateItem(parent, node)
    elif hierarchy.GetItemParent(item) != parent:
        hierarchy.SetItemParent(item, parent)
    return item
