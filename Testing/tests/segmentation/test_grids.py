from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Spacing

from medseg.errors import GeometryError
from medseg.models import Normalize, Preprocessing, ScaleRange
from medseg.segmentation.grids import AxisSampling, sample_intensities, sampling_between
from medseg.segmentation.preprocess import network_geometry, to_network_grid, upright, upright_geometry
from medseg.volumes import Geometry, Volume


def an_oblique_geometry(shape=(12, 14, 16), spacing=(0.8, 1.1, 2.5), angle=0.3):
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    tip = np.array([[1, 0, 0], [0, np.cos(0.2), -np.sin(0.2)], [0, np.sin(0.2), np.cos(0.2)]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ tip * spacing
    matrix[:3, 3] = (-20.0, 31.0, 7.5)
    return Geometry(shape, matrix)


def a_sheared_geometry():
    matrix = an_oblique_geometry().ijk_to_ras.copy()
    matrix[:3, 2] += 0.33 * np.linalg.norm(matrix[:3, 2]) * matrix[:3, 1] / np.linalg.norm(matrix[:3, 1])
    return Geometry((12, 14, 16), matrix)


def linear_in_space(geometry, gradient=(0.7, -1.3, 0.4), offset=5.0):
    """Return a volume whose intensity is a linear function of the place in mm: interpolation must not change it."""
    k, j, i = np.indices(geometry.shape)
    points = geometry.ijk_to_ras_points(np.stack([i.ravel(), j.ravel(), k.ravel()], axis=1).astype(float))
    return Volume((points @ np.asarray(gradient) + offset).reshape(geometry.shape).astype(np.float32), geometry)


@given(
    size=st.integers(1, 60),
    output=st.integers(1, 90),
    scale=st.floats(0.05, 8.0),
    offset=st.floats(-5.0, 5.0),
)
def test_a_sampled_axis_stays_inside_and_gives_clamped_positions(size, output, scale, offset):
    axis = AxisSampling.linear(size, output, scale, offset)
    position = axis.lower + axis.weight
    assert axis.lower.min() >= 0
    assert axis.upper.max() <= size - 1
    assert np.all((axis.weight >= 0) & (axis.weight <= 1))
    np.testing.assert_allclose(position, np.clip(offset + scale * np.arange(output), 0, size - 1), atol=2e-4)


def test_a_grid_onto_itself_is_a_copy():
    geometry = an_oblique_geometry()
    assert all(axis.is_identity for axis in sampling_between(geometry, geometry))


def test_grids_turned_against_each_other_are_refused():
    with pytest.raises(GeometryError, match="turned"):
        sampling_between(an_oblique_geometry(), an_oblique_geometry(angle=0.31))


def test_a_flipped_grid_is_refused():
    geometry = Geometry.from_spacing((5, 6, 7))
    with pytest.raises(GeometryError):
        sampling_between(geometry, geometry.reoriented("LAS"))


@settings(max_examples=40, deadline=None)
@given(spacing=st.tuples(*[st.floats(0.4, 4.0)] * 3))
def test_intensities_keep_their_place_in_space(spacing):
    volume = linear_in_space(an_oblique_geometry())
    target = volume.geometry.with_spacing(spacing)
    out = np.empty(target.shape, np.float32)
    sampling = sampling_between(volume.geometry, target)
    sample_intensities(volume.array, sampling, out)
    expected = linear_in_space(target).array
    # Beyond the outermost voxel centres the value goes on instead of the slope.
    positions = [axis.lower + axis.weight for axis in sampling]
    true = [
        np.linalg.solve(volume.geometry.ijk_to_ras, target.ijk_to_ras)[axis, [axis, 3]] @ [np.arange(n), np.ones(n)]
        for axis, n in enumerate(target.size)
    ]
    inside = [np.abs(p - t) < 1e-3 for p, t in zip(positions, true, strict=True)]
    mask = np.ix_(inside[2], inside[1], inside[0])
    np.testing.assert_allclose(out[mask], expected[mask], atol=2e-3)


@pytest.mark.parametrize("spacing", [(1.7, 0.6, 2.5), (0.5, 0.5, 0.5), (3.0, 3.0, 6.0)])
def test_intensities_are_those_of_simpleitk_inside_the_image(spacing):
    rng = np.random.default_rng(0)
    geometry = an_oblique_geometry()
    volume = Volume(rng.normal(size=geometry.shape).astype(np.float32), geometry)
    target = geometry.with_spacing(spacing)
    out = np.empty(target.shape, np.float32)
    sample_intensities(volume.array, sampling_between(geometry, target), out)
    expected = volume.resample(target, interpolation="linear", fill=np.nan).array
    inside = np.isfinite(expected)
    assert inside.mean() > 0.6
    np.testing.assert_allclose(out[inside], expected[inside], atol=2e-4)
    assert np.isfinite(out).all()


def test_positions_agree_with_monais_spacing():
    """MONAI lays its grid from the first voxel centre, we around the middle: the same place has the same value."""
    volume = linear_in_space(Geometry.from_spacing((30, 40, 50), (0.7, 0.9, 1.3), (5, -7, 3)))
    prepared = to_network_grid(volume, Preprocessing("RAS", (1.25, 1.25, 1.25)))
    tensor = MetaTensor(torch.from_numpy(volume.array_ijk.copy())[None], affine=volume.geometry.ijk_to_ras)
    theirs = Spacing(pixdim=(1.25, 1.25, 1.25), mode="bilinear")(tensor)
    grid = Geometry(tuple(theirs.shape[:0:-1]), theirs.affine.numpy())
    for array, geometry in ((prepared.array, prepared.geometry), (theirs[0].numpy().T, grid)):
        inner = (slice(2, -2),) * 3
        np.testing.assert_allclose(array[inner], linear_in_space(geometry).array[inner], atol=2e-3)


def test_the_networks_grid_keeps_the_centre_and_the_orientation_of_the_model():
    geometry = an_oblique_geometry()
    grid = network_geometry(geometry, Preprocessing("PIR", (1.0, None, 2.0)))
    assert grid.orientation == "PIR"
    kept = geometry.reoriented("PIR").spacing[1]
    np.testing.assert_allclose(grid.spacing, (1.0, kept, 2.0))
    np.testing.assert_allclose(grid.center_ras, geometry.center_ras, atol=1e-9)
    np.testing.assert_allclose(grid.extent_mm, geometry.reoriented("PIR").extent_mm, atol=1.0)


def test_an_image_that_has_the_spacing_is_not_resampled():
    volume = linear_in_space(an_oblique_geometry())
    prepared = to_network_grid(volume, Preprocessing("RAS", volume.reorient("RAS").geometry.spacing))
    assert np.array_equal(prepared.array, volume.reorient("RAS").array)


def test_intensity_steps_follow_the_resampling_and_leave_the_image_alone():
    volume = linear_in_space(an_oblique_geometry())
    before = volume.array.copy()
    steps = (ScaleRange(-80, 0, 0, 1), Normalize())
    prepared = to_network_grid(volume, Preprocessing("RAS", (2.0, 2.0, 2.0), steps))
    assert prepared.array.dtype == np.float32
    assert abs(float(prepared.array.mean())) < 1e-4
    assert abs(float(prepared.array.std()) - 1) < 1e-4
    assert np.array_equal(volume.array, before)


def test_a_sheared_grid_gets_one_with_right_angles_that_covers_it():
    sheared = a_sheared_geometry()
    assert sheared.is_sheared
    grid = upright_geometry(sheared)
    assert not grid.is_sheared
    corners = np.array([[a, b, c] for a in (0, 15) for b in (0, 13) for c in (0, 11)], float)
    inside = grid.ras_to_ijk_points(sheared.ijk_to_ras_points(corners))
    assert inside.min() > -1e-6
    assert np.all(inside <= np.asarray(grid.size) - 1 + 1e-6)
    np.testing.assert_allclose(grid.direction[:, 0], sheared.direction[:, 0], atol=1e-9)
    assert grid.is_left_handed == sheared.is_left_handed


def test_a_sheared_image_keeps_its_place_in_space():
    volume = linear_in_space(a_sheared_geometry())
    straight = upright(volume)
    inner = volume.geometry.ras_to_ijk_points(
        straight.geometry.ijk_to_ras_points(
            np.stack([axis.ravel() for axis in np.indices(straight.geometry.shape)[::-1]], axis=1).astype(float)
        )
    )
    inside = ((inner >= 0.01) & (inner <= np.asarray(volume.geometry.size) - 1.01)).all(axis=1)
    expected = linear_in_space(straight.geometry).array.ravel()
    assert inside.sum() > 500
    np.testing.assert_allclose(straight.array.ravel()[inside], expected[inside], atol=1e-2)


def test_an_image_with_right_angles_is_left_as_it_is():
    volume = linear_in_space(an_oblique_geometry())
    assert upright(volume) is volume
