"""Classical helpers find what is pointed at, keep the rest, and smooth without eating the segment."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.correction.automatic import AutomaticTool, bimodality, is_for_threshold
from medseg.correction.classical import SmoothTool, ThresholdTool, intensity_limits
from medseg.correction.growing import MOST_VOXELS, FastMarchingTool, RandomWalkerTool, coarsening
from medseg.correction.prompts import Prompt
from medseg.correction.region import Mark
from medseg.correction.seeds import View
from medseg.correction.session import Corrector
from medseg.errors import InputError
from medseg.metrics import dice
from medseg.volumes import Geometry, Volume

GRID = Geometry.from_spacing((20, 40, 40), (1.0, 1.0, 2.0))
GROWERS = (RandomWalkerTool, FastMarchingTool)
ADDERS = (*GROWERS, ThresholdTool)
ALL = (*ADDERS, SmoothTool)


def distances(grid: Geometry, k: float, j: float, i: float) -> np.ndarray:
    """In mm from a voxel."""
    spacing = np.array(grid.spacing[::-1])[:, None, None, None]
    away = (np.indices(grid.shape) - np.array([k, j, i])[:, None, None, None]) * spacing
    return np.sqrt((away**2).sum(0))


BALL = distances(GRID, 10, 20, 20) <= 9


def noisy(mask: np.ndarray, grid: Geometry = GRID, *, noise: float = 20.0, seed: int = 0) -> Volume:
    """100 where the mask is, else 0."""
    image = 100 * mask + np.random.default_rng(seed).normal(0, noise, mask.shape)
    return Volume(image.astype(np.float32), grid)


def point(k: float, j: float, i: float, *, positive: bool = True, grid: Geometry = GRID) -> Prompt:
    return Prompt("point", grid.ijk_to_ras_points(np.array([i, j, k], float)), positive)


def line(start: tuple[float, float, float], stop: tuple[float, float, float], *, positive: bool = True) -> Prompt:
    return Prompt("scribble", GRID.ijk_to_ras_points(np.array([start[::-1], stop[::-1]], float)), positive)


def nothing(grid: Geometry = GRID) -> np.ndarray:
    return np.zeros(grid.shape, bool)


@pytest.mark.parametrize("kind", ADDERS)
def test_a_bright_ball_in_noise_is_found_from_one_scribble(kind: type) -> None:
    noise = 12.0 if kind is ThresholdTool else 20.0
    work = Corrector(kind(noisy(BALL, noise=noise), 40.0), noisy(BALL), nothing())
    work.add(line((10, 16, 17), (10, 24, 23)))
    assert dice(work.mask, BALL) > 0.9


@pytest.mark.parametrize("kind", ADDERS)
def test_a_dark_ball_is_found_too(kind: type) -> None:
    volume = noisy(~BALL, noise=10.0)
    work = Corrector(kind(volume, 40.0), volume, nothing())
    work.add(line((10, 16, 17), (10, 24, 23)))
    # A walker keeps off the blurred edge.
    assert dice(work.mask, BALL) > (0.87 if kind is RandomWalkerTool else 0.95)


@pytest.mark.parametrize("kind", ADDERS)
def test_thick_slices_count_in_mm(kind: type) -> None:
    grid = Geometry.from_spacing((9, 48, 48), (1.0, 1.0, 5.0))
    ball = distances(grid, 4, 24, 24) <= 12
    volume = noisy(ball, grid, noise=10.0)
    work = Corrector(kind(volume, 40.0), volume, nothing(grid))
    region = work.add(point(4, 24, 24, grid=grid))
    assert region.shape == (9, 41, 41)
    assert dice(work.mask, ball) > 0.9


@pytest.mark.parametrize("kind", GROWERS)
def test_a_large_region_is_looked_at_on_a_coarser_grid(kind: type) -> None:
    grid = Geometry.from_spacing((90, 90, 91), (0.5, 0.5, 0.5))
    ball = distances(grid, 44, 46, 45) <= 12
    volume = noisy(ball, grid)
    work = Corrector(kind(volume, 50.0), volume, nothing(grid))
    region = work.add(point(44, 46, 45, grid=grid))
    assert np.prod(region.shape) > 10 * MOST_VOXELS
    assert dice(work.mask, ball) > 0.9


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(1, 400), min_size=3, max_size=3),
    st.lists(st.sampled_from([0.3, 0.5, 1.0, 3.0, 8.0]), min_size=3, max_size=3),
)
def test_coarser_grids_are_small_enough_and_no_coarser_than_needed(shape: list[int], spacing: list[float]) -> None:
    factors = coarsening(shape, np.array(spacing))
    assert np.prod(np.ceil(shape / factors)) <= MOST_VOXELS
    if np.prod(shape) <= MOST_VOXELS:
        assert (factors == 1).all()


@pytest.mark.parametrize("kind", ADDERS)
def test_a_leak_is_cut_off_by_a_negative_scribble(kind: type) -> None:
    left, right = distances(GRID, 10, 20, 12) <= 7, distances(GRID, 10, 20, 29) <= 7
    bridge = nothing()
    bridge[9:12, 18:23, 16:26] = True
    volume = noisy(left | right | bridge, noise=8.0)
    work = Corrector(kind(volume, 60.0), volume, left | right | bridge)
    work.add(line((10, 16, 10), (10, 24, 12)))
    work.add(line((10, 16, 29), (10, 24, 31), positive=False))
    assert (work.mask & right).sum() < 0.2 * right.sum()
    assert (work.mask & left).sum() > 0.9 * left.sum(), "what is nearer to the positive mark stays"


@pytest.mark.parametrize("kind", ADDERS)
def test_the_rest_of_the_segment_stays_when_something_is_added(kind: type) -> None:
    before = nothing()
    before[2:5, 2:5, 2:5] = True
    volume = noisy(BALL, noise=10.0)
    work = Corrector(kind(volume, 30.0), volume, before)
    work.add(point(10, 20, 20))
    assert (work.mask >= before).all()
    assert work.mask.sum() > before.sum() + 100
    mask = work.mask.copy()
    work.add(point(10, 20, 20, positive=False))
    assert (work.mask <= mask).all(), "a negative prompt adds nothing"


def test_given_limits_are_kept_and_both_belong_to_the_segment() -> None:
    image = np.tile(np.arange(40, dtype=np.int16), (20, 40, 1))
    volume = Volume(image, GRID)
    work = Corrector(ThresholdTool(volume, 500.0, low=15, high=22), volume, nothing())
    work.add(point(10, 20, 20))
    assert np.array_equal(work.mask, (image >= 15) & (image <= 22))
    work = Corrector(ThresholdTool(volume, 500.0, low=15), volume, nothing())
    work.add(point(10, 20, 20))
    assert np.array_equal(work.mask, image >= 15)
    with pytest.raises(InputError, match="No intensity lies between 5 and 4"):
        ThresholdTool(volume, low=5, high=4)


def test_a_threshold_takes_only_what_is_connected_with_the_prompt() -> None:
    two = (distances(GRID, 10, 10, 10) <= 4) | (distances(GRID, 10, 28, 28) <= 4)
    volume = noisy(two, noise=0.0)
    work = Corrector(ThresholdTool(volume, 500.0, low=50), volume, nothing())
    work.add(point(10, 10, 10))
    assert np.array_equal(work.mask, distances(GRID, 10, 10, 10) <= 4)
    work.add(point(10, 28, 28))
    assert np.array_equal(work.mask, two)
    work.add(point(10, 10, 10, positive=False))
    assert np.array_equal(work.mask, distances(GRID, 10, 28, 28) <= 4)


def test_limits_lie_half_way_to_what_is_pointed_at_as_other() -> None:
    image = np.zeros(GRID.shape, np.float32)
    image[:, 10:20], image[:, 20:30], image[:, 30:] = 100, 200, 300
    marks = [Mark(np.array([[10, 15, 20]]), False), Mark(np.array([[10, 35, 20]]), False)]
    marks.append(Mark(np.array([[10, 25, 20]]), True))
    assert intensity_limits(View.of(Volume(image, GRID), marks, 60.0), positive=True) == (150, 250)


def test_the_other_side_of_a_border_does_not_shift_a_level() -> None:
    image = np.zeros(GRID.shape, np.float32)
    image[:, 20:] = 100
    view = View.of(Volume(image, GRID), [Mark(np.array([[10, 20, 20]]), True)], 30.0)
    assert view.levels(view.positive) == [(100.0, 0.0)]


@pytest.mark.parametrize("kind", ADDERS)
def test_a_box_is_the_region(kind: type) -> None:
    volume = noisy(BALL, noise=10.0)
    work = Corrector(kind(volume), volume, nothing())
    region = work.add(Prompt("box", GRID.ijk_to_ras_points(np.array([[10.0, 10, 5], [30, 30, 15]]))))
    assert (region.start, region.stop) == ((5, 10, 10), (16, 31, 31))
    assert dice(work.mask, BALL) > 0.9


SCENES = {
    "constant": np.full(GRID.shape, 7.0),
    "noise": np.random.default_rng(1).normal(size=GRID.shape),
    "ball": 100.0 * BALL,
    "holes": np.where(np.random.default_rng(2).random(GRID.shape) > 0.7, np.nan, 100.0 * BALL),
    "infinite": np.where(np.indices(GRID.shape)[2] > 25, np.inf, 100.0 * BALL),
    "whole numbers": (100 * BALL).astype(np.uint16),
    "bool": BALL,
}


@pytest.mark.parametrize("kind", ALL)
@settings(max_examples=15, deadline=None)
@given(
    scene=st.sampled_from(sorted(SCENES)),
    full=st.sampled_from([0.0, 0.5, 1.0]),
    clicks=st.lists(st.tuples(*[st.integers(0, n - 1) for n in GRID.shape], st.booleans()), min_size=1, max_size=3),
)
def test_any_prompt_on_any_image_is_followed_in_its_region_and_the_same_again(
    kind: type, scene: str, full: float, clicks: list[tuple[int, int, int, bool]]
) -> None:
    volume = Volume(SCENES[scene].copy(), GRID)
    start = np.random.default_rng(3).random(GRID.shape) < full
    tools = [kind(volume, 8.0) if kind is SmoothTool else kind(volume, 14.0) for _ in range(2)]
    works = [Corrector(tool, volume, start) for tool in tools]
    said = {}
    for k, j, i, positive in clicks:
        before = works[0].mask.copy()
        try:
            region, again = (work.add(point(k, j, i, positive=positive)) for work in works)
        except InputError:
            # The only reason to refuse one.
            assert not np.isfinite(volume.array[k, j, i])
            continue
        said[k, j, i] = positive
        assert region == again
        assert np.array_equal(works[0].mask, works[1].mask)
        outside = np.ones(GRID.shape, bool)
        outside[region.slices] = False
        assert np.array_equal(works[0].mask[outside], before[outside])
    if kind is not SmoothTool:
        assert all(works[0].mask[place] == positive for place, positive in said.items())
    assert tools[0].state is None


@pytest.mark.parametrize("kind", ADDERS)
def test_voxels_without_intensity_are_not_added(kind: type) -> None:
    image = np.where(np.indices(GRID.shape)[2] > 22, np.nan, 100.0 * BALL)
    volume = Volume(image, GRID)
    work = Corrector(kind(volume, 40.0), volume, nothing())
    work.add(point(10, 20, 16))
    assert not work.mask[np.isnan(image)].any()
    assert work.mask.sum() > 0.65 * (BALL & ~np.isnan(image)).sum()


@pytest.mark.parametrize("kind", ADDERS)
def test_where_there_is_no_intensity_at_all_nothing_can_be_found(kind: type) -> None:
    volume = Volume(np.full(GRID.shape, np.nan), GRID)
    with pytest.raises(InputError, match="no intensities"):
        Corrector(kind(volume), volume, nothing()).add(point(10, 20, 20))


def test_without_scikit_image_the_random_walker_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    volume = noisy(BALL)
    with pytest.raises(InputError, match="scikit-image") as raised:
        Corrector(RandomWalkerTool(volume), volume, nothing()).add(point(10, 20, 20))
    assert "fast-marching" in raised.value.advice


# --- smoothing


def test_smoothing_removes_a_spike_and_fills_a_channel_and_keeps_the_volume() -> None:
    spiky = BALL.copy()
    spiky[10, 20, 5:12] = True
    spiky[10, 5:20, 20] = False
    work = Corrector(SmoothTool(noisy(BALL), 3.0, 60.0), noisy(BALL), spiky)
    work.add(point(10, 20, 8))
    assert not work.mask[10, 20, 5:10].any(), "also the marked voxel may go"
    assert work.mask[10, 14:20, 20].all()
    assert abs(work.mask.sum() / BALL.sum() - 1) < 0.06


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_rod_vanishes_when_it_is_thinner_than_the_kernel_along_every_axis(axis: int) -> None:
    grid = Geometry.from_spacing((30, 60, 60), (0.5, 0.5, 1.0))
    offsets = (np.indices(grid.shape) - np.array([15, 30, 30])[:, None, None, None]) * np.array([1, 0.5, 0.5])[
        :, None, None, None
    ]
    rod = np.sqrt((np.delete(offsets, axis, 0) ** 2).sum(0)) <= 2.5
    for kernel, stays in ((4.0, True), (6.5, False)):
        work = Corrector(SmoothTool(noisy(rod, grid), kernel, 100.0), noisy(rod, grid), rod)
        work.add(point(15, 30, 30, grid=grid, positive=False))
        assert work.mask[15, 30, 30] == stays


def test_smoothing_leaves_flat_faces_and_what_meets_the_border_of_the_scan_and_of_the_region() -> None:
    half = nothing()
    half[:, :, :20] = True
    work = Corrector(SmoothTool(noisy(half), 5.0, 10.0), noisy(half), half)
    for place in ((10, 20, 20), (0, 0, 0), (19, 39, 19)):
        work.add(point(*place))
        assert np.array_equal(work.mask, half)


def test_a_full_and_an_empty_segment_stay_when_they_are_smoothed() -> None:
    for mask in (nothing(), ~nothing()):
        work = Corrector(SmoothTool(noisy(BALL)), noisy(BALL), mask)
        work.add(point(0, 0, 0))
        assert np.array_equal(work.mask, mask)


# --- choosing


def view_of(volume: Volume, *places: tuple[int, int, int]) -> View:
    return View.of(volume, [Mark(np.array([place]), True) for place in places], 30.0)


def test_two_clear_levels_are_for_a_threshold_and_noise_is_not() -> None:
    assert bimodality(view_of(noisy(BALL, noise=5.0), (10, 20, 20))) > 0.95
    assert bimodality(view_of(noisy(nothing()), (10, 20, 20))) == pytest.approx(2 / np.pi, abs=0.02)
    assert bimodality(view_of(Volume(np.zeros(GRID.shape), GRID), (10, 20, 20))) == 0
    assert is_for_threshold(view_of(noisy(BALL, noise=5.0), (10, 20, 20)), positive=True)
    assert not is_for_threshold(view_of(noisy(BALL, noise=60.0), (10, 20, 20)), positive=True)
    assert not is_for_threshold(view_of(noisy(~BALL, noise=5.0), (10, 5, 20)), positive=True), "it leaves the region"


def test_the_choice_stays_until_all_is_taken_back() -> None:
    made: list[str] = []

    def make(kind: str) -> object:
        made.append(kind)
        return ThresholdTool(volume) if kind == "threshold" else FastMarchingTool(volume)

    image = noisy(BALL, noise=5.0).array.copy()
    image[:, :12, :12] = np.random.default_rng(0).normal(50, 50, (20, 12, 12))
    volume = Volume(image, GRID)
    tool = AutomaticTool(volume, make, has_network=True, region_mm=20.0)
    work = Corrector(tool, volume, nothing())
    assert tool.used is None
    work.add(point(10, 5, 5))
    assert tool.used == "network"
    work.add(point(10, 20, 20))
    assert tool.used == "network", "though it would have been a threshold"
    work.undo()
    work.undo()
    assert tool.used is None
    assert not work.mask.any()
    work.add(point(10, 20, 14))
    assert tool.used == "threshold"
    assert made == ["network", "threshold"]
