"""Classical tools in the place of the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.interaction import rivals
from benchmarks.interaction.cases import Scan
from benchmarks.interaction.rivals import BACKGROUND, STRUCTURE, seeds_of
from benchmarks.interaction.users import clicked
from medseg.correction.engine import NetworkTool
from medseg.correction.intensity import normalised

SIZE = (32, 32, 32)
MAKERS = {
    "skimage": rivals.random_walker,
    "slicer": rivals.grow_cut,
}


def a_rival(module: str) -> rivals.Rival:
    pytest.importorskip(module)
    return MAKERS[module]()


def at(*places: tuple[int, int, int]) -> np.ndarray:
    found = np.zeros(SIZE, bool)
    for place in places:
        found[place] = True
    return found


def test_seeds_are_the_clicks_and_the_border():
    seeds = seeds_of(at((5, 6, 7)), at((20, 20, 20)), None)
    assert seeds[5, 6, 7] == STRUCTURE
    assert seeds[20, 20, 20] == BACKGROUND
    assert (seeds[0] == BACKGROUND).all()
    assert (seeds[:, :, -1] == BACKGROUND).all()
    assert (seeds[1:-1, 1:-1, 1:-1] > 0).sum() == 2


def test_a_mask_is_sure_but_for_a_band_and_around_a_click_that_says_otherwise():
    start = np.zeros(SIZE, bool)
    start[4:21, 4:21, 4:21] = True  # nine voxels deep: a band of 2.25, and nine around clicks
    seeds = seeds_of(at(), at(), start)
    assert seeds[12, 12, 18] == STRUCTURE
    assert (seeds[12, 12, 19:23] == 0).all()
    assert seeds[12, 12, 23] == BACKGROUND

    doubted = seeds_of(at((12, 12, 27)), at((12, 12, 18)), start)
    assert doubted[12, 12, 27] == STRUCTURE
    assert doubted[12, 12, 18] == BACKGROUND
    assert doubted[12, 12, 10] == 0
    assert doubted[12, 12, 8] == STRUCTURE
    assert doubted[12, 17, 27] == 0
    assert doubted[26, 26, 27] == BACKGROUND


def test_a_mask_of_a_few_voxels_stays_and_leaves_room_around_a_click():
    seeds = seeds_of(at((10, 10, 13)), at(), at((10, 10, 10), (10, 10, 11)))
    assert seeds[10, 10, 10] == STRUCTURE
    assert seeds[10, 10, 15] == 0
    assert seeds[10, 10, 20] == BACKGROUND


@pytest.mark.parametrize("module", MAKERS)
def test_a_rival_finds_a_block_and_is_corrected_where_it_is_clicked(blocks: Scan, module: str):
    volume, truth = blocks
    tool = NetworkTool(a_rival(module), volume, size=SIZE, self_loop=False)
    session = clicked(tool, volume, truth, np.zeros(truth.shape, bool), 4)
    assert session.scores[-1] > 0.8
    assert session.scores[-1] >= session.scores[0]


@pytest.mark.parametrize("module", MAKERS)
def test_a_rival_repairs_a_mask_that_goes_too_far(blocks: Scan, module: str):
    volume, truth = blocks
    mask = truth.copy()
    mask[8:20, 8:22, 18:30] = True
    session = clicked(NetworkTool(a_rival(module), volume, size=SIZE, self_loop=False), volume, truth, mask, 4)
    assert session.before < 0.7
    assert session.scores[-1] > session.before + 0.05


@pytest.mark.parametrize("module", MAKERS)
def test_with_one_kind_of_seeds_alone_there_is_no_structure(module: str):
    rival = a_rival(module)
    image, nothing = torch.randn(1, 1, *SIZE), torch.zeros(1, 1, *SIZE)
    negative = nothing.clone()
    negative[0, 0, 9, 9, 9] = 1
    logits = rival.refine(rival.image_features(image), nothing, negative, nothing)
    assert logits.shape == (1, 1, *SIZE)
    assert (logits < 0).all()


def test_grow_cut_goes_on_to_what_it_would_have_found_at_once(blocks: Scan):
    rival = a_rival("slicer")
    image = normalised(torch.from_numpy(blocks[0].array[:28, :32, :32].copy())[None])[None]
    maps = torch.zeros(4, 1, 1, *image.shape[2:])
    maps[0, 0, 0, 12:15, 12:15, 10:13] = maps[1, 0, 0, 9:11, 18:21, 14:17] = 1
    positive, negative, nothing = maps[0], maps[1], maps[2]

    scene = rival.image_features(image)
    first = rival.refine(scene, positive, nothing, nothing)
    second = rival.refine(scene, positive, negative, torch.sigmoid(first), first)
    fresh = rival.refine(rival.image_features(image), positive, negative, nothing)
    assert ((second > 0) == (fresh > 0)).float().mean() > 0.999
    assert (second > 0).sum() < (first > 0).sum()

    # What grew from a seed that is gone must not stay.
    back = rival.refine(scene, positive, nothing, torch.sigmoid(second), second)
    torch.testing.assert_close(back, first)
