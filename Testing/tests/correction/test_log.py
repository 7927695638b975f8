"""The log of a correction knows each state of the segment, and goes on after it was text."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.correction.log import CorrectionLog, digest_of
from medseg.correction.prompts import PLANES, Prompt
from medseg.correction.region import Region

SHAPE = (6, 9, 11)


class Segment:
    """A segment that prompts change at random, as a panel logs it."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.mask = self.rng.random(SHAPE) > 0.5
        self.log = CorrectionLog(self.mask.copy())
        self.states = [self.mask.copy()]
        self.regions: list[Region] = []

    def prompt(self) -> Prompt:
        return Prompt("point", self.rng.random(3), plane=(None, *PLANES)[int(self.rng.integers(4))])

    def click(self) -> None:
        start = [int(self.rng.integers(0, size - 1)) for size in SHAPE]
        stop = [int(self.rng.integers(low + 1, size + 1)) for low, size in zip(start, SHAPE, strict=True)]
        region = Region(tuple(start), tuple(stop))
        self.mask[region.slices] = self.rng.random(region.shape) > 0.5
        self.regions.append(region)
        prompts = [*self.log.prompts(len(self.log.entries)), self.prompt()]
        self.log.record(prompts, self.regions, digest_of(self.mask))
        self.states.append(self.mask.copy())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 6))
def test_every_state_is_recognised_and_the_log_survives_as_text(seed: int, clicks: int) -> None:
    segment = Segment(seed)
    for _ in range(clicks):
        segment.click()
    text = segment.log.to_text(volume="CT", number=3)
    for position, state in enumerate(segment.states):
        found = segment.log.position_of(digest_of(state))
        assert found is not None
        assert np.array_equal(segment.states[found], state)
        assert found >= position
        loaded = CorrectionLog.from_text(text, state)
        assert loaded is not None, "undone to there before it was saved"
        log, about = loaded
        assert about == {"volume": "CT", "number": 3}
        assert np.array_equal(log.start, segment.states[0])
        assert log.prompts(clicks) == segment.log.prompts(clicks)
        assert [entry.region for entry in log.entries] == segment.regions


def test_a_segment_that_was_changed_by_other_means_is_not_recognised() -> None:
    segment = Segment()
    segment.click()
    text = segment.log.to_text()
    segment.mask[0, 0, 0] ^= True
    assert segment.log.position_of(digest_of(segment.mask)) is None
    assert CorrectionLog.from_text(text, segment.mask) is None


def test_a_prompt_deleted_from_the_middle_leaves_the_states_before_it() -> None:
    segment = Segment()
    for _ in range(4):
        segment.click()
    kept = segment.log.prompts(4)
    segment.log.record([kept[0], kept[2], kept[3]], [segment.regions[n] for n in (0, 2, 3)], digest_of(segment.mask))
    assert segment.log.prompts(9) == [kept[0], kept[2], kept[3]]
    assert segment.log.position_of(digest_of(segment.states[1])) == 1
    assert segment.log.position_of(digest_of(segment.states[2])) is None
    assert segment.log.position_of(digest_of(segment.mask)) == 3


def test_a_prompt_after_an_undo_forgets_what_was_undone() -> None:
    segment = Segment()
    for _ in range(3):
        segment.click()
    first = segment.log.prompts(1)
    other = Prompt("point", [5.0, 5, 5], positive=False)
    segment.log.record([*first, other], segment.regions[:2], 77)
    assert segment.log.prompts(9) == [*first, other]
    assert segment.log.position_of(77) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.update(format=2),
        lambda data: data.pop("prompts"),
        lambda data: data.update(start="AAAA"),
        lambda data: data.update(start="no base64"),
        lambda data: data.update(region=[[0, 0, 0], [99, 99, 99]]),
        lambda data: data.update(start_digest=1),
        lambda data: data["prompts"][0].update(ras=[1, 2]),
    ],
)
def test_a_text_that_is_no_log_is_ignored(change: object) -> None:
    segment = Segment()
    segment.click()
    data = json.loads(segment.log.to_text())
    change(data)
    assert CorrectionLog.from_text(json.dumps(data), segment.mask) is None
    assert CorrectionLog.from_text("not JSON", segment.mask) is None
    assert CorrectionLog.from_text("[]", segment.mask) is None
