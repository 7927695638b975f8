"""A window is laid into a scan, read off, and what was found in it is put back onto the scan's voxels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.correction.region import Region
from medseg.correction.window import Window

SHAPE = (24, 40, 36)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.floats(0, n - 1) for n in SHAPE]),
    st.floats(10, 60),
    st.tuples(*[st.sampled_from([0.7, 1.0, 2.5])] * 3),
    st.sampled_from([(8, 8, 8), (16, 8, 12), (4, 1, 8)]),
)
def test_values_are_put_back_linearly(
    centre: tuple[float, ...], edge: float, spacing: tuple[float, ...], size: tuple[int, int, int]
) -> None:
    window = Window.around(np.array(centre), edge, spacing, size)
    try:
        region = window.region(SHAPE)
    except ValueError:
        return
    values = torch.from_numpy(np.random.default_rng(0).random((1, *size)).astype(np.float32))
    found = window.put_back(values, region)
    assert found.shape == region.shape
    index = np.stack(np.meshgrid(*map(np.arange, region.start, region.stop), indexing="ij"), -1)
    own = window.index_of(index.reshape(-1, 3)).reshape(index.shape) / np.maximum(np.array(size) - 1, 1) * 2 - 1
    places = torch.from_numpy(own.astype(np.float32)).flip(-1)[None]
    expected = F.grid_sample(values[None], places, padding_mode="border", align_corners=True)[0, 0].numpy()
    if min(size) > 1:
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert found.min() >= values.min() - 1e-5
    assert found.max() <= values.max() + 1e-5


def test_an_image_read_at_its_own_voxels_comes_back_as_it_was() -> None:
    k, j, i = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    image = (np.sin(k / 6) + np.cos(j / 7) + i / 20).astype(np.float32)
    window = Window.around(np.array([12.0, 20, 18]), 25.0, (1.0, 1.0, 1.0), (25, 25, 25))
    region = window.region(SHAPE)
    np.testing.assert_allclose(window.put_back(window.read_image(image), region), image[region.slices], atol=1e-5)


def test_a_turned_window_is_not_put_back() -> None:
    steps = np.array([[1.0, 0.1, 0], [0, 1, 0], [0, 0, 1]])
    window = Window((4, 4, 4), np.array([8.0, 8, 8]), steps)
    with pytest.raises(ValueError, match="turned"):
        window.put_back(torch.zeros(1, 4, 4, 4), Region((0, 0, 0), (1, 1, 1)))


def test_values_are_put_back_while_a_network_is_trained_in_half_precision() -> None:
    window = Window.around(np.array([12.0, 20, 18]), 30.0, (1.0, 1.0, 1.0), (16, 16, 16))
    values, region = torch.rand(1, 16, 16, 16), window.region(SHAPE)
    expected = window.put_back(values, region)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(window.put_back(values, region), expected)


def test_a_flat_window_is_a_part_of_one_slice() -> None:
    image = np.random.default_rng(0).random(SHAPE, np.float32)
    for axis, index in ((0, 12), (1, 30), (2, 5)):
        size = [9, 9]
        size.insert(axis, 1)
        centre = np.array([12.0, 20, 18])
        centre[axis] = index
        window = Window.around(centre, 9.0, (1.0, 1.0, 1.0), size)
        region = window.region(SHAPE)
        assert region.shape == tuple(size)
        assert region.start[axis] == index
        np.testing.assert_allclose(window.read_image(image)[0].numpy(), image[region.slices], atol=1e-5)
        np.testing.assert_allclose(window.put_back(window.read_image(image), region), image[region.slices], atol=1e-5)


def test_a_coarse_flat_window_takes_means_within_its_slice_and_never_over_slices() -> None:
    image = np.zeros(SHAPE, np.float32)
    image[:, ::2, ::2] = 4
    image[11] = image[13] = 1e6
    seen = Window.around(np.array([12.0, 20, 18]), 32.0, (1.0, 1.0, 1.0), (1, 8, 8)).read_image(image)
    # Of 5 x 5 voxels 4, 6 or 9 count.
    assert seen.min() > 0.5
    assert seen.max() < 1.5
