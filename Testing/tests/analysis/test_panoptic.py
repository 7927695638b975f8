from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medseg.analysis.panoptic import Panoptic, compare_instances, panoptic_quality, pooled
from medseg.errors import GeometryError
from medseg.volumes import Geometry, Volume


def row(*values: int) -> np.ndarray:
    return np.array(values, np.uint8).reshape(1, 1, -1)


def figures(found: Panoptic) -> tuple[int, int, int]:
    return found.true_positives, found.false_positives, found.false_negatives


def test_a_perfect_prediction_has_quality_one_whatever_its_numbers() -> None:
    found = panoptic_quality(row(0, 9, 9, 0, 4), row(0, 1, 1, 0, 2))
    assert figures(found) == (2, 0, 0)
    assert (found.sq, found.rq, found.pq) == (1.0, 1.0, 1.0)


def test_a_rib_cut_into_two_equal_halves_is_found_once() -> None:
    # Each half of 2 against the rib of 4: Dice 2*2/(2+4) = 2/3 > 0.5 with both. Only one may match:
    # RQ = 1/(1 + 1/2) = 2/3, PQ = 4/9. With both matched it would be a perfect RQ.
    found = panoptic_quality(row(1, 1, 2, 2, 0), row(5, 5, 5, 5, 0))
    assert figures(found) == (1, 1, 0)
    assert found.sq == pytest.approx(2 / 3)
    assert found.rq == pytest.approx(2 / 3)
    assert found.pq == pytest.approx(4 / 9)


def test_an_uneven_split_matches_its_larger_part() -> None:
    # 3 of 4: Dice 6/7; 1 of 4: Dice 2/5, no candidate.
    found = panoptic_quality(row(1, 1, 1, 2), row(5, 5, 5, 5))
    assert figures(found) == (1, 1, 0)
    assert found.matches[0].predicted == 1
    assert found.pq == pytest.approx(6 / 7 * 2 / 3)


def test_two_bones_in_one_prediction_are_one_hit_and_one_miss() -> None:
    # 5 voxels over bones of 3 and 2: Dice 6/8 and 4/7.
    found = panoptic_quality(row(1, 1, 1, 1, 1), row(5, 5, 5, 6, 6))
    assert figures(found) == (1, 0, 1)
    assert found.sq == pytest.approx(0.75)


def test_a_missed_bone_and_an_invented_one_are_counted() -> None:
    found = panoptic_quality(row(1, 0, 0, 3), row(1, 0, 2, 0))
    assert figures(found) == (1, 1, 1)
    assert found.rq == pytest.approx(1 / 2)


def test_a_dice_of_exactly_one_half_is_no_match() -> None:
    # 1 of 3 predicted, both: 2*1/(1+3) = 0.5.
    found = panoptic_quality(row(1, 0, 0), row(5, 5, 5))
    assert figures(found) == (0, 1, 1)
    assert found.pq == 0.0
    assert math.isnan(found.sq)


def test_pairs_are_matched_in_the_order_of_falling_dice() -> None:
    # Prediction 1 overlaps truth 5 in 3 (Dice 6/9) and truth 6 in 2 (4/7); prediction 2 overlaps truth 5 in 1 only.
    predicted = row(2, 1, 1, 1, 1, 1, 0, 0)
    true = row(5, 5, 5, 5, 6, 6, 0, 0)
    found = panoptic_quality(predicted, true)
    assert [(match.predicted, match.true) for match in found.matches] == [(1, 5)]
    assert found.sq == pytest.approx(2 * 3 / (5 + 4))


def test_nothing_in_both_has_no_quality() -> None:
    found = panoptic_quality(row(0, 0), row(0, 0))
    assert math.isnan(found.pq)


def test_cases_are_pooled_and_not_averaged() -> None:
    perfect = panoptic_quality(row(1, 2, 3), row(1, 2, 3))
    missed = panoptic_quality(row(0), row(1))
    # 3 hits and 1 miss: RQ = 3/3.5; the mean of the cases would be 0.5.
    assert pooled([perfect, missed]).pq == pytest.approx(3 / 3.5)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        panoptic_quality(row(1, 2), row(1, 2, 3))


def test_instances_match_within_their_group_only() -> None:
    geometry = Geometry.from_spacing((1, 1, 4))
    predicted, true = Volume(row(1, 1, 7, 7), geometry), Volume(row(1, 1, 2, 2), geometry)
    found = compare_instances(predicted, true, {"ribs": ([1], [1, 2]), "vertebrae": ([7, 99], [])})
    assert figures(found["ribs"]) == (1, 0, 1)
    assert figures(found["vertebrae"]) == (0, 1, 0)
    assert compare_instances(predicted, true)["all"].pq == 1.0


def test_other_grids_are_refused() -> None:
    first = Volume(row(1, 2), Geometry.from_spacing((1, 1, 2)))
    second = Volume(row(1, 2), Geometry.from_spacing((1, 1, 2), (2.0, 1.0, 1.0)))
    with pytest.raises(GeometryError, match="one grid"):
        compare_instances(first, second)


labels = arrays(np.uint8, st.tuples(*[st.integers(1, 4)] * 3), elements=st.integers(0, 4))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_every_instance_is_counted_once_and_exchanging_the_two_exchanges_the_errors(data: st.DataObject) -> None:
    predicted = data.draw(labels)
    true = data.draw(arrays(np.uint8, predicted.shape, elements=st.integers(0, 4)))
    found, back = panoptic_quality(predicted, true), panoptic_quality(true, predicted)
    assert found.true_positives + found.false_positives == len(np.unique(predicted[predicted > 0]))
    assert found.true_positives + found.false_negatives == len(np.unique(true[true > 0]))
    assert len({match.predicted for match in found.matches}) == len({match.true for match in found.matches})
    assert all(0.5 < match.dice <= 1 for match in found.matches)
    # Ties may fall another way, but never the best pair.
    best = max((match.dice for match in found.matches), default=0)
    assert best == max((match.dice for match in back.matches), default=0)


def test_cut_outs_of_one_grid_are_compared_in_the_box_that_holds_both() -> None:
    whole = Geometry.from_spacing((1, 1, 8))
    left = Volume(row(1, 1, 0, 2), whole.cropped((0, 0, 0), (1, 1, 4)))
    right = Volume(row(7, 7, 9, 9), whole.cropped((0, 0, 3), (1, 1, 7)))
    found = compare_instances(left, right)["all"]
    # Only voxel 3 is in both: instance 2 (one voxel) and 7 (two): Dice 2/3.
    assert [(match.predicted, match.true) for match in found.matches] == [(2, 7)]
    assert figures(found) == (1, 1, 1)
    back = compare_instances(right, left)["all"]
    assert figures(back) == (1, 1, 1)


def test_cut_outs_at_the_far_ends_of_a_grid_are_refused() -> None:
    first = Volume(row(1, 1), Geometry.from_spacing((1, 1, 2)))
    second = Volume(row(1, 1), Geometry.from_spacing((1, 1, 2), origin=(100000.0, 0.0, 0.0)))
    with pytest.raises(GeometryError, match="far apart"):
        compare_instances(first, second)
