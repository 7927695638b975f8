from __future__ import annotations

import numpy as np

from medseg.analysis.small_objects import remove_small_components, remove_small_instances, voxel_threshold


def column(*values: int) -> np.ndarray:
    """Slices of one voxel each."""
    return np.array(values, np.uint16).reshape(-1, 1, 1)


def test_the_larger_of_the_two_thresholds_counts() -> None:
    # 1000 mm3 in voxels of 2 x 2 x 5 = 20 mm3 are 50 voxels.
    assert voxel_threshold(1000.0, 20.0) == 50
    assert voxel_threshold(1000.0, 20.0, minimum_voxels=60) == 60


def test_an_instance_below_the_threshold_goes_and_one_at_it_stays() -> None:
    labels = column(0, 1, 1, 0, 2, 2, 2, 0)
    assert remove_small_instances(labels, 3) == [1]
    assert labels.ravel().tolist() == [0, 0, 0, 0, 2, 2, 2, 0]


def test_what_touches_the_top_or_bottom_slice_is_kept() -> None:
    labels = column(1, 0, 2, 0, 3)
    assert remove_small_instances(labels, 10) == [2]
    assert labels.ravel().tolist() == [1, 0, 0, 0, 3]
    assert remove_small_instances(labels, 10, keep_ends=False) == [1, 3]


def test_an_instance_is_judged_as_a_whole() -> None:
    labels = column(0, 1, 0, 1, 0, 1, 0)
    assert remove_small_instances(labels, 3) == []


def test_a_class_is_judged_by_component_and_others_are_left_alone() -> None:
    labels = column(0, 1, 1, 1, 0, 1, 0, 2, 0)
    assert remove_small_components(labels, {1: 2.0}) == {1: 1}
    assert labels.ravel().tolist() == [0, 1, 1, 1, 0, 0, 0, 2, 0]


def test_a_component_at_the_end_of_the_scan_is_kept() -> None:
    labels = column(1, 0, 1, 0)
    assert remove_small_components(labels, {1: 5.0}) == {1: 1}
    assert labels.ravel().tolist() == [1, 0, 0, 0]


def test_nothing_small_changes_nothing() -> None:
    labels = column(0, 1, 1, 0)
    assert remove_small_components(labels, {1: 2.0, 7: 100.0}) == {}
    assert labels.ravel().tolist() == [0, 1, 1, 0]
