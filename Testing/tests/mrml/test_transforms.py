"""Transforms between two volumes as nodes of Slicer: the same points by node, by file and by SimpleITK, both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import slicer
import vtk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.errors import GeometryError, InputError
from medseg.mrml import place_beside, transforms, volume_from_node
from medseg.mrml.smoothing import field_of_node
from medseg.mrml.transforms import (
    METHOD_ATTRIBUTE,
    check_output,
    matrix_between,
    show_grid,
    transform_from_node,
    transform_to_node,
)
from medseg.registration import DisplacementField, SpatialTransform, read_transform, write_transform
from medseg.volumes import Geometry, Volume
from support.mrml import add_linear_transform_node, add_volume_node, oblique_matrix, vtk_matrix
from support.registration import a_smooth_warp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TOLERANCE_MM = 0.01

FIXED = Geometry((16, 18, 20), oblique_matrix((3.0, 3.5, 4.0), left_handed=True))


def an_oblique_move() -> np.ndarray:
    """A rotation about all axes and a shift of more than 10 mm."""
    matrix = oblique_matrix((1.0, 1.0, 1.0))
    matrix[:3, 3] = (12.0, -5.0, 8.0)
    return matrix


def a_warp(geometry: Geometry = FIXED) -> DisplacementField:
    field = a_smooth_warp(geometry, 4.0).stages[0]
    assert isinstance(field, DisplacementField)
    return field


TRANSFORMS = {
    "identity": SpatialTransform(),
    "linear": SpatialTransform((an_oblique_move(),)),
    "field": SpatialTransform((a_warp(),)),
    "field and linear": SpatialTransform((a_warp(), an_oblique_move())),
    "linear and field": SpatialTransform(
        (an_oblique_move(), a_warp(Geometry(FIXED.shape, an_oblique_move() @ FIXED.ijk_to_ras)))
    ),
}
CLASSES = {
    "identity": "vtkMRMLLinearTransformNode",
    "linear": "vtkMRMLLinearTransformNode",
    "field": "vtkMRMLGridTransformNode",
    "field and linear": "vtkMRMLTransformNode",
    "linear and field": "vtkMRMLTransformNode",
}
some_transforms = pytest.mark.parametrize("kind", TRANSFORMS)


def points_inside(count: int = 60) -> np.ndarray:
    index = np.random.default_rng(0).uniform(0.05, 0.95, (count, 3)) * (np.asarray(FIXED.size) - 1)
    return FIXED.ijk_to_ras_points(index)


def voxels_inside(count: int = 60) -> np.ndarray:
    index = np.random.default_rng(0).integers(1, np.asarray(FIXED.size) - 1, (count, 3))
    return FIXED.ijk_to_ras_points(index.astype(float))


def through(transform: Any, points: np.ndarray) -> np.ndarray:
    return np.array([transform.TransformPoint(point) for point in points])


def apart(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.linalg.norm(first - second, axis=-1).max())


@pytest.fixture
def write_node(a_scene: Any, tmp_path: Path) -> Callable[[Any, str], Path]:
    """Save a transform node with Slicer's own storage."""

    def write(node: Any, name: str) -> Path:
        storage = slicer.vtkMRMLTransformStorageNode()
        a_scene.AddNode(storage)
        storage.SetFileName(str(tmp_path / name))
        assert storage.WriteData(node)
        return tmp_path / name

    return write


@pytest.fixture
def read_node(a_scene: Any) -> Callable[[Path], Any]:
    """Load a transform with Slicer's own storage."""

    def read(path: Path) -> Any:
        node = a_scene.AddNewNodeByClass("vtkMRMLTransformNode")
        storage = slicer.vtkMRMLTransformStorageNode()
        a_scene.AddNode(storage)
        storage.SetFileName(str(path))
        assert storage.ReadData(node)
        return node

    return read


@some_transforms
def test_a_node_takes_points_where_the_transform_takes_them_and_back(kind: str, a_scene: Any) -> None:
    transform, points = TRANSFORMS[kind], points_inside()
    node = transform_to_node(transform, a_scene, "moving to fixed")
    assert node.GetClassName() == CLASSES[kind]
    moved = transform.apply(points)
    assert apart(through(node.GetTransformFromParent(), points), moved) < TOLERANCE_MM
    assert apart(through(node.GetTransformToParent(), moved), points) < TOLERANCE_MM


@some_transforms
def test_a_transform_comes_back_from_its_node(kind: str, a_scene: Any) -> None:
    transform, points = TRANSFORMS[kind], points_inside()
    back = transform_from_node(transform_to_node(transform, a_scene, "t"))
    assert apart(back.apply(points), transform.apply(points)) < 1e-4
    assert back.is_linear == transform.is_linear


@some_transforms
@pytest.mark.parametrize("ending", [".h5", ".tfm"])
def test_a_file_that_slicer_writes_of_the_node_holds_the_transform(
    kind: str, ending: str, a_scene: Any, write_node: Callable[[Any, str], Path]
) -> None:
    transform, points = TRANSFORMS[kind], points_inside()
    path = write_node(transform_to_node(transform, a_scene, "t"), f"t{ending}")
    found = read_transform(path)
    moved = transform.apply(points)
    assert apart(found.apply(points), moved) < TOLERANCE_MM
    by_itk = found.to_sitk()
    lps = np.array([-1.0, -1.0, 1.0])
    assert apart(np.array([by_itk.TransformPoint(list(point * lps)) for point in points]) * lps, moved) < TOLERANCE_MM


@some_transforms
def test_a_file_of_ours_becomes_the_same_node_in_slicer(
    kind: str, tmp_path: Path, read_node: Callable[[Path], Any]
) -> None:
    transform = TRANSFORMS[kind]
    # Slicer reads fields for cubic interpolation, so between the voxels it is another, smoother field.
    points = voxels_inside() if kind.startswith("field") else FIXED.ijk_to_ras_points(np.full((1, 3), 7.0))
    write_transform(transform, tmp_path / "t.h5")
    node = read_node(tmp_path / "t.h5")
    moved = transform.apply(points)
    assert apart(through(node.GetTransformFromParent(), points), moved) < TOLERANCE_MM
    assert apart(through(node.GetTransformToParent(), moved), points) < 2 * TOLERANCE_MM
    assert apart(transform_from_node(node).apply(points), moved) < TOLERANCE_MM


def test_a_transform_that_slicer_keeps_the_other_way_round_is_turned(a_scene: Any) -> None:
    transform, points = TRANSFORMS["field and linear"], points_inside()
    node = transform_to_node(transform, a_scene, "t")
    node.Inverse()
    moved = transform.apply(points)
    assert apart(through(node.GetTransformToParent(), points), moved) < TOLERANCE_MM
    # The inverse of a field lies on the field's own grid, where it is linear in between.
    assert apart(transform_from_node(node).apply(moved), points) < 0.5


def test_the_field_of_an_inverted_transform_is_inverted_only_when_it_is_asked_for(
    a_scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = transform_to_node(TRANSFORMS["field and linear"], a_scene, "t")
    node.Inverse()
    expected = transform_from_node(node)
    inverted = []
    inverse = SpatialTransform.inverse
    monkeypatch.setattr(SpatialTransform, "inverse", lambda *given: inverted.append(1) or inverse(*given))
    source = field_of_node(node)
    assert inverted == [], "that takes too long for the main thread, which reads the node"
    vectors = np.stack([give().array for give in source.volumes], axis=-1)
    assert len(inverted) == 1
    np.testing.assert_array_equal(vectors, expected.stages[source.place].vectors)
    np.testing.assert_array_equal(source.transform.matrix, expected.matrix)


def test_the_field_is_found_behind_transforms_that_were_hardened_on_it(a_scene: Any) -> None:
    node = transform_to_node(TRANSFORMS["field and linear"], a_scene, "t")
    for shift in (3.0, 5.0):
        matrix = np.eye(4)
        matrix[0, 3] = shift
        node.SetAndObserveTransformNodeID(add_linear_transform_node(a_scene, matrix).GetID())
        assert node.HardenTransform()
    source = field_of_node(node)
    vectors = np.stack([give().array for give in source.volumes], axis=-1)
    (field,) = (part for part in TRANSFORMS["field and linear"].stages if isinstance(part, DisplacementField))
    np.testing.assert_allclose(vectors, field.vectors, atol=1e-6)
    same = source.with_field(SpatialTransform((field,)))
    points = points_inside()
    assert apart(same.apply(points), transform_from_node(node).apply(points)) < TOLERANCE_MM


def the_moving_volume() -> Volume:
    """A smooth image around where the fixed grid goes."""
    middle = TRANSFORMS["field and linear"].apply(FIXED.center_ras)
    size = np.array([40, 38, 36])
    matrix = np.diag([3.0, 3.0, 3.0, 1.0])
    matrix[:3, 3] = middle - 1.5 * (size - 1)
    k, j, i = np.meshgrid(*(np.linspace(0, 4, count) for count in size[::-1]), indexing="ij")
    return Volume((100 * (np.sin(k) + np.cos(j) + np.sin(i))).astype(np.float32), Geometry(tuple(size[::-1]), matrix))


@pytest.mark.parametrize("kind", ["linear", "field and linear"])
def test_hardening_the_transform_on_the_moving_volume_warps_it(kind: str, a_scene: Any) -> None:
    transform, moving = TRANSFORMS[kind], the_moving_volume()
    volume_node = add_volume_node(a_scene, moving.array, moving.geometry.ijk_to_ras)
    node = transform_to_node(transform, a_scene, "t", moving_node=volume_node)
    volume_node.SetAndObserveTransformNodeID(node.GetID())
    assert volume_node.HardenTransform()
    assert volume_node.GetParentTransformNode() is None
    hardened = volume_from_node(volume_node)
    inside = FIXED.ijk_to_ras_points(np.argwhere(np.ones(FIXED.size)) * 0.8 + 2.0)
    index = np.rint(hardened.geometry.ras_to_ijk_points(inside)).astype(int)
    points = hardened.geometry.ijk_to_ras_points(index.astype(float))
    expected = transform.resample(moving, hardened.geometry)
    where = tuple(index[:, ::-1].T)
    covered = transform.resample(moving.with_array(np.ones_like(moving.array)), hardened.geometry).array[where] > 0.999
    grid = FIXED.ras_to_ijk_points(points)
    covered &= ((grid > 0) & (grid < np.asarray(FIXED.size) - 1)).all(1)
    assert covered.mean() > 0.5
    np.testing.assert_allclose(hardened.array[where][covered], expected.array[where][covered], atol=0.01)


def test_hardening_the_transform_on_landmarks_takes_them_to_their_counterparts(a_scene: Any) -> None:
    transform, points = TRANSFORMS["field and linear"], points_inside(20)
    markups = a_scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    for point in transform.apply(points):
        markups.AddControlPoint(vtk.vtkVector3d(*point))
    markups.SetAndObserveTransformNodeID(transform_to_node(transform, a_scene, "t").GetID())
    markups.HardenTransform()
    found = np.array([markups.GetNthControlPointPosition(index) for index in range(len(points))])
    assert apart(found, points) < TOLERANCE_MM


def test_the_node_knows_its_volumes_its_place_and_how_it_was_made(a_scene: Any) -> None:
    fixed, moving = (add_volume_node(a_scene, np.zeros((4, 4, 4), np.int16), name=name) for name in ("CT", "MR"))
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(a_scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "a study")
    hierarchy.SetItemParent(place_beside(moving, None), study)
    above = add_linear_transform_node(a_scene, an_oblique_move())
    fixed.SetAndObserveTransformNodeID(above.GetID())
    model = {"name": "net", "version": "1.2.0", "weights_sha256": "ab" * 32}
    node = transform_to_node(
        TRANSFORMS["linear"],
        a_scene,
        "MR to CT",
        fixed_node=fixed,
        moving_node=moving,
        method="affine",
        model=model,
    )
    assert node.GetName() == "MR to CT"
    assert node.GetNodeReference(node.GetFixedNodeReferenceRole()) is fixed
    assert node.GetNodeReference(node.GetMovingNodeReferenceRole()) is moving
    assert node.GetParentTransformNode() is above
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study
    assert node.GetAttribute(METHOD_ATTRIBUTE) == "affine"
    assert node.GetAttribute("MedSeg.Model") == "net"
    assert node.GetAttribute("MedSeg.ModelVersion") == "1.2.0"
    assert node.GetAttribute("MedSeg.Version")


def test_a_transform_is_written_again_into_its_node(a_scene: Any) -> None:
    points = points_inside()
    node = transform_to_node(TRANSFORMS["field and linear"], a_scene, "t")
    node.SetName("mine")
    for kind in ("linear", "linear and field", "identity"):
        assert transform_to_node(TRANSFORMS[kind], a_scene, "other", node=node) is node
        assert apart(through(node.GetTransformFromParent(), points), TRANSFORMS[kind].apply(points)) < TOLERANCE_MM
    assert node.GetName() == "mine"


def test_a_field_that_memory_cannot_hold_leaves_the_node_as_it_was(
    a_scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = points_inside()
    node = transform_to_node(TRANSFORMS["field and linear"], a_scene, "t")

    def full(_field: DisplacementField) -> None:
        raise MemoryError

    monkeypatch.setattr(transforms, "_grid", full)
    count = a_scene.GetNumberOfNodes()
    for output in (node, None):
        with pytest.raises(MemoryError):
            transform_to_node(TRANSFORMS["linear and field"], a_scene, "other", node=output)
    assert a_scene.GetNumberOfNodes() == count
    expected = TRANSFORMS["field and linear"].apply(points)
    assert apart(through(node.GetTransformFromParent(), points), expected) < TOLERANCE_MM


def test_a_node_that_cannot_take_the_transform_is_refused(a_scene: Any, a_volume_node: Any) -> None:
    linear = a_scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "L")
    check_output(linear, a_scene, linear=True)
    with pytest.raises(InputError, match="cannot hold a deformation"):
        transform_to_node(TRANSFORMS["field"], a_scene, "t", node=linear)
    grid = a_scene.AddNewNodeByClass("vtkMRMLGridTransformNode", "G")
    with pytest.raises(InputError, match="cannot hold a linear transform"):
        check_output(grid, a_scene, linear=True)
    with pytest.raises(InputError, match="not a transform of this scene"):
        check_output(a_volume_node, a_scene, linear=True)
    above = a_scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "A")
    linear.SetAndObserveTransformNodeID(above.GetID())
    a_volume_node.SetAndObserveTransformNodeID(linear.GetID())
    for node in (linear, above):
        with pytest.raises(InputError, match="which would move it"):
            check_output(node, a_scene, linear=True, fixed_node=a_volume_node)


def test_what_is_neither_linear_nor_a_field_is_refused(a_scene: Any, a_volume_node: Any) -> None:
    spline = slicer.vtkOrientedBSplineTransform()
    node = a_scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "B")
    node.SetAndObserveTransformFromParent(spline)
    with pytest.raises(InputError, match="neither linear nor a displacement field"):
        transform_from_node(node)
    node.SetAndObserveTransformFromParent(slicer.vtkOrientedGridTransform())
    with pytest.raises(InputError, match="has no displacements"):
        transform_from_node(node)
    with pytest.raises(InputError, match="No transform is chosen"):
        transform_from_node(None)
    with pytest.raises(InputError, match="is not a transform"):
        transform_from_node(a_volume_node)


def test_a_field_on_a_sheared_grid_is_refused(a_scene: Any) -> None:
    node = transform_to_node(TRANSFORMS["field"], a_scene, "t")
    sheared = np.eye(4)
    sheared[0, 1] = 0.5
    node.GetTransformFromParent().SetGridDirectionMatrix(vtk_matrix(sheared))
    with pytest.raises(GeometryError, match="'t' cannot be used"):
        transform_from_node(node)


def test_displacements_that_slicer_scales_are_read_as_it_shows_them(a_scene: Any) -> None:
    node = transform_to_node(TRANSFORMS["field"], a_scene, "t")
    node.GetTransformFromParent().SetDisplacementScale(0.5)
    node.GetTransformFromParent().SetDisplacementShift(2.0)
    points = points_inside()
    expected = through(node.GetTransformFromParent(), points)
    assert apart(transform_from_node(node).apply(points), expected) < 1e-3


def test_how_two_volumes_lie_to_each_other_is_a_matrix(a_scene: Any, a_volume_node: Any) -> None:
    assert np.array_equal(matrix_between(a_volume_node, None), np.eye(4))
    fixed_above = add_linear_transform_node(a_scene, an_oblique_move())
    shift = np.eye(4)
    shift[:3, 3] = (1.0, 2.0, 3.0)
    moving_above = add_linear_transform_node(a_scene, shift)
    a_volume_node.SetAndObserveTransformNodeID(fixed_above.GetID())
    expected = np.linalg.inv(shift) @ an_oblique_move()
    np.testing.assert_allclose(matrix_between(a_volume_node, moving_above), expected, atol=1e-9)
    warped = transform_to_node(TRANSFORMS["field"], a_scene, "t")
    with pytest.raises(InputError, match="linear transform only"):
        matrix_between(a_volume_node, warped)


def test_a_grid_is_drawn_over_the_slices_of_the_fixed_volume(a_scene: Any, a_volume_node: Any) -> None:
    node = transform_to_node(TRANSFORMS["field and linear"], a_scene, "t", fixed_node=a_volume_node)
    display = show_grid(node, a_volume_node)
    assert display is node.GetDisplayNode()
    assert display.GetVisualizationMode() == slicer.vtkMRMLTransformDisplayNode.VIS_MODE_GRID
    assert (display.GetVisibility(), display.GetVisibility2D(), display.GetVisibility3D()) == (1, 1, 0)
    assert display.GetRegionNode() is a_volume_node
    assert 1.0 <= display.GetGridSpacingMm() < 10.0


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    orientation=st.permutations(("RL", "AP", "SI")).flatmap(
        lambda axes: st.tuples(*(st.sampled_from(axis) for axis in axes)).map("".join)
    ),
    spacing=st.tuples(*[st.floats(0.5, 6.0)] * 3),
    seed=st.integers(0, 1000),
)
def test_a_field_on_any_grid_gives_the_same_points(
    orientation: str, spacing: tuple[float, float, float], seed: int, a_scene: Any
) -> None:
    geometry = Geometry.from_spacing((5, 6, 7), spacing, (3.0, -20.0, 7.0), orientation)
    rng = np.random.default_rng(seed)
    transform = SpatialTransform((DisplacementField(rng.normal(0, 1, (5, 6, 7, 3)), geometry), an_oblique_move()))
    points = geometry.ijk_to_ras_points(rng.uniform(0, 1, (20, 3)) * (np.asarray(geometry.size) - 1))
    node = transform_to_node(transform, a_scene, "t")
    assert apart(through(node.GetTransformFromParent(), points), transform.apply(points)) < 1e-3
    assert apart(transform_from_node(node).apply(points), transform.apply(points)) < 1e-3
    a_scene.RemoveNode(node)
