"""Intensity steps: the numbers of MONAI's transforms, with the memory of one image."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import NormalizeIntensity, ScaleIntensityRange, ScaleIntensityRangePercentiles

from medseg.errors import InputError
from medseg.models import Normalize, ScalePercentiles, ScaleRange
from medseg.models.intensity import apply_steps, moments


def a_ct_like_array(seed: int, shape: tuple[int, ...] = (9, 31, 27), dtype: Any = np.float32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    array = rng.normal(40, 300, shape)
    array[: shape[0] // 2] = 0
    array.flat[0] = 31000
    return array.astype(dtype)


def monai(transform: Any, array: np.ndarray) -> np.ndarray:
    result = transform(array[None].astype(np.float32).copy())
    return np.asarray(result)[0]


ranges = st.floats(-2000, 2000, width=32)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 50), a_min=ranges, width=st.floats(1, 3000), b_min=st.floats(-2, 0), clip=st.booleans())
def test_scale_range_gives_what_monai_gives(seed: int, a_min: float, width: float, b_min: float, clip: bool) -> None:
    array = a_ct_like_array(seed)
    ours = ScaleRange(a_min, a_min + width, b_min, 1.0, clip).apply(array)
    theirs = monai(ScaleIntensityRange(a_min, a_min + width, b_min, 1.0, clip), array)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 50),
    mean=st.none() | ranges,
    std=st.none() | st.just(0.0) | st.floats(0.5, 500),
    nonzero=st.booleans(),
)
def test_normalize_gives_what_monai_gives(seed: int, mean: float | None, std: float | None, nonzero: bool) -> None:
    array = a_ct_like_array(seed)
    ours = Normalize(mean, std, nonzero).apply(array)
    theirs = monai(NormalizeIntensity(mean, std, nonzero), array)
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-4 if std is None else 1e-3)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 50),
    lower=st.floats(0, 40),
    upper=st.floats(60, 100),
    b_min=st.floats(-2, 0),
    clip=st.booleans(),
)
def test_scale_percentiles_gives_what_monai_gives(
    seed: int, lower: float, upper: float, b_min: float, clip: bool
) -> None:
    array = a_ct_like_array(seed)
    ours = ScalePercentiles(lower, upper, b_min, 1.0, clip).apply(array)
    theirs = monai(ScaleIntensityRangePercentiles(lower, upper, b_min, 1.0, clip), array)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_percentiles_of_a_large_volume_are_those_of_monai() -> None:
    array = a_ct_like_array(3, (120, 110, 100))
    ours = ScalePercentiles(0.5, 99.5, 0.0, 1.0, clip=True).apply(array)
    theirs = monai(ScaleIntensityRangePercentiles(0.5, 99.5, 0.0, 1.0, clip=True), array)
    assert array.size > 1_000_000
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_constant_volume_becomes_finite_numbers_as_in_monai() -> None:
    array = np.full((4, 5, 6), 7.0, np.float32)
    for ours, theirs in (
        (Normalize(), NormalizeIntensity()),
        (ScalePercentiles(1, 99, -1, 1), ScaleIntensityRangePercentiles(1, 99, -1, 1, clip=True)),
    ):
        np.testing.assert_array_equal(ours.apply(array), monai(theirs, array))


def test_a_volume_of_zeros_is_left_alone_when_only_the_others_count() -> None:
    array = np.zeros((3, 3, 3), np.float32)
    np.testing.assert_array_equal(Normalize(nonzero=True).apply(array), array)
    assert moments(array, nonzero=True) == (0.0, 0.0)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float64, np.float32])
@pytest.mark.parametrize("step", [ScaleRange(0, 100), Normalize(), ScalePercentiles(5, 95)])
def test_a_step_leaves_its_input_as_it_was_and_takes_any_number_type(step: Any, dtype: Any) -> None:
    array = np.arange(60).reshape(3, 4, 5).astype(dtype)
    before = array.copy()
    result = step.apply(array)
    np.testing.assert_array_equal(array, before)
    assert result.dtype == np.float32
    assert result.shape == array.shape
    np.testing.assert_allclose(result, step.apply(array.astype(np.float32)))


def test_the_order_of_the_axes_in_memory_changes_nothing() -> None:
    array = a_ct_like_array(1)
    for step in (ScaleRange(0, 100), Normalize(), Normalize(nonzero=True), ScalePercentiles(5, 95)):
        np.testing.assert_allclose(step.apply(array.T), step.apply(array).T, rtol=1e-6)
        np.testing.assert_allclose(step.apply(array[:, ::2]), step.apply(array[:, ::2].copy()), rtol=1e-6)


def test_moments_of_a_large_offset_keep_their_digits() -> None:
    array = (np.random.default_rng(0).normal(0, 1, (200, 100, 100)) + 30000).astype(np.float32)
    mean, std = moments(array)
    assert mean == pytest.approx(float(np.mean(array, dtype=np.float64)), rel=1e-9)
    assert std == pytest.approx(float(np.std(array.astype(np.float64))), rel=1e-6)


def test_several_steps_follow_each_other() -> None:
    array = a_ct_like_array(5)
    together = apply_steps([ScaleRange(-100, 300), Normalize()], array)
    np.testing.assert_array_equal(together, Normalize().apply(ScaleRange(-100, 300).apply(array)))
    copied = apply_steps([], array)
    assert copied is not array
    np.testing.assert_array_equal(copied, array)


@pytest.mark.parametrize("step", [ScaleRange(0, 100), Normalize(), Normalize(nonzero=True), ScalePercentiles(1, 99)])
def test_a_step_needs_no_more_memory_than_two_images(step: Any) -> None:
    array = a_ct_like_array(2, (100, 256, 256))
    tracemalloc.start()
    step.apply(array)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.1 * array.nbytes + (32 << 20)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ScaleRange(1, 1),
        lambda: ScaleRange(float("nan"), 1),
        lambda: ScaleRange(0, 1, b_max=float("inf")),
        lambda: Normalize(mean=float("nan")),
        lambda: ScalePercentiles(99, 1),
        lambda: ScalePercentiles(-1, 99),
        lambda: ScalePercentiles(1, 101),
    ],
)
def test_a_step_that_makes_no_sense_is_refused(make: Any) -> None:
    with pytest.raises(InputError):
        make()
