"""A segment is corrected where the user points: nothing else changes, the window follows, and stays when it can."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medseg.correction.engine import EDGE_MM, Corrector
from medseg.correction.prompts import Prompt
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


def corrector(volume: Volume, mask: np.ndarray, network: PEMED | None = None, **options: object) -> Corrector:
    return Corrector((network or Painter()).eval(), volume, mask, size=SIZE, **options)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, n - 1) for n in GRID.shape], st.booleans()), min_size=1, max_size=4))
def test_clicks_are_followed_and_nothing_changes_outside_of_the_region(
    clicks: list[tuple[int, int, int, bool]],
) -> None:
    volume = Volume(np.zeros(GRID.shape, np.float32), GRID)
    work = corrector(volume, a_segment(), edge_mm=40.0)
    before = a_segment()
    for k, j, i, positive in clicks:
        found = work.add(point(k, j, i, positive=positive))
        assert found.mask[k, j, i] == positive
        outside = np.ones(GRID.shape, bool)
        outside[found.region.slices] = False
        assert np.array_equal(found.mask[outside], before[outside])
        before = found.mask.copy()
    said = {click[:3]: click[3] for click in clicks}
    assert all(work.mask[place] == positive for place, positive in said.items())


def test_what_the_network_leaves_keeps_its_voxels(a_volume: Volume) -> None:
    before = a_segment()
    found = corrector(a_volume, before, Painter(reach=0)).add(point(14, 30, 30))
    changed = np.argwhere(found.mask != before)
    assert len(changed) < 30, "the comb at the edge is finer than the window, and stays"
    assert (np.abs(changed - [14, 30, 30]).max(0) < 6).all() if len(changed) else True


def test_a_second_click_nearby_keeps_the_window_and_its_answers(a_volume: Volume) -> None:
    network = Painter()
    work = corrector(a_volume, np.zeros(GRID.shape, bool), network)
    first = work.add(point(14, 30, 30))
    assert network.passes == 2, "the first answer from nothing takes two"
    second = work.add(point(16, 36, 30))
    assert network.passes == 3
    assert second.region == first.region
    third = work.add(point(2, 2, 2))
    assert third.region != first.region
    assert third.mask[14, 30, 30]
    assert third.mask[16, 36, 30]


def test_the_window_grows_while_the_answer_fills_it() -> None:
    grid = Geometry.from_spacing((60, 120, 120), (1.0, 1.0, 2.0))
    volume, nothing = Volume(np.zeros(grid.shape, np.float32), grid), np.zeros(grid.shape, bool)
    click = Prompt("point", grid.ijk_to_ras_points(np.array([60.0, 60, 30])))

    def edge_mm(reach: int, **options: float) -> float:
        region = corrector(volume, nothing, Painter(reach=reach), **options).add(click).region
        return float(max(np.array(region.shape) * (2, 1, 1)))

    assert edge_mm(2) <= EDGE_MM < edge_mm(20), "40 mm to each side do not fit into the first window"
    assert edge_mm(20, edge_mm=30.0) <= 30, "what the user chose stays"


def test_neighbours_are_not_eaten(a_volume: Volume) -> None:
    allowed = np.ones(GRID.shape, bool)
    allowed[:, :, 30:] = False
    before = a_segment()
    found = corrector(a_volume, before, Painter(reach=6), allowed=allowed).add(point(14, 14, 28))
    assert found.mask[14, 14, 28]
    assert np.array_equal(found.mask[~allowed], before[~allowed])
    assert not np.array_equal(found.mask, before)


def test_scribbles_and_lassos_count_with_all_their_voxels(a_volume: Volume) -> None:
    line = Prompt("scribble", GRID.ijk_to_ras_points(np.array([[20.0, 20, 10], [20, 44, 10]])))
    found = corrector(a_volume, np.zeros(GRID.shape, bool)).add(line)
    assert found.mask[10, 20:45, 20].all()
    edge = np.array([[24.0, 24, 12], [36, 24, 12], [36, 36, 12], [24, 36, 12]])
    away = Prompt("lasso", GRID.ijk_to_ras_points(edge), positive=False)
    left = corrector(a_volume, a_segment()).add(away)
    assert not left.mask[12, 25:35, 25:35].any()


def test_a_prompt_beside_the_volume_changes_nothing(a_volume: Volume) -> None:
    work = corrector(a_volume, a_segment())
    with pytest.raises(InputError, match="outside of the volume"):
        work.add(point(-40, 0, 0))
    assert np.array_equal(work.mask, a_segment())
    assert work.add(point(14, 30, 30)).mask[14, 30, 30]


def test_a_segment_of_another_grid_is_refused(a_volume: Volume) -> None:
    with pytest.raises(InputError, match="another grid"):
        corrector(a_volume, np.zeros((3, 3, 3), bool))
