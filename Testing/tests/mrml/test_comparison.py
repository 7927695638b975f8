"""Two segmentation nodes compared by panoptic quality."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.labels import Code, Label, LabelTable
from medseg.mrml import segmentation_to_node, volume_from_node
from medseg.mrml.comparison import comparison_of, comparison_to_table
from medseg.segmentation import SegmentationResult, SegmentStatistics

BONE = Code("SCT", "272673000", "Bone")
TISSUE = Code("SCT", "85756007", "Tissue")


def a_segmentation(scene: Any, volume_node: Any, array: np.ndarray, names: dict[int, str]) -> Any:
    labels = LabelTable([Label(value, name, (10 * value, 0, 0), TISSUE, BONE) for value, name in names.items()])
    statistics = [SegmentStatistics(value, name, 1, 0.0, 0.0, 0.0, 0.0, 0.0) for value, name in names.items()]
    volume = volume_from_node(volume_node)
    result = SegmentationResult(volume.with_array(array), labels, statistics, model={"name": "test"})
    return segmentation_to_node(result, volume_node, scene)


@pytest.fixture
def two_segmentations(a_scene: Any, a_volume_node: Any) -> tuple[Any, Any]:
    """Two ribs, one of them found exactly under another number, one missed; a vertebra invented."""
    shape = volume_from_node(a_volume_node).array.shape
    true, predicted = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    true[1:3], true[5:7] = 1, 2
    predicted[5:7], predicted[8:9] = 1, 2
    return (
        a_segmentation(a_scene, a_volume_node, predicted, {1: "Rib 1", 2: "Vertebra 1"}),
        a_segmentation(a_scene, a_volume_node, true, {1: "Rib 1", 2: "Rib 2"}),
    )


def test_instances_are_compared_within_their_group(
    two_segmentations: tuple[Any, Any], a_scene: Any, a_volume_node: Any
) -> None:
    comparison = comparison_of(*two_segmentations)
    assert comparison.groups == {"Rib": ([1], [1, 2]), "Vertebra": ([2], [])}
    assert comparison.volume_node is a_volume_node
    table = comparison_to_table(comparison.qualities(), a_scene, "comparison", volume_node=a_volume_node)
    rows = [[table.GetCellText(row, column) for column in range(7)] for row in range(table.GetNumberOfRows())]
    assert [row[0] for row in rows] == ["Rib", "Vertebra"]
    assert [float(text) for text in rows[0][1:]] == pytest.approx([2 / 3, 1.0, 2 / 3, 1, 0, 1])
    assert rows[1][4:] == ["0", "1", "0"]


def test_a_segmentation_without_a_volume_or_a_segment_is_told(
    two_segmentations: tuple[Any, Any], a_scene: Any, a_volume_node: Any
) -> None:
    empty = a_scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "empty")
    with pytest.raises(InputError, match="'empty' has no segment"):
        comparison_of(empty, two_segmentations[1])
    a_scene.RemoveNode(a_volume_node)
    with pytest.raises(InputError, match="not in the scene"):
        comparison_of(*two_segmentations)
