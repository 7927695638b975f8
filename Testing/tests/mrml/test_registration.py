"""What a registration takes from the scene and what it leaves there."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import slicer

from medseg.backend.encoding_registration import Registered
from medseg.errors import GeometryError, InputError
from medseg.mrml import labelmap_from_segmentation, place_beside, segmentation_to_node, volume_from_node
from medseg.mrml.registration_inputs import RegistrationNodes, registration_inputs
from medseg.mrml.registration_results import FIGURES_ATTRIBUTE, put_under_transform, write_registration
from medseg.mrml.registration_table import figure_rows, rows_to_table, smoothing_rows
from medseg.mrml.transforms import transform_to_node
from medseg.registration import SpatialTransform
from support.mrml import add_linear_transform_node, add_volume_node, oblique_matrix, tag_of
from support.registration import a_smooth_warp, a_turn
from support.results import LABELS, result_on

SHAPE = (10, 11, 12)


@pytest.fixture
def a_moving_node(a_scene: Any) -> Any:
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    return add_volume_node(a_scene, array, oblique_matrix((1.0, 1.1, 2.0)), "MR later")


@pytest.fixture
def some_nodes(a_volume_node: Any, a_moving_node: Any) -> RegistrationNodes:
    return RegistrationNodes(a_volume_node, a_moving_node)


def segments_on(scene: Any, volume_node: Any, name: str, *values: int) -> Any:
    """A segmentation of the labels that the tests know, each in a corner of its own."""
    array = np.zeros(SHAPE, np.uint8)
    for place, value in enumerate(values):
        array[2 * place : 2 * place + 2, 3:6, 4:8] = value
    return segmentation_to_node(result_on(volume_from_node(volume_node), array), volume_node, scene, name=name)


def points_on(scene: Any, *positions: tuple[float, float, float]) -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    for position in positions:
        node.AddControlPoint(*position)
    return node


def a_result(nodes: RegistrationNodes, **changes: Any) -> Registered:
    fixed = volume_from_node(nodes.fixed)
    smooth = a_smooth_warp(fixed.geometry, 1.0)
    image = fixed.with_array(fixed.array.astype(np.float32))
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:6, 3:6, 3:6] = LABELS[0].value
    given: dict[str, Any] = {
        "transform": smooth.then(a_turn(5.0, (1, 2, 3))),
        "method": "field",
        "figures": {"correlation_before": 0.25, "correlation_after": 0.75},
        "inverse": a_turn(-5.0, (0, 0, 0)),
        "volumes": {
            "warped": image,
            "labels": fixed.with_array(labels),
            "jacobian": image,
            "checkerboard": image,
            "difference": image,
        },
    }
    return Registered(**{**given, **changes})


def test_two_volumes_are_enough(some_nodes: RegistrationNodes) -> None:
    inputs = registration_inputs(some_nodes)
    assert inputs.options == {"inputs": ["fixed", "moving"]}
    fixed, moving = (give() for give in inputs.volumes)
    np.testing.assert_array_equal(fixed.array, volume_from_node(some_nodes.fixed).array)
    np.testing.assert_array_equal(moving.geometry.ijk_to_ras, volume_from_node(some_nodes.moving).geometry.ijk_to_ras)
    assert not np.shares_memory(fixed.array, volume_from_node(some_nodes.fixed, copy=False).array)
    assert (inputs.labels, inputs.names) == (None, {})


def test_structures_of_one_name_have_one_value_in_both(a_scene: Any, some_nodes: RegistrationNodes) -> None:
    first, second = LABELS[0], LABELS[1]
    fixed = segments_on(a_scene, some_nodes.fixed, "fixed", second.value, first.value)
    moving = segments_on(a_scene, some_nodes.moving, "moving", first.value)
    segment = fixed.GetSegmentation().GetNthSegment(0)
    segment.SetTag("MedSeg.LabelValue", "9")  # the same structure under another number
    nodes = RegistrationNodes(some_nodes.fixed, some_nodes.moving, fixed_segmentation=fixed, moving_segmentation=moving)
    inputs = registration_inputs(nodes)
    assert inputs.options["inputs"] == ["fixed", "moving", "fixed_labels", "moving_labels"]
    fixed_labels, moving_labels = (give().array for give in inputs.volumes[2:])
    assert set(np.unique(moving_labels)) == {0, first.value}
    assert (fixed_labels == first.value).sum() == 24
    assert {inputs.names[int(value)] for value in np.unique(fixed_labels) if value} == {first.name, second.name}
    assert inputs.labels is not None
    assert [(label.name, label.color, label.type) for label in inputs.labels] == [(first.name, first.color, first.type)]


def test_segmentations_that_share_no_structure_are_refused(a_scene: Any, some_nodes: RegistrationNodes) -> None:
    fixed = segments_on(a_scene, some_nodes.fixed, "fixed", LABELS[0].value)
    moving = segments_on(a_scene, some_nodes.moving, "moving", LABELS[1].value)
    nodes = RegistrationNodes(some_nodes.fixed, some_nodes.moving, None, None, fixed, moving)
    with pytest.raises(InputError, match="no segment of the same name"):
        registration_inputs(nodes)
    empty = a_scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "empty")
    with pytest.raises(InputError, match="'empty' has no segment"):
        registration_inputs(RegistrationNodes(some_nodes.fixed, some_nodes.moving, moving_segmentation=empty))


def test_masks_are_where_any_segment_is(a_scene: Any, some_nodes: RegistrationNodes) -> None:
    mask = segments_on(a_scene, some_nodes.moving, "mask", LABELS[0].value, LABELS[1].value)
    inputs = registration_inputs(RegistrationNodes(some_nodes.fixed, some_nodes.moving, moving_mask=mask))
    assert inputs.options["inputs"] == ["fixed", "moving", "moving_mask"]
    assert (inputs.volumes[2]().array > 0).sum() == 48


def test_landmarks_are_in_the_frames_of_their_volumes(a_scene: Any, some_nodes: RegistrationNodes) -> None:
    shift = np.eye(4)
    shift[:3, 3] = (10.0, 0.0, 0.0)
    some_nodes.moving.SetAndObserveTransformNodeID(add_linear_transform_node(a_scene, shift).GetID())
    fixed, moving = (
        points_on(a_scene, (1, 2, 3), (4, 5, 6), (7, 8, 9)),
        points_on(a_scene, (11, 2, 3), (14, 5, 6), (17, 8, 9)),
    )
    fixed.UnsetNthControlPointPosition(1)
    nodes = RegistrationNodes(some_nodes.fixed, some_nodes.moving, fixed_points=fixed, moving_points=moving)
    options = registration_inputs(nodes, "landmarks").options
    assert options["landmarks"] == [[[1.0, 2.0, 3.0], [7.0, 8.0, 9.0]]] * 2
    assert options["start_from_landmarks"]
    assert "initial" not in options
    assert not registration_inputs(nodes, "centre").options["start_from_landmarks"]


def test_landmarks_that_do_not_correspond_are_refused(a_scene: Any, some_nodes: RegistrationNodes) -> None:
    one, two = points_on(a_scene, (1, 2, 3)), points_on(a_scene, (1, 2, 3), (4, 5, 6))
    pair = some_nodes.fixed, some_nodes.moving
    with pytest.raises(InputError, match="1 landmarks in the fixed and 2 in the moving"):
        registration_inputs(RegistrationNodes(*pair, fixed_points=one, moving_points=two))
    with pytest.raises(InputError, match="needed in both"):
        registration_inputs(RegistrationNodes(*pair, fixed_points=one))
    with pytest.raises(InputError, match="needed in both"):
        registration_inputs(some_nodes, "landmarks")
    one.UnsetNthControlPointPosition(0)
    with pytest.raises(InputError, match="hold no pair"):
        registration_inputs(RegistrationNodes(*pair, fixed_points=one, moving_points=points_on(a_scene, (0, 0, 0))))


def test_it_begins_where_the_volumes_lie_in_the_scene(a_scene: Any, some_nodes: RegistrationNodes) -> None:
    turn = a_turn(10.0, (5.0, 0.0, 0.0)).matrix
    by_hand = add_linear_transform_node(a_scene, turn)
    some_nodes.moving.SetAndObserveTransformNodeID(by_hand.GetID())
    expected = np.linalg.inv(turn)
    for start in ("auto", "current"):
        np.testing.assert_allclose(registration_inputs(some_nodes, start).options["initial"], expected, atol=1e-12)
    assert registration_inputs(some_nodes, "centre").options["start"] == "centre"
    assert "initial" not in registration_inputs(some_nodes, "moments").options
    some_nodes.fixed.SetAndObserveTransformNodeID(by_hand.GetID())
    assert "initial" not in registration_inputs(some_nodes).options
    nodes = RegistrationNodes(some_nodes.fixed, some_nodes.moving, initial=by_hand)
    np.testing.assert_allclose(registration_inputs(nodes, "transform").options["initial"], np.eye(4), atol=1e-12)
    with pytest.raises(InputError, match="No transform to begin with"):
        registration_inputs(some_nodes, "transform")


def test_a_deformation_above_a_volume_is_not_where_it_begins(a_scene: Any, some_nodes: RegistrationNodes) -> None:
    warp = transform_to_node(a_smooth_warp(volume_from_node(some_nodes.fixed).geometry, 1.0), a_scene, "warp")
    some_nodes.moving.SetAndObserveTransformNodeID(warp.GetID())
    assert "initial" not in registration_inputs(some_nodes).options
    with pytest.raises(InputError, match="linear transform only"):
        registration_inputs(some_nodes, "current")


def test_a_volume_is_not_registered_to_itself_or_to_nothing(some_nodes: RegistrationNodes) -> None:
    with pytest.raises(InputError, match="are the same"):
        registration_inputs(RegistrationNodes(some_nodes.fixed, some_nodes.fixed))
    with pytest.raises(InputError, match="No volume is chosen"):
        registration_inputs(RegistrationNodes(some_nodes.fixed, None))


def test_a_result_becomes_nodes_with_names_and_places(a_scene: Any, some_nodes: RegistrationNodes) -> None:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(a_scene)
    studies = [hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), name) for name in ("then", "now")]
    for node, study in zip((some_nodes.fixed, some_nodes.moving), studies, strict=True):
        hierarchy.SetItemParent(place_beside(node, None), study)
    above = add_linear_transform_node(a_scene, oblique_matrix((1, 1, 1)))
    some_nodes.fixed.SetAndObserveTransformNodeID(above.GetID())
    drawn = segments_on(a_scene, some_nodes.moving, "MR labels", LABELS[0].value)
    nodes = RegistrationNodes(some_nodes.fixed, some_nodes.moving, moving_segmentation=drawn)
    result = a_result(nodes, model={"name": "net", "version": "2", "weights_sha256": "0"})
    outputs = write_registration(result, nodes, registration_inputs(nodes), a_scene)

    assert outputs.transform.GetName() == "MR later to MR heart"
    assert outputs.inverse.GetName() == "MR heart to MR later"
    names = [outputs.warped, outputs.jacobian, outputs.checkerboard, outputs.difference, outputs.segmentation]
    assert [node.GetName() for node in names] == [
        "MR later warped to MR heart",
        "Jacobian of MR later to MR heart",
        "Checkerboard of MR heart and MR later",
        "MR later minus MR heart",
        "MR labels warped to MR heart",
    ]
    parents = [hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in names]
    assert set(parents) == {studies[0]}
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(outputs.transform)) == studies[1]
    assert all(node.GetParentTransformNode() is above for node in [*names, outputs.transform])
    assert outputs.inverse.GetParentTransformNode() is None
    assert outputs.warped.GetAttribute("MedSeg.Derived") == "warped"
    assert outputs.warped.GetAttribute("MedSeg.Model") == "net"
    assert json.loads(outputs.transform.GetAttribute(FIGURES_ATTRIBUTE)) == result.figures
    assert outputs.jacobian.GetDisplayNode().GetWindowLevelMax() == 2.0
    segment = outputs.segmentation.GetSegmentation().GetNthSegment(0)
    assert segment.GetName() == LABELS[0].name
    assert tag_of(segment, "DICOM.SegmentAlgorithmType") == "SEMIAUTOMATIC"
    found = labelmap_from_segmentation(outputs.segmentation, some_nodes.fixed)
    np.testing.assert_array_equal(found.array, result.volumes["labels"].array)


def test_the_moving_volume_under_the_transform_lies_where_the_warped_one_does(
    a_scene: Any, some_nodes: RegistrationNodes
) -> None:
    above = add_linear_transform_node(a_scene, oblique_matrix((1, 1, 1)))
    some_nodes.fixed.SetAndObserveTransformNodeID(above.GetID())
    result = a_result(some_nodes)
    outputs = write_registration(result, some_nodes, registration_inputs(some_nodes), a_scene)
    some_nodes.moving.SetAndObserveTransformNodeID(outputs.transform.GetID())
    import vtk

    to_world, fixed_to_world = vtk.vtkGeneralTransform(), vtk.vtkGeneralTransform()
    between = slicer.vtkMRMLTransformNode.GetTransformBetweenNodes
    between(some_nodes.moving.GetParentTransformNode(), None, to_world)
    between(some_nodes.fixed.GetParentTransformNode(), None, fixed_to_world)
    point = volume_from_node(some_nodes.fixed).geometry.center_ras
    moved = result.transform.apply(point)
    np.testing.assert_allclose(to_world.TransformPoint(moved), fixed_to_world.TransformPoint(point), atol=0.01)


def test_what_lies_on_the_moving_volume_goes_with_it_under_the_transform(
    a_scene: Any, some_nodes: RegistrationNodes
) -> None:
    mask = segments_on(a_scene, some_nodes.moving, "mask", LABELS[0].value)
    of_both = segments_on(a_scene, some_nodes.fixed, "both", LABELS[0].value)
    fixed_points, moving_points = (points_on(a_scene, (1, 2, 3), (4, 5, 6), (7, 8, 9)) for _ in range(2))
    nodes = RegistrationNodes(
        some_nodes.fixed,
        some_nodes.moving,
        moving_mask=mask,
        fixed_segmentation=of_both,
        moving_segmentation=of_both,
        fixed_points=fixed_points,
        moving_points=moving_points,
    )
    before = registration_inputs(nodes).options["landmarks"]
    transform = add_linear_transform_node(a_scene, a_turn(10.0, (5.0, 0.0, 0.0)).matrix)
    put_under_transform(nodes, transform)
    assert [node.GetParentTransformNode() for node in (nodes.moving, mask, moving_points)] == [transform] * 3
    assert [node.GetParentTransformNode() for node in (nodes.fixed, of_both, fixed_points)] == [None] * 3
    again = registration_inputs(nodes)
    np.testing.assert_allclose(again.options["landmarks"], before, atol=1e-9)
    assert (again.volumes[2]().array > 0).sum() == 24, "the mask lies where it was drawn"
    elsewhere = add_linear_transform_node(a_scene, np.eye(4))
    mask.SetAndObserveTransformNodeID(elsewhere.GetID())
    put_under_transform(nodes, add_linear_transform_node(a_scene, np.eye(4)))
    assert mask.GetParentTransformNode() is elsewhere


def test_a_volume_that_was_changed_meanwhile_gets_no_result(a_scene: Any, some_nodes: RegistrationNodes) -> None:
    inputs = registration_inputs(some_nodes)
    count = a_scene.GetNumberOfNodes()
    result = a_result(some_nodes)
    some_nodes.moving.SetSpacing(3.0, 3.0, 3.0)
    with pytest.raises(GeometryError, match="register it again"):
        write_registration(result, some_nodes, inputs, a_scene)
    assert a_scene.GetNumberOfNodes() == count


def test_a_result_that_cannot_be_written_leaves_nothing(a_scene: Any, some_nodes: RegistrationNodes) -> None:
    drawn = segments_on(a_scene, some_nodes.moving, "MR labels", LABELS[0].value)
    nodes = RegistrationNodes(some_nodes.fixed, some_nodes.moving, moving_segmentation=drawn)
    before = a_scene.GetNumberOfNodes()
    result = a_result(nodes)
    result.volumes["labels"] = result.volumes["warped"]
    with pytest.raises(InputError, match="not of whole numbers"):
        write_registration(result, nodes, registration_inputs(nodes), a_scene)
    left = [a_scene.GetNthNode(index).GetName() for index in range(a_scene.GetNumberOfNodes())]
    assert a_scene.GetNumberOfNodes() == before, left
    grid = a_scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    before = a_scene.GetNumberOfNodes()
    with pytest.raises(InputError, match="cannot hold a deformation"):
        write_registration(a_result(nodes), nodes, registration_inputs(nodes), a_scene, transform_node=grid)
    assert a_scene.GetNumberOfNodes() == before


def test_a_transform_that_was_chosen_is_written_again(a_scene: Any, some_nodes: RegistrationNodes) -> None:
    linear = a_result(some_nodes, transform=SpatialTransform((a_turn(5, (0, 0, 0)).matrix,)), volumes={}, inverse=None)
    mine = a_scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "mine")
    outputs = write_registration(linear, some_nodes, registration_inputs(some_nodes), a_scene, transform_node=mine)
    assert outputs.transform is mine
    assert (outputs.warped, outputs.inverse, outputs.segmentation) == (None, None, None)


FIGURES = {
    "correlation_before": 0.25,
    "correlation_after": 0.98765432,
    "information_before": None,
    "information_after": 1.5,
    "overlap": {"mean_dice_before": 0.5, "mean_dice_after": 0.75, "mean_hd95_mm": 3.0},
    "labels": {"1": {"dice_before": 0.5, "dice_after": 0.75}, "7": {"dice_before": 0.0, "dice_after": None}},
    "landmarks_before": {"mean_mm": 9.0, "largest_mm": 12.0},
    "landmarks_after": {"mean_mm": 1.25, "largest_mm": 2.0},
    "deformation": {
        "folded_share": 0.00125,
        "std_log_jacobian": 0.2,
        "smallest_jacobian": -0.1,
        "largest_jacobian": 3.0,
    },
    "inverse_error_mm": 0.5,
}


def test_the_figures_become_a_table_that_tells_before_from_after(a_scene: Any, a_volume_node: Any) -> None:
    node = rows_to_table(figure_rows(FIGURES, {1: "Liver"}), a_scene, "quality", volume_node=a_volume_node)
    rows = {node.GetCellText(row, 0): (node.GetCellText(row, 1), node.GetCellText(row, 2)) for row in range(13)}
    assert node.GetNumberOfRows() == len(rows)
    assert rows["Correlation"] == ("0.25", "0.9877")
    assert rows["Mutual information"] == ("", "1.5")
    assert rows["Dice Liver"] == ("0.5", "0.75")
    assert rows["Dice 7"] == ("0", "")
    assert rows["Landmarks apart, mean [mm]"] == ("9", "1.25")
    assert rows["Folded voxels [%]"] == ("", "0.125")
    assert rows["Inverse off by up to [mm]"] == ("", "0.5")


def test_what_was_not_measured_is_not_in_the_table() -> None:
    figures = {"correlation_before": 0.1, "correlation_after": 0.2, "deformation": None, "overlap": None}
    assert figure_rows(figures, {}) == [("Correlation", 0.1, 0.2)]
    deformation = FIGURES["deformation"]
    rows = smoothing_rows({"before": deformation, "after": {**deformation, "folded_share": 0.0}})
    assert rows[0] == ("Folded voxels [%]", 0.125, 0.0)
