"""Pairs whose right answer is known: it is really the right one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from benchmarks.registration.known_warp import POINTS, body, known_warp, other_contrast, warped_pair
from medseg.metrics.deformation import jacobian_determinant
from medseg.registration import SpatialTransform
from medseg.volumes import Geometry, Volume
from support.grids import rotation
from support.registration import a_head, a_turn


def a_grid(turn: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)) -> Geometry:
    """24 x 26 x 22 voxels of 6 x 5 x 7 mm, turned."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(turn) * [6.0, 5.0, 7.0]
    matrix[:3, 3] = (-70.0, 40.0, -1200.0)
    return Geometry((22, 26, 24), matrix)


def some_points(geometry: Geometry) -> np.ndarray:
    return geometry.ijk_to_ras_points(np.random.default_rng(3).uniform(0, np.asarray(geometry.size) - 1, (400, 3)))


@hypothesis_settings(max_examples=10)
@given(turn=st.tuples(*[st.floats(-1, 1)] * 4), seed=st.integers(0, 10_000), millimetres=st.floats(0.5, 5.0))
def test_a_warp_moves_the_points_by_what_was_asked_and_folds_nowhere(turn, seed: int, millimetres: float):
    geometry = a_grid(turn)
    points = some_points(geometry)

    field, affine = known_warp(geometry, points, seed, mean_mm=millimetres).stages

    moved = SpatialTransform((field,)).apply(points)
    assert np.linalg.norm(moved - points, axis=1).mean() == pytest.approx(millimetres, rel=1e-4)
    assert jacobian_determinant(field.to_voxels()).min() > 0.25
    assert 0.9 < np.linalg.det(affine[:3, :3]) < 1.1


def test_the_affine_part_turns_about_the_middle_and_shifts_it_by_five_millimetres():
    geometry = a_grid()
    _, affine = known_warp(geometry, some_points(geometry), 1).stages
    centre = np.asarray(geometry.center_ras)

    assert np.linalg.norm(SpatialTransform((affine,)).apply(centre) - centre) == pytest.approx(5.0)
    stretches = np.linalg.svd(affine[:3, :3], compute_uv=False)
    assert ((stretches > 0.97) & (stretches < 1.03)).all()


def test_a_seed_gives_one_warp_and_another_seed_another():
    geometry = a_grid()
    points = some_points(geometry)
    first, again, other = (known_warp(geometry, points, seed).apply(points) for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert np.linalg.norm(first - other, axis=1).mean() > 1


def test_a_warp_that_would_fold_is_refused():
    geometry = a_grid()
    with pytest.raises(ValueError, match="60 mm"):
        known_warp(geometry, some_points(geometry), 1, mean_mm=60.0)


@pytest.mark.parametrize("axis", range(3))
def test_the_fixed_volume_shows_at_a_point_what_the_moving_one_shows_at_its_counterpart(axis: int):
    """A volume whose value is a coordinate tells where it was read: 1000 for each mm, so that noise is 0.015 mm."""
    geometry = a_grid((0.9, 0.2, -0.3, 0.1))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij")[::-1], axis=-1)
    coordinate = 1000 * (geometry.ijk_to_ras_points(index)[..., axis] - np.asarray(geometry.center_ras)[axis] + 1000)

    pair = warped_pair(Volume(coordinate.astype(np.float32), geometry), 5, kinds=("CT", "CT"))

    there = geometry.ras_to_ijk_points(pair.moving_points)
    deep = ((there > 4) & (there < np.asarray(geometry.size) - 5)).all(1)
    i, j, k = np.rint(geometry.ras_to_ijk_points(pair.fixed_points[deep])).astype(int).T
    read = pair.fixed.array[k, j, i] / 1000 - 1000 + np.asarray(geometry.center_ras)[axis]
    assert np.count_nonzero(deep) > 200
    np.testing.assert_allclose(read, pair.moving_points[deep][:, axis], atol=0.15)


def test_the_points_are_voxels_of_the_body_whose_counterparts_the_moving_volume_shows():
    pair = warped_pair(a_head(), 4)
    geometry = pair.fixed.geometry
    index = geometry.ras_to_ijk_points(pair.fixed_points)
    there = geometry.ras_to_ijk_points(pair.moving_points)

    np.testing.assert_allclose(index, np.rint(index), atol=1e-9)
    assert ((there >= 0) & (there <= np.asarray(geometry.size) - 1)).all()
    i, j, k = np.rint(index).astype(int).T
    assert np.median(pair.fixed.array[k, j, i]) > 10 * np.median(pair.fixed.array)
    assert 1000 < len(index) <= POINTS


def test_another_moving_volume_is_reached_through_its_alignment():
    head, alignment = a_head(), a_turn(5.0, (20.0, 0.0, -10.0))
    moving = alignment.inverse(head.geometry)[0].resample(head, head.geometry)
    pair = warped_pair(head, 4, moving=moving, alignment=alignment)
    alone = warped_pair(head, 4)

    way = {tuple(point): there for point, there in zip(alone.fixed_points, alone.moving_points, strict=True)}
    shared = [(way[tuple(p)], q) for p, q in zip(pair.fixed_points, pair.moving_points, strict=True) if tuple(p) in way]
    assert len(shared) > 1000
    np.testing.assert_allclose(alignment.apply([p for p, _ in shared]), [q for _, q in shared], atol=1e-9)


def test_two_volumes_made_of_one_have_noise_of_their_own():
    head = a_head()
    pair = warped_pair(head, 4)
    corner = np.s_[:4, :4, :4]

    assert pair.fixed.array[corner].std() > 0.002
    assert abs(np.corrcoef(pair.fixed.array[corner].ravel(), pair.moving.array[corner].ravel())[0, 1]) < 0.5


def test_a_ct_keeps_what_lies_outside_the_scan():
    head = a_head()
    scan = head.with_array(np.where(head.array > 0.2, 1000 * head.array, -1000).astype(np.float32))
    pair = warped_pair(scan, 4, kinds=("CT", "CT"))

    assert (pair.moving.array[scan.array == -1000] == -1000).all()
    assert (pair.moving.array[scan.array > -1000] != scan.array[scan.array > -1000]).mean() > 0.99


def test_the_body_is_the_largest_piece_without_holes():
    head = a_head()
    array = np.full(head.shape, -1000, np.float32)
    array[10:30, 10:40, 10:40] = 40
    array[18:22, 20:24, 20:24] = -900
    array[2:4, 2:4, 2:4] = 300

    found = body(dataclasses.replace(head, array=array), "CT").array

    assert found[20, 22, 22] == 1
    assert found[3, 3, 3] == 0
    assert found[20, 30, 30] == 1
    assert np.count_nonzero(found) == pytest.approx(20 * 30 * 30, rel=0.02)


def test_a_made_up_contrast_is_no_function_that_only_rises():
    head = a_head()
    other = other_contrast(head)
    low, middle, high = (
        other.array[(head.array > a) & (head.array < b)].mean() for a, b in ((0, 0.05), (0.3, 0.45), (0.85, 1))
    )

    assert low < high < middle
