"""A slice is corrected where the user points, in any of three directions, and those beside it as far as asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medseg.correction.engine import EDGE_MM, NetworkTool
from medseg.correction.prompts import PLANES, Prompt, axis_across, plane_across
from medseg.correction.region import Mark
from medseg.correction.session import Corrector
from medseg.correction.slices import SliceTool, slicing_axis
from medseg.errors import InputError
from medseg.networks import PEMED
from medseg.volumes import Geometry, Volume

SIZE = (32, 32)
GRID = Geometry.from_spacing((30, 60, 60), (1.0, 1.0, 2.0))
AXES = {"axial": 0, "coronal": 1, "sagittal": 2}


class Network(PEMED):
    """Smallest of its kind; what it is asked is kept."""

    def __init__(self) -> None:
        super().__init__(
            dims=2, head_norm="group", channels=(8, 8, 8, 8), depths=(1,) * 4, heads=(1,) * 4, head_channels=8
        )
        self.asked: list[tuple[Tensor, Tensor, Tensor, Tensor | None]] = []

    def refine(
        self,
        features: tuple[Tensor, Tensor | None],
        positive: Tensor,
        negative: Tensor,
        previous: Tensor,
        last_logits: Tensor | None = None,
    ) -> Tensor:
        self.asked.append((positive.clone(), negative.clone(), previous.clone(), last_logits))
        return torch.logit(self.share(features[0], positive, negative, previous).clamp(0.01, 0.99))

    def share(self, image: Tensor, positive: Tensor, negative: Tensor, previous: Tensor) -> Tensor:
        raise NotImplementedError


class Painter(Network):
    """Keeps the previous answer but for what lies around clicks."""

    def __init__(self, reach: int = 2) -> None:
        super().__init__()
        self.reach = reach

    def share(self, image: Tensor, positive: Tensor, negative: Tensor, previous: Tensor) -> Tensor:
        del image
        wanted, unwanted = (
            torch.nn.functional.max_pool2d(clicks, 2 * self.reach + 1, 1, self.reach) for clicks in (positive, negative)
        )
        return torch.where(unwanted > 0, 0.0, torch.where(wanted > 0, 1.0, previous))


class Thresholder(Network):
    """Finds what is bright, whatever is clicked at."""

    def share(self, image: Tensor, positive: Tensor, negative: Tensor, previous: Tensor) -> Tensor:
        del positive, negative, previous
        return (image > (image.amin() + image.amax()) / 2).float()


def point(voxel: tuple[int, int, int], grid: Geometry = GRID, **kept: Any) -> Prompt:
    return Prompt("point", grid.ijk_to_ras_points(np.array(voxel[::-1], float)), **kept)


def line(*voxels: tuple[int, int, int], kind: Any = "scribble", **kept: Any) -> Prompt:
    return Prompt(kind, GRID.ijk_to_ras_points(np.array([voxel[::-1] for voxel in voxels], float)), **kept)


def a_volume(array: np.ndarray | None = None, grid: Geometry = GRID) -> Volume:
    noise = np.random.default_rng(0).normal(size=grid.shape) if array is None else array
    return Volume(noise.astype(np.float32), grid)


def nothing(grid: Geometry = GRID) -> np.ndarray:
    return np.zeros(grid.shape, bool)


def a_block() -> np.ndarray:
    mask = nothing()
    mask[8:20, 20:41, 22:39] = True
    return mask


def corrector(volume: Volume, mask: np.ndarray, network: Network | None = None, **options: Any) -> Corrector:
    return Corrector(SliceTool((network or Painter()).eval(), volume, size=SIZE, **options), volume, mask)


def changed_slices(before: np.ndarray, after: np.ndarray, axis: int) -> list[int]:
    others = tuple(other for other in range(3) if other != axis)
    return np.flatnonzero((before != after).any(others)).tolist()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.integers(0, n - 1) for n in GRID.shape], st.booleans(), st.sampled_from(PLANES)),
        min_size=1,
        max_size=4,
    )
)
def test_clicks_are_followed_in_their_slice_and_nothing_else_changes(clicks: list[tuple[Any, ...]]) -> None:
    work, before = corrector(a_volume(nothing()), a_block(), edge_mm=40.0), a_block()
    for *voxel, positive, plane in clicks:
        region = work.add(point(tuple(voxel), positive=positive, plane=plane))
        axis = AXES[plane]
        assert (region.start[axis], region.stop[axis]) == (voxel[axis], voxel[axis] + 1)
        assert work.mask[tuple(voxel)] == positive
        outside = np.ones(GRID.shape, bool)
        outside[region.slices] = False
        assert np.array_equal(work.mask[outside], before[outside])
        before = work.mask.copy()
    said = {tuple(click[:3]): click[3] for click in clicks}
    assert all(work.mask[place] == positive for place, positive in said.items())


def test_further_clicks_in_a_slice_keep_the_window_and_its_answers() -> None:
    network = Painter()
    work = corrector(a_volume(), nothing(), network)
    first = work.add(point((14, 30, 30)))
    assert len(network.asked) == 2, "the first answer from nothing takes two"
    assert work.add(point((14, 36, 30))) == first
    assert len(network.asked) == 3
    assert network.asked[-1][3] is not None, "the last logits enter"
    assert work.add(point((16, 36, 30))) != first, "another slice has a window of its own"
    assert all(work.mask[voxel] for voxel in ((14, 30, 30), (14, 36, 30), (16, 36, 30)))
    work.add(point((14, 44, 30), positive=False))
    assert network.asked[-1][2].max() > 0.5, "back in the first slice, its segment is the start"
    assert work.mask[14, 30, 30]


def test_the_window_grows_in_its_plane_while_the_answer_fills_it() -> None:
    grid = Geometry.from_spacing((20, 160, 160), (1.0, 1.0, 2.0))
    click = point((10, 80, 80), grid)

    def edge_mm(reach: int, **options: float) -> int:
        region = corrector(a_volume(nothing(grid), grid), nothing(grid), Painter(reach), **options).add(click)
        assert region.shape[0] == 1
        return max(region.shape)

    assert edge_mm(2) <= EDGE_MM < edge_mm(20)
    assert edge_mm(20, edge_mm=30.0) <= 30, "what the user chose stays"


def test_what_the_network_leaves_keeps_its_voxels() -> None:
    before = a_block()
    before[14, 20, 22:39:2] = False
    work = corrector(a_volume(), before, Painter(reach=0))
    work.add(point((14, 30, 30)))
    assert np.array_equal(work.mask, before), "the comb is finer than the window, and stays"


# --- in which slices


def test_the_slices_are_those_of_the_prompt_then_those_in_which_it_is_flat_then_the_finest() -> None:
    def axis(prompt: Prompt, grid: Geometry = GRID, plane: Any = None) -> int:
        return slicing_axis(Mark(prompt.voxels(grid), True, plane=prompt.plane), grid, plane)

    assert axis(point((9, 9, 9))) == 0, "the slices are 2 mm apart"
    assert axis(point((9, 9, 9), plane="sagittal"), plane="coronal") == 2
    assert axis(point((9, 9, 9)), plane="coronal") == 1
    assert axis(line((5, 9, 9), (12, 20, 9))) == 2, "drawn in a sagittal slice"
    assert axis(line((5, 9, 9), (12, 9, 9))) in {1, 2}, "flat in two"
    assert axis(line((5, 9, 9), (12, 20, 20))) == 0, "flat in none"
    thick = Geometry.from_spacing((60, 12, 60), (1.0, 5.0, 1.0))
    assert axis(point((9, 5, 9), thick), thick) == 1, "acquired in coronal slices"
    even = Geometry.from_spacing((60, 60, 60), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), "ASR")
    assert axis(point((9, 9, 9), even), even) == axis_across("axial", even) == 1
    single = Geometry.from_spacing((60, 1, 60), (1.0, 1.0, 1.0))
    assert axis(point((9, 0, 9), single), single) == 1


@pytest.mark.parametrize("orientation", ["LPS", "SAR", "PIL"])
def test_planes_of_an_oblique_scan_are_those_of_its_nearest_axes(orientation: str) -> None:
    angle = np.radians(25)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    straight = Geometry.from_spacing((20, 24, 28), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0), orientation)
    matrix = np.array(straight.ijk_to_ras)
    matrix[:3, :3] = turn @ matrix[:3, :3]
    grid = Geometry(straight.shape, matrix)
    for plane, letters in zip(PLANES, ("RL", "AP", "SI"), strict=True):
        axis = axis_across(plane, grid)
        assert orientation[2 - axis] in letters
        work = corrector(a_volume(grid=grid), nothing(grid), edge_mm=12.0)
        region = work.add(point((10, 12, 14), grid, plane=plane))
        assert region.shape[axis] == 1
        assert sorted(region.shape)[1] > 1
    assert plane_across(turn @ np.array([0.0, 0, -1])) == "axial"


# --- from slice to slice


@pytest.mark.parametrize(("plane", "reach", "count"), [("axial", 5.0, 2), ("sagittal", 5.0, 5), ("coronal", 0.0, 0)])
def test_it_goes_on_so_many_millimetres_to_each_side(plane: Any, reach: float, count: int) -> None:
    work = corrector(a_volume(), nothing(), reach_mm=reach)
    voxel, axis = (14, 30, 30), AXES[plane]
    region = work.add(point(voxel, plane=plane))
    expected = list(range(voxel[axis] - count, voxel[axis] + count + 1))
    assert changed_slices(nothing(), work.mask, axis) == expected
    assert (region.start[axis], region.stop[axis]) == (expected[0], expected[-1] + 1)


def stack(areas: dict[int, int]) -> np.ndarray:
    """Bright squares (edge by slice k) in the middle of dark slices."""
    image = nothing().astype(float)
    for k, edge in areas.items():
        image[k, 30 - edge // 2 : 30 - edge // 2 + edge, 30 - edge // 2 : 30 - edge // 2 + edge] = 1
    return image


def test_it_ends_before_a_slice_whose_area_is_other_by_more_than_30_percent() -> None:
    # 14 x 14 from 16 x 16 is 23 % less, 11 x 11 from 14 x 14 is 38 % less, 20 x 20 from 16 x 16 is 56 % more.
    areas = {10: 11, 11: 14, **dict.fromkeys(range(12, 17), 16), 17: 20}
    image = stack(areas)
    work = corrector(a_volume(image), nothing(), Thresholder(), reach_mm=30.0, edge_mm=33.0)
    region = work.add(point((14, 30, 30)))
    assert (region.start[0], region.stop[0]) == (11, 17)
    wanted = image > 0
    wanted[[10, 17]] = False
    found = work.mask
    assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.9


def test_the_segment_before_is_the_previous_answer_and_the_click_goes_with_it() -> None:
    network = Painter(reach=4)
    work = corrector(a_volume(), nothing(), network, reach_mm=4.0)
    work.add(point((14, 30, 30)))
    passes = network.asked[2:]
    assert len(passes) == 4
    for positive, negative, previous, last in passes:
        assert positive.any()
        assert not negative.any()
        assert bool((previous[positive > 0] > 0.5).all())
        assert last is None, "there is no previous answer in this slice"


def test_a_click_that_the_segment_has_left_is_replaced_by_one_in_its_middle() -> None:
    image = nothing().astype(float)
    for k in range(4, 26):
        image[k, 24:36, 2 * k - 8 : 2 * k + 8] = 1
    network = Thresholder()
    work = corrector(a_volume(image), nothing(), network, reach_mm=16.0, radius=0.5)
    region = work.add(point((14, 30, 28)))
    assert (region.start[0], region.stop[0]) == (6, 23), "16 voxels to the side in 8 slices"
    for positive, _negative, previous, _last in network.asked[2:]:
        assert positive.any()
        nearby = torch.nn.functional.max_pool2d(previous, 3, 1, 1)
        assert bool((nearby[positive > 0] > 0.5).all()), "no click lies where the segment is not"
    found = work.mask[22]
    assert found[24:36, 36:52].mean() > 0.9, "the window follows"


def test_clicks_in_the_next_slices_are_kept_there() -> None:
    work = corrector(a_volume(), nothing(), Painter(reach=4), reach_mm=6.0)
    work.add(point((16, 32, 30), positive=False))
    work.add(point((14, 30, 30)))
    assert work.mask[15, 32, 30]
    assert not work.mask[16, 32, 30]


def test_an_erased_slice_ends_it() -> None:
    work = corrector(a_volume(), a_block(), Painter(reach=40), reach_mm=10.0)
    work.add(point((14, 30, 30), positive=False))
    assert changed_slices(a_block(), work.mask, 0) == [14]


@pytest.mark.parametrize("voxel", [(0, 0, 0), (29, 59, 59), (0, 30, 59)])
@pytest.mark.parametrize("plane", PLANES)
def test_at_the_border_of_the_scan_it_goes_on_as_far_as_there_are_slices(
    voxel: tuple[int, int, int], plane: Any
) -> None:
    work = corrector(a_volume(), nothing(), reach_mm=300.0)
    region = work.add(point(voxel, plane=plane))
    axis = AXES[plane]
    assert work.mask[voxel]
    assert region.shape[axis] == GRID.shape[axis]


def test_a_scribble_through_several_slices_is_followed_in_each_of_them() -> None:
    work = corrector(a_volume(), nothing(), Thresholder())
    drawn = line((10, 20, 20), (14, 50, 20), plane="axial")
    region = work.add(drawn)
    assert (region.start[0], region.stop[0]) == (10, 15)
    assert all(work.mask[tuple(voxel)] for voxel in drawn.voxels(GRID))


def test_a_box_bounds_the_segment_in_its_slice_and_a_deep_one_the_slices_too() -> None:
    flat = line((14, 18, 20), (14, 41, 39), kind="box")
    work = corrector(a_volume(), nothing(), Painter(reach=3))
    region = work.add(flat)
    assert (region.start, region.stop) == ((14, 18, 20), (15, 42, 40))
    assert 0 < work.mask[region.slices].sum() < np.prod(region.shape) / 2
    assert work.mask[14, 30, 30]
    far = corrector(a_volume(), nothing(), Painter(reach=5), reach_mm=4.0).add(flat)
    assert (far.start, far.stop) == ((12, 18, 20), (17, 42, 40))
    deep = corrector(a_volume(), nothing(), Painter(reach=5), reach_mm=40.0)
    region = deep.add(line((8, 18, 20), (20, 41, 39), kind="box"))
    assert (region.start, region.stop) == ((8, 18, 20), (21, 42, 40))
    assert deep.mask[8:21, 30, 30].all()


# --- taken back


def test_taking_prompts_back_restores_segment_and_network() -> None:
    work = corrector(a_volume(), a_block(), reach_mm=6.0)
    prompts = [
        point((14, 30, 30)), point((14, 25, 30), positive=False), point((2, 2, 2), plane="sagittal"),
        point((14, 33, 30)), point((14, 28, 33), positive=False),
    ]  # fmt: skip
    states = [work.mask.copy()]
    for prompt in prompts:
        work.add(prompt)
        states.append(work.mask.copy())
    for number in reversed(range(len(prompts))):
        work.undo()
        assert np.array_equal(work.mask, states[number])
    work.follow(prompts[:4])
    work.follow(prompts[:1])
    work.follow(prompts)
    assert np.array_equal(work.mask, states[-1]), "also when the features of the window had to be found again"


def test_what_is_kept_for_undo_is_one_slice_of_the_window() -> None:
    work = corrector(a_volume(), nothing(), reach_mm=20.0)
    work.add(point((14, 30, 30)))
    state = work.tool.state
    assert state.last.shape == (1, 1, *SIZE)
    assert not any(isinstance(value, np.ndarray) and value.size > 9 for value in vars(state).values())


def test_networks_for_volumes_and_for_slices_are_told_apart() -> None:
    solid = PEMED(dims=3, head_norm="group", channels=(8,) * 4, depths=(1,) * 4, heads=(1,) * 4, head_channels=8)
    with pytest.raises(InputError, match="follows clicks in volumes, and this tool looks at single slices"):
        SliceTool(solid, a_volume())
    with pytest.raises(InputError, match="follows clicks in single slices, and this tool looks at a volume"):
        NetworkTool(Painter(), a_volume())
