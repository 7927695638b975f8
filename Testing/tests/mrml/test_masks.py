"""One segment as a mask on the grid that its segmentation was drawn on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.mrml import segmentation_to_node, volume_from_node
from medseg.mrml.masks import reference_volume, segment_mask, segment_names


@pytest.fixture
def a_segmentation(a_result: Any, a_volume_node: Any, a_scene: Any) -> Any:
    return segmentation_to_node(a_result, a_volume_node, a_scene)


def first_segment(node: Any) -> tuple[str, str]:
    return next(iter(segment_names(node).items()))


def test_a_segment_becomes_a_mask_on_the_grid_of_its_volume(
    a_segmentation: Any, a_volume_node: Any, some_labels: np.ndarray
) -> None:
    identifier, name = first_segment(a_segmentation)
    found = segment_mask(a_segmentation, identifier)
    assert found.volume_node is a_volume_node
    assert found.mask.geometry.is_close(volume_from_node(a_volume_node).geometry)
    np.testing.assert_array_equal(found.mask.array, some_labels == 1)
    assert found.mask.array.dtype == np.uint8
    assert (found.name, found.mask.name) == (name, name)
    assert found.terminology.count("~") == 6


def test_without_its_volume_the_segmentation_keeps_the_grid(
    a_segmentation: Any, a_volume_node: Any, a_scene: Any, some_labels: np.ndarray
) -> None:
    geometry = volume_from_node(a_volume_node).geometry
    a_scene.RemoveNode(a_volume_node)
    found = segment_mask(a_segmentation, first_segment(a_segmentation)[0])
    assert found.volume_node is None
    assert found.mask.geometry.is_close(geometry)
    np.testing.assert_array_equal(found.mask.array, some_labels == 1)


def test_without_any_grid_the_box_of_the_labelmap_is_taken(
    a_segmentation: Any, a_volume_node: Any, a_scene: Any
) -> None:
    import slicer

    expected = int(segment_mask(a_segmentation, first_segment(a_segmentation)[0]).mask.array.sum())
    a_scene.RemoveNode(a_volume_node)
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    a_segmentation.GetSegmentation().SetConversionParameter(name, "")
    found = segment_mask(a_segmentation, first_segment(a_segmentation)[0])
    assert int(found.mask.array.sum()) == expected
    assert found.mask.array.size < 10 * 11 * 12


def test_a_volume_under_another_transform_is_not_the_grid(
    a_segmentation: Any, a_volume_node: Any, a_scene: Any
) -> None:
    transform = a_scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    a_volume_node.SetAndObserveTransformNodeID(transform.GetID())
    assert reference_volume(a_segmentation) is None
    a_segmentation.SetAndObserveTransformNodeID(transform.GetID())
    assert reference_volume(a_segmentation) is a_volume_node


def test_a_segment_below_another_counts_whole(a_volume_node: Any, a_scene: Any, a_segmentation: Any) -> None:
    """Two overlapping segments in two layers: the mask of the first is not cut by the second."""
    import slicer

    first, _ = first_segment(a_segmentation)
    before = segment_mask(a_segmentation, first).mask.array
    image = slicer.vtkSlicerSegmentationsModuleLogic.CreateOrientedImageDataFromVolumeNode(a_volume_node)
    image.GetPointData().GetScalars().Fill(1)
    copy = slicer.vtkSegment()
    copy.SetName("everything")
    a_segmentation.GetSegmentation().AddSegment(copy, "everything")
    slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(
        image, a_segmentation, "everything", slicer.vtkSlicerSegmentationsModuleLogic.MODE_REPLACE
    )
    np.testing.assert_array_equal(segment_mask(a_segmentation, first).mask.array, before)


def test_a_segment_that_is_not_there_is_told(a_segmentation: Any) -> None:
    with pytest.raises(InputError, match="no segment 'Nothing'"):
        segment_mask(a_segmentation, "Nothing")
    with pytest.raises(InputError, match="No segmentation"):
        segment_names(None)
