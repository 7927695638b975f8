"""The simulated user."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.interaction.cases import Scan
from benchmarks.interaction.users import _next, clicked
from medseg.correction import next_click
from medseg.correction.region import Region
from medseg.errors import Cancelled
from medseg.progress import Progress


class Obedient:
    """Answers with the truth, from the given click on, and remembers where it was clicked."""

    def __init__(self, truth: np.ndarray, after: int = 1) -> None:
        self.truth, self.after, self.marks = truth, after, []
        self.state = None

    def restore(self, state: None) -> None: ...

    def propose(self, mask, marks):
        self.marks = list(marks)
        region = Region((0, 0, 0), mask.shape)
        return region, self.truth if len(marks) >= self.after else mask


def test_dice_is_taken_after_each_click_and_stays_when_nothing_is_wrong(blocks: Scan):
    volume, truth = blocks
    tool = Obedient(truth, after=2)
    session = clicked(tool, volume, truth, np.zeros(truth.shape, bool), 4)

    one_voxel = 2 / (truth.sum() + 1)
    assert session.before == 0
    assert session.scores == (pytest.approx(one_voxel), 1.0, 1.0, 1.0)
    assert len(tool.marks) == len(session.seconds) == len(session.processor_seconds) == 2
    assert all(seconds > 0 for seconds in session.seconds)


def test_the_first_click_is_into_the_middle_and_says_what_belongs_to_the_structure(blocks: Scan):
    volume, truth = blocks
    tool = Obedient(truth)
    clicked(tool, volume, truth, np.zeros(truth.shape, bool), 1)
    (mark,) = tool.marks
    assert mark.positive
    assert np.abs(mark.voxels[0] - [13.5, 14.5, 11.5]).max() <= 2


def test_too_much_is_clicked_away(blocks: Scan):
    volume, truth = blocks
    mask = truth.copy()
    mask[8:20, 8:22, 20:30] = True
    tool = Obedient(truth)
    session = clicked(tool, volume, truth, mask, 1)
    assert not tool.marks[0].positive
    assert session.before < 1
    assert session.scores == (1.0,)
    # The mask that it began with is another's.
    assert mask[8:20, 8:22, 20:30].all()


@pytest.mark.parametrize("seed", range(4))
def test_looking_where_something_is_finds_what_looking_everywhere_finds(seed: int):
    rng = np.random.default_rng(seed)
    truth, mask = (rng.random((9, 12, 14)) > 0.6 for _ in range(2))
    truth[:3], mask[:, :4] = False, False
    spacing = (3.0, 1.0, 1.5)
    assert _next(mask, truth, spacing) == next_click(mask, truth, spacing=spacing)


def test_there_is_no_click_where_there_is_nothing():
    empty = np.zeros((4, 4, 4), bool)
    assert _next(empty, empty, (1.0, 1.0, 1.0)) is None


def test_a_session_can_be_stopped(blocks: Scan):
    volume, truth = blocks
    with pytest.raises(Cancelled):
        clicked(Obedient(truth), volume, truth, truth, 1, Progress(None, lambda: True))
