"""The inverse of a field leads back, to the border and where the field stretches, on grids of all kinds."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.registration import DisplacementField, SpatialTransform
from medseg.registration.inversion import inverted
from medseg.volumes import Geometry
from support.registration import a_smooth_warp


def an_oblique_grid() -> Geometry:
    angle = 0.4
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, :3] = matrix[:3, :3] * [-3.0, 2.5, 6.0]
    matrix[:3, 3] = (40, -20, 300)
    return Geometry((14, 30, 26), matrix)


def misses(field: DisplacementField, points: np.ndarray) -> np.ndarray:
    """Return how far (mm) points end from where they began, gone by the field and back."""
    back = SpatialTransform((inverted(field, 60, 1e-3),))
    return np.linalg.norm(back.apply(SpatialTransform((field,)).apply(points)) - points, axis=-1)


def places_in(geometry: Geometry, margin: float = 0.0) -> np.ndarray:
    """Return random points of the grid, RAS mm, out to its outermost voxel centres."""
    share = np.random.default_rng(5).uniform(margin, 1 - margin, (500, 3))
    return geometry.ijk_to_ras_points(share * (np.asarray(geometry.size) - 1))


@pytest.mark.parametrize("grid", [Geometry.from_spacing((40, 48, 44), (4.0, 4.0, 4.0)), an_oblique_grid()])
def test_a_smooth_warp_is_undone(grid: Geometry) -> None:
    (field,) = a_smooth_warp(grid, 6.0).stages
    away = misses(field, places_in(grid))
    assert np.median(away) < 0.05
    assert away.max() < 0.5


def test_points_that_leave_the_grid_come_back() -> None:
    grid = Geometry.from_spacing((20, 22, 24), (3.0, 3.0, 3.0))
    field = DisplacementField(np.broadcast_to(np.float32([10.0, -7.0, 4.0]), (*grid.shape, 3)), grid)
    assert misses(field, places_in(grid)).max() < 1e-3
    transform = SpatialTransform((field,))
    _, error = transform.inverse(Geometry.from_spacing((30, 30, 30), (3.0, 3.0, 3.0)))
    assert error < 1e-3, "nothing beyond the border of the field enters the error"


def test_a_field_that_stretches_three_times_is_undone() -> None:
    grid = Geometry.from_spacing((8, 8, 64), (2.0, 2.0, 2.0))
    across = grid.ijk_to_ras_points(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij")[::-1], -1))
    vectors = np.zeros((*grid.shape, 3))
    vectors[..., 0] = 1.9 * (across[..., 0] - across[..., 0].mean())
    assert misses(DisplacementField(vectors, grid), places_in(grid, margin=0.05)).max() < 0.01


def test_a_field_of_one_slice_is_undone() -> None:
    grid = Geometry.from_spacing((1, 32, 32), (2.0, 2.0, 5.0))
    (field,) = a_smooth_warp(Geometry.from_spacing((3, 32, 32), (2.0, 2.0, 5.0)), 4.0).stages
    flat = field.vectors[1:2] * np.float32([1, 1, 0])
    assert misses(DisplacementField(flat, grid), places_in(grid)).max() < 0.2


def test_no_displacement_has_none_as_its_inverse() -> None:
    grid = an_oblique_grid()
    assert not inverted(DisplacementField(np.zeros((*grid.shape, 3)), grid), 60, 1e-3).vectors.any()


def test_the_inverse_of_a_large_field_is_not_larger_than_its_bound() -> None:
    grid = Geometry.from_spacing((130, 130, 130), (2.0, 2.0, 2.0))
    field = DisplacementField(np.full((*grid.shape, 3), 0.5), grid)
    assert inverted(field, 2, 1e-3).geometry.spacing == pytest.approx(grid.spacing)
    small = Geometry.from_spacing((20, 20, 20), (2.0, 2.0, 2.0))
    finer = inverted(DisplacementField(np.full((*small.shape, 3), 0.5), small), 2, 1e-3).geometry
    assert finer.spacing == pytest.approx((1.0, 1.0, 1.0))
