"""A segment is corrected where the user points: nothing else changes, the window follows, and stays when it can."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medseg.correction.engine import EDGE_MM, NetworkTool
from medseg.correction.prompts import Prompt
from medseg.correction.session import Corrector
from medseg.errors import InputError
from medseg.networks import PEMED
from medseg.volumes import Geometry, Volume

SIZE = (32, 32, 32)
GRID = Geometry.from_spacing((30, 60, 60), (1.0, 1.0, 2.0))


class Painter(PEMED):
    """Keeps the previous answer but for what lies around clicks."""

    def __init__(self, reach: int = 2) -> None:
        super().__init__(
            dims=3, head_norm="group", channels=(8, 8, 8, 8), depths=(1,) * 4, heads=(1,) * 4, head_channels=8
        )
        self.reach, self.passes = reach, 0

    def refine(
        self,
        features: tuple[Tensor, Tensor | None],
        positive: Tensor,
        negative: Tensor,
        previous: Tensor,
        last_logits: Tensor | None = None,
    ) -> Tensor:
        del features, last_logits
        self.passes += 1
        wanted, unwanted = (
            torch.nn.functional.max_pool3d(clicks, 2 * self.reach + 1, 1, self.reach) for clicks in (positive, negative)
        )
        share = torch.where(unwanted > 0, 0.01, torch.where(wanted > 0, 0.99, previous.clamp(0.01, 0.99)))
        return torch.logit(share)


@pytest.fixture(scope="module")
def a_volume() -> Volume:
    return Volume(np.random.default_rng(0).normal(size=GRID.shape).astype(np.float32), GRID)


def a_segment() -> np.ndarray:
    mask = np.zeros(GRID.shape, bool)
    mask[8:20, 20:41, 22:39] = True
    # Detail that the window is too coarse for.
    mask[8:20:2, 20, 22:39:2] = False
    return mask


def point(k: float, j: float, i: float, *, positive: bool = True) -> Prompt:
    return Prompt("point", GRID.ijk_to_ras_points(np.array([i, j, k], float)), positive)


def corrector(
    volume: Volume,
    mask: np.ndarray,
    network: PEMED | None = None,
    *,
    allowed: np.ndarray | None = None,
    edge_mm: float | None = None,
) -> Corrector:
    tool = NetworkTool((network or Painter()).eval(), volume, size=SIZE, edge_mm=edge_mm)
    return Corrector(tool, volume, mask, allowed=allowed)


def nothing() -> np.ndarray:
    return np.zeros(GRID.shape, bool)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, n - 1) for n in GRID.shape], st.booleans()), min_size=1, max_size=4))
def test_clicks_are_followed_and_nothing_changes_outside_of_the_region(
    clicks: list[tuple[int, int, int, bool]],
) -> None:
    volume = Volume(np.zeros(GRID.shape, np.float32), GRID)
    work = corrector(volume, a_segment(), edge_mm=40.0)
    before = a_segment()
    for k, j, i, positive in clicks:
        region = work.add(point(k, j, i, positive=positive))
        assert work.mask[k, j, i] == positive
        outside = np.ones(GRID.shape, bool)
        outside[region.slices] = False
        assert np.array_equal(work.mask[outside], before[outside])
        before = work.mask.copy()
    said = {click[:3]: click[3] for click in clicks}
    assert all(work.mask[place] == positive for place, positive in said.items())


def test_what_the_network_leaves_keeps_its_voxels(a_volume: Volume) -> None:
    before = a_segment()
    work = corrector(a_volume, before, Painter(reach=0))
    work.add(point(14, 30, 30))
    changed = np.argwhere(work.mask != before)
    assert len(changed) < 30, "the comb at the edge is finer than the window, and stays"
    assert (np.abs(changed - [14, 30, 30]).max(0) < 6).all() if len(changed) else True


def test_a_second_click_nearby_keeps_the_window_and_its_answers(a_volume: Volume) -> None:
    network = Painter()
    work = corrector(a_volume, nothing(), network)
    first = work.add(point(14, 30, 30))
    assert network.passes == 2, "the first answer from nothing takes two"
    second = work.add(point(16, 36, 30))
    assert network.passes == 3
    assert second == first
    third = work.add(point(2, 2, 2, positive=False))
    assert third != first
    assert work.mask[14, 30, 30]
    assert work.mask[16, 36, 30]


def test_the_window_grows_while_the_answer_fills_it() -> None:
    grid = Geometry.from_spacing((60, 120, 120), (1.0, 1.0, 2.0))
    volume, empty = Volume(np.zeros(grid.shape, np.float32), grid), np.zeros(grid.shape, bool)
    click = Prompt("point", grid.ijk_to_ras_points(np.array([60.0, 60, 30])))

    def edge_mm(reach: int, **options: float) -> float:
        region = corrector(volume, empty, Painter(reach=reach), **options).add(click)
        return float(max(np.array(region.shape) * (2, 1, 1)))

    assert edge_mm(2) <= EDGE_MM < edge_mm(20), "40 mm to each side do not fit into the first window"
    assert edge_mm(20, edge_mm=30.0) <= 30, "what the user chose stays"


def test_a_click_beside_what_was_begun_here_makes_the_window_larger() -> None:
    grid = Geometry.from_spacing((60, 120, 120), (1.0, 1.0, 2.0))
    volume, empty = Volume(np.zeros(grid.shape, np.float32), grid), np.zeros(grid.shape, bool)
    first, beside, inside, outside = (
        Prompt("point", grid.ijk_to_ras_points(np.array(place, float)), positive)
        for place, positive in (((60, 60, 30), True), ((60, 80, 30), True), ((60, 61, 30), True), ((60, 80, 30), False))
    )

    def edges_mm(*prompts: Prompt, mask: np.ndarray = empty, **options: float) -> list[float]:
        work = corrector(volume, mask, Painter(reach=0), **options)
        return [float(max(np.array(work.add(prompt).shape) * (2, 1, 1))) for prompt in prompts]

    at_first, after = edges_mm(first, beside, Prompt("point", grid.ijk_to_ras_points(np.array([60.0, 100, 30]))))[1:]
    assert at_first <= EDGE_MM, "20 mm beside the middle say nothing new"
    assert after > 1.1 * EDGE_MM
    for second in (inside, outside):
        at_first, after = edges_mm(first, second)
        assert after <= at_first, "nothing says that it is larger"
    at_first, after = edges_mm(first, beside, edge_mm=50.0)
    assert after == at_first, "what the user chose stays"
    block = empty.copy()
    block[22:38, 40:80, 40:80] = True
    at_first, after = edges_mm(first, beside, mask=block)
    assert after <= at_first, "a segment that was there is as large as it is"


def test_a_window_that_became_larger_is_taken_back_with_its_click() -> None:
    grid = Geometry.from_spacing((60, 120, 120), (1.0, 1.0, 2.0))
    volume = Volume(np.random.default_rng(0).normal(size=grid.shape).astype(np.float32), grid)
    first, beside = (
        Prompt("point", grid.ijk_to_ras_points(np.array(place, float))) for place in ((60, 60, 30), (60, 96, 30))
    )
    work = corrector(volume, np.zeros(grid.shape, bool), Painter(reach=0))
    work.add(first)
    before = work.mask.copy()
    regions = [work.add(beside)]
    after = work.mask.copy()
    work.undo()
    assert np.array_equal(work.mask, before)
    regions.append(work.add(beside))
    assert regions[0] == regions[1]
    assert np.array_equal(work.mask, after)


def test_neighbours_are_not_eaten(a_volume: Volume) -> None:
    allowed = np.ones(GRID.shape, bool)
    allowed[:, :, 30:] = False
    before = a_segment()
    work = corrector(a_volume, before, Painter(reach=6), allowed=allowed)
    work.add(point(14, 14, 28))
    assert work.mask[14, 14, 28]
    assert np.array_equal(work.mask[~allowed], before[~allowed])
    assert not np.array_equal(work.mask, before)


def test_scribbles_and_lassos_count_with_all_their_voxels(a_volume: Volume) -> None:
    line = Prompt("scribble", GRID.ijk_to_ras_points(np.array([[20.0, 20, 10], [20, 44, 10]])))
    scribbled = corrector(a_volume, nothing())
    scribbled.add(line)
    assert scribbled.mask[10, 20:45, 20].all()
    edge = np.array([[24.0, 24, 12], [36, 24, 12], [36, 36, 12], [24, 36, 12]])
    away = Prompt("lasso", GRID.ijk_to_ras_points(edge), positive=False)
    lassoed = corrector(a_volume, a_segment())
    lassoed.add(away)
    assert not lassoed.mask[12, 25:35, 25:35].any()


def test_a_long_scribble_is_followed_to_its_ends_in_a_small_region_too(a_volume: Volume) -> None:
    line = Prompt("scribble", GRID.ijk_to_ras_points(np.array([[5.0, 30, 10], [55, 30, 10]])))
    work = corrector(a_volume, nothing(), edge_mm=20.0)
    work.add(line)
    assert work.mask[10, 30, 5:56].all()


def test_a_box_is_the_region_and_is_not_filled(a_volume: Volume) -> None:
    corners = GRID.ijk_to_ras_points(np.array([[20.0, 18, 8], [39, 41, 20]]))
    work = corrector(a_volume, nothing(), Painter(reach=5))
    region = work.add(Prompt("box", corners))
    assert (region.start, region.stop) == ((8, 18, 20), (21, 42, 40))
    assert work.mask[14, 30, 30], "from nothing, the box stands for a click into its middle"
    assert 0 < work.mask[region.slices].sum() < np.prod(region.shape) / 2
    erased = corrector(a_volume, a_segment())
    erased.add(Prompt("box", corners, positive=False))
    assert not erased.mask[region.slices].any(), "nothing in a negative box belongs to the segment"


def test_a_box_drawn_in_a_slice_bounds_the_segment_in_that_plane_alone(a_volume: Volume) -> None:
    flat = GRID.ijk_to_ras_points(np.array([[20.0, 18, 14], [39, 41, 14]]))
    work = corrector(a_volume, nothing(), Painter(reach=5))
    region = work.add(Prompt("box", flat))
    assert region.start[0] < 14 < region.stop[0] - 1
    assert (region.start[1:], region.stop[1:]) == ((18, 20), (42, 40))
    assert work.mask[13:16, 30, 30].all()


def test_taking_prompts_back_restores_segment_and_network(a_volume: Volume) -> None:
    work = corrector(a_volume, a_segment())
    prompts = [point(14, 30, 30), point(15, 25, 30, positive=False), point(2, 2, 2), point(20, 50, 50)]
    states = [work.mask.copy()]
    for prompt in prompts:
        work.add(prompt)
        states.append(work.mask.copy())
    for number in reversed(range(len(prompts))):
        work.undo()
        assert np.array_equal(work.mask, states[number])
    assert work.prompts == []
    work.follow(prompts[:2])
    work.follow(prompts)
    assert np.array_equal(work.mask, states[-1]), "done again, they give the same"
    work.undo()
    work.undo()
    work.add(prompts[2])
    assert np.array_equal(work.mask, states[3]), "also when the features of the window had to be found again"


def test_without_one_of_them_the_rest_is_done_again(a_volume: Volume) -> None:
    work, fresh = corrector(a_volume, a_segment()), corrector(a_volume, a_segment())
    prompts = [point(14, 30, 30), point(15, 25, 30, positive=False), point(20, 40, 30)]
    before = work.mask.copy()
    work.follow(prompts)
    region = work.follow([prompts[0], prompts[2]])
    fresh.follow([prompts[0], prompts[2]])
    assert np.array_equal(work.mask, fresh.mask)
    assert region is not None
    assert work.follow([prompts[0], prompts[2]]) is None, "nothing to do"
    work.follow([])
    assert np.array_equal(work.mask, before)


def test_a_prompt_that_fails_leaves_segment_and_network_as_they_were(a_volume: Volume) -> None:
    network = Painter()
    work, other = corrector(a_volume, a_segment(), network), corrector(a_volume, a_segment())
    work.add(point(14, 30, 30))
    other.add(point(14, 30, 30))
    network.refine, kept = None, network.refine
    with pytest.raises(TypeError):
        work.add(point(2, 2, 2))
    network.refine = kept
    assert np.array_equal(work.mask, other.mask)
    work.add(point(16, 30, 30))
    other.add(point(16, 30, 30))
    assert np.array_equal(work.mask, other.mask)


def test_a_prompt_beside_the_volume_changes_nothing(a_volume: Volume) -> None:
    work = corrector(a_volume, a_segment())
    with pytest.raises(InputError, match="outside of the volume"):
        work.add(point(-40, 0, 0))
    assert np.array_equal(work.mask, a_segment())
    work.add(point(14, 30, 30))
    assert work.mask[14, 30, 30]
