"""Volumetry as table nodes, on real MRML classes."""

from __future__ import annotations

import math
from typing import Any

import pytest

from medseg.errors import InputError
from medseg.mrml import statistics_to_table
from medseg.segmentation.results import SegmentStatistics

STATISTICS = [
    SegmentStatistics(1, "Left atrium", 72, 56.25, 101.5, 3.25, -7.0, 300.0),
    SegmentStatistics(3, "Kidney, left", 0, 0.0, math.nan, math.nan, math.nan, math.nan),
]
COLUMNS = ["Segment", "Label value", "Voxels", "Volume [mL]", "Mean", "SD", "Min", "Max"]


def column(node: Any, name: str) -> list[Any]:
    array = node.GetTable().GetColumnByName(name)
    return [array.GetValue(row) for row in range(array.GetNumberOfValues())]


def test_each_label_is_a_row_with_numbers_where_there_are_numbers(a_scene: Any) -> None:
    node = statistics_to_table(STATISTICS, a_scene, "Volumetry")
    assert [node.GetColumnName(index) for index in range(node.GetNumberOfColumns())] == COLUMNS
    assert node.GetNumberOfRows() == 2
    assert column(node, "Segment") == ["Left atrium", "Kidney, left"]
    assert column(node, "Label value") == [1, 3]
    assert column(node, "Voxels") == [72, 0]
    assert column(node, "Volume [mL]") == [56.25, 0.0]
    assert column(node, "Max")[0] == 300.0
    assert math.isnan(column(node, "Mean")[1])


def test_units_and_meanings_are_properties_of_the_columns(a_scene: Any) -> None:
    node = statistics_to_table(STATISTICS, a_scene, "Volumetry", intensity_unit="HU")
    assert node.GetColumnUnitLabel("Volume [mL]") == "mL"
    assert node.GetColumnUnitLabel("SD") == "HU"
    assert "deviation" in node.GetColumnDescription("SD")


def test_a_table_is_replaced_in_place(a_scene: Any) -> None:
    node = statistics_to_table(STATISTICS, a_scene, "Volumetry")
    count = a_scene.GetNumberOfNodes()
    assert statistics_to_table(STATISTICS[:1], a_scene, "Again", node) is node
    assert (node.GetName(), node.GetNumberOfRows(), node.GetNumberOfColumns()) == ("Again", 1, 8)
    assert a_scene.GetNumberOfNodes() == count


def test_a_table_stands_beside_its_volume(a_scene: Any, a_volume_node: Any) -> None:
    import slicer

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(a_scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study")
    hierarchy.CreateItem(study, a_volume_node)
    node = statistics_to_table(STATISTICS, a_scene, "Volumetry", volume_node=a_volume_node)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study


def test_nothing_but_a_table_is_written_to(a_scene: Any, a_volume_node: Any) -> None:
    with pytest.raises(InputError, match="'MR heart' is not a table of this scene"):
        statistics_to_table(STATISTICS, a_scene, "Volumetry", a_volume_node)


def test_no_statistics_make_an_empty_table(a_scene: Any) -> None:
    node = statistics_to_table([], a_scene, "Volumetry")
    assert (node.GetNumberOfRows(), node.GetNumberOfColumns()) == (0, 8)
