"""Implicit smoothness: every solver is held against the equation that it solves."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft, ndimage
from torch import Tensor, nn

from medseg.losses.implicit_smoothness import ImplicitRegulariser
from medseg.losses.smoothness import curvature_energy, diffusion_energy

SHAPE = (7, 6, 9)
SPACING = (1.0, 0.8, 2.5)
EVERY = [("diffusion", "dct"), ("diffusion", "aos"), ("curvature", "dct"), ("elastic", "dct")]


def noise(seed: int, shape: tuple[int, ...] = SHAPE, cases: int = 1) -> Tensor:
    return torch.randn(cases, 3, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def second_difference(u: Tensor, axis: int, step: float) -> Tensor:
    """With mirrored ends, from neighbours."""
    count = u.shape[axis]
    after = u.index_select(axis, torch.tensor([*range(1, count), count - 1]))
    before = u.index_select(axis, torch.tensor([0, *range(count - 1)]))
    return (after - 2 * u + before) / step**2


def laplacian(u: Tensor, spacing: tuple[float, ...]) -> Tensor:
    return sum(second_difference(u, axis, step) for axis, step in enumerate(spacing, 2))


def elastic_operator(u: Tensor, mu: float, lam: float, spacing: tuple[float, ...]) -> Tensor:
    """``mu Laplace u + (mu + lam) grad div u`` on a periodic grid, mixed terms by central differences."""

    def twice(x: Tensor, axis: int) -> Tensor:
        return (x.roll(-1, axis) - 2 * x + x.roll(1, axis)) / spacing[axis - 1] ** 2

    def once(x: Tensor, axis: int) -> Tensor:
        return (x.roll(-1, axis) - x.roll(1, axis)) / (2 * spacing[axis - 1])

    channels = []
    for own in range(3):
        x = u[:, own]
        change = mu * sum(twice(x, axis) for axis in (1, 2, 3)) + (mu + lam) * twice(x, own + 1)
        for other in range(3):
            if other != own:
                change = change + (mu + lam) * once(once(u[:, other], other + 1), own + 1)
        channels.append(change)
    return torch.stack(channels, 1)


def residual(kind: str, gamma: float, u: Tensor, smooth: Tensor) -> float:
    """``||u_bar - gamma A u_bar - u|| / ||u||`` in float64."""
    u, smooth = u.double(), smooth.double()
    change = laplacian(smooth, SPACING)
    if kind == "curvature":
        change = -laplacian(change, SPACING)
    elif kind == "elastic":
        change = elastic_operator(smooth, 0.7, 0.4, SPACING)
    return ((smooth - gamma * change - u).norm() / u.norm()).item()


@pytest.mark.parametrize("kind", ["diffusion", "curvature", "elastic"])
@pytest.mark.parametrize("gamma", [0.1, 2.0, 5.0])
def test_the_solution_solves_its_equation(kind: str, gamma: float) -> None:
    options = {"mu": 0.7, "lam": 0.4, "padding": 0} if kind == "elastic" else {}
    regulariser = ImplicitRegulariser(kind, SHAPE, gamma, spacing=SPACING, **options)
    u = noise(0, cases=2)
    assert residual(kind, gamma, u, regulariser.smooth(u)) < 1e-12
    single = regulariser.smooth(u.float())
    assert single.dtype == torch.float32
    assert residual(kind, gamma, u.float(), single) < 1e-5


def test_the_solution_is_the_minimum_of_the_energy() -> None:
    u = noise(1)
    for kind in ("diffusion", "curvature"):
        best = ImplicitRegulariser(kind, SHAPE, 2.0).smooth(u).requires_grad_()
        if kind == "curvature":
            roughness = 0.5 * curvature_energy(best) * best.numel()
        else:
            roughness = 0.5 * sum(best.diff(dim=axis).square().sum() for axis in (2, 3, 4))
        (0.5 * (u - best).square().sum() + 2.0 * roughness).backward()
        assert best.grad.abs().max().item() < 1e-12, kind


@pytest.mark.parametrize(("kind", "power"), [("diffusion", 1), ("curvature", 2)])
def test_it_is_the_cosine_transform_of_scipy(kind: str, power: int) -> None:
    u, gamma = noise(2), 3.0
    eigen = [(2 - 2 * np.cos(np.pi * np.arange(n) / n)) / h**2 for n, h in zip(SHAPE, SPACING, strict=True)]
    total = eigen[0][:, None, None] + eigen[1][:, None] + eigen[2]
    spectrum = fft.dctn(u.numpy(), axes=(2, 3, 4), norm="ortho") / (1 + gamma * total**power)
    expected = fft.idctn(spectrum, axes=(2, 3, 4), norm="ortho")
    found = ImplicitRegulariser(kind, SHAPE, gamma, spacing=SPACING).smooth(u)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-13)


@pytest.mark.parametrize(("kind", "solver"), EVERY)
def test_translations_are_kept_and_cost_nothing(kind: str, solver: str) -> None:
    regulariser = ImplicitRegulariser(kind, SHAPE, 4.0, solver=solver, spacing=SPACING)
    still = torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64)[None, :, None, None, None].expand(2, 3, *SHAPE)
    torch.testing.assert_close(regulariser.smooth(still), still)
    assert regulariser(still).item() < 1e-20
    u = noise(3, cases=2)
    torch.testing.assert_close(regulariser.smooth(u + still), regulariser.smooth(u) + still)


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(EVERY),
    st.floats(0.01, 20),
    st.tuples(*[st.integers(1, 6)] * 3),
    st.tuples(*[st.floats(0.3, 3)] * 3),
)
def test_smoothing_is_linear_and_never_roughens(
    choice: tuple[str, str], gamma: float, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    kind, solver = choice
    regulariser = ImplicitRegulariser(kind, shape, gamma, solver=solver, spacing=spacing, padding=0)
    u, v = noise(1, shape), noise(2, shape)
    smooth = regulariser.smooth(u)
    torch.testing.assert_close(regulariser.smooth(2 * u - v), 2 * smooth - regulariser.smooth(v))
    assert smooth.norm() <= u.norm() * (1 + 1e-12)
    torch.testing.assert_close(smooth.mean((2, 3, 4)), u.mean((2, 3, 4)))
    # Symmetric, so that (I - gamma A)^-1 is the gradient of an energy.
    torch.testing.assert_close((regulariser.smooth(v) * u).sum(), (smooth * v).sum())


def test_operator_splitting_is_the_mean_of_three_tridiagonal_solutions() -> None:
    u, gamma = noise(4), 2.0
    expected = torch.zeros_like(u)
    for axis, (count, step) in enumerate(zip(SHAPE, SPACING, strict=True), 2):
        matrix = np.zeros((count, count))
        for row in range(count):
            ends = (row == 0) + (row == count - 1)
            matrix[row, row] = 1 + (2 - ends) * 3 * gamma / step**2
            for column in (row - 1, row + 1):
                if 0 <= column < count:
                    matrix[row, column] = -3 * gamma / step**2
        lines = np.moveaxis(u.numpy(), axis, 0).reshape(count, -1)
        solved = np.linalg.solve(matrix, lines).reshape(np.moveaxis(u.numpy(), axis, 0).shape)
        expected += torch.from_numpy(np.moveaxis(solved, 0, axis)) / 3
    found = ImplicitRegulariser("diffusion", SHAPE, gamma, spacing=SPACING, solver="aos").smooth(u)
    torch.testing.assert_close(found, expected)


def splitting_error(u: Tensor, gamma: float) -> float:
    shape = tuple(u.shape[2:])
    exact = ImplicitRegulariser("diffusion", shape, gamma).smooth(u)
    split = ImplicitRegulariser("diffusion", shape, gamma, solver="aos").smooth(u)
    return ((split - exact).norm() / exact.norm()).item()


def test_operator_splitting_is_as_far_from_the_solution_as_noted() -> None:
    shape = (24, 24, 24)
    u = noise(5, shape)
    exact = ImplicitRegulariser("diffusion", shape, 2.0).smooth(u)
    split = ImplicitRegulariser("diffusion", shape, 2.0, solver="aos").smooth(u)
    assert exact.std().item() == pytest.approx(0.13, abs=0.01)
    assert split.std().item() == pytest.approx(0.27, abs=0.01)
    assert splitting_error(u, 2.0) == pytest.approx(1.27, abs=0.05)
    smooth = torch.from_numpy(np.stack([ndimage.gaussian_filter(channel, 3) for channel in u[0].numpy()]))[None]
    assert splitting_error(smooth, 2.0) == pytest.approx(0.065, abs=0.02)


def test_operator_splitting_converges_with_the_square_of_gamma() -> None:
    u = noise(6, (16, 16, 16))
    assert splitting_error(u, 0.01) == pytest.approx(0.0013, abs=0.0002)
    assert splitting_error(u, 0.001) == pytest.approx(splitting_error(u, 0.002) / 4, rel=0.05)


def test_elastic_without_the_coupling_is_periodic_diffusion() -> None:
    u, gamma, mu = noise(7), 2.0, 1.5
    eigen = [(2 - 2 * np.cos(2 * np.pi * np.arange(n) / n)) / h**2 for n, h in zip(SHAPE, SPACING, strict=True)]
    total = eigen[0][:, None, None] + eigen[1][:, None] + eigen[2]
    expected = np.fft.ifftn(np.fft.fftn(u.numpy(), axes=(2, 3, 4)) / (1 + gamma * mu * total), axes=(2, 3, 4)).real
    regulariser = ImplicitRegulariser("elastic", SHAPE, gamma, mu=mu, lam=-mu, spacing=SPACING, padding=0)
    np.testing.assert_allclose(regulariser.smooth(u).numpy(), expected, atol=1e-13)


def test_elastic_damps_compression_more_than_shear() -> None:
    gamma, mu, lam, count, number = 2.0, 0.7, 3.0, 12, 2
    regulariser = ImplicitRegulariser("elastic", (count, 4, 5), gamma, mu=mu, lam=lam, padding=0)
    wave = torch.sin(2 * math.pi * number * torch.arange(count, dtype=torch.float64) / count)
    eigen = 2 - 2 * math.cos(2 * math.pi * number / count)
    u = torch.zeros(1, 3, count, 4, 5, dtype=torch.float64)
    u[:, 0] = u[:, 1] = wave[:, None, None]
    smooth = regulariser.smooth(u)
    # Along its own axis the wave compresses, across it shears.
    torch.testing.assert_close(smooth[:, 0], u[:, 0] / (1 + gamma * (2 * mu + lam) * eigen))
    torch.testing.assert_close(smooth[:, 1], u[:, 1] / (1 + gamma * mu * eigen))
    assert smooth[:, 2].abs().max().item() < 1e-14


def test_reflection_keeps_one_end_of_the_image_from_pulling_at_the_other() -> None:
    u = torch.zeros(1, 3, 20, 4, 4, dtype=torch.float64)
    u[:, :, 0:10], u[:, :, 10:20] = -1.0, 1.0
    periodic = ImplicitRegulariser("elastic", (20, 4, 4), 2.0, padding=0).smooth(u)
    reflected = ImplicitRegulariser("elastic", (20, 4, 4), 2.0).smooth(u)
    assert periodic[0, 1, 0].abs().max().item() < 0.7
    assert reflected[0, 1, 0].abs().min().item() > 0.99
    # In the middle nothing changes.
    torch.testing.assert_close(periodic[:, :, 9:11], reflected[:, :, 9:11], atol=0.02, rtol=0)


@pytest.mark.parametrize(("kind", "solver"), EVERY)
def test_the_gradient_of_the_term_is_the_distance_from_the_smoothed_field(kind: str, solver: str) -> None:
    regulariser = ImplicitRegulariser(kind, SHAPE, 2.0, solver=solver)
    u = noise(8).requires_grad_()
    sigma = 1.7
    smooth = regulariser.smooth(u.detach())
    loss = sigma * regulariser(u)
    assert loss.item() == pytest.approx(sigma / 2 * (u.detach() - smooth).square().mean().item())
    loss.backward()
    torch.testing.assert_close(u.grad, sigma * (u.detach() - smooth) / (3 * math.prod(SHAPE)))


def gradient_of(loss, u: Tensor) -> Tensor:
    u = u.clone().requires_grad_()
    loss(u).backward()
    return u.grad


@pytest.mark.parametrize("number", [1, 2, 5, 20])
def test_both_schemes_pull_alike_on_smooth_fields_and_the_implicit_one_saturates(number: int) -> None:
    count, sigma, gamma = 32, 1.3, 0.4
    wave = torch.cos(math.pi * number * (torch.arange(count, dtype=torch.float64) + 0.5) / count)
    u = wave[:, None, None].expand(1, 3, count, 4, 4)
    eigen = 2 - 2 * math.cos(math.pi * number / count)
    implicit = gradient_of(lambda v: sigma * ImplicitRegulariser("diffusion", (count, 4, 4), gamma)(v), u)
    explicit = gradient_of(lambda v: 1.5 * sigma * gamma * diffusion_energy(v), u)
    # There is one difference less than there are voxels, and the mean is over the differences.
    exactly = explicit * (count - 1) / count / (1 + gamma * eigen)
    torch.testing.assert_close(implicit, exactly)
    if number == 1:
        torch.testing.assert_close(implicit, explicit, rtol=0.05, atol=0)
    implicit = gradient_of(lambda v: sigma * ImplicitRegulariser("curvature", (count, 4, 4), gamma)(v), u)
    explicit = gradient_of(lambda v: 0.5 * sigma * gamma * curvature_energy(v), u)
    torch.testing.assert_close(implicit, explicit / (1 + gamma * eigen**2))


def test_the_implicit_gradient_is_felt_in_the_whole_image() -> None:
    u = torch.zeros(1, 3, 11, 11, 11, dtype=torch.float64)
    u[:, :, 5, 5, 5] = 1.0
    implicit = gradient_of(ImplicitRegulariser("diffusion", (11, 11, 11), 50.0), u)
    assert (implicit[0, 0] != 0).all()
    explicit = gradient_of(diffusion_energy, u)
    assert torch.count_nonzero(explicit[0, 0]).item() == 7


@pytest.mark.parametrize(("kind", "solver"), EVERY)
def test_half_precision_and_autocast_are_solved_in_single(kind: str, solver: str) -> None:
    regulariser = ImplicitRegulariser(kind, SHAPE, 2.0, solver=solver)
    u = noise(9).bfloat16()
    expected = regulariser.smooth(u.float())
    with torch.autocast("cpu", torch.bfloat16):
        found, loss = regulariser.smooth(u), regulariser(u.requires_grad_())
    assert (found.dtype, loss.dtype) == (torch.float32, torch.float32)
    torch.testing.assert_close(found, expected)
    loss.backward()
    assert u.grad.dtype == torch.bfloat16


def test_a_network_of_half_precision_leaves_the_tables_alone() -> None:
    regulariser = ImplicitRegulariser("curvature", SHAPE, 2.0)
    network = nn.Sequential(nn.Conv3d(1, 3, 1), regulariser)
    assert set(network.state_dict()) == {"0.weight", "0.bias"}
    network.half()
    u = noise(10)
    assert residual_of_unit_grid(regulariser, u) < 1e-12
    assert residual_of_unit_grid(copy.deepcopy(regulariser).double(), u) < 1e-12


def residual_of_unit_grid(regulariser: ImplicitRegulariser, u: Tensor) -> float:
    regulariser.smooth(u.float())
    smooth = regulariser.smooth(u)
    unit = (1.0, 1.0, 1.0)
    return ((smooth + 2 * laplacian(laplacian(smooth, unit), unit) - u).norm() / u.norm()).item()


@pytest.mark.parametrize(("kind", "solver"), EVERY)
def test_the_smoother_may_be_differentiated_also_after_a_validation(kind: str, solver: str) -> None:
    regulariser = ImplicitRegulariser(kind, SHAPE, 2.0, solver=solver, padding=0)
    with torch.inference_mode():
        regulariser(noise(11))
    u, v = noise(11).requires_grad_(), noise(12)
    (regulariser.smooth(u) * v).sum().backward()
    torch.testing.assert_close(u.grad, regulariser.smooth(v))


def test_arguments_that_make_no_sense_are_refused() -> None:
    for options, message in (
        ({"kind": "bending"}, "the kind is"),
        ({"solver": "fft"}, "the solver is"),
        ({"kind": "curvature", "solver": "aos"}, "splitting solves diffusion"),
        ({"shape": (4, 4)}, "the shape is"),
        ({"shape": (4, 0, 4)}, "the shape is"),
        ({"spacing": (1, 1)}, "the spacing is"),
        ({"spacing": (1, 1, -1)}, "the spacing is"),
        ({"gamma": 0}, "gamma is positive"),
        ({"gamma": math.nan}, "gamma is positive"),
        ({"padding": -1}, "padding not negative"),
        ({"mu": 0}, "mu is positive"),
        ({"mu": 1, "lam": -2}, "mu is positive"),
    ):
        with pytest.raises(ValueError, match=message):
            ImplicitRegulariser(**({"kind": "diffusion", "shape": (4, 4, 4), "gamma": 1.0} | options))
    regulariser = ImplicitRegulariser("diffusion", (4, 4, 4), 1.0)
    for shape in ((1, 3, 4, 4, 5), (1, 2, 4, 4, 4), (3, 4, 4, 4)):
        with pytest.raises(ValueError, match="the field is"):
            regulariser(torch.zeros(shape))
