"""Volumes and prompts that nobody thinks of at first: no numbers, one slice, a line that leaves, many places."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from medseg.correction.engine import NetworkTool
from medseg.correction.intensity import normalised
from medseg.correction.pipeline import CorrectionOptions, make_tool
from medseg.correction.prompts import Prompt, read_prompts
from medseg.correction.session import Corrector
from medseg.correction.window import Window
from medseg.errors import InputError, ReadError
from medseg.networks import PEMED
from medseg.volumes import Geometry, Volume


class Keeper(PEMED):
    """Keeps the previous answer, and what is seen of the image must be numbers."""

    def __init__(self) -> None:
        super().__init__(
            dims=3, head_norm="group", channels=(8, 8, 8, 8), depths=(1,) * 4, heads=(1,) * 4, head_channels=8
        )

    def refine(self, features: tuple[Tensor, Tensor | None], *prompts: Tensor | None) -> Tensor:
        previous = prompts[2]
        assert previous is not None
        return torch.logit(previous.clamp(0.01, 0.99)) + 0 * features[0]


def a_corrector(image: np.ndarray, mask: np.ndarray, spacing: float = 1.0, **options: float) -> Corrector:
    volume = Volume(image.astype(np.float32), Geometry.from_spacing(image.shape, (spacing,) * 3))
    return Corrector(NetworkTool(Keeper().eval(), volume, size=(32, 32, 32), **options), volume, mask)


def test_a_voxel_that_is_no_number_does_not_erase_the_segment() -> None:
    image, mask = np.random.default_rng(0).normal(size=(40, 40, 40)), np.zeros((40, 40, 40), bool)
    mask[10:30, 10:30, 10:30] = True
    image[12, 12, 12], image[14, 12, 12] = np.nan, np.inf
    work = a_corrector(image, mask)
    work.add(Prompt("point", (20.0, 20, 20)))
    assert work.mask.sum() > 0.95 * mask.sum()


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_thin_volumes_of_small_voxels_are_corrected(slices: int) -> None:
    shape = (slices, 150, 150)
    work = a_corrector(np.random.default_rng(0).normal(size=shape), np.zeros(shape, bool), spacing=0.4)
    work.add(Prompt("point", (30.0, 30, 0)))
    assert work.mask[0, 75, 75]


def test_what_a_coarse_window_sees_are_means_over_a_box() -> None:
    image = np.random.default_rng(0).normal(size=(21, 25, 23)).astype(np.float32)
    window = Window((3, 3, 3), np.array([10.0, 12, 11]), np.diag([4.0, 4, 4]))
    found = window.read_image(image)[0].numpy()
    assert found[1, 1, 1] == pytest.approx(image[8:13, 10:15, 9:14].mean(), abs=1e-4)


@pytest.mark.parametrize("value", [1000.1, 1_000_000.3, -1024.7, 0.1, 0.0])
def test_a_constant_image_becomes_nothing(value: float) -> None:
    assert not normalised(torch.full((1, 16, 16, 16), value)).any()


def test_a_line_that_leaves_the_region_and_the_volume_is_followed_everywhere() -> None:
    image = np.zeros((60, 60, 60))
    work = a_corrector(image, np.zeros(image.shape, bool), edge_mm=20.0)
    line = Prompt("scribble", [[5.0, 30, 58], [5, 30, 70], [50, 30, 70], [50, 30, 58]])
    region = work.add(line)
    voxels = line.voxels(Geometry.from_spacing(image.shape, (1.0, 1.0, 1.0)))
    assert work.mask[tuple(voxels.T)].all()
    outside = np.ones(image.shape, bool)
    outside[region.slices] = False
    assert not work.mask[outside].any()
    work.undo()
    assert not work.mask.any()


def test_a_lasso_of_thousands_of_places_takes_little_memory() -> None:
    angle = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    edge = np.stack([20 + 10 * np.cos(angle), 20 + 10 * np.sin(angle), np.full(len(angle), 5.0)], 1)
    found = Prompt("lasso", edge).voxels(Geometry.from_spacing((10, 40, 40), (1.0, 1.0, 1.0)))
    assert len(found) == pytest.approx(np.pi * 100, rel=0.05)


def test_a_region_of_nothing_but_seeds_is_grown() -> None:
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    volume = Volume(
        np.random.default_rng(0).normal(size=(20, 20, 20)), Geometry.from_spacing((20,) * 3, (1.0, 1.0, 1.0))
    )
    tool = make_tool(volume, CorrectionOptions(tool="random-walker"))
    work = Corrector(tool, volume, np.zeros(volume.shape, bool))
    region = work.add(Prompt("box", [[9.0, 9, 9], [11, 11, 11]]))
    assert region.shape == (3, 3, 3)


def test_places_beyond_reason_are_refused() -> None:
    for ras in ([1e300, 0, 0], [10**400, 0, 0], [1e9, 0, 0]):
        with pytest.raises(InputError, match="takes one place"):
            Prompt("point", ras)


def test_a_file_of_prompts_may_begin_with_a_byte_order_mark_and_must_not_nest_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "clicks.json"
    path.write_text(json.dumps([{"type": "point", "ras": [1, 2, 3]}]), encoding="utf-8-sig")
    assert len(read_prompts(path)) == 1
    path.write_text("[" * 100_000)
    with pytest.raises(ReadError, match="not a list of prompts"):
        read_prompts(path)
