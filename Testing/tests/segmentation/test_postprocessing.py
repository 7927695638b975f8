from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from monai.transforms import FillHoles, KeepLargestConnectedComponent

from medseg.errors import Cancelled
from medseg.progress import Progress
from medseg.segmentation.postprocessing import bounding_boxes, clean_labels


def random_labels(seed=0, shape=(14, 17, 19), labels=3, smooth=True):
    rng = np.random.default_rng(seed)
    field = rng.random((labels + 1, *shape))
    if smooth:
        for axis in (1, 2, 3):
            field = field + np.roll(field, 1, axis) + np.roll(field, -1, axis)
    return field.argmax(axis=0).astype(np.uint8)


@pytest.mark.parametrize("seed", range(4))
def test_the_largest_part_is_the_one_that_monai_keeps(seed):
    labels = random_labels(seed)
    expected = KeepLargestConnectedComponent([1, 2, 3])(torch.from_numpy(labels.copy())[None])[0].numpy()
    clean_labels(labels, [1, 2, 3], largest_component=True)
    assert np.array_equal(labels, expected)


def test_parts_that_touch_at_a_corner_are_one():
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[1, 1, 1] = labels[2, 2, 2] = 1
    labels[0, 3, 3] = 1
    clean_labels(labels, [1], largest_component=True)
    assert labels.sum() == 2


@pytest.mark.parametrize("seed", range(4))
def test_holes_are_those_that_monai_fills(seed):
    labels = (random_labels(seed, labels=1, smooth=False) > 0).astype(np.uint8)
    labels |= np.random.default_rng(seed).random(labels.shape) < 0.9
    expected = FillHoles([1])(torch.from_numpy(labels.copy())[None])[0].numpy()
    assert expected.sum() > labels.sum()
    clean_labels(labels, [1], fill_holes=True)
    assert np.array_equal(labels, expected)


def test_a_hole_that_holds_another_label_is_filled_around_it():
    labels = np.ones((7, 7, 7), np.uint8)
    labels[2:5, 2:5, 2:5] = 0
    labels[3, 3, 3] = 2
    clean_labels(labels, [1, 2], fill_holes=True)
    assert labels[3, 3, 3] == 2
    assert (labels == 1).sum() == 7**3 - 1


def test_a_notch_that_is_open_to_the_outside_is_no_hole():
    labels = np.ones((7, 7, 7), np.uint8)
    labels[3, 3, 3:] = 0
    before = labels.copy()
    clean_labels(labels, [1], fill_holes=True)
    assert np.array_equal(labels, before)


def test_parts_below_the_smallest_size_go_and_others_stay():
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[0:3, 0:3, 0:3] = 5
    labels[6:8, 6:8, 6:8] = 5
    labels[9, 0, 0] = 5
    clean_labels(labels, [5], minimum_voxels=8)
    assert (labels == 5).sum() == 27 + 8


def test_a_label_that_is_too_small_as_a_whole_vanishes():
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[2, 2, 2] = 1
    clean_labels(labels, [1], largest_component=True, minimum_voxels=2)
    assert not labels.any()


def test_labels_that_are_not_asked_for_stay():
    labels = random_labels()
    others = np.where(labels == 2, 0, labels)
    clean_labels(labels, [2], largest_component=True, fill_holes=False)
    assert np.array_equal(np.where(labels == 2, 0, labels), others)


@settings(max_examples=50, deadline=None)
@given(arrays.arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3), elements=st.sampled_from([0, 0, 1, 7, 255])))
def test_boxes_are_as_small_as_they_can_be(labels):
    boxes = bounding_boxes(labels)
    assert sorted(boxes) == [value for value in np.unique(labels) if value]
    for value, box in boxes.items():
        where = np.argwhere(labels == value)
        assert [(part.start, part.stop) for part in box] == [
            (low, high + 1) for low, high in zip(where.min(0), where.max(0), strict=True)
        ]


def test_cleaning_works_on_labels_above_255():
    labels = np.zeros((6, 6, 6), np.uint16)
    labels[0, 0, 0] = 300
    labels[3:5, 3:5, 3:5] = 300
    clean_labels(labels, [300], largest_component=True)
    assert (labels == 300).sum() == 8


def test_cleaning_can_be_cancelled_between_two_labels():
    labels = random_labels()
    stop = []
    progress = Progress(lambda fraction, _: stop.append(fraction), lambda: len(stop) > 1)
    with pytest.raises(Cancelled):
        clean_labels(labels, [1, 2, 3], largest_component=True, progress=progress)
