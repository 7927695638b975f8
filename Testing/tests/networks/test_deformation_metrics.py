"""Figures of displacement fields whose deformation is known, and SimpleITK where it has the same formula."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.metrics import deformation
from medseg.metrics.deformation import (
    deformation_figures,
    folded_share,
    folded_share_strict,
    inverse_consistency,
    jacobian_determinant,
    non_diffeomorphic_volume,
    sd_log_j,
    std_log_jacobian,
    target_registration_error,
)

FIGURES = (folded_share, folded_share_strict, non_diffeomorphic_volume, std_log_jacobian, sd_log_j, deformation_figures)


def grid(*shape: int) -> np.ndarray:
    return np.stack(np.meshgrid(*(np.arange(count, dtype=float) for count in shape), indexing="ij"))


def affine(matrix: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The displacement of ``x -> matrix x`` in voxels."""
    return np.einsum("ab,bijk->aijk", matrix - np.eye(3), grid(*shape))


def along_i(*positions: float) -> np.ndarray:
    """Planes of 5 x 5 voxels that come to lie at these positions along I."""
    u = np.zeros((3, len(positions), 5, 5))
    u[0] = (np.array(positions) - np.arange(len(positions)))[:, None, None]
    return u


def random_field(seed: int, shape: tuple[int, int, int], size: float = 0.4) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, size, (3, *shape))


# Between the third and the fourth plane the image is turned over, which central differences do not see:
# their slopes at the inner planes are 1.5, 0.5, 0.5 and 1.5.
TURNED = along_i(0, 1, 3, 2, 4, 5)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-2, 2), min_size=9, max_size=9), st.booleans())
def test_the_jacobian_of_an_affine_map_is_its_determinant_everywhere(numbers: list[float], tensor: bool) -> None:
    matrix = np.array(numbers).reshape(3, 3)
    u = affine(matrix, (4, 2, 5))
    found = jacobian_determinant(torch.from_numpy(u)[None])[0].numpy() if tensor else jacobian_determinant(u)
    assert found.shape == (4, 2, 5)
    np.testing.assert_allclose(found, np.linalg.det(matrix), atol=1e-10)


def test_the_jacobian_is_of_the_kind_of_the_field_and_may_be_differentiated() -> None:
    u = random_field(0, (4, 5, 6))
    expected = jacobian_determinant(u)
    assert expected.dtype == np.float64
    assert jacobian_determinant(u.astype(np.float16)).dtype == np.float32
    assert jacobian_determinant(torch.from_numpy(u).half()).dtype == torch.float32
    batch = torch.from_numpy(np.stack([u, 0 * u])).requires_grad_()
    found = jacobian_determinant(batch)
    np.testing.assert_allclose(found[0].detach().numpy(), expected)
    assert (found[1] == 1).all()
    found.square().sum().backward()
    assert torch.isfinite(batch.grad).all()


def test_the_jacobian_is_central_within_and_one_sided_at_the_border() -> None:
    found = jacobian_determinant(along_i(0, 1, 3, 2, 4, 5))[:, 2, 2]
    assert found.tolist() == pytest.approx([1, 1.5, 0.5, 0.5, 1.5, 1])


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 2.5)])
def test_the_jacobian_is_that_of_simpleitk(spacing: tuple[float, float, float]) -> None:
    u = random_field(1, (6, 7, 8))
    millimetres = u * np.array(spacing)[:, None, None, None]
    image = sitk.GetImageFromArray(millimetres.transpose(3, 2, 1, 0), isVector=True)
    image.SetSpacing(spacing)
    theirs = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image)).transpose(2, 1, 0)
    inner = (slice(1, -1),) * 3
    np.testing.assert_allclose(jacobian_determinant(millimetres, spacing)[inner], theirs[inner], rtol=1e-6, atol=1e-6)
    # A field in voxels needs no spacing to say the same.
    np.testing.assert_allclose(jacobian_determinant(u)[inner], theirs[inner], rtol=1e-6, atol=1e-6)
    assert std_log_jacobian(u).std == pytest.approx(float(np.log(np.clip(theirs[inner], 1e-3, 1e3)).std()), rel=1e-5)


def test_the_identity_has_no_folds_and_no_spread() -> None:
    for still in (np.zeros((3, 5, 6, 7)), np.full((1, 3, 5, 6, 7), 2.5), torch.zeros(1, 3, 5, 6, 7).bfloat16()):
        found = dataclasses.asdict(deformation_figures(still))
        assert (found.pop("smallest_jacobian"), found.pop("largest_jacobian")) == (1.0, 1.0)
        assert set(found.values()) == {0}


def test_a_fold_between_planes_is_seen_by_one_sided_differences_only() -> None:
    assert folded_share(TURNED) == 0.0
    # Both planes of the turned gap, of four inner ones.
    assert folded_share_strict(TURNED) == 0.5
    # One layer of cells of volume 1, over four inner planes.
    assert non_diffeomorphic_volume(TURNED) == pytest.approx(1 / 4)


def test_a_fold_of_three_planes_is_seen_by_all() -> None:
    u = along_i(0, 1, 2, 5, 3, 1, 6, 7)
    # Slopes at the inner planes: 1, 2, 0.5, -2, 1.5, 3.
    assert folded_share(u) == pytest.approx(1 / 6)
    assert folded_share_strict(u) == pytest.approx(3 / 6)
    # Two layers of cells, each turned over and twice as thick.
    assert non_diffeomorphic_volume(u) == pytest.approx(4 / 6)
    found = deformation_figures(u)
    assert found.mean_negative_jacobian == pytest.approx(2 / 6)
    assert (found.smallest_jacobian, found.largest_jacobian) == (-2.0, 3.0)
    assert found.clipped_voxels == 9
    assert found.std_log_jacobian == pytest.approx(np.log([1, 2, 0.5, 1e-3, 1.5, 3]).std())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mirrored_image_is_folded_wholly(axis: int) -> None:
    matrix = np.eye(3)
    matrix[axis, axis] = -1
    u = affine(matrix, (4, 5, 6))
    assert (folded_share(u), folded_share_strict(u)) == (1.0, 1.0)
    assert non_diffeomorphic_volume(u) == pytest.approx(1.0)
    assert non_diffeomorphic_volume(affine(2 * matrix, (4, 5, 6))) == pytest.approx(8.0)
    assert non_diffeomorphic_volume(affine(-matrix, (4, 5, 6))) == 0.0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.floats(0.05, 1))
def test_the_strict_share_is_never_the_smaller_one(seed: int, size: float) -> None:
    u = random_field(seed, (5, 4, 6), size)
    assert folded_share(u) <= folded_share_strict(u)
    # The central determinant is the mean of the eight one-sided.
    eight = [deformation._edge_determinant(u, edges) for edges in deformation._CORNERS]
    np.testing.assert_allclose(np.mean(eight, axis=0), jacobian_determinant(u)[1:-1, 1:-1, 1:-1], atol=1e-12)


def test_the_volume_is_that_of_the_tetrahedra_into_which_the_cells_are_cut() -> None:
    u = np.zeros((3, 8, 8, 8))
    # Two still layers at every border, so that what is left out there cannot be folded.
    u[:, 2:6, 2:6, 2:6] = random_field(3, (4, 4, 4), 0.6)
    points = grid(8, 8, 8) + u
    total = 0.0
    for cell in itertools.product(range(7), repeat=3):
        corners = {c: points[(slice(None), *np.add(cell, c))] for c in itertools.product((0, 1), repeat=3)}
        for parity in (0, 1):
            alternate = [c for c in corners if sum(c) % 2 == parity]
            cuts = [alternate]
            cuts += [
                [corner, *(c for c in alternate if np.abs(np.subtract(c, corner)).sum() == 1)]
                for corner in corners
                if sum(corner) % 2 != parity
            ]
            assert len(cuts) == 5
            for cut in cuts:
                still = np.linalg.det(np.subtract(cut[1:], cut[0]))
                moved = np.linalg.det(np.stack([corners[c] - corners[cut[0]] for c in cut[1:]]))
                assert abs(still) == pytest.approx(2.0 if cut is alternate else 1.0)
                total += 0.5 * max(0.0, -moved * np.sign(still)) / 6
    assert total > 1
    assert non_diffeomorphic_volume(u) == pytest.approx(total / 6**3)


def test_planes_are_worked_on_in_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    u, mask = random_field(4, (9, 5, 6), 0.6), np.random.default_rng(0).random((9, 5, 6)) < 0.5
    whole = deformation_figures(u, mask=mask)
    for planes in (1, 3, 7):
        monkeypatch.setattr(deformation, "SLAB", planes)
        assert dataclasses.astuple(deformation_figures(u, mask=mask)) == pytest.approx(dataclasses.astuple(whole))


def test_the_spread_of_the_logarithm_is_as_computed_by_hand() -> None:
    # Slopes at the inner planes: 1, 1.5, 2, and over two of them at the middle one.
    u = along_i(0, 1, 2, 4, 6)
    assert std_log_jacobian(u) == (pytest.approx(np.log([1, 1.5, 2]).std()), 0)
    assert sd_log_j(u) == 0.0
    longer = along_i(0, 1, 2, 4, 6, 7)
    assert sd_log_j(longer) == pytest.approx(np.log([4.5, 5]).std())
    # A slope of -2 and more is held at 1e-9.
    folded = along_i(0, 1, 2, -2, -8, -8)
    assert sd_log_j(folded) == pytest.approx(np.log([3 - 1.5, 1e-9]).std())
    assert std_log_jacobian(folded) == (pytest.approx(np.log([1, 1e-3, 1e-3, 1e-3]).std()), 27)


def test_a_small_change_has_a_quarter_of_the_spread_when_three_is_added() -> None:
    u = random_field(5, (12, 12, 12), 0.005)
    inner = np.zeros((12, 12, 12), bool)
    inner[2:-2, 2:-2, 2:-2] = True
    assert sd_log_j(u) == pytest.approx(std_log_jacobian(u, mask=inner).std / 4, rel=0.02)


def test_only_voxels_in_the_mask_count() -> None:
    mask = np.zeros((6, 5, 5), bool)
    mask[2, 1:3, 2] = True
    assert folded_share_strict(TURNED, mask=mask) == 1.0
    # Each plane has half of the turned layer.
    assert non_diffeomorphic_volume(TURNED, mask=torch.from_numpy(mask)[None, None]) == pytest.approx(0.5)
    assert std_log_jacobian(TURNED, mask=mask.astype(np.uint8)) == (0.0, 0)
    border = np.zeros_like(mask)
    border[0] = True
    found = deformation_figures(TURNED, mask=border)
    assert found.clipped_voxels == 0
    assert all(math.isnan(value) for value in dataclasses.astuple(found) if value != 0)
    assert math.isnan(folded_share(TURNED, mask=border))


def test_a_field_in_millimetres_has_the_figures_of_the_field_in_voxels() -> None:
    u, spacing = random_field(6, (6, 5, 7), 0.6), (0.5, 2.0, 4.0)
    millimetres = u * np.array(spacing)[:, None, None, None]
    expected = deformation_figures(u)
    assert dataclasses.astuple(deformation_figures(millimetres, spacing)) == pytest.approx(
        dataclasses.astuple(expected)
    )
    tensor = torch.from_numpy(u)[None].requires_grad_()
    assert deformation_figures(tensor) == expected


def test_all_figures_are_those_of_the_functions() -> None:
    u = random_field(7, (6, 7, 5), 0.6)
    found = deformation_figures(u)
    assert found.folded_share == folded_share(u)
    assert found.folded_share_strict == folded_share_strict(u)
    assert found.non_diffeomorphic_volume == non_diffeomorphic_volume(u)
    assert (found.std_log_jacobian, found.clipped_voxels) == std_log_jacobian(u)
    assert found.sd_log_j == sd_log_j(u)
    assert math.isnan(deformation_figures(u[:, :4]).sd_log_j)


def test_two_opposite_translations_are_inverse_where_both_are_known() -> None:
    u = np.zeros((3, 8, 5, 4))
    u[0], u[2] = 2.0, -1.0
    found = inverse_consistency(u, -u, (1, 2, 3))
    assert (found.mean_mm, found.p95_mm) == (0.0, 0.0)
    assert found.inside == pytest.approx(6 / 8 * 3 / 4)
    # Not coming back at all: two voxels of 1 mm and one of 3 mm.
    away = inverse_consistency(u, np.zeros_like(u), (1, 2, 3))
    assert (away.mean_mm, away.p95_mm) == pytest.approx((math.sqrt(4 + 9),) * 2)


def test_inverse_consistency_is_in_millimetres_and_knows_its_tail() -> None:
    u = np.zeros((1, 3, 10, 10, 1))
    # Ten of a hundred voxels are half a voxel of 4 mm off.
    u[0, 1, 0] = np.where(np.arange(10) < 9, 0.5, -0.5)[:, None]
    found = inverse_consistency(u, 0 * u, (1.0, 4.0, 1.0))
    assert (found.mean_mm, found.inside) == (pytest.approx(0.2), 1.0)
    assert found.p95_mm == pytest.approx(2.0)
    mask = np.zeros((10, 10, 1))
    mask[0] = 1
    assert inverse_consistency(u, 0 * u, (1.0, 4.0, 1.0), mask).mean_mm == pytest.approx(2.0)
    assert math.isnan(inverse_consistency(u, u, mask=0 * mask).mean_mm)
    lost = inverse_consistency(u + 100, u)
    assert math.isnan(lost.p95_mm)
    assert lost.inside == 0.0


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-0.2, 0.2), min_size=9, max_size=9))
def test_the_inverse_of_an_affine_map_brings_every_point_back(numbers: list[float]) -> None:
    matrix = np.eye(3) + np.array(numbers).reshape(3, 3)
    shape = (6, 7, 8)
    there, back = affine(matrix, shape), affine(np.linalg.inv(matrix), shape)
    # Trilinear reading is exact for an affine field.
    found = inverse_consistency(torch.from_numpy(there), torch.from_numpy(back))
    assert found.mean_mm == pytest.approx(0, abs=1e-9)
    assert found.inside > 0


def test_the_target_registration_error_is_as_computed_by_hand() -> None:
    u = np.zeros((3, 4, 5, 6))
    u[0] = 1.0
    u[2] = 0.5 * grid(4, 5, 6)[2]
    fixed = np.array([[1.0, 2.0, 4.0], [0.5, 0.0, 1.5], [2.0, 4.0, 0.0]])
    # Found at (2, 2, 6), (1.5, 0, 2.25) and (3, 4, 0).
    moving = np.array([[2.0, 2.0, 6.0], [1.5, 1.0, 2.25], [0.0, 4.0, 2.0]])
    found = target_registration_error(fixed, moving, u, (1.0, 2.0, 2.5))
    assert found.tolist() == pytest.approx([0, 2, math.sqrt(9 + 25)])
    before = target_registration_error(fixed, moving, 0 * u, (1.0, 2.0, 2.5))
    assert before[0] == pytest.approx(math.sqrt(1 + 25))
    assert target_registration_error(fixed[:0], moving[:0], u).shape == (0,)


def test_landmarks_in_the_outer_half_of_a_voxel_are_in_the_image_and_those_beyond_are_refused() -> None:
    u = grid(4, 4, 4)
    edge = np.array([[-0.5, 3.5, 1.0]])
    assert target_registration_error(edge, edge, u).tolist() == pytest.approx([math.sqrt(9 + 1)])
    for wrong in ([0, 0, -0.6], [3.6, 0, 0], [math.nan, 0, 0]):
        with pytest.raises(ValueError, match="1 fixed points lie outside the field, the first is number 1"):
            target_registration_error(np.array([[1, 1, 1], wrong]), np.zeros((2, 3)), u)
    with pytest.raises(ValueError, match="two arrays"):
        target_registration_error(edge, edge[0], u)


def test_arguments_that_make_no_sense_are_refused() -> None:
    u = np.zeros((3, 5, 5, 5))
    for figure in FIGURES:
        for wrong in (u[:2], np.stack([u, u]), u[0]):
            with pytest.raises(ValueError, match="one displacement field is"):
                figure(wrong)
        with pytest.raises(ValueError, match="voxels on every axis"):
            figure(u[:, :, :2])
        with pytest.raises(ValueError, match="is not of the shape of the field"):
            figure(u, mask=np.ones((5, 5, 4)))
        with pytest.raises(ValueError, match="three positive numbers"):
            figure(u, (1, 0, 1))
    with pytest.raises(ValueError, match="5 voxels"):
        sd_log_j(u[:, :4])
    with pytest.raises(ValueError, match="a displacement field is"):
        jacobian_determinant(u[:, :1])
    with pytest.raises(ValueError, match="different shapes"):
        inverse_consistency(u, u[:, 1:])
