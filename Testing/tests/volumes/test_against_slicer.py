"""The same numbers as 3D Slicer's own classes: grids, world positions, files, resampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import slicer
import vtk
from hypothesis import given
from hypothesis import strategies as st
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from medseg.volumes import Geometry, Volume, read_volume, write_volume
from support.grids import ALL_ORIENTATIONS, geometries, numbered, places

if TYPE_CHECKING:
    from pathlib import Path


def vtk_matrix(matrix: np.ndarray) -> Any:
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(matrix.ravel().tolist())
    return result


def numpy_matrix(matrix: Any) -> np.ndarray:
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def node_of(geometry: Geometry) -> Any:
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetIJKToRASMatrix(vtk_matrix(geometry.ijk_to_ras))
    return node


def oriented_image(volume: Volume) -> Any:
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(volume.geometry.size)
    image.GetPointData().SetScalars(numpy_to_vtk(volume.array.ravel(), deep=1))
    image.SetGeometryFromImageToWorldMatrix(vtk_matrix(volume.geometry.ijk_to_ras))
    return image


def assert_same_places(first: Volume, second: Volume) -> None:
    there, here = places(first), places(second)
    assert there.keys() == here.keys()
    assert all(place == pytest.approx(here[value], abs=1e-3) for value, place in there.items())


@given(geometries())
def test_spacing_origin_directions_and_handedness_are_those_of_a_volume_node(geometry: Geometry) -> None:
    node = node_of(geometry)
    np.testing.assert_allclose(node.GetSpacing(), geometry.spacing, rtol=1e-12)
    np.testing.assert_allclose(node.GetOrigin(), geometry.origin, atol=1e-12)
    directions = vtk.vtkMatrix4x4()
    node.GetIJKToRASDirectionMatrix(directions)
    np.testing.assert_allclose(numpy_matrix(directions)[:3, :3], geometry.direction, atol=1e-12)
    assert bool(node.IsIJKCoordinateSystemRightHanded(vtk_matrix(geometry.ijk_to_ras))) != geometry.is_left_handed


@given(geometries(sheared=True), st.tuples(*[st.integers(-20, 20)] * 3))
def test_world_positions_are_those_of_a_volume_node(geometry: Geometry, index: tuple[int, int, int]) -> None:
    node = node_of(geometry)
    there, back = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(there)
    node.GetRASToIJKMatrix(back)
    point = there.MultiplyPoint((*index, 1))[:3]
    np.testing.assert_allclose(geometry.ijk_to_ras_points(index), point, atol=1e-9)
    np.testing.assert_allclose(geometry.ras_to_ijk_points(point), back.MultiplyPoint((*point, 1))[:3], atol=1e-7)


@pytest.mark.parametrize(
    ("scan_order", "orientation"),
    [("IS", "LPS"), ("SI", "LPI"), ("PA", "LIA"), ("AP", "LIP"), ("LR", "PIR"), ("RL", "PIL")],
)
def test_orientation_letters_name_slicers_scan_orders(scan_order: str, orientation: str) -> None:
    matrix = vtk.vtkMatrix4x4()
    slicer.vtkMRMLVolumeNode.ComputeIJKToRASFromScanOrder(scan_order, [1.0, 2.0, 3.0], [4, 5, 6], True, matrix)
    assert Geometry((6, 5, 4), numpy_matrix(matrix)).orientation == orientation


@pytest.mark.parametrize("ending", ["nrrd", "nii.gz", "mha"])
@pytest.mark.parametrize("orientation", [*ALL_ORIENTATIONS[::5], "oblique"])
def test_slicer_reads_what_we_write_and_we_read_what_slicer_writes(
    tmp_path: Path, ending: str, orientation: str
) -> None:
    geometry = Geometry.from_spacing((4, 5, 6), (0.7, 1.1, 2.5), (12.0, -34.0, 56.0), "RAS")
    if orientation == "oblique":
        turned = geometry.ijk_to_ras.copy()
        turned[:3, :3] = np.array([[0.8, -0.6, 0], [0.48, 0.64, -0.6], [0.36, 0.48, 0.8]]) @ turned[:3, :3]
        geometry = Geometry(geometry.shape, turned)
    else:
        geometry = geometry.reoriented(orientation)
    volume = numbered(geometry, np.int16)
    ours, theirs = tmp_path / f"ours.{ending}", tmp_path / f"theirs.{ending}"
    write_volume(volume, ours)

    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(ours))
    assert storage.ReadData(node)
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    array = vtk_to_numpy(node.GetImageData().GetPointData().GetScalars())
    seen = Volume(
        array.reshape(node.GetImageData().GetDimensions()[::-1]), Geometry(geometry.shape, numpy_matrix(matrix))
    )
    assert_same_places(seen, volume)  # 3D Slicer turns left-handed images right-handed: other order, same places

    storage.SetFileName(str(theirs))
    assert storage.WriteData(node)
    assert_same_places(read_volume(theirs), volume)
    scene.Clear(1)


@given(geometries(largest=7), geometries(largest=7), st.booleans())
def test_resampling_is_that_of_slicers_oriented_images(source: Geometry, target: Geometry, linear: bool) -> None:
    # The target's centre is moved onto the source's, or most pairs would not meet.
    matrix = target.ijk_to_ras.copy()
    matrix[:3, 3] += np.array(source.center_ras) - np.array(target.center_ras)
    target = Geometry(target.shape, matrix)
    values = np.random.default_rng(0).integers(1, 200, source.shape).astype(np.float32)
    volume = Volume(values, source)
    reference = oriented_image(Volume(np.zeros(target.shape, np.float32), target))
    output = slicer.vtkOrientedImageData()
    resampled = slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        oriented_image(volume), reference, output, linear
    )
    assert resampled
    expected = vtk_to_numpy(output.GetPointData().GetScalars()).reshape(target.shape)
    result = volume.resample(target, "linear" if linear else "nearest").array

    k, j, i = np.indices(target.shape).reshape(3, -1)
    inside = source.ras_to_ijk_points(target.ijk_to_ras_points(np.stack([i, j, k], axis=1)))
    sure = ((inside > 1e-3) & (inside < np.array(source.size) - 1 - 1e-3)).all(axis=1)
    if not linear:  # half-way between voxels, either neighbour is right
        sure &= (np.abs(inside - np.floor(inside) - 0.5) > 1e-3).all(axis=1)
    sure = sure.reshape(target.shape)
    np.testing.assert_allclose(result[sure], expected[sure], atol=0.05)
