"""A computed volume as a coloured overlay, and a point in the frame of a volume."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.mrml import volume_from_node
from medseg.mrml.overlays import overlay_to_node
from medseg.mrml.points import point_in_volume
from medseg.volumes import Geometry, Volume
from medseg.volumes.derived import DerivedVolume


@pytest.fixture
def some_weights() -> DerivedVolume:
    array = np.full((2, 2, 2), 0.05, np.float32)
    array[1, 1, 1] = 0.65
    volume = Volume(array, Geometry.from_spacing((2, 2, 2), (8.0, 8.0, 8.0)), name="Heart attention")
    return DerivedVolume(volume, "attention", ["Derived."], {"name": "mpu", "version": "1.0.0"})


def test_an_overlay_is_colored_marked_and_beside_its_volume(
    some_weights: DerivedVolume, a_volume_node: Any, a_scene: Any
) -> None:
    node = overlay_to_node(some_weights, a_volume_node, a_scene)
    assert node.GetName() == "Heart attention"
    assert node.GetAttribute("MedSeg.Derived") == "attention"
    assert node.GetAttribute("MedSeg.Model") == "mpu"
    np.testing.assert_array_equal(volume_from_node(node).array, some_weights.volume.array)
    display = node.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == pytest.approx((0.0, 0.65))
    assert display.GetLowerThreshold() == pytest.approx(0.125), "the uniform weight of eight voxels"
    assert display.GetApplyThreshold()
    assert display.GetColorNode() is not None


def test_an_earlier_overlay_is_overwritten(some_weights: DerivedVolume, a_volume_node: Any, a_scene: Any) -> None:
    first = overlay_to_node(some_weights, a_volume_node, a_scene)
    assert overlay_to_node(some_weights, a_volume_node, a_scene, first) is first


def shift(scene: Any, right: float) -> Any:
    import vtk

    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, right)
    node.SetMatrixTransformToParent(matrix)
    return node


def test_the_last_placed_point_counts_with_transforms_undone(
    some_weights: DerivedVolume, a_volume_node: Any, a_scene: Any
) -> None:
    points = a_scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    with pytest.raises(InputError, match="no point"):
        point_in_volume(points, a_volume_node)
    points.AddControlPoint(1.0, 2.0, 3.0)
    points.AddControlPoint(4.0, 5.0, 6.0)
    assert point_in_volume(points, a_volume_node) == pytest.approx((4.0, 5.0, 6.0))
    a_volume_node.SetAndObserveTransformNodeID(shift(a_scene, 10.0).GetID())
    assert point_in_volume(points, a_volume_node) == pytest.approx((-6.0, 5.0, 6.0))
    points.SetAndObserveTransformNodeID(shift(a_scene, 100.0).GetID())
    assert point_in_volume(points, a_volume_node) == pytest.approx((94.0, 5.0, 6.0))
    overlay = overlay_to_node(some_weights, a_volume_node, a_scene)
    assert overlay.GetParentTransformNode() is a_volume_node.GetParentTransformNode()


def test_points_that_were_not_placed_do_not_count(a_volume_node: Any, a_scene: Any) -> None:
    points = a_scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    points.AddControlPoint(1.0, 2.0, 3.0)
    points.AddControlPoint(4.0, 5.0, 6.0)
    points.UnsetNthControlPointPosition(1)
    assert point_in_volume(points, a_volume_node) == pytest.approx((1.0, 2.0, 3.0))
