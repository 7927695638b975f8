"""Signed distances between slices, and what was drawn: hand-computed numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg.training.thin_thick import thick_copy
from medseg.training.thin_thick.case import make_case
from medseg.training.thin_thick.drawing import agreement, keep_drawing
from medseg.training.thin_thick.guided import Guided, guided_scores
from medseg.training.thin_thick.shapes import REACH, Between, LabelShapes, classes_of, places_of_thin_slices
from medseg.volumes import Geometry, Volume


def discs(*radii: float, size: int = 41) -> np.ndarray:
    """Return slices with a disc each, (n, size, size), 0 and 1; a radius of 0 is an empty slice."""
    row, column = np.indices((size, size)) - size // 2
    return np.stack([(np.hypot(row, column) < radius).astype(np.uint8) for radius in radii])


def test_thin_slices_lie_between_the_middles_of_their_groups() -> None:
    places = places_of_thin_slices(9, 1, 3, 2)
    # The middles are thin slices 2 and 5; beyond them a slice is at the middle.
    assert [place.lower + place.share for place in places] == pytest.approx([0, 0, 0, 1 / 3, 2 / 3, 1, 1, 1, 1])


def test_groups_of_an_even_number_have_their_middle_between_two_slices() -> None:
    places = places_of_thin_slices(8, 0, 4, 2)
    assert [place.lower + place.share for place in places] == pytest.approx([0, 0, 1 / 8, 3 / 8, 5 / 8, 7 / 8, 1, 1])


def test_one_group_is_its_own_neighbour() -> None:
    assert all(place == Between(0, 0.0) for place in places_of_thin_slices(3, 0, 3, 1))


def test_the_doubt_is_largest_half_way() -> None:
    assert [Between(0, share).doubt for share in (0.0, 0.5, 1.0)] == [0, 0.25, 0]
    assert Between(3, 1 / 3).doubt == pytest.approx(2 / 9)


def test_the_outline_runs_half_way_between_voxels() -> None:
    mask = np.zeros((1, 5, 9), np.uint8)
    mask[:, :, 3:] = 1
    for interpolation in ("classic", "cubic"):
        distances = LabelShapes(mask, [1], (5.0, 1.0, 1.0), interpolation).at(Between(0, 0.0))
        assert distances[0, 2].tolist() == pytest.approx([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5], rel=1e-3)


def test_distances_are_counted_in_pixels_whatever_the_spacing() -> None:
    mask = np.zeros((1, 5, 6), np.uint8)
    mask[:, :, 3:] = 1
    distances = LabelShapes(mask, [1], (5.0, 0.5, 2.0)).at(Between(0, 0.0))
    # A pixel is the root of 0.5 x 2 mm: a column is 2 pixels wide.
    assert distances[0, 2].tolist() == pytest.approx([-5, -3, -1, 1, 3, 5], rel=1e-3)


def test_beyond_its_last_slice_a_shape_is_as_far_away_as_in_space() -> None:
    mask = discs(0, 0, 8)
    classic, cubic = (LabelShapes(mask, [1], (4.0, 1.0, 1.0), kind) for kind in ("classic", "cubic"))
    # The surface runs half-way between the slices, 2 and 6 mm away.
    assert [classic.at(Between(number, 0.0))[0, 20, 20] for number in (1, 0)] == pytest.approx([-2, -6])
    assert [cubic.at(Between(number, 0.0))[0, 20, 20] for number in (1, 0)] == pytest.approx([-4, -12])


def test_the_blended_distance_is_the_geometric_mean_of_that_in_the_slice_and_in_space() -> None:
    mask = np.zeros((3, 41, 41), np.uint8)
    mask[:2, 10:31, 10:31] = 1
    classic, cubic = (
        LabelShapes(mask, [1], (4.0, 1.0, 1.0), kind).at(Between(1, 0.0)) for kind in ("classic", "cubic")
    )
    assert classic[0, 20, 20] == 10.5
    # In space the nearest voxel outside is in the next slice, 4 pixels away, and the surface half-way to it.
    assert cubic[0, 20, 20] == pytest.approx(math.sqrt(10.5 * 2), rel=1e-3)
    assert cubic[0, 20, 40] == pytest.approx(classic[0, 20, 40], rel=1e-3)


def test_a_cone_is_a_cone_again_between_its_slices() -> None:
    # Linear distances are exact here; the blended ones know of the ends and stay near.
    labels = {kind: LabelShapes(discs(17, 13, 9, 5), [1], (4.0, 1.0, 1.0), kind) for kind in ("classic", "cubic")}
    for share in (0.25, 0.5, 0.75):
        wanted = (discs(13 - 4 * share) > 0).sum()
        assert (labels["classic"].at(Between(1, share))[0] > 0).sum() == pytest.approx(wanted, rel=0.05)
        assert (labels["cubic"].at(Between(1, share))[0] > 0).sum() == pytest.approx(wanted, rel=0.08)


def test_a_ball_is_rounder_with_a_cubic_curve() -> None:
    heights = np.arange(-20, 21, 8) + 1.0
    radius = [math.sqrt(max(18**2 - height**2, 0)) for height in heights]
    # Half-way between the slices at -3 and 5.
    wanted = math.pi * (18**2 - 1)
    found = {}
    for kind in ("classic", "cubic"):
        labels = LabelShapes(discs(*radius, size=51), [1], (8.0, 1.0, 1.0), kind)
        found[kind] = (labels.at(Between(2, 0.5))[0] > 0).sum()
    assert abs(found["cubic"] - wanted) < abs(found["classic"] - wanted)
    assert found["cubic"] == pytest.approx(wanted, rel=0.04)


def test_the_curves_are_linear_and_that_of_catmull_and_rom() -> None:
    class Values(LabelShapes):
        def __init__(self, values: list[float], kind: str) -> None:
            self.count, self.shape, self._curve = len(values), (1, 1), kind
            self._parts = [((0, 0), np.array(values, np.float32)[:, None, None])]

    values = [1.0, 2.0, 6.0, 3.0]
    assert Values(values, "cubic").at(Between(1, 0.5))[0, 0, 0] == pytest.approx((9 * (2 + 6) - 1 - 3) / 16)
    assert Values(values, "classic").at(Between(1, 0.25))[0, 0, 0] == pytest.approx(3.0)
    # At the ends the outermost slice is its own neighbour.
    assert Values(values, "cubic").at(Between(0, 0.5))[0, 0, 0] == pytest.approx((9 * (1 + 2) - 1 - 6) / 16)


@settings(max_examples=20, deadline=None)
@given(
    rows=st.tuples(st.integers(0, 30), st.integers(1, 11)),
    columns=st.tuples(st.integers(0, 30), st.integers(1, 11)),
    share=st.floats(0, 1),
)
def test_a_window_of_the_distances_is_that_part_of_all(rows: tuple, columns: tuple, share: float) -> None:
    window = [slice(start, start + size) for start, size in (rows, columns)]
    whole = _SHAPES.at(Between(0, share))
    np.testing.assert_array_equal(_SHAPES.at(Between(0, share), *window), whole[(slice(None), *window)])


_SHAPES = LabelShapes(discs(9, 6, 0), [1, 2], (3.0, 1.0, 1.0))


def test_what_is_far_from_a_label_is_not_held() -> None:
    mask = np.zeros((2, 300, 300), np.uint8)
    mask[:, :10, :10] = 1
    labels = LabelShapes(mask, [1], (3.0, 1.0, 1.0))
    assert labels._parts[0][1].shape == (2, 50, 50)
    distances = labels.at(Between(0, 0.3))
    assert distances.shape == (1, 300, 300)
    assert distances[0, 200, 200] == -REACH


def test_the_network_is_asked_near_labels_only() -> None:
    thin = Volume(
        np.random.default_rng(0).normal(size=(9, 90, 90)).astype(np.float32), Geometry.from_spacing((9, 90, 90))
    )
    drawn = np.zeros((3, 90, 90), np.uint8)
    drawn[:, 40:50, 40:50] = 1
    case = make_case(thin, Volume(drawn, thick_copy(thin, factor=3).geometry), 60.0)
    labels = LabelShapes(case.drawn, [1], case.thick_spacing)
    model = Guided(1).eval()
    torch.nn.init.constant_(model.network.head.bias, 1000.0)
    place = Between(0, 0.5)
    distances = labels.at(place)
    scores = guided_scores(model, case, distances, place, 2)
    assert (scores[0, 20:70, 20:70] > 0).all()
    assert not (scores[0, :, :10] > 0).any()
    assert not (scores[0, 80:] > 0).any()
    # In the middle of a thick slice the shape is what was drawn.
    np.testing.assert_array_equal(guided_scores(model, case, distances, Between(0, 0.0), 1), distances)


def test_places_near_outlines_are_near_outlines() -> None:
    labels = LabelShapes(discs(9, 6), [1], (3.0, 1.0, 1.0))
    (places,) = labels.near_outlines(2.0, 50, np.random.default_rng(0))
    assert len(places) == 50
    for slice_, row, column in places.tolist():
        assert abs(labels.at(Between(slice_, 0.0))[0, row, column]) < 2


def test_the_class_is_that_of_the_highest_positive_score() -> None:
    scores = np.array([[-1.0, 2.0, 0.0, 1.0], [-2.0, 3.0, 0.0, 0.5]])
    assert classes_of(scores).tolist() == [0, 2, 0, 1]


def test_columns_are_shifted_by_the_least_that_shows_what_was_drawn() -> None:
    # One label, three slices, three voxels: drawn and too low; drawn and right; not drawn and too high.
    scores = np.array([[[[-5.0, 1.0, 3.0]], [[-1.0, 2.0, 1.0]], [[2.0, -9.0, -4.0]]]])
    kept = keep_drawing(scores.copy(), np.array([[1, 1, 0]]))
    assert (kept > 0)[0, :, 0].T.tolist() == [[False, True, True], [True, True, False], [True, False, False]]
    np.testing.assert_allclose(kept[0, :, 0, 0] - scores[0, :, 0, 0], 1.001)
    np.testing.assert_array_equal(kept[0, :, 0, 1], scores[0, :, 0, 1])
    np.testing.assert_allclose(kept[0, :, 0, 2] - scores[0, :, 0, 2], -1.001)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), labels=st.integers(1, 3), slices=st.integers(1, 8))
def test_more_than_half_of_a_group_shows_what_was_drawn(data: st.DataObject, labels: int, slices: int) -> None:
    scores = data.draw(hnp.arrays(np.float64, (labels, slices, 2, 3), elements=st.floats(-9, 9)))
    drawn = data.draw(hnp.arrays(np.int64, (2, 3), elements=st.integers(0, labels)))
    found = classes_of(keep_drawing(scores, drawn))
    for index in range(1, labels + 1):
        assert ((found == index).mean(0)[drawn == index] > 0.5).all()
    assert ((found > 0).mean(0)[drawn == 0] <= 0.5).all()


def test_agreement_counts_the_mean_of_the_thin_masks() -> None:
    thin = np.array([7, 7, 0, 0, 7, 0, 0, 0, 0, 5])[:, None, None]
    drawn = np.array([7, 0, 0])[:, None, None]
    first, second, third = agreement(thin, drawn, [7, 5], first=1, ratio=3)
    assert (first.thick_slice, first.first_thin, first.last_thin, first.value) == (0, 1, 3, 7)
    assert first.mean_difference == pytest.approx(2 / 3)
    assert first.dice == pytest.approx(2 * (1 / 3) / (1 / 3 + 1))
    assert (second.drawn_voxels, second.mean_difference, second.dice) == (0, pytest.approx(1 / 3), 0)
    assert (third.thick_slice, third.value) == (2, 5)
