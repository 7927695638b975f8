"""Warping, composing, resizing and converting displacement fields: geometry with hand-computed numbers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medseg.networks.spatial import (
    BSplineUpsampling,
    compose,
    cubic_b_spline,
    exponential,
    normalised_to_voxels,
    resize_field,
    voxels_to_normalised,
    warp,
)

SIZE = (6, 7, 8)
shifts = st.tuples(*(st.integers(-3, 3) for _ in range(3)))
sizes = st.tuples(*(st.integers(2, 9) for _ in range(3)))


def an_image(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).to(dtype)


def constant(vector: tuple[float, ...], size: tuple[int, ...] = SIZE, batch: int = 1) -> Tensor:
    return torch.tensor(vector, dtype=torch.float32).reshape(1, 3, 1, 1, 1).expand(batch, 3, *size).clone()


def voxels(size: tuple[int, ...] = SIZE) -> Tensor:
    """(1, 3, I, J, K): the place of every voxel."""
    return torch.stack(torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in size), indexing="ij"))[None]


def inside(size: tuple[int, ...], *reaches: tuple[float, ...]) -> Tensor:
    """(I, J, K), true where x + reach lies in the grid for every reach."""
    place = voxels(size)[0]
    kept = torch.ones(size, dtype=torch.bool)
    for reach, axis in itertools.product(reaches, range(3)):
        kept &= (place[axis] + reach[axis] >= 0) & (place[axis] + reach[axis] <= size[axis] - 1)
    return kept


@settings(max_examples=30, deadline=None)
@given(shifts, sizes, st.sampled_from(["bilinear", "nearest"]))
def test_an_integer_shift_is_a_roll_that_repeats_the_border(
    shift: tuple[int, int, int], size: tuple[int, int, int], mode: str
) -> None:
    image = an_image(1, 2, *size)
    expected = image
    for axis, (n, s) in enumerate(zip(size, shift, strict=True)):
        expected = expected.index_select(axis + 2, (torch.arange(n) + s).clamp(0, n - 1))
    torch.testing.assert_close(warp(image, constant(shift, size), mode), expected, atol=1e-5, rtol=0)


def test_each_channel_moves_along_its_own_axis_towards_the_value_that_is_pulled_back() -> None:
    for axis in range(3):
        image = torch.zeros(1, 1, *SIZE)
        place = [2, 2, 2]
        place[axis] = 4
        image[0, 0, place[0], place[1], place[2]] = 1.0
        shift = [0.0, 0.0, 0.0]
        shift[axis] = 2.0
        assert warp(image, constant(tuple(shift)))[0, 0, 2, 2, 2].item() == pytest.approx(1.0, abs=1e-5)


def test_half_a_voxel_is_the_mean_of_two() -> None:
    image = torch.tensor([0.0, 1.0, 4.0, 9.0]).reshape(1, 1, 1, 4, 1)
    found = warp(image, constant((0.0, 0.5, 0.0), (1, 4, 1)))
    assert found.flatten().tolist() == pytest.approx([0.5, 2.5, 6.5, 9.0], abs=1e-5)


def test_itk_pulls_back_in_the_same_way() -> None:
    size, generator = (5, 6, 7), torch.Generator().manual_seed(0)
    image, field = an_image(1, 1, *size), torch.randn(1, 3, *size, generator=generator)
    moving = sitk.GetImageFromArray(image[0, 0].numpy())
    # Unit spacing, identity direction: ITK's x is the last array axis.
    vectors = np.ascontiguousarray(field[0].flip(0).permute(1, 2, 3, 0).numpy().astype(np.float64))
    transform = sitk.DisplacementFieldTransform(sitk.GetImageFromArray(vectors, isVector=True))
    theirs = sitk.GetArrayFromImage(sitk.Resample(moving, moving, transform, sitk.sitkLinear, -1.0))
    known = theirs >= 0
    assert known.mean() > 0.2
    np.testing.assert_allclose(warp(image, field)[0, 0].numpy()[known], theirs[known], atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_result_has_the_type_of_the_image_and_the_places_do_not_suffer(dtype: torch.dtype) -> None:
    image = torch.zeros(1, 1, 1, 1, 200, dtype=dtype)
    image[..., 150] = 1.0
    found = warp(image, constant((0, 0, 1.0), (1, 1, 200)).to(dtype))
    assert found.dtype == dtype
    assert found[..., 149].item() == pytest.approx(1.0, abs=1e-3)


def test_what_cannot_be_warped_is_told() -> None:
    field = constant((0, 0, 0))
    with pytest.raises(ValueError, match="on the grid of the displacement"):
        warp(torch.zeros(1, 1, 6, 7, 9), field)
    with pytest.raises(ValueError, match="on the grid of the displacement"):
        warp(torch.zeros(2, 1, *SIZE), field)
    with pytest.raises(ValueError, match=r"\(B, 3, I, J, K\)"):
        warp(torch.zeros(1, 1, *SIZE), torch.zeros(1, 2, *SIZE))
    with pytest.raises(TypeError, match="floating"):
        warp(torch.zeros(1, 1, *SIZE, dtype=torch.int16), field)


def test_a_displacement_grows_with_the_number_of_voxels_between_the_ends() -> None:
    field = constant((1.0, 1.0, 1.0), (3, 4, 5), batch=2)
    resized = resize_field(field, (5, 4, 2))
    # From 2 intervals to 4, from 3 to 3, from 4 to 1.
    torch.testing.assert_close(resized, constant((2.0, 1.0, 0.25), (5, 4, 2), batch=2))
    ramp = torch.zeros(1, 3, 3, 2, 2)
    ramp[:, 0] = torch.tensor([0.0, 1.0, 2.0]).reshape(3, 1, 1)
    assert resize_field(ramp, (5, 2, 2))[0, 0, :, 0, 0].tolist() == pytest.approx([0.0, 1.0, 2.0, 3.0, 4.0])
    assert resize_field(field, (3, 4, 5)) is field


@settings(max_examples=20, deadline=None)
@given(sizes, sizes)
def test_in_normalised_units_resizing_is_plain_interpolation(
    old: tuple[int, int, int], new: tuple[int, int, int]
) -> None:
    field = torch.randn(1, 3, *old, generator=torch.Generator().manual_seed(5))
    plain = torch.nn.functional.interpolate(voxels_to_normalised(field), new, mode="trilinear", align_corners=True)
    torch.testing.assert_close(voxels_to_normalised(resize_field(field, new)), plain, atol=1e-5, rtol=1e-4)


def test_sizes_without_an_extent_are_refused() -> None:
    with pytest.raises(ValueError, match="has no extent"):
        resize_field(torch.zeros(1, 3, 1, 4, 4), (2, 4, 4))
    with pytest.raises(ValueError, match="three numbers"):
        resize_field(torch.zeros(1, 3, 4, 4, 4), (2, 4))
    assert resize_field(torch.ones(1, 3, 4, 4, 4), (1, 4, 4))[0, :, 0, 0, 0].tolist() == [0.0, 1.0, 1.0]


@settings(max_examples=25, deadline=None)
@given(shifts, shifts)
def test_an_image_is_warped_by_the_second_and_then_by_the_first(
    first: tuple[int, int, int], second: tuple[int, int, int]
) -> None:
    size = (8, 8, 8)
    image, both = an_image(1, 1, *size), compose(constant(first, size), constant(second, size))
    step_by_step = warp(warp(image, constant(second, size)), constant(first, size))
    torch.testing.assert_close(both, constant(tuple(a + b for a, b in zip(first, second, strict=True)), size))
    # Beyond the border the two ways repeat different voxels.
    kept = inside(size, first, both[0, :, 0, 0, 0].tolist())
    torch.testing.assert_close(warp(image, both)[0, 0][kept], step_by_step[0, 0][kept], atol=1e-5, rtol=0)


def test_points_go_through_the_first_map_and_then_the_second() -> None:
    # Along I: p(x) = x + 1, then q(y) = y + y / 10, that is 1.1 (x + 1), u = x / 10 + 1.1.
    first = constant((1.0, 0.0, 0.0))
    second = torch.zeros(1, 3, *SIZE)
    second[:, 0] = voxels()[:, 0] / 10
    place = torch.arange(5.0)
    assert compose(first, second)[0, 0, :5, 3, 3].tolist() == pytest.approx((place / 10 + 1.1).tolist(), abs=1e-5)
    # The other way round: 1.1 x + 1, u = x / 10 + 1, also at the border, since a shift is the same everywhere.
    place = torch.arange(6.0)
    assert compose(second, first)[0, 0, :, 3, 3].tolist() == pytest.approx((place / 10 + 1).tolist(), abs=1e-5)


@settings(max_examples=15, deadline=None)
@given(shifts, st.integers(0, 8))
def test_a_constant_velocity_is_its_own_exponential(vector: tuple[int, int, int], steps: int) -> None:
    torch.testing.assert_close(exponential(constant(vector), steps), constant(vector), atol=1e-5, rtol=0)


def test_a_contraction_shrinks_by_its_exponential() -> None:
    centre, rate = 3.5, -0.5
    velocity = torch.zeros(1, 3, *SIZE)
    velocity[:, 2] = rate * (voxels()[:, 2] - centre)
    # Each squaring composes a linear map with itself, which interpolation does not disturb.
    factor = (1 + rate / 2**7) ** (2**7) - 1
    assert factor == pytest.approx(math.exp(rate) - 1, abs=1e-3)
    expected = [factor * (k - centre) for k in range(8)]
    assert exponential(velocity)[0, 2, 3, 3].tolist() == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ValueError, match="not be negative"):
        exponential(velocity, -1)


def test_the_exponential_of_the_opposite_velocity_undoes_it() -> None:
    size = (16, 16, 16)
    wave = torch.sin(voxels(size) * math.pi / 15)
    # Zero at the border, so that no point leaves the grid.
    velocity = 1.5 * wave.prod(1, keepdim=True).expand(1, 3, *size) * torch.tensor([1.0, -0.7, 0.4]).reshape(3, 1, 1, 1)
    there, back = exponential(velocity), exponential(-velocity)
    assert there.abs().max() > 1
    assert compose(there, back).abs().max() < 0.05


def test_units_of_grid_sample_are_half_an_axis_and_its_channels_run_backwards() -> None:
    field = constant((0.5, 1.0, -1.0), (5, 7, 9))
    # Channel x = 0.5 is along K: 0.5 * (9 - 1) / 2; y along J; z along I.
    torch.testing.assert_close(normalised_to_voxels(field), constant((-2.0, 3.0, 2.0), (5, 7, 9)))


@settings(max_examples=20, deadline=None)
@given(sizes)
def test_units_can_be_converted_back_and_forth(size: tuple[int, int, int]) -> None:
    field = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(voxels_to_normalised(normalised_to_voxels(field)), field)


def test_a_normalised_field_moves_grid_sample_as_its_voxels_move_warp() -> None:
    size = (4, 5, 6)
    image, field = an_image(1, 1, *size), 0.3 * torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(2))
    start = torch.nn.functional.affine_grid(torch.eye(3, 4)[None], [1, 1, *size], align_corners=True)
    theirs = torch.nn.functional.grid_sample(
        image, start + field.permute(0, 2, 3, 4, 1), padding_mode="border", align_corners=True
    )
    torch.testing.assert_close(warp(image, normalised_to_voxels(field)), theirs, atol=1e-5, rtol=0)


def test_the_cubic_b_spline_has_its_known_values() -> None:
    found = cubic_b_spline(torch.tensor([0.0, -0.5, 1.0, 1.5, 2.0, 3.0], dtype=torch.float64))
    assert found.tolist() == pytest.approx([2 / 3, 23 / 48, 1 / 6, 1 / 48, 0.0, 0.0])


@settings(max_examples=25, deadline=None)
@given(st.tuples(*(st.integers(1, 12) for _ in range(3))), st.tuples(*(st.integers(1, 4) for _ in range(3))))
def test_constant_controls_give_exactly_that_constant(
    size: tuple[int, int, int], spacing: tuple[int, int, int]
) -> None:
    upsampling = BSplineUpsampling(spacing)
    dense = upsampling(torch.full((1, 2, *upsampling.control_size(size)), 1.7), size)
    torch.testing.assert_close(dense, torch.full((1, 2, *size), 1.7))


@pytest.mark.parametrize("axis", range(3))
def test_controls_that_count_up_give_a_third_a_voxel_and_one(axis: int) -> None:
    size = (10, 11, 12)
    upsampling = BSplineUpsampling(3)
    control = voxels(upsampling.control_size(size))[:, axis : axis + 1]
    torch.testing.assert_close(upsampling(control, size), voxels(size)[:, axis : axis + 1] / 3 + 1)


def test_the_controls_of_a_published_volume_are_56_by_67_by_78() -> None:
    assert BSplineUpsampling(3).control_size((160, 192, 224)) == (56, 67, 78)


def test_a_dense_value_is_the_sum_over_all_controls() -> None:
    size, spacing = (5, 4, 7), (2, 3, 4)
    upsampling = BSplineUpsampling(spacing)
    control = an_image(2, 3, *upsampling.control_size(size), dtype=torch.float64)
    weights = [
        cubic_b_spline(torch.arange(n)[:, None] / c + 1 - torch.arange(r)[None, :])
        for n, c, r in zip(size, spacing, control.shape[2:], strict=True)
    ]
    expected = torch.einsum("bcrst,ir,js,kt->bcijk", control, *(w.double() for w in weights))
    torch.testing.assert_close(upsampling(control, size), expected, atol=1e-6, rtol=1e-6)


def test_upsampling_has_no_weights_and_stays_in_single_precision() -> None:
    upsampling = BSplineUpsampling(3)
    assert upsampling.state_dict() == {}
    control = torch.ones(1, 3, 4, 4, 4, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert upsampling(control, (4, 4, 4)).dtype == torch.float32
    with pytest.raises(ValueError, match=r"needs \(4, 4, 5\) control points"):
        upsampling(control, (4, 4, 5))
    with pytest.raises(ValueError, match="at least 1"):
        BSplineUpsampling((3, 0, 3))
