"""A correction changes voxels in its region alone, follows the last word of the user, and eats no neighbour."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.correction.region import Mark, Region, bounding_box, merged
from medseg.errors import InputError
from medseg.volumes import Geometry

SHAPE = (6, 8, 10)
GRID = Geometry.from_spacing(SHAPE, (1.0, 1.0, 3.0))


@st.composite
def corrections(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, Region, list[Mark], np.ndarray]:
    """A segment, a proposal, a region, prompts and what may be changed."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    start = [draw(st.integers(0, size - 1)) for size in SHAPE]
    stop = [draw(st.integers(first + 1, size)) for first, size in zip(start, SHAPE, strict=True)]
    region = Region(tuple(start), tuple(stop))
    marks = [
        Mark(rng.integers(0, SHAPE, (rng.integers(1, 5), 3)), bool(rng.integers(2))) for _ in range(rng.integers(0, 6))
    ]
    before, allowed = rng.random(SHAPE) > 0.5, rng.random(SHAPE) > 0.3
    return before, rng.random(region.shape) > 0.5, region, marks, allowed


@settings(max_examples=100, deadline=None)
@given(corrections())
def test_the_last_word_on_a_voxel_counts(case: tuple) -> None:
    before, proposal, region, marks, _ = case
    inside = merged(before, proposal, region, marks)
    said = {tuple(voxel): mark.positive for mark in marks for voxel in region.local(mark.voxels).tolist()}
    assert all(inside[voxel] == positive for voxel, positive in said.items())
    silent = np.ones(region.shape, bool)
    for voxel in said:
        silent[voxel] = False
    assert np.array_equal(inside[silent], proposal[silent])


@settings(max_examples=100, deadline=None)
@given(corrections())
def test_what_must_not_be_changed_stays(case: tuple) -> None:
    before, proposal, region, marks, allowed = case
    kept = before.copy()
    inside = merged(before, proposal, region, marks, allowed)
    assert np.array_equal(inside[~allowed[region.slices]], before[region.slices][~allowed[region.slices]])
    assert np.array_equal(before, kept), "what was given is left as it is"


def test_what_holds_the_segment_does_not_fill_it() -> None:
    region = Region((0, 0, 0), (2, 2, 2))
    frame = Mark(np.argwhere(np.ones(region.shape, bool)), positive=True, is_frame=True)
    assert not merged(np.zeros(SHAPE, bool), np.zeros(region.shape, bool), region, [frame]).any()


def test_the_box_around_a_mask_is_as_small_as_can_be() -> None:
    mask = np.zeros(SHAPE, bool)
    assert bounding_box(mask) is None
    mask[2, 3, 9] = mask[4, 1, 5] = True
    assert bounding_box(mask) == Region((2, 1, 5), (5, 4, 10))


def test_two_regions_are_joined_by_the_smallest_box_around_both() -> None:
    region = Region((1, 1, 1), (2, 2, 2))
    assert region.joined(Region((0, 1, 3), (1, 2, 4))) == Region((0, 1, 1), (2, 2, 4))
    assert region.joined(None) == region


def test_a_region_reaches_as_many_millimetres_to_each_side() -> None:
    region = Region.around(np.array([[3, 4, 5]]), GRID, 3.0)
    assert (region.start, region.stop) == ((2, 1, 2), (5, 8, 9))
    low, high = region.bounds_ras(GRID)
    assert low == pytest.approx((1.5, 0.5, 4.5))
    assert high == pytest.approx((8.5, 7.5, 13.5))


def test_a_region_ends_at_the_border_and_holds_all_that_was_marked() -> None:
    region = Region.around(np.array([[0, 0, 0], [5, 2, 9]]), GRID, 1.0)
    assert (region.start, region.stop) == ((0, 0, 0), (6, 4, 10))


def test_a_prompt_beside_the_volume_is_refused() -> None:
    with pytest.raises(InputError, match="outside of the volume"):
        Region.around(np.empty((0, 3), int), GRID, 5.0)


def test_an_empty_region_is_none() -> None:
    with pytest.raises(ValueError, match="empty"):
        Region((0, 0, 0), (1, 0, 1))
