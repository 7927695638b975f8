from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from medseg.analysis.components import (
    components_by_value,
    connected_components,
    consecutive,
    separated_parts,
    touching_ends,
)


def same_partition(first: np.ndarray, second: np.ndarray) -> bool:
    pairs = {*zip(first.ravel().tolist(), second.ravel().tolist(), strict=True)}
    return len(pairs) == len(np.unique(first)) == len(np.unique(second)) and ((first == 0) == (second == 0)).all()


small_masks = arrays(np.bool_, st.tuples(*[st.integers(1, 6)] * 3))
small_labels = arrays(np.uint8, st.tuples(*[st.integers(1, 5)] * 3), elements=st.integers(0, 3))


def test_two_voxels_at_an_edge_are_two_for_six_neighbours_and_one_for_twenty_six() -> None:
    mask = np.zeros((1, 2, 2), bool)
    mask[0, 0, 0] = mask[0, 1, 1] = True
    assert connected_components(mask, 6).max() == 2
    assert connected_components(mask, 26).max() == 1


@settings(max_examples=60, deadline=None)
@given(small_masks, st.sampled_from([6, 26]))
def test_components_are_those_of_scipy(mask: np.ndarray, connectivity: int) -> None:
    structure = ndimage.generate_binary_structure(3, 1 if connectivity == 6 else 3)
    assert same_partition(connected_components(mask, connectivity), ndimage.label(mask, structure)[0])


@settings(max_examples=60, deadline=None)
@given(small_labels, st.sampled_from([6, 26]))
def test_components_by_value_are_those_of_each_value(labels: np.ndarray, connectivity: int) -> None:
    structure = ndimage.generate_binary_structure(3, 1 if connectivity == 6 else 3)
    expected = np.zeros(labels.shape, int)
    for value in (1, 2, 3):
        parts, _ = ndimage.label(labels == value, structure)
        expected[parts > 0] = parts[parts > 0] + expected.max()
    found = components_by_value(labels, connectivity)
    assert same_partition(found, expected)
    assert set(np.unique(found)) <= set(range(found.max() + 1))


def test_numbers_become_consecutive_in_their_order() -> None:
    assert consecutive(np.array([[[7, 0, 3], [3, 9, 7]]])).tolist() == [[[2, 0, 1], [1, 3, 2]]]
    assert consecutive(np.array([[[5]]])).tolist() == [[[1]]]


def test_other_connectivities_are_refused() -> None:
    with pytest.raises(ValueError, match="6 or 26"):
        connected_components(np.ones((2, 2, 2)), 18)


def test_values_at_the_first_and_last_slice_touch_the_ends() -> None:
    labels = np.zeros((3, 2, 2), np.uint8)
    labels[0, 0, 0], labels[1, 1, 1], labels[2, 0, 1] = 4, 5, 6
    assert touching_ends(labels).tolist() == [4, 6]


def dumbbell(radius: int, neck: int, length: int = 12) -> np.ndarray:
    """Two balls of ``radius`` voxels, connected by a rod of ``neck``."""
    shape = (2 * radius + 3, 2 * radius + 3, 4 * radius + length + 3)
    k, j, i = np.ogrid[tuple(slice(0, size) for size in shape)]
    middle = radius + 1
    first = (k - middle) ** 2 + (j - middle) ** 2 + (i - middle) ** 2 <= radius**2
    second = (k - middle) ** 2 + (j - middle) ** 2 + (i - (shape[2] - 1 - middle)) ** 2 <= radius**2
    rod = ((k - middle) ** 2 + (j - middle) ** 2 <= neck**2) & (i > middle) & (i < shape[2] - 1 - middle)
    return first | second | rod


def test_two_balls_on_a_thin_rod_are_separated_and_each_keeps_its_side() -> None:
    mask = dumbbell(8, 2)
    assert connected_components(mask).max() == 1
    parts = separated_parts(mask, (1.0, 1.0, 1.0), neck_mm=3.0)
    assert parts.max() == 2
    assert np.array_equal(parts > 0, mask)
    assert len({parts[9, 9, 9], parts[9, 9, -10]}) == 2
    sizes = np.bincount(parts.ravel())[1:]
    assert abs(int(sizes[0]) - int(sizes[1])) < 0.02 * mask.sum()


def test_a_neck_that_is_hardly_narrower_is_no_border() -> None:
    # Depths of 8 and 6 mm at least: 2 mm are less than the 3 that are asked for.
    assert separated_parts(dumbbell(8, 6), (1.0, 1.0, 1.0), neck_mm=3.0).max() == 1


def test_the_depth_of_a_neck_is_in_millimetres() -> None:
    mask = dumbbell(8, 2)
    assert separated_parts(mask, (0.25, 0.25, 0.25), neck_mm=3.0).max() == 1
    assert separated_parts(mask, (0.25, 0.25, 0.25), neck_mm=0.75).max() == 2


def test_a_mask_without_background_is_one_part() -> None:
    assert separated_parts(np.ones((3, 4, 5), bool), (1, 1, 1), neck_mm=1.0).tolist() == np.ones((3, 4, 5)).tolist()


def test_parts_that_are_apart_stay_apart_however_shallow() -> None:
    mask = np.zeros((5, 5, 9), bool)
    mask[2, 2, 1], mask[2, 2, 3], mask[1:4, 1:4, 5:8] = True, True, True
    assert separated_parts(mask, (1.0, 1.0, 1.0), neck_mm=50.0).max() == 3
