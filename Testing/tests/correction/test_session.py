"""Whatever a tool proposes: only the region changes, the user's word counts, and every prompt can be taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.correction.prompts import Prompt
from medseg.correction.region import Mark, Region
from medseg.correction.session import KEPT_STATES, Corrector
from medseg.errors import InputError
from medseg.volumes import Geometry, Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

GRID = Geometry.from_spacing((6, 8, 10), (1.0, 1.0, 3.0))
VOLUME = Volume(np.zeros(GRID.shape, np.float32), GRID)


class Noise:
    """Proposes anything, 6 mm around the last prompt; its state is how often it was asked."""

    def __init__(self) -> None:
        self.state = 0

    def restore(self, state: int) -> None:
        self.state = state

    def propose(self, mask: np.ndarray, marks: Sequence[Mark]) -> tuple[Region, np.ndarray]:
        del mask
        self.state += 1
        region = Region.around(marks[-1].voxels, GRID, 6.0)
        return region, np.random.default_rng(self.state).random(region.shape) > 0.5


@st.composite
def clicks(draw: st.DrawFn) -> Prompt:
    places = draw(st.lists(st.tuples(*[st.integers(0, n - 1) for n in GRID.size]), min_size=1, max_size=3))
    kind = "point" if len(places) == 1 else "scribble"
    return Prompt(kind, GRID.ijk_to_ras_points(np.array(places, float)), draw(st.booleans()))


def a_start(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(GRID.shape) > 0.6


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 99), st.lists(clicks(), min_size=1, max_size=8))
def test_only_the_region_changes_and_the_last_word_counts(seed: int, prompts: list[Prompt]) -> None:
    work, said = Corrector(Noise(), VOLUME, a_start(seed)), {}
    for prompt in prompts:
        before = work.mask.copy()
        region = work.add(prompt)
        outside = np.ones(GRID.shape, bool)
        outside[region.slices] = False
        assert np.array_equal(work.mask[outside], before[outside])
        said.update({tuple(place): prompt.positive for place in prompt.voxels(GRID).tolist()})
        assert all(work.mask[place] == said[place] for place in map(tuple, prompt.voxels(GRID).tolist()))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 99), st.lists(clicks(), min_size=1, max_size=8))
def test_undo_to_the_start_gives_the_exact_segment_and_redo_the_same_again(seed: int, prompts: list[Prompt]) -> None:
    tool = Noise()
    work = Corrector(tool, VOLUME, a_start(seed))
    work.follow(prompts)
    last = work.mask.copy()
    while work.prompts:
        work.undo()
    assert np.array_equal(work.mask, a_start(seed))
    assert tool.state == 0
    work.follow(prompts)
    assert np.array_equal(work.mask, last)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 99), st.lists(clicks(), min_size=2, max_size=8), st.data())
def test_without_one_prompt_the_rest_is_as_if_it_had_never_been(
    seed: int, prompts: list[Prompt], data: st.DataObject
) -> None:
    gone = data.draw(st.integers(0, len(prompts) - 1))
    rest = prompts[:gone] + prompts[gone + 1 :]
    work, fresh = Corrector(Noise(), VOLUME, a_start(seed)), Corrector(Noise(), VOLUME, a_start(seed))
    work.follow(prompts)
    before = work.mask.copy()
    region = work.follow(rest)
    fresh.follow(rest)
    assert np.array_equal(work.mask, fresh.mask)
    assert region is not None
    outside = np.ones(GRID.shape, bool)
    outside[region.slices] = False
    assert np.array_equal(work.mask[outside], before[outside])


def test_what_was_given_is_left_as_it_is() -> None:
    given_mask = a_start(1)
    Corrector(Noise(), VOLUME, given_mask).add(Prompt("point", (5.0, 4, 6)))
    assert np.array_equal(given_mask, a_start(1))


def test_a_prompt_where_nothing_may_be_changed_is_refused() -> None:
    allowed = np.ones(GRID.shape, bool)
    allowed[2, 4, 5] = False
    tool = Noise()
    work = Corrector(tool, VOLUME, a_start(1), allowed=allowed)
    with pytest.raises(InputError, match="nothing may be changed"):
        work.add(Prompt("point", (5.0, 4, 6)))
    assert tool.state == 0
    work.add(Prompt("point", (6.0, 4, 6)))
    assert np.array_equal(work.mask[~allowed], a_start(1)[~allowed])


def test_a_segment_of_another_grid_is_refused() -> None:
    with pytest.raises(InputError, match="another grid"):
        Corrector(Noise(), VOLUME, np.zeros((3, 3, 3), bool))


def test_many_prompts_take_little_memory_and_all_can_be_taken_back() -> None:
    class Heavy(Noise):
        """Its state is large, as a network's answers are."""

        def __init__(self) -> None:
            super().__init__()
            self.state = None
            self.asked = 0

        def restore(self, state: object) -> None:
            self.state = state

        def propose(self, mask: np.ndarray, marks: Sequence[Mark]) -> tuple[Region, np.ndarray]:
            del mask
            self.asked += 1
            self.state = np.zeros(1000)
            region = Region.around(marks[-1].voxels, GRID, 6.0)
            return region, np.random.default_rng(self.asked).random(region.shape) > 0.5

    work = Corrector(Heavy(), VOLUME, a_start(0))
    rng = np.random.default_rng(0)
    for _ in range(200):
        place = [int(rng.integers(size)) for size in GRID.size]
        work.add(Prompt("point", GRID.ijk_to_ras_points(np.array(place, float)), bool(rng.integers(2))))
    assert sum(step.state is not None for step in work._steps) == KEPT_STATES
    for _ in range(200):
        work.undo()
    assert np.array_equal(work.mask, a_start(0))
