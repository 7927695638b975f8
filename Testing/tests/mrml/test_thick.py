"""Thick copies of volume nodes and what is drawn on them, on real MRML classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.mrml import (
    agreement_to_table,
    drawn_labels,
    labelmap_from_segmentation,
    make_thick_copy,
    segmentation_to_node,
    volume_from_node,
)
from medseg.mrml.thick import slice_axis, slice_plane
from medseg.training.thin_thick import SliceAgreement, TransferOptions, transfer
from medseg.volumes import Geometry
from support.mrml import add_linear_transform_node, add_volume_node, oblique_matrix
from support.results import result_on


def a_thin_node(scene: Any) -> Any:
    array = np.random.default_rng(0).normal(100, 20, (12, 16, 14)).astype(np.float32)
    return add_volume_node(scene, array, oblique_matrix(), "MR heart")


def thickness_of(node: Any, factor: int) -> float:
    return factor * node.GetSpacing()[2]


def test_a_thick_slice_is_the_mean_of_its_thin_ones_and_lies_in_their_middle(a_scene: Any) -> None:
    thin = a_thin_node(a_scene)
    thick = make_thick_copy(a_scene, thin, thickness_of(thin, 3))
    before, after = volume_from_node(thin), volume_from_node(thick)
    np.testing.assert_allclose(after.array, before.array.reshape(4, 3, 16, 14).mean(1), rtol=1e-6)
    for number in range(4):
        middle = before.geometry.ijk_to_ras_points([[5, 6, 3 * number + 1]])
        np.testing.assert_allclose(after.geometry.ijk_to_ras_points([[5, 6, number]]), middle, atol=1e-9)


def test_the_copy_says_its_thickness_and_looks_like_the_volume(a_scene: Any) -> None:
    thin = a_thin_node(a_scene)
    thin.CreateDefaultDisplayNodes()
    thin.GetDisplayNode().SetAutoWindowLevel(False)
    thin.GetDisplayNode().SetWindowLevel(77.0, 101.0)
    thick = make_thick_copy(a_scene, thin, thickness_of(thin, 4))
    assert thick.GetName() == f"MR heart thick {thickness_of(thin, 4):.3g} mm"
    assert (thick.GetDisplayNode().GetWindow(), thick.GetDisplayNode().GetLevel()) == (77.0, 101.0)
    assert not thick.GetDisplayNode().GetAutoWindowLevel()


def test_the_copy_stands_beside_the_volume_under_the_same_transform(a_scene: Any) -> None:
    import slicer

    thin = a_thin_node(a_scene)
    shift = np.eye(4)
    shift[0, 3] = 30.0
    thin.SetAndObserveTransformNodeID(add_linear_transform_node(a_scene, shift).GetID())
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(a_scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study")
    hierarchy.CreateItem(study, thin)
    thick = make_thick_copy(a_scene, thin, thickness_of(thin, 2))
    assert thick.GetTransformNodeID() == thin.GetTransformNodeID()
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(thick)) == study


def test_what_makes_no_thick_copy_adds_no_node(a_scene: Any) -> None:
    thin = a_thin_node(a_scene)
    count = a_scene.GetNumberOfNodes()
    with pytest.raises(InputError, match="do not become thicker"):
        make_thick_copy(a_scene, thin, thin.GetSpacing()[2])
    with pytest.raises(InputError, match="No volume is chosen"):
        make_thick_copy(a_scene, None, 5.0)
    assert a_scene.GetNumberOfNodes() == count


def test_what_is_drawn_on_the_copy_comes_back_on_the_thin_grid(a_scene: Any) -> None:
    thin = a_thin_node(a_scene)
    thick = make_thick_copy(a_scene, thin, thickness_of(thin, 3))
    drawing = np.zeros((4, 16, 14), np.uint8)
    drawing[1:3, 4:12, 3:10] = 1
    segmentation = segmentation_to_node(result_on(volume_from_node(thick), drawing), thick, a_scene)
    labels = labelmap_from_segmentation(segmentation, thick)
    found = transfer(volume_from_node(thin), labels, TransferOptions(method="shape")).labelmap
    assert found.geometry.is_close(volume_from_node(thin).geometry, 1e-9)
    assert (found.array[4:8, 6, 6] == 1).all()
    assert not found.array[11].any()


def test_the_segments_are_described_for_the_worker(a_scene: Any, a_result: Any, a_volume_node: Any) -> None:
    segmentation = segmentation_to_node(a_result, a_volume_node, a_scene)
    labels = drawn_labels(segmentation)
    assert [label["value"] for label in labels] == [1, 200]
    first = a_result.labels.by_value(1)
    assert labels[0]["name"] == first.name
    assert tuple(labels[0]["color"]) == first.color
    assert labels[0]["terminology"].startswith(first.terminology_entry()[:40])


def test_the_agreement_is_a_table(a_scene: Any) -> None:
    rows = [SliceAgreement(4, 12, 14, 1, 88, 0.125, 0.9375), SliceAgreement(5, 15, 17, 2, 0, 1.0, 0.0)]
    node = agreement_to_table(rows, {1: "Left atrium"}, a_scene, "Agreement")
    table = node.GetTable()
    names = [node.GetColumnName(index) for index in range(node.GetNumberOfColumns())]
    assert names[:2] == ["Thick slice", "Segment"]
    assert [table.GetColumnByName("Segment").GetValue(row) for row in (0, 1)] == ["Left atrium", "Label 2"]
    assert [table.GetColumnByName("Dice").GetValue(row) for row in (0, 1)] == [0.9375, 0.0]
    assert table.GetColumnByName("Last thin slice").GetValue(1) == 17


def slices_of(orientation: str, spacing: tuple[float, float, float], plane: Any = "auto") -> tuple[str, str]:
    """The axis across the thick slices of a volume, and the name of their plane."""
    geometry = Geometry.from_spacing((8, 8, 8), spacing, orientation=orientation)
    axis = slice_axis(geometry, plane)
    return axis, slice_plane(geometry, axis)


@pytest.mark.parametrize(
    ("orientation", "spacing", "expected"),
    [
        ("LPS", (0.7, 0.7, 0.5), ("k", "axial")),  # thin CT: the pixels are larger than the distance of slices
        ("LPS", (1.0, 1.0, 1.0), ("k", "axial")),
        ("PSR", (0.6, 0.6, 3.0), ("k", "sagittal")),  # a sagittal series as the scanner stores it
        ("RAS", (3.0, 0.6, 0.6), ("i", "sagittal")),  # the same, turned by a converter
        ("LSA", (0.6, 0.6, 4.0), ("k", "coronal")),
        ("RAS", (0.6, 4.0, 0.6), ("j", "coronal")),
        ("PSR", (1.0, 1.0, 1.0), ("k", "sagittal")),
        ("RAS", (5.0, 0.6, 0.7), ("i", "sagittal")),  # pixels that are not quite square
        ("LPS", (0.7, 0.705, 0.7), ("k", "axial")),  # rounded in a file
    ],
)
def test_thick_slices_lie_in_the_plane_that_was_scanned(
    orientation: str, spacing: tuple[float, float, float], expected: tuple[str, str]
) -> None:
    assert slices_of(orientation, spacing) == expected


@pytest.mark.parametrize(("plane", "axis"), [("axial", "k"), ("sagittal", "i"), ("coronal", "j")])
def test_the_plane_may_be_chosen(plane: str, axis: str) -> None:
    assert slices_of("RAS", (3.0, 0.6, 0.6), plane) == (axis, plane)
