"""Transforms: points, SimpleITK, files, inverses, resampling; oblique, anisotropic and left-handed grids."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import GeometryError, InputError, ReadError
from medseg.registration.files import read_transform, write_transform
from medseg.registration.transform import DisplacementField, SpatialTransform
from medseg.volumes import Geometry, Volume

LPS = np.array([-1.0, -1.0, 1.0])


def rotation(x: float, y: float, z: float) -> np.ndarray:
    turned = np.eye(3)
    for axis, angle in enumerate((x, y, z)):
        first, second = [(1, 2), (0, 2), (0, 1)][axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        turned = turn @ turned
    return turned


def rigid(angles: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation(*angles), shift
    return matrix


def an_oblique_grid(shape: tuple[int, int, int] = (12, 14, 16), *, left_handed: bool = False) -> Geometry:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(0.2, -0.3, 0.4) * [1.5, 2.0, 3.0]
    if left_handed:
        matrix[:3, 0] *= -1
    matrix[:3, 3] = (-10, 20, 5)
    return Geometry(shape, matrix)


def a_smooth_field(geometry: Geometry, size: float = 1.5, seed: int = 0) -> DisplacementField:
    """Waves of a few voxels' length whose displacement changes by less than one mm in a mm."""
    rng = np.random.default_rng(seed)
    k, j, i = np.meshgrid(*(np.linspace(0, np.pi, n) for n in geometry.shape), indexing="ij")
    waves = [np.sin(k * a + p) * np.sin(j * b + q) * np.sin(i) for a, b, p, q in rng.uniform(0.5, 1.5, (3, 4))]
    return DisplacementField(size * np.stack(waves, axis=-1), geometry)


@pytest.fixture(params=[False, True], ids=["right-handed", "left-handed"])
def a_grid(request: pytest.FixtureRequest) -> Geometry:
    return an_oblique_grid(left_handed=request.param)


@pytest.fixture
def points(a_grid: Geometry) -> np.ndarray:
    index = np.random.default_rng(1).uniform(1, np.asarray(a_grid.size) - 2, (50, 3))
    return a_grid.ijk_to_ras_points(index)


@pytest.fixture
def a_transform(a_grid: Geometry) -> SpatialTransform:
    """A field on an oblique grid, then a rotation with a shift."""
    return SpatialTransform((a_smooth_field(a_grid), rigid((0.1, -0.2, 0.3), (5, -3, 2))))


def through_sitk(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    return np.array([transform.TransformPoint(point) for point in (points * LPS).tolist()]) * LPS


def test_stages_are_applied_first_to_last() -> None:
    shift, stretch = np.eye(4), np.diag([2.0, 2.0, 2.0, 1.0])
    shift[:3, 3] = (1, 2, 3)
    assert SpatialTransform((shift, stretch)).apply([1, 1, 1]).tolist() == [4, 6, 8]
    assert SpatialTransform((stretch, shift)).apply([1, 1, 1]).tolist() == [3, 4, 5]
    both = SpatialTransform((shift,)).then(SpatialTransform((stretch,)))
    assert len(both.stages) == 1
    assert both.apply([1, 1, 1]).tolist() == [4, 6, 8]
    assert SpatialTransform().apply([1, 2, 3]).tolist() == [1, 2, 3]


def test_simpleitk_takes_points_to_the_same_places(a_transform: SpatialTransform, points: np.ndarray) -> None:
    np.testing.assert_allclose(through_sitk(a_transform.to_sitk(), points), a_transform.apply(points), atol=1e-4)
    assert np.linalg.norm(a_transform.apply(points) - points, axis=1).min() > 0.5


def test_a_field_moves_nothing_outside_its_grid(a_grid: Geometry) -> None:
    field = SpatialTransform((a_smooth_field(a_grid, 5.0),))
    outside = a_grid.ijk_to_ras_points([[-1.0, 3, 3], [3, 3, a_grid.shape[0] + 0.2]])
    np.testing.assert_array_equal(field.apply(outside), outside)
    np.testing.assert_allclose(through_sitk(field.to_sitk(), outside), outside, atol=1e-9)


def test_voxels_become_mm_along_the_axes_of_the_grid(a_grid: Geometry) -> None:
    displacement = np.zeros((3, *a_grid.size), np.float32)
    displacement[1] = 2.0  # two voxels along j
    field = DisplacementField.from_voxels(displacement, a_grid)
    expected = 2 * a_grid.ijk_to_ras[:3, 1]
    np.testing.assert_allclose(field.vectors, np.broadcast_to(expected, field.vectors.shape), atol=1e-5)
    np.testing.assert_allclose(field.to_voxels(), displacement, atol=1e-5)


@pytest.mark.parametrize("ending", [".h5", ".tfm"])
def test_a_file_gives_the_points_back(
    a_transform: SpatialTransform, points: np.ndarray, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"transform{ending}"
    write_transform(a_transform, path)
    expected = a_transform.apply(points)
    np.testing.assert_allclose(read_transform(path).apply(points), expected, atol=1e-4)
    np.testing.assert_allclose(through_sitk(sitk.ReadTransform(str(path)), points), expected, atol=1e-4)


@pytest.mark.parametrize("ending", [".nrrd", ".nii.gz", ".mha"])
def test_a_field_in_an_image_file_gives_the_voxels_back(
    a_transform: SpatialTransform, a_grid: Geometry, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"field{ending}"
    write_transform(a_transform, path, grid=a_grid)
    voxels = a_grid.ijk_to_ras_points(np.random.default_rng(2).integers(0, a_grid.size, (40, 3)))
    expected = a_transform.apply(voxels)
    np.testing.assert_allclose(read_transform(path).apply(voxels), expected, atol=0.01)
    image = sitk.ReadImage(str(path), sitk.sitkVectorFloat64)
    np.testing.assert_allclose(through_sitk(sitk.DisplacementFieldTransform(image), voxels), expected, atol=0.01)


def test_a_linear_transform_has_small_files_of_its_own(points: np.ndarray, tmp_path: Path) -> None:
    linear = SpatialTransform((rigid((0.3, 0.2, -0.1), (10, 0, -4)),))
    for name in ("a.tfm", "b.h5", "c.txt", "d.mat"):
        write_transform(linear, tmp_path / name)
        np.testing.assert_allclose(read_transform(tmp_path / name).apply(points), linear.apply(points), atol=1e-4)
    np.testing.assert_allclose(read_transform(tmp_path / "a.tfm").matrix, linear.matrix, atol=1e-9)


def test_transforms_of_others_are_read(tmp_path: Path) -> None:
    euler = sitk.Euler3DTransform((1.0, 2.0, 3.0), 0.1, 0.2, 0.3, (4.0, 5.0, 6.0))
    sitk.WriteTransform(
        sitk.CompositeTransform([euler, sitk.TranslationTransform(3, (1.0, 1.0, 1.0))]), tmp_path / "e.tfm"
    )
    found = read_transform(tmp_path / "e.tfm")
    assert found.is_linear
    np.testing.assert_allclose(
        found.apply([[0.0, 0, 0], [10, 20, 30]]),
        through_sitk(sitk.ReadTransform(tmp_path / "e.tfm"), np.array([[0.0, 0, 0], [10, 20, 30]])),
        atol=1e-9,
    )


def test_what_is_no_transform_is_refused_in_a_sentence(a_transform: SpatialTransform, tmp_path: Path) -> None:
    (tmp_path / "bad.tfm").write_text("nothing")
    sitk.WriteTransform(sitk.BSplineTransform(3, 3), tmp_path / "spline.tfm")
    sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkFloat32), tmp_path / "image.nrrd")
    for path, error, words in (
        ("bad.tfm", ReadError, "cannot be read as a transform"),
        ("none.h5", ReadError, "There is no file"),
        ("image.nrrd", ReadError, "not a displacement field"),
        ("spline.tfm", InputError, "neither linear nor a displacement field"),
        ("transform.xyz", InputError, "does not end as a transform does"),
    ):
        with pytest.raises(error, match=words):
            read_transform(tmp_path / path)
    with pytest.raises(InputError, match="linear transforms only"):
        write_transform(a_transform, tmp_path / "field.txt")
    with pytest.raises(InputError, match="no grid"):
        write_transform(SpatialTransform((np.eye(4),)), tmp_path / "field.nrrd")
    assert not list(tmp_path.glob("field*"))


def test_the_inverse_takes_points_back_and_says_how_well(
    a_transform: SpatialTransform, a_grid: Geometry, points: np.ndarray
) -> None:
    moved = Geometry(a_grid.shape, a_transform.matrix @ a_grid.ijk_to_ras)
    inverse, error = a_transform.inverse(moved)
    away = np.linalg.norm(inverse.apply(a_transform.apply(points)) - points, axis=1)
    assert error < 0.15
    assert away.max() < 0.15
    assert SpatialTransform((rigid((0.1, 0, 0), (1, 2, 3)),)).inverse(a_grid)[1] < 1e-9


def test_a_known_transform_moves_a_volume_as_simpleitk_moves_it(
    a_transform: SpatialTransform, a_grid: Geometry
) -> None:
    moving = Volume(np.random.default_rng(3).normal(size=(20, 20, 20)), Geometry.from_spacing((20, 20, 20), (2, 2, 2)))
    found = a_transform.resample(moving, a_grid, fill=-7.0)
    expected = sitk.Resample(
        moving.to_sitk(), Volume(np.zeros(a_grid.shape), a_grid).to_sitk(), a_transform.to_sitk(), sitk.sitkLinear, -7.0
    )
    np.testing.assert_allclose(found.array, sitk.GetArrayFromImage(expected), atol=1e-5)
    assert found.geometry is a_grid
    labels = Volume((moving.array > 0).astype(np.uint8), moving.geometry)
    assert set(np.unique(a_transform.resample(labels, a_grid, "nearest").array)) == {0, 1}


@settings(max_examples=25)
@given(st.tuples(*[st.floats(-3, 3)] * 3), st.tuples(*[st.floats(-100, 100)] * 3), st.integers(0, 5))
def test_a_transform_survives_simpleitk(angles: tuple, shift: tuple, seed: int) -> None:
    grid = an_oblique_grid((6, 7, 8), left_handed=bool(seed % 2))
    transform = SpatialTransform((rigid(angles, shift), a_smooth_field(grid, seed=seed), rigid(shift, angles)))
    points = grid.ijk_to_ras_points(np.random.default_rng(seed).uniform(0, 5, (10, 3)))
    points = np.vstack([points, np.linalg.inv(rigid(angles, shift))[:3, 3] + points])
    again = SpatialTransform.from_sitk(transform.to_sitk())
    assert len(again.stages) == 3
    np.testing.assert_allclose(again.apply(points), transform.apply(points), atol=1e-4)


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        (np.zeros((4, 4)), "finite affine 4x4"),
        (np.diag([1.0, 1.0, 0.0, 1.0]), "flattens space"),
        (np.full((4, 4), np.nan), "finite affine 4x4"),
        (np.eye(3), "finite affine 4x4"),
    ],
)
def test_matrices_that_are_no_transforms_are_refused(stage: np.ndarray, words: str) -> None:
    with pytest.raises(GeometryError, match=words):
        SpatialTransform((stage,))


def test_fields_that_do_not_fit_are_refused(a_grid: Geometry) -> None:
    with pytest.raises(GeometryError, match="does not fit a grid"):
        DisplacementField(np.zeros((2, 2, 2, 3)), a_grid)
    with pytest.raises(GeometryError, match="not a finite number"):
        DisplacementField(np.full((*a_grid.shape, 3), np.inf), a_grid)
