"""Clicks and the user who is simulated: into the middle of the largest error, and drawn where they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from medseg.correction import Click, click_maps, first_click, next_click

MASKS = array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=9).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)


def test_the_first_click_is_in_the_middle_of_the_largest_piece() -> None:
    truth = np.zeros((20, 30), bool)
    truth[2:7, 2:7] = True
    truth[10:19, 12:21] = True
    assert first_click(truth) == Click((14, 16), positive=True)


def test_an_empty_structure_has_no_first_click() -> None:
    with pytest.raises(ValueError, match="nothing to click at"):
        first_click(np.zeros((4, 4), bool))


def test_the_next_click_is_negative_where_the_excess_is_larger_than_what_is_missed() -> None:
    truth, answer = np.zeros((2, 24, 24), bool)
    truth[2:9, 2:9] = answer[4:9, 2:9] = True
    answer[12:21, 12:21] = True
    assert next_click(answer, truth) == Click((16, 16), positive=False)
    answer[14:] = False
    assert next_click(answer, truth).positive is False, "18 voxels too much are more than 14 that are missed"
    answer[13:] = False
    assert next_click(answer, truth).positive is True, "9 are less"


def test_what_is_right_needs_no_click() -> None:
    truth = np.eye(5, dtype=bool)
    assert next_click(truth, truth) is None


def test_the_middle_is_measured_in_millimetres() -> None:
    truth = np.ones((3, 31, 31), bool)
    truth[:, :10] = False
    middle = first_click(truth, spacing=(20.0, 1.0, 1.0)).place
    assert middle[1:] == (20, 15), "thick slices do not hold the click at the middle slice's border"


def test_the_border_of_the_image_is_a_border() -> None:
    assert first_click(np.ones((9, 9), bool)).place == (4, 4)


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_a_click_always_lies_in_an_error(masks: tuple[np.ndarray, np.ndarray]) -> None:
    answer, truth = masks
    for rng in (None, np.random.default_rng(0)):
        click = next_click(answer, truth, rng=rng)
        if click is None:
            assert np.array_equal(answer, truth)
        else:
            assert truth[click.place] == click.positive
            assert answer[click.place] != click.positive


def test_random_clicks_stay_in_the_inner_part() -> None:
    truth = np.zeros((40, 40), bool)
    truth[10:31, 10:31] = True
    places = {first_click(truth, rng=np.random.default_rng(seed)).place for seed in range(20)}
    assert len(places) > 10
    assert all(14 < place < 26 for pair in places for place in pair)


def test_disks_are_drawn_by_sign_and_cut_at_the_border() -> None:
    clicks = [Click((0, 0), positive=True), Click((10, 10), positive=False), Click((-1, 5), positive=True)]
    positive, negative = click_maps(clicks, (20, 20), 2)
    assert negative.sum() == 13
    assert negative[8, 10] == negative[10, 12] == negative[9, 9] == 1
    assert negative[8, 9] == 0
    assert positive[:3, :3].sum() == 6
    assert positive[0].sum() == 3 + 3, "a click beyond the border shows what of its disk lies in the image"


def test_balls_may_be_flat() -> None:
    (ball, _) = click_maps([Click((5, 10, 10), positive=True)], (11, 21, 21), (0.4, 3.0, 3.0))
    assert ball.sum() == ball[5].sum() == 29


def test_no_clicks_make_empty_maps() -> None:
    maps = click_maps([], (3, 4, 5), 5)
    assert maps.shape == (2, 3, 4, 5)
    assert maps.dtype == np.float32
    assert not maps.any()
