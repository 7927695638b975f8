from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers.utils import _get_scan_interval

from medseg.segmentation.grids import AxisSampling
from medseg.segmentation.windows import importance_map, make_plan, window_starts


def same_grid(size):
    return tuple(AxisSampling.linear(n, n, 1.0, 0.0) for n in size)


@given(size=st.integers(1, 200), window=st.integers(1, 64), overlap=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.625, 0.9]))
def test_windows_begin_where_those_of_monai_begin(size, window, overlap):
    padded = max(size, window)
    interval = _get_scan_interval((padded,), (window,), 1, (overlap,))
    expected = [cut[0].start - (padded - size) // 2 for cut in dense_patch_slices((padded,), (window,), interval)]
    assert list(window_starts(size, window, overlap)) == expected


@given(size=st.integers(1, 300), window=st.integers(-2, 70), overlap=st.floats(0, 0.95))
def test_windows_cover_the_axis_in_rising_order(size, window, overlap):
    starts = window_starts(size, window, overlap)
    width = window if window > 0 else size
    covered = set(itertools.chain.from_iterable(range(start, start + width) for start in starts))
    assert covered >= set(range(size))
    assert list(starts) == sorted(set(starts))


def test_an_overlap_of_a_whole_window_is_refused():
    with pytest.raises(ValueError, match="overlap"):
        window_starts(100, 10, 1.0)


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
@pytest.mark.parametrize("window", [(16, 16, 16), (5, 32, 9), (1, 2, 96)])
def test_the_weights_of_a_window_are_those_of_monai(window, blend):
    expected = compute_importance_map(window, mode=blend, sigma_scale=0.125).numpy()
    np.testing.assert_allclose(importance_map(window, blend), expected, rtol=2e-6)


def test_a_blending_that_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="blend"):
        importance_map((4, 4, 4), "cubic")


def test_a_plan_streams_along_the_axis_that_needs_the_least_memory():
    size = (512, 512, 300)
    plan = make_plan(size, (64, 64, 64), 0.25, 25, same_grid(size), limit_bytes=1 << 31)
    assert plan.stream_axis != 2
    assert plan.score_bytes == 26 * 65 * 512 * 300 * 4
    assert plan.windows == plan.distinct_windows == math.prod(map(len, plan.starts))


@pytest.mark.parametrize("window", [(96, 96, 96), (128, 128, 128), (160, 160, 96), (256, 256, 256)])
def test_a_plan_stays_within_its_limit_and_repeats_few_windows(window):
    size, limit = (512, 512, 300), 1 << 30
    plan = make_plan(size, window, 0.5, 25, same_grid(size), limit_bytes=limit)
    assert plan.score_bytes <= limit
    assert plan.windows <= 2.5 * plan.distinct_windows


def test_the_smallest_plan_is_given_when_nothing_fits():
    size = (40, 50, 60)
    plan = make_plan(size, (16, 16, 16), 0.5, 4, same_grid(size), limit_bytes=1)
    assert plan.score_bytes == min(
        make_plan(size, (16, 16, 16), 0.5, 4, same_grid(size), limit_bytes=limit).score_bytes
        for limit in (1, 10, 1000, 100_000)
    )


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(*[st.integers(1, 40)] * 3),
    finer=st.tuples(*[st.sampled_from([0.3, 0.5, 1.0, 1.7])] * 3),
    limit=st.integers(1, 200_000),
)
def test_bands_hold_all_that_their_output_needs(size, finer, limit):
    sampling = [
        AxisSampling.linear(n, max(round(n / scale), 1), scale, (scale - 1) / 2)
        for n, scale in zip(size, finer, strict=True)
    ]
    plan = make_plan(size, (8, 8, 8), 0.5, 3, sampling, limit_bytes=limit)
    across = sampling[plan.band_axis]
    outputs = list(itertools.chain.from_iterable(range(*band.output) for band in plan.bands))
    assert outputs == list(range(across.output_size))
    for band in plan.bands:
        low, high = band.network
        assert low <= across.lower[band.output[0]]
        assert high > across.upper[band.output[1] - 1]
        left_out = set(plan.starts[plan.band_axis]) - set(band.starts)
        assert not any(start < high and start + plan.window[plan.band_axis] > low for start in left_out)
