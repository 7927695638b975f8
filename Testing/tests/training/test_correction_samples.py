"""Samples for a network of clicks: a structure in its box, as in the scan, turned and repainted, and bad starts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg.correction.intensity import normalised
from medseg.training.correction.samples import LabelledScan, SampleSection, degraded, sample_of
from medseg.training.synthesis import Draws
from medseg.volumes import Geometry, Volume

SIZE = (32, 32, 32)
STILL = {
    "rotation_degrees": 0, "stretch": 1, "invert": 0, "gamma": 1, "noise": 0, "from_segmentation": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def a_scan() -> LabelledScan:
    """Two bright balls of 12 and 6 mm radius in a dim body, voxels of 1 x 1 x 3 mm."""
    geometry = Geometry.from_spacing((24, 60, 60), (1.0, 1.0, 3.0))
    k, j, i = np.meshgrid(*(np.arange(n, dtype=float) for n in geometry.shape), indexing="ij")
    labels = np.zeros(geometry.shape, np.uint8)
    for value, (place, radius) in enumerate((((10, 25, 30), 12.0), ((18, 48, 12), 6.0)), start=1):
        away = (3 * (k - place[0])) ** 2 + (j - place[1]) ** 2 + (i - place[2]) ** 2
        labels[away < radius**2] = value
    image = 100 + 300 * (labels > 0) + np.random.default_rng(0).normal(0, 5, labels.shape)
    labels[0, 0, :3] = 3  # too few voxels to be a structure
    return LabelledScan.of(Volume(image.astype(np.float32), geometry), Volume(labels, geometry))


def test_structures_of_a_few_voxels_are_none(a_scan: LabelledScan) -> None:
    assert set(a_scan.structures) == {1, 2}
    low, high = a_scan.structures[1]
    assert ((high - low) * a_scan.spacing).max() == pytest.approx(24, abs=3)


@pytest.mark.parametrize("value", [1, 2])
def test_a_ball_stays_a_ball_of_its_size_in_mm(a_scan: LabelledScan, value: int) -> None:
    section = SampleSection(edge_mm=(48, 48), **STILL)
    sizes = []
    for seed in range(6):
        sample = sample_of(a_scan, value, section, SIZE, Draws(seed))
        assert sample.image.shape == sample.truth.shape == sample.start.shape == (1, *SIZE)
        places = sample.truth[0].nonzero()
        extent = (places.amax(0) - places.amin(0) + 1) * 48 / 32
        # The structure may be cut off by the box, never stretched.
        sizes.append(extent)
        assert extent.max() <= 2 * (12, 6)[value - 1] + 4
        inside, outside = sample.image[sample.truth > 0].mean(), sample.image[sample.truth == 0].mean()
        assert inside > outside + 1, "the image is brighter where the structure is"
    assert torch.stack(sizes).amax() >= 2 * (12, 6)[value - 1] - 3


def test_turned_and_stretched_samples_hold_the_structure(a_scan: LabelledScan) -> None:
    section = SampleSection(rotation_degrees=180, stretch=1.3)
    for seed in range(10):
        sample = sample_of(a_scan, 1 + seed % 2, section, SIZE, Draws(seed))
        assert sample.truth.sum() >= 8
        assert set(sample.truth.unique().tolist()) == {0.0, 1.0}
        assert torch.isfinite(sample.image).all()
        assert float(sample.image.mean()) == pytest.approx(0, abs=0.05)


def test_the_same_draws_give_the_same_sample(a_scan: LabelledScan) -> None:
    first, again, other = (sample_of(a_scan, 1, SampleSection(), SIZE, Draws(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first.image, other.image)


def test_a_scan_of_one_slice_can_be_sampled() -> None:
    geometry = Geometry.from_spacing((1, 40, 40), (1.0, 1.0, 5.0))
    labels = np.zeros(geometry.shape, np.uint8)
    labels[0, 10:30, 12:28] = 1
    scan = LabelledScan.of(Volume(labels.astype(np.float32), geometry), Volume(labels, geometry))
    sample = sample_of(scan, 1, SampleSection(**STILL), SIZE, Draws(0))
    assert sample.truth.sum() >= 8


def test_a_bad_start_is_near_the_structure_and_not_it() -> None:
    truth = torch.zeros(1, *SIZE)
    truth[0, 8:24, 8:24, 8:24] = 1
    overlaps = []
    for seed in range(8):
        start = degraded(truth, 6.0, Draws(seed))
        assert set(start.unique().tolist()) <= {0.0, 1.0}
        overlaps.append(float(2 * (start * truth).sum() / (start.sum() + truth.sum())))
    assert max(overlaps) < 1
    assert 0.3 < float(np.mean(overlaps)) < 0.97
    assert torch.equal(degraded(truth, 0.0, Draws(1)), truth)


def test_samples_begin_with_a_segmentation_as_often_as_the_recipe_says(a_scan: LabelledScan) -> None:
    always, never = (SampleSection(from_segmentation=share) for share in (1, 0))
    assert all(sample_of(a_scan, 1, always, SIZE, Draws(seed)).start.any() for seed in range(3))
    assert not any(sample_of(a_scan, 1, never, SIZE, Draws(seed)).start.any() for seed in range(3))


def test_extremes_do_not_set_the_brightness() -> None:
    image = torch.rand(1, 20, 20, 20)
    image[0, 0, 0, :4] = 1e6
    found = normalised(image)
    assert found.std().item() == pytest.approx(1, abs=1e-4)
    assert found.abs().max() < 3
    assert not normalised(torch.full((1, 4, 4), 7.0)).any()
