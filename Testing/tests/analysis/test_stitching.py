from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.claims.torso import cut_windows, random_cage, random_spine, spine
from medseg.analysis.components import components_by_value, counts_of
from medseg.analysis.stitching import JoiningStitcher, NaiveStitcher, OverwritingStitcher, stitch


def same_partition(first: np.ndarray, second: np.ndarray) -> bool:
    pairs = {*zip(first.ravel().tolist(), second.ravel().tolist(), strict=True)}
    return len(pairs) == len(np.unique(first)) == len(np.unique(second)) and ((first == 0) == (second == 0)).all()


def column(*values: int) -> np.ndarray:
    """Slices of 2 x 3 equal voxels, so that two slices shared are 12 voxels and one is 6."""
    return np.broadcast_to(np.array(values, np.int32).reshape(-1, 1, 1), (len(values), 2, 3)).copy()


def profile(array: np.ndarray) -> list[int]:
    return array[:, 0, 0].tolist()


def overwrite(length: int, *windows: tuple[int, np.ndarray]) -> list[int]:
    return profile(stitch(windows, OverwritingStitcher((length, 2, 3))).instances)


def join(length: int, *windows: tuple[int, np.ndarray]) -> list[int]:
    return profile(stitch(windows, JoiningStitcher((length, 2, 3))).instances)


def test_a_vertebra_cut_by_the_top_of_a_window_stays_as_the_window_above_has_seen_it() -> None:
    # Truth: a in slices 1-3, b in 5-6, c in 8-9. The second window begins in the middle of b.
    upper = column(0, 1, 1, 1, 0, 2, 2, 0)
    lower = column(4, 0, 3, 3, 0)  # slices 6 to 10: b's rest, c
    assert overwrite(11, (0, upper), (6, lower)) == [0, 1, 1, 1, 0, 2, 2, 0, 3, 3, 0]


def test_the_lower_window_wins_and_so_does_its_background() -> None:
    upper = column(1, 1, 1, 0, 2, 2)
    lower = column(0, 0, 0, 5, 5, 5)  # slices 3 to 8: what the upper window took for the start of an instance is none
    assert overwrite(9, (0, upper), (3, lower)) == [1, 1, 1, 0, 0, 0, 2, 2, 2]


def test_the_first_window_keeps_what_its_top_slice_cuts() -> None:
    assert overwrite(3, (0, column(7, 7, 0))) == [1, 1, 0]


def test_a_vertebra_taller_than_the_overlap_keeps_its_number_and_is_noted() -> None:
    # The lower window begins at slice 2 and cuts an instance that reaches to slice 5, beyond the upper window's end.
    found = stitch([(0, column(0, 1, 1, 1)), (2, column(9, 9, 9, 9, 0))], OverwritingStitcher((7, 2, 3)))
    assert profile(found.instances) == [0, 1, 1, 1, 1, 1, 0]
    assert len(found.notes) == 1
    assert "window from slice 2" in found.notes[0]


def test_what_has_no_earlier_number_below_the_overlap_gets_a_new_one() -> None:
    found = stitch([(0, column(1, 0, 0, 0)), (2, column(9, 9, 9, 9, 0))], OverwritingStitcher((7, 2, 3)))
    # The earlier background is kept where there was a prediction, as the rule says; below there was none.
    assert profile(found.instances) == [1, 0, 0, 0, 2, 2, 0]


def test_ribs_that_share_more_than_ten_voxels_are_one() -> None:
    # Two slices of six voxels are shared, then only one.
    assert join(6, (0, column(0, 1, 1, 1)), (2, column(4, 4, 4, 0))) == [0, 1, 1, 1, 1, 0]
    assert join(6, (0, column(0, 1, 1, 1)), (3, column(4, 4, 0))) == [0, 1, 1, 2, 2, 0]


def test_exactly_ten_shared_voxels_are_too_few() -> None:
    upper, lower = np.zeros((2, 1, 12), int), np.zeros((2, 1, 12), int)
    upper[:, 0, :10], lower[:, 0, :10] = 1, 1
    ten = stitch([(0, upper), (1, lower)], JoiningStitcher((3, 1, 12))).instances
    assert ten.max() == 2
    upper[:, 0, 10] = lower[:, 0, 10] = 1
    assert stitch([(0, upper), (1, lower)], JoiningStitcher((3, 1, 12))).instances.max() == 1


def test_two_arms_of_a_rib_that_meet_above_become_one_through_the_upper_window() -> None:
    # An arch: one piece above, two legs below which the lower window sees apart.
    upper = np.zeros((6, 1, 12), int)
    upper[1, 0, :] = 1
    upper[2:, 0, :4] = 1
    upper[2:, 0, 8:] = 1
    lower = np.zeros((6, 1, 12), int)
    lower[:4, 0, :4], lower[:4, 0, 8:] = 1, 2
    found = stitch([(0, upper), (3, lower)], JoiningStitcher((9, 1, 12)))
    assert found.instances.max() == 1
    assert found.notes == ()


def test_two_arms_that_meet_below_become_one_through_the_lower_window() -> None:
    upper = np.zeros((6, 1, 12), int)
    upper[1:, 0, :4], upper[1:, 0, 8:] = 1, 2
    lower = np.zeros((6, 1, 12), int)
    lower[:4, 0, :4] = lower[:4, 0, 8:] = lower[4, 0, :] = 3
    found = stitch([(0, upper), (3, lower)], JoiningStitcher((9, 1, 12)))
    assert found.instances.max() == 1
    # Neither touched the top of the upper window: nothing that was separate further up was joined.
    assert found.notes == ()


def test_a_chain_over_three_windows_keeps_the_number_that_touches_the_top() -> None:
    windows = [(0, column(0, 1, 1, 1)), (2, column(5, 5, 5, 5)), (4, column(2, 2, 2, 0))]
    assert join(8, *windows) == [0, 1, 1, 1, 1, 1, 1, 0]


def test_two_ribs_from_further_up_that_meet_keep_the_lowest_number_and_are_noted() -> None:
    def pair(*shapes: str) -> np.ndarray:
        lines = {"two": [1] * 6 + [0] + [2] * 6, "one": [3] * 13, "no": [0] * 13}
        return np.array([[lines[shape]] for shape in shapes])

    windows = [(0, pair("two", "two", "two", "two")), (2, pair("two", "two", "two", "two"))]
    windows.append((4, pair("one", "one", "one", "no")))
    found = stitch(windows, JoiningStitcher((8, 1, 13)))
    assert found.instances.max() == 1
    assert len(found.notes) == 1
    assert "2 instances" in found.notes[0]


def test_a_voxel_that_two_separate_ribs_claim_is_the_lower_windows() -> None:
    upper, lower = np.zeros((3, 2, 12), int), np.zeros((3, 2, 12), int)
    upper[:, 0] = 1
    lower[0, 0, :5], lower[:, 1] = 2, 2
    found = stitch([(0, upper), (2, lower)], JoiningStitcher((5, 2, 12))).instances
    assert found.max() == 2
    assert found[2, 0].tolist() == [2] * 5 + [1] * 7


def test_pieces_of_one_number_in_a_window_are_instances_of_their_own() -> None:
    assert join(5, (0, column(1, 1, 0, 1, 1))) == [1, 1, 0, 2, 2]


def test_the_naive_ways_give_a_bone_at_a_seam_two_numbers() -> None:
    windows = [(0, column(0, 1, 1, 1)), (2, column(4, 4, 4, 0))]
    assert profile(stitch(windows, NaiveStitcher((6, 2, 3), winner="last")).instances) == [0, 1, 2, 2, 2, 0]
    assert profile(stitch(windows, NaiveStitcher((6, 2, 3), winner="first")).instances) == [0, 1, 1, 1, 2, 0]
    own = [(0, column(0, 1, 1, 1)), (2, column(1, 1, 0, 2))]
    assert profile(stitch(own, NaiveStitcher((6, 2, 3), unique=False)).instances) == [0, 1, 1, 1, 0, 2]


def test_windows_must_come_from_the_top_without_a_gap() -> None:
    stitcher = OverwritingStitcher((9, 2, 3))
    stitcher.add(0, column(1, 1, 1))
    with pytest.raises(ValueError, match="does not follow"):
        stitcher.add(4, column(1, 1, 1))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(64, 400))
def test_the_vertebra_rule_gives_the_truth_for_any_range(seed: int, slices: int) -> None:
    rng = np.random.default_rng(seed)
    truth = random_spine(slices, rng)
    found = stitch(cut_windows(truth, rng), OverwritingStitcher(truth.shape))
    assert same_partition(found.instances, truth)
    assert found.notes == ()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(64, 400))
def test_the_rib_rule_gives_the_truth_but_for_ends_of_ten_voxels(seed: int, slices: int) -> None:
    rng = np.random.default_rng(seed)
    # The rule takes parts that are not connected apart, so the truth is taken by component as well.
    truth = components_by_value(random_cage(slices, rng), 26)
    found = stitch(cut_windows(truth, rng), JoiningStitcher(truth.shape)).instances
    assert np.array_equal(found > 0, truth > 0)
    ends = np.flatnonzero(counts_of(found) <= 10)
    judged = ~np.isin(found, ends)
    assert same_partition(np.where(judged, found, 0), np.where(judged, truth, 0))


def test_naive_stitching_fails_where_the_rules_do_not() -> None:
    rng = np.random.default_rng(0)
    bones = random_spine(300, rng)
    windows = cut_windows(bones, rng)
    assert same_partition(stitch(windows, OverwritingStitcher(bones.shape)).instances, bones)
    for winner in ("last", "first"):
        assert not same_partition(stitch(windows, NaiveStitcher(bones.shape, winner=winner)).instances, bones)


@pytest.mark.parametrize(("height", "noted"), [(30, 0), (32, 0), (33, 2), (40, 16)])
def test_only_a_vertebra_taller_than_the_overlap_needs_more_than_the_rule(height: int, noted: int) -> None:
    rng = np.random.default_rng(0)
    notes = 0
    for offset in range(64, 128):
        bones = spine([height], before=offset, after=256 - offset - height)[:, 12:18, 17:22]
        found = stitch(cut_windows(bones, rng), OverwritingStitcher(bones.shape))
        notes += len(found.notes)
        assert same_partition(found.instances, bones)
    assert notes == noted
