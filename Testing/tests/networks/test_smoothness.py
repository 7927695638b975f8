"""Explicit smoothness: energies of fields whose derivatives are known."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medseg.losses.smoothness import bending_energy, curvature_energy, diffusion_energy, folding_energy
from medseg.metrics.deformation import jacobian_determinant

ENERGIES = (diffusion_energy, bending_energy, curvature_energy)


def positions(*shape: int) -> list[Tensor]:
    return list(torch.meshgrid(*(torch.arange(count, dtype=torch.float64) for count in shape), indexing="ij"))


def field(*channels: Tensor) -> Tensor:
    return torch.stack(channels)[None]


def random_field(seed: int, *shape: int) -> Tensor:
    return torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_diffusion_of_a_slope_is_its_square_over_the_three_axes_and_channels() -> None:
    i, _, k = positions(3, 4, 5)
    # Slope 2 along I in one of three channels and -1 along K in another: (4/3 + 0 + 1/3) / 3.
    assert diffusion_energy(field(2 * i, -k, 0 * i)).item() == pytest.approx(5 / 9)


def test_each_axis_weighs_the_same_however_many_differences_it_has() -> None:
    u = torch.zeros(1, 3, 2, 4, 8)
    u[0, 0, 1, 0, 0] = 3.0
    # 9 on I among 3 * 1 * 4 * 8 differences, 9 on J among 3 * 2 * 3 * 8, 9 on K among 3 * 2 * 4 * 7.
    assert diffusion_energy(u).item() == pytest.approx((9 / 96 + 9 / 144 + 9 / 168) / 3)


def test_diffusion_sees_a_field_that_alternates() -> None:
    i, _, _ = positions(6, 3, 3)
    assert diffusion_energy(field((-1) ** i, 0 * i, 0 * i)).item() == pytest.approx(4 / 9)


def test_the_bending_energy_counts_mixed_derivatives_twice() -> None:
    i, j, k = positions(5, 4, 6)
    # Second derivative 2 in one channel; mixed derivative 1 in another, counted twice: (4 + 2) / 3.
    assert bending_energy(field(i**2, j * k, 0 * i)).item() == pytest.approx(6 / 3)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=12, max_size=12))
def test_an_affine_field_does_not_bend(numbers: list[float]) -> None:
    i, j, k = positions(4, 5, 3)
    rows = [numbers[0:4], numbers[4:8], numbers[8:12]]
    u = field(*(a * i + b * j + c * k + d for a, b, c, d in rows))
    assert bending_energy(u).item() == pytest.approx(0, abs=1e-20)
    expected = sum(value**2 for row in rows for value in row[:3]) / 9
    assert diffusion_energy(u).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.0, 2.5)])
def test_the_bending_energy_is_that_of_a_naive_loop(spacing: tuple[float, float, float]) -> None:
    u = random_field(1, 4, 5, 3)
    values = []
    for channel in u[0]:
        for place in itertools.product(range(1, 3), range(1, 4), range(1, 2)):

            def at(*steps: tuple[int, int], place=place, channel=channel) -> float:
                index = list(place)
                for axis, step in steps:
                    index[axis] += step
                return channel[tuple(index)].item()

            total = 0.0
            for a in range(3):
                total += ((at((a, 1)) - 2 * at() + at((a, -1))) / spacing[a] ** 2) ** 2
            for a, b in itertools.combinations(range(3), 2):
                corners = sum(s * t * at((a, s), (b, t)) for s in (1, -1) for t in (1, -1))
                total += 2 * (corners / 4 / spacing[a] / spacing[b]) ** 2
            values.append(total)
    assert bending_energy(u, spacing).item() == pytest.approx(sum(values) / len(values))


def test_the_curvature_of_a_peak_is_as_computed_by_hand() -> None:
    u = torch.zeros(1, 3, 5, 5, 5)
    u[0, 1, 2, 2, 2] = 1.0
    # -6 at the peak and 1 at its six neighbours.
    assert curvature_energy(u).item() == pytest.approx(42 / 375)
    u = torch.zeros(1, 3, 1, 1, 3)
    u[0, 0, 0, 0, 0] = 1.0
    # Mirrored, the end has one difference: -1 there and 1 beside it.
    assert curvature_energy(u).item() == pytest.approx(2 / 9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 4), st.integers(0, 5), st.integers(0, 2), st.tuples(*[st.floats(0.3, 3)] * 3))
def test_a_cosine_is_an_eigenfunction_of_the_curvature(
    a: int, b: int, c: int, spacing: tuple[float, float, float]
) -> None:
    shape = (5, 6, 3)
    waves = [
        torch.cos(math.pi * m * (x + 0.5) / n) for m, x, n in zip((a, b, c), positions(*shape), shape, strict=True)
    ]
    wave = waves[0] * waves[1] * waves[2]
    eigen = sum((2 - 2 * math.cos(math.pi * m / n)) / h**2 for m, n, h in zip((a, b, c), shape, spacing, strict=True))
    expected = eigen**2 * wave.square().mean().item()
    assert curvature_energy(field(wave, wave, wave), spacing).item() == pytest.approx(expected, abs=1e-12)


def test_a_field_that_turns_an_axis_over_pays_for_every_voxel() -> None:
    i, j, k = positions(5, 4, 6)
    # J = 1 - 3 = -2 everywhere, 2.1 below 0.1; shears do not change it.
    assert folding_energy(field(-3 * i + j, 2 * k, 0 * i)).item() == pytest.approx(2.1)


def test_what_keeps_a_tenth_of_each_voxel_pays_nothing() -> None:
    i, j, _ = positions(5, 4, 6)
    assert folding_energy(field(-0.8 * i, -0.4 * j, 0 * i)).item() == 0
    assert folding_energy(field(-0.8 * i, -0.6 * j, 0 * i)).item() == pytest.approx(0.1 - 0.08)


def test_a_fold_between_two_voxels_is_seen_from_both() -> None:
    i, _, _ = positions(6, 3, 3)
    u = field(torch.where(i >= 3, -1.5, 0.0), 0 * i, 0 * i)
    # The edge from voxel 2 to 3 has length -0.5: forward of one of four inner voxels, backward of another.
    assert folding_energy(u).item() == pytest.approx(0.6 / 4)
    assert jacobian_determinant(u).min() > 0


def test_nothing_folds_in_a_small_smooth_field_and_the_penalty_unfolds_a_rough_one() -> None:
    i, j, k = positions(8, 8, 8)
    smooth = field(torch.sin(i / 3), torch.cos(j / 3 + k / 4), torch.sin(k / 4) * torch.cos(i / 5))
    assert folding_energy(smooth).item() == 0
    rough = random_field(3, 8, 8, 8).requires_grad_()
    assert folding_energy(rough).item() > 0.1
    optimiser = torch.optim.Adam([rough], lr=0.02)
    for _ in range(300):
        optimiser.zero_grad()
        folding_energy(rough).backward()
        optimiser.step()
    assert folding_energy(rough).item() < 0.01


def test_folds_are_the_same_in_millimetres() -> None:
    steps = (0.5, 2.0, 3.0)
    u = random_field(5, 5, 6, 7)
    mm = u * torch.tensor(steps, dtype=torch.float64)[None, :, None, None, None]
    assert folding_energy(mm, steps).item() == pytest.approx(folding_energy(u).item())
    with pytest.raises(ValueError, match="three channels and 3 voxels"):
        folding_energy(u[:, :2])
    with pytest.raises(ValueError, match="three channels and 3 voxels"):
        folding_energy(u[..., :2])


def test_the_spacing_divides_each_derivative() -> None:
    i, j, k = positions(4, 4, 4)
    # Slope 1 on every axis, in steps of 1, 2 and 4: one of three channels.
    assert diffusion_energy(field(i + j + k, 0 * i, 0 * i), (1, 2, 4)).item() == pytest.approx((1 + 1 / 4 + 1 / 16) / 9)
    assert bending_energy(field(i**2, 0 * i, 0 * i), (2, 1, 1)).item() == pytest.approx((2 / 4) ** 2 / 3)
    assert bending_energy(field(i * k, 0 * i, 0 * i), (2, 1, 5)).item() == pytest.approx(2 * (1 / 10) ** 2 / 3)


@pytest.mark.parametrize("energy", ENERGIES)
def test_a_field_in_millimetres_costs_what_it_does_in_voxels_up_to_the_unit(energy) -> None:
    u = random_field(2, 4, 5, 6)
    unit = {diffusion_energy: 1.0, bending_energy: 2.0**2, curvature_energy: 2.0**2}[energy]
    torch.testing.assert_close(energy(2 * u, (2.0, 2.0, 2.0)) * unit, energy(u))


@pytest.mark.parametrize("energy", ENERGIES)
def test_a_translation_costs_nothing_and_cases_are_averaged(energy) -> None:
    u = random_field(3, 4, 3, 5)
    still = torch.full_like(u, 7.0)
    assert energy(still).item() == 0.0
    torch.testing.assert_close(energy(torch.cat([u, still])), energy(u) / 2)
    torch.testing.assert_close(energy(u + still), energy(u))


@pytest.mark.parametrize(("energy", "reach"), [(diffusion_energy, 1), (bending_energy, 4), (curvature_energy, 2)])
def test_the_gradient_reaches_no_further_than_the_stencil(energy, reach: int) -> None:
    u = torch.zeros(1, 3, 9, 9, 9)
    u[:, :, 4, 4, 4] = 1.0
    u.requires_grad_()
    energy(u).backward()
    touched = torch.nonzero(u.grad[0, 0])
    assert (touched - 4).abs().sum(1).max().item() == reach
    assert torch.isfinite(u.grad).all()


def test_half_precision_is_summed_in_single() -> None:
    i, _, _ = positions(64, 64, 64)
    u = field(i, 0 * i, 0 * i).half()
    found = diffusion_energy(u)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(1 / 9)


def test_an_axis_of_one_voxel_costs_nothing_where_there_is_a_difference_to_take() -> None:
    flat = random_field(4, 6, 5, 1)
    assert diffusion_energy(flat).item() == pytest.approx(
        ((flat.diff(dim=2) ** 2).mean() + (flat.diff(dim=3) ** 2).mean()).item() / 3
    )
    assert curvature_energy(flat).item() > 0
    with pytest.raises(ValueError, match="3 voxels on every axis"):
        bending_energy(flat)


@pytest.mark.parametrize("energy", ENERGIES)
def test_arguments_that_make_no_sense_are_refused(energy) -> None:
    with pytest.raises(ValueError, match="displacement field is"):
        energy(torch.zeros(3, 4, 4, 4))
    for spacing in ((1.0, 1.0), (1.0, 0.0, 1.0), (1.0, -1.0, 1.0), (1.0, math.nan, 1.0)):
        with pytest.raises(ValueError, match="three positive numbers"):
            energy(torch.zeros(1, 3, 4, 4, 4), spacing)
