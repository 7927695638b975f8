"""Splines between two grids are those of scikit-image and scipy, in a fraction of the time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.transform import resize as skimage_resize

from medseg.models.nnunet.preparation import Resampling
from medseg.progress import NO_PROGRESS
from medseg.segmentation.grids import AxisSampling
from medseg.segmentation.nnunet_images import resize_labels
from medseg.segmentation.splines import AxisSpline, resize
from medseg.segmentation.windows import importance_map, window_starts

SIZES = st.tuples(*[st.integers(2, 14)] * 3)


@settings(max_examples=25, deadline=None)
@given(shape=SIZES, new=SIZES, order=st.sampled_from([0, 1, 3]))
def test_a_volume_is_resized_as_scikit_image_does(shape: tuple[int, ...], new: tuple[int, ...], order: int) -> None:
    array = np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)
    expected = skimage_resize(array.astype(float), new, order, mode="edge", anti_aliasing=False)
    np.testing.assert_allclose(resize(array, new, order), expected, atol=2e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices_are_resized_each_on_its_own_and_then_taken_as_they_are(axis: int) -> None:
    array = np.random.default_rng(axis).normal(size=(7, 8, 9)).astype(np.float32)
    new = [12, 11, 13]
    across = [size for other, size in enumerate(new) if other != axis]
    slices = np.stack(
        [
            skimage_resize(plane.astype(float), across, 3, mode="edge", anti_aliasing=False)
            for plane in np.moveaxis(array, axis, 0)
        ]
    )
    where = (np.arange(new[axis]) + 0.5) * array.shape[axis] / new[axis] - 0.5
    grid = np.meshgrid(where, *(np.arange(size) for size in across), indexing="ij")
    expected = np.moveaxis(ndimage.map_coordinates(slices, grid, order=0, mode="nearest"), 0, axis)
    np.testing.assert_allclose(resize(array, new, 3, separate_axis=axis), expected, atol=2e-5)


def test_the_same_grid_is_left_alone_and_an_unknown_order_refused() -> None:
    array = np.zeros((3, 4, 5), np.float32)
    assert resize(array, (3, 4, 5), 3) is array
    with pytest.raises(ValueError, match="order 2"):
        AxisSpline.between(4, 5, 2)


def test_labels_go_to_the_larger_share_and_on_a_tie_to_the_nearest_voxel() -> None:
    line = np.array([0, 0, 5, 5, 2], np.int32).reshape(5, 1, 1)
    found = resize_labels(line, (10, 1, 1), Resampling(1, 0), None, NO_PROGRESS)
    assert found.ravel().tolist() == [0, 0, 0, 0, 5, 5, 5, 5, 2, 2]
    halved = resize_labels(np.array([3, 1], np.int32).reshape(2, 1, 1), (1, 1, 1), Resampling(1, 0), None, NO_PROGRESS)
    assert halved.item() == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_the_nearest_voxel_is_that_of_scipy(size: int, new: int) -> None:
    where = size / new * (np.arange(new) + 0.5) - 0.5
    expected = ndimage.map_coordinates(np.arange(float(size)), [where], order=0, mode="nearest")
    np.testing.assert_array_equal(AxisSampling.nearest(size, new).lower, expected)


@pytest.mark.parametrize(
    ("size", "window", "starts"),
    [(110, 64, (0, 23, 46)), (64, 64, (0,)), (65, 64, (0, 1)), (20, 32, (-6,)), (5, 1, (0, 1, 2, 3, 4))],
)
def test_windows_of_nnunet_are_spread_evenly(size: int, window: int, starts: tuple[int, ...]) -> None:
    assert window_starts(size, window, 0.5, "nnunet") == starts


@pytest.mark.parametrize("window", [(16, 24, 12), (1, 15, 32)])
def test_windows_of_nnunet_are_weighted_by_a_filtered_point(window: tuple[int, int, int]) -> None:
    point = np.zeros([size for size in window if size > 1])
    point[tuple(size // 2 for size in point.shape)] = 1
    bell = ndimage.gaussian_filter(point, [size / 8 for size in point.shape], mode="constant")
    half = (10 * bell / bell.max()).astype(np.float16).reshape(window)
    found = importance_map(window, "nnunet")
    kept = half > 1e-6
    np.testing.assert_allclose(found[kept], half[kept], rtol=2e-3)
    assert found.min() > 0
