"""Two segmentations, one segment an instance, compared: what is compared with what, and the figures as a table node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.analysis.naming import group_of
from medseg.errors import InputError
from medseg.mrml.hierarchy import place_beside
from medseg.mrml.label_reading import LabelReading, read_labels
from medseg.mrml.labelmaps import label_values
from medseg.mrml.masks import reference_volume, segment_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medseg.analysis import Panoptic


@dataclass(frozen=True)
class Comparison:
    """Two segmentations as they were read on the main thread, and the volume on whose grid they are compared."""

    predicted: LabelReading
    true: LabelReading
    groups: dict[str, tuple[list[int], list[int]]]
    volume_node: Any

    def qualities(self) -> dict[str, Panoptic]:
        """Return the panoptic quality of each group; touches no node, so it may run in any thread."""
        from medseg.analysis import compare_instances

        return compare_instances(self.predicted.labelmap(), self.true.labelmap(), self.groups)


def comparison_of(segmentation_node: Any, reference_node: Any) -> Comparison:
    """Read both segmentations, for the grid of the volume that the reference was drawn on, and their groups.

    "Left rib a" and "Left rib b" belong to the group "Left rib"; an instance is compared within its group only, so that
    it need not have the same number in both.

    Raises
    ------
    InputError
        When a node is no segmentation or has no segment, or no volume with their grid is in the scene.
    """
    groups: dict[str, tuple[list[int], list[int]]] = {}
    for side, node in enumerate((segmentation_node, reference_node)):
        names = segment_names(node)
        if not names:
            raise InputError(f"'{node.GetName()}' has no segment.", advice="Choose another segmentation.")
        for identifier, value in label_values(node).items():
            groups.setdefault(group_of(names[identifier]), ([], []))[side].append(value)
    volume_node = reference_volume(reference_node) or reference_volume(segmentation_node)
    if volume_node is None:
        raise InputError(
            "The volume that the segmentations were made on is not in the scene.",
            advice="Load it, and choose it as the source geometry of the reference in the Segmentations module.",
        )
    return Comparison(
        read_labels(segmentation_node, volume_node),
        read_labels(reference_node, volume_node),
        groups,
        volume_node,
    )


def comparison_to_table(found: Mapping[str, Panoptic], scene: Any, name: str, *, volume_node: Any = None) -> Any:
    """Write panoptic qualities into a new table node, one row a group.

    The columns are Group, PQ, SQ and RQ (0 to 1, not-a-number where there is nothing to compare), Found, Invented and
    Missed (numbers of instances).

    Returns
    -------
    vtkMRMLTableNode
    """
    import vtk

    columns = (
        ("PQ", vtk.vtkDoubleArray, "pq", "Panoptic quality: SQ times RQ"),
        ("SQ", vtk.vtkDoubleArray, "sq", "Segmentation quality: mean Dice of the instances that were found"),
        ("RQ", vtk.vtkDoubleArray, "rq", "Recognition quality: F1 score of the instances"),
        ("Found", vtk.vtkIntArray, "true_positives", "Instances of the reference with a partner"),
        ("Invented", vtk.vtkIntArray, "false_positives", "Instances that the reference has not"),
        ("Missed", vtk.vtkIntArray, "false_negatives", "Instances of the reference without a partner"),
    )
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", scene.GenerateUniqueName(name))
    modified = node.StartModify()
    try:
        groups = vtk.vtkStringArray()
        groups.SetName("Group")
        for group in found:
            groups.InsertNextValue(group)
        node.AddColumn(groups)
        for title, array_class, field, description in columns:
            array = array_class()
            array.SetName(title)
            for panoptic in found.values():
                array.InsertNextValue(getattr(panoptic, field))
            node.AddColumn(array)
            node.SetColumnDescription(title, description)
        node.SetUseColumnTitleAsColumnHeader(True)
        node.SetLocked(True)
    finally:
        node.EndModify(modified)
    place_beside(node, volume_node)
    return node
