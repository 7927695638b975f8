"""Volume nodes to volumes and back, on real MRML classes."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg.errors import GeometryError, InputError
from medseg.mrml import geometry_from_node, volume_from_node, volume_to_node
from medseg.mrml.volumes import modality_of
from medseg.volumes import Geometry, Volume
from support.mrml import add_linear_transform_node, add_volume_node, oblique_matrix

DTYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")


def numbers(shape: tuple[int, int, int], dtype: str = "i2") -> np.ndarray:
    return (np.arange(np.prod(shape)) % 120).reshape(shape).astype(dtype)


def sheared_matrix() -> np.ndarray:
    matrix = oblique_matrix()
    matrix[:3, 2] += 0.6 * matrix[:3, 1]
    return matrix


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_volume_keeps_its_dtype_and_every_voxel(a_scene: Any, dtype: str) -> None:
    array = numbers((3, 4, 5), dtype)
    volume = volume_from_node(add_volume_node(a_scene, array))
    assert volume.array.dtype == np.dtype(dtype)
    assert volume.array.shape == (3, 4, 5)
    np.testing.assert_array_equal(volume.array, array)


@pytest.mark.parametrize(
    "matrix",
    [oblique_matrix(), oblique_matrix(left_handed=True), sheared_matrix(), np.diag([-1.0, -1.0, 3.0, 1.0])],
    ids=["oblique", "left-handed", "sheared", "LPS"],
)
def test_the_grid_is_the_nodes_own_matrix(a_scene: Any, matrix: np.ndarray) -> None:
    volume = volume_from_node(add_volume_node(a_scene, numbers((3, 4, 5)), matrix))
    np.testing.assert_allclose(volume.geometry.ijk_to_ras, matrix, atol=1e-9)
    assert volume.geometry.shape == (3, 4, 5)


def test_a_voxel_is_where_the_node_says_it_is(a_scene: Any) -> None:
    node = add_volume_node(a_scene, numbers((6, 5, 4)), oblique_matrix())
    volume = volume_from_node(node)
    i, j, k = 3, 1, 5
    assert volume.array[k, j, i] == node.GetImageData().GetScalarComponentAsDouble(i, j, k, 0)
    np.testing.assert_allclose(volume.geometry.spacing, node.GetSpacing())
    np.testing.assert_allclose(volume.geometry.origin, node.GetOrigin())


def test_an_image_whose_extent_starts_elsewhere_keeps_its_place(a_scene: Any) -> None:
    node = add_volume_node(a_scene, numbers((4, 5, 6)), oblique_matrix())
    whole = volume_from_node(node)
    import vtk

    clip = vtk.vtkImageClip()
    clip.SetInputData(node.GetImageData())
    clip.SetOutputWholeExtent(2, 4, 1, 3, 2, 3)
    clip.ClipDataOn()
    clip.Update()
    node.SetAndObserveImageData(clip.GetOutput())
    part = volume_from_node(node)
    np.testing.assert_array_equal(part.array, whole.array[2:4, 1:4, 2:5])
    np.testing.assert_allclose(part.geometry.origin, whole.geometry.ijk_to_ras_points(np.array([[2, 1, 2]]))[0])


def test_a_transform_above_the_node_is_left_to_the_scene(a_scene: Any, a_volume_node: Any) -> None:
    before = geometry_from_node(a_volume_node)
    shift = np.eye(4)
    shift[:3, 3] = 100
    a_volume_node.SetAndObserveTransformNodeID(add_linear_transform_node(a_scene, shift).GetID())
    assert geometry_from_node(a_volume_node) == before


def test_a_copy_does_not_follow_the_node_and_a_view_does(a_volume_node: Any) -> None:
    copied, view = volume_from_node(a_volume_node), volume_from_node(a_volume_node, copy=False)
    a_volume_node.GetImageData().SetScalarComponentFromDouble(0, 0, 0, 0, 77)
    assert copied.array[0, 0, 0] == -500
    assert view.array[0, 0, 0] == 77


def test_a_view_outlives_the_node_and_its_image(a_scene: Any) -> None:
    array = numbers((20, 64, 64))
    node = add_volume_node(a_scene, array)
    volume = volume_from_node(node, copy=False)
    a_scene.RemoveNode(node)
    node.SetAndObserveImageData(None)
    del node
    gc.collect()
    others = [np.full((20, 64, 64), 9, dtype=np.int16) for _ in range(50)]
    np.testing.assert_array_equal(volume.array, array)
    del others


def test_a_node_outside_every_scene_can_be_read(a_scene: Any, a_volume_node: Any) -> None:
    a_scene.RemoveNode(a_volume_node)
    assert volume_from_node(a_volume_node).geometry.shape == (10, 11, 12)


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_the_modality_survives_the_way_through_a_node(a_scene: Any, modality: str) -> None:
    volume = Volume(numbers((3, 3, 3)), Geometry.from_spacing((3, 3, 3)), name="Series 4", modality=modality)
    node = volume_to_node(volume, a_scene)
    assert node.GetVoxelValueQuantity().GetCodeMeaning() in ("Attenuation Coefficient", "MR signal intensity")
    assert volume_from_node(node).modality == modality


def test_the_modality_of_a_dicom_series_is_in_the_subject_hierarchy(a_scene: Any, a_volume_node: Any) -> None:
    import slicer

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(a_scene)
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), a_volume_node)
    assert modality_of(a_volume_node) == ""
    hierarchy.SetItemAttribute(item, "DICOM.Modality", "PT")
    assert volume_from_node(a_volume_node).modality == "PT"


def test_a_volume_of_unknown_modality_has_none(a_scene: Any, a_volume_node: Any) -> None:
    nodes = a_scene.GetNumberOfNodes()
    assert volume_from_node(a_volume_node).modality == ""
    assert a_scene.GetNumberOfNodes() == nodes


@pytest.mark.parametrize(
    ("class_name", "components", "words"),
    [
        ("vtkMRMLLabelMapVolumeNode", 1, "label map"),
        ("vtkMRMLVectorVolumeNode", 3, "vector or colour"),
        ("vtkMRMLDiffusionWeightedVolumeNode", 6, "diffusion-weighted"),
        ("vtkMRMLDiffusionTensorVolumeNode", 9, "tensor volume"),
        ("vtkMRMLScalarVolumeNode", 3, "3 values per voxel"),
    ],
)
def test_other_kinds_of_volume_are_refused_with_advice(
    a_scene: Any, class_name: str, components: int, words: str
) -> None:
    shape = (2, 3, 4) if components == 1 else (2, 3, 4, components)
    node = add_volume_node(a_scene, np.zeros(shape, np.uint8), name="Odd one", class_name=class_name)
    with pytest.raises(InputError, match=words) as error:
        volume_from_node(node)
    assert "'Odd one'" in error.value.message
    assert error.value.advice.endswith(".")


def test_a_node_that_is_no_volume_is_refused(a_scene: Any) -> None:
    with pytest.raises(InputError, match=r"is not a volume \(it is a Model\)"):
        volume_from_node(a_scene.AddNewNodeByClass("vtkMRMLModelNode", "Bone"))
    with pytest.raises(InputError, match="No volume is chosen"):
        volume_from_node(None)
    with pytest.raises(InputError, match="a sequence"):
        volume_from_node(a_scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Cine"))


def test_a_volume_without_voxels_is_refused(a_scene: Any) -> None:
    import vtk

    node = a_scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Hollow")
    with pytest.raises(InputError, match="'Hollow' has no voxels"):
        volume_from_node(node)
    image = vtk.vtkImageData()
    node.SetAndObserveImageData(image)
    with pytest.raises(InputError, match="'Hollow' has no voxels"):
        volume_from_node(node)
    image.SetDimensions(0, 4, 4)
    with pytest.raises(InputError, match="'Hollow' has no voxels"):
        volume_from_node(node)


def test_a_singular_matrix_is_refused(a_scene: Any, no_vtk_errors: Any) -> None:
    flat = oblique_matrix()
    flat[:3, 1] = 2 * flat[:3, 0]
    node = add_volume_node(a_scene, numbers((3, 4, 5)), flat, "Flat")
    with pytest.raises(GeometryError, match="'Flat'") as error:
        volume_from_node(node)
    assert "Volumes module" in error.value.advice


def test_a_matrix_that_is_not_finite_is_refused(a_scene: Any) -> None:
    matrix = np.eye(4)
    matrix[0, 3] = np.nan
    with pytest.raises(GeometryError, match="'Lost'"):
        volume_from_node(add_volume_node(a_scene, numbers((3, 4, 5)), matrix, "Lost"))


@pytest.mark.parametrize("dtype", ["?", "f2", ">i2"])
def test_a_dtype_that_vtk_lacks_becomes_the_nearest_that_it_has(a_scene: Any, dtype: str) -> None:
    array = (numbers((3, 4, 5)) % 2).astype(dtype)
    node = volume_to_node(Volume(array, Geometry.from_spacing((3, 4, 5))), a_scene)
    np.testing.assert_array_equal(volume_from_node(node).array, array)


def test_numbers_that_are_not_real_cannot_be_shown(a_scene: Any) -> None:
    from medseg.mrml.images import dtype_for_vtk

    with pytest.raises(InputError, match="complex"):
        dtype_for_vtk(np.dtype(np.complex64))


def test_a_volume_node_is_overwritten_in_place(a_scene: Any, a_volume_node: Any) -> None:
    a_volume_node.CreateDefaultDisplayNodes()
    display, count = a_volume_node.GetDisplayNodeID(), a_scene.GetNumberOfNodes()
    volume = Volume(numbers((3, 4, 5)), Geometry.from_spacing((3, 4, 5), (1, 2, 3)), name="Other")
    assert volume_to_node(volume, a_scene, node=a_volume_node) is a_volume_node
    assert (a_volume_node.GetName(), a_volume_node.GetDisplayNodeID()) == ("MR heart", display)
    assert a_scene.GetNumberOfNodes() == count
    assert volume_from_node(a_volume_node).geometry == volume.geometry


def test_a_second_volume_of_the_same_name_gets_a_name_of_its_own(a_scene: Any) -> None:
    volume = Volume(numbers((3, 4, 5)), Geometry.from_spacing((3, 4, 5)), name="T1")
    first, second = volume_to_node(volume, a_scene), volume_to_node(volume, a_scene)
    assert first.GetName() == "T1"
    assert second.GetName() not in ("", "T1")
    assert first.GetDisplayNode() is not None


def test_a_volume_is_not_written_over_what_is_no_volume(a_scene: Any) -> None:
    volume = Volume(numbers((3, 4, 5)), Geometry.from_spacing((3, 4, 5)))
    with pytest.raises(InputError, match="not a volume of this scene"):
        volume_to_node(volume, a_scene, node=a_scene.AddNewNodeByClass("vtkMRMLModelNode", "Bone"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    array=hnp.arrays(
        st.sampled_from([np.int16, np.uint8, np.float32]), hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)
    ),
    grid=st.tuples(
        st.tuples(*[st.floats(-3.0, 3.0)] * 3),
        st.tuples(*[st.floats(0.1, 10.0)] * 3),
        st.tuples(*[st.floats(-500.0, 500.0)] * 3),
        st.booleans(),
    ),
)
def test_any_volume_comes_back_from_a_node_as_it_was(a_scene: Any, array: np.ndarray, grid: Any) -> None:
    angles, spacing, origin, flip = grid
    direction = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        direction = direction @ turn
    if flip:
        direction[:, 2] *= -1
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = direction * spacing, origin
    volume = Volume(array, Geometry(array.shape, matrix))
    node = volume_to_node(volume, a_scene)
    back = volume_from_node(node)
    np.testing.assert_array_equal(back.array, array)
    assert back.array.dtype == array.dtype
    assert back.geometry.is_close(volume.geometry, 1e-6)
    a_scene.RemoveNode(node)
