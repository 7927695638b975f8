"""Volumetry as a table node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.errors import InputError
from medseg.mrml.hierarchy import place_beside
from medseg.mrml.volumes import node_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.segmentation import SegmentStatistics

NAME_COLUMN = "Segment"
VALUE_COLUMN = "Label value"
VOXELS_COLUMN = "Voxels"
VOLUME_COLUMN = "Volume [mL]"
MEAN_COLUMN = "Mean"
DEVIATION_COLUMN = "SD"
MINIMUM_COLUMN = "Min"
MAXIMUM_COLUMN = "Max"


def statistics_to_table(
    statistics: Sequence[SegmentStatistics],
    scene: Any,
    name: str,
    node: Any = None,
    *,
    volume_node: Any = None,
    intensity_unit: str = "",
) -> Any:
    """Write the statistics of a result into a table node, one row per label, also for labels without a voxel.

    The columns are Segment (text), Label value, Voxels (whole numbers), Volume [mL], Mean, SD, Min and Max (real
    numbers; intensities in the unit of the volume, not-a-number without a voxel). Units and what a column means are
    column properties, which are saved with the table.

    Parameters
    ----------
    statistics
        ``SegmentationResult.statistics``.
    scene
        The ``vtkMRMLScene``.
    name
        The name of a new node (made unique) or the new name of ``node``.
    node
        A ``vtkMRMLTableNode`` of ``scene`` whose columns are replaced, by default a new one.
    volume_node
        The volume that was measured: the table is put beside it in the subject hierarchy.
    intensity_unit
        The unit of the intensities, such as ``"HU"``; empty when they have none.

    Returns
    -------
    vtkMRMLTableNode

    Raises
    ------
    InputError
        When ``node`` is not a table or not in ``scene``.
    """
    import vtk

    if node is not None and (not node.IsA("vtkMRMLTableNode") or node.GetScene() is not scene):
        raise InputError(f"'{node_name(node)}' is not a table of this scene.", advice="Choose another or a new one.")
    intensity = "of the intensities in the segment"
    columns = (
        (NAME_COLUMN, vtk.vtkStringArray, "name", "", "Name of the structure"),
        (VALUE_COLUMN, vtk.vtkIntArray, "value", "", "Value of the structure in the labelmap"),
        (VOXELS_COLUMN, vtk.vtkIdTypeArray, "voxels", "", "Number of voxels"),
        (VOLUME_COLUMN, vtk.vtkDoubleArray, "volume_ml", "mL", "Number of voxels times the volume of a voxel"),
        (MEAN_COLUMN, vtk.vtkDoubleArray, "mean", intensity_unit, f"Mean {intensity}"),
        (DEVIATION_COLUMN, vtk.vtkDoubleArray, "std", intensity_unit, f"Standard deviation {intensity}"),
        (MINIMUM_COLUMN, vtk.vtkDoubleArray, "minimum", intensity_unit, f"Smallest {intensity}"),
        (MAXIMUM_COLUMN, vtk.vtkDoubleArray, "maximum", intensity_unit, f"Largest {intensity}"),
    )
    if node is None:
        node = scene.AddNewNodeByClass("vtkMRMLTableNode", scene.GenerateUniqueName(name))
    else:
        scene.SaveStateForUndo()
        node.SetName(name)
    modified = node.StartModify()
    try:
        node.RemoveAllColumns()
        for title, array_class, field, unit, description in columns:
            array = array_class()
            array.SetName(title)
            for entry in statistics:
                array.InsertNextValue(getattr(entry, field))
            node.AddColumn(array)
            node.SetColumnDescription(title, description)
            if unit:
                node.SetColumnUnitLabel(title, unit)
        node.SetUseColumnTitleAsColumnHeader(True)
        node.SetLocked(True)
    finally:
        node.EndModify(modified)
    place_beside(node, volume_node)
    return node
