"""Bad masks to begin with."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.interaction.starts import bad_mask, seed_of
from medseg.metrics import dice


def a_ball(shape: tuple[int, int, int], centre: tuple[float, ...], radius: float, spacing: tuple[float, ...]):
    offsets = np.stack(np.indices(shape), -1) - np.asarray(centre)
    return ((offsets * spacing) ** 2).sum(-1) <= radius**2


@pytest.mark.parametrize(
    ("spacing", "radius"), [((1.0, 1.0, 1.0), 15.0), ((1.0, 1.0, 1.0), 6.0), ((10.0, 1.5, 1.5), 35.0)]
)
def test_structures_of_all_sizes_begin_equally_bad(spacing: tuple[float, ...], radius: float):
    truth = a_ball((40, 64, 64), (20, 30, 33), radius, spacing)
    for seed in range(3):
        mask = bad_mask(truth, spacing, seed)
        assert mask.dtype == bool
        assert dice(mask, truth) == pytest.approx(0.7, abs=0.02)
        # Too much here and too little there.
        assert (mask & ~truth).any()
        assert (truth & ~mask).any()


def test_a_seed_is_always_the_same_mask_and_another_seed_another():
    truth = a_ball((32, 32, 32), (16, 16, 16), 9, (1, 1, 1))
    first, again, other = (bad_mask(truth, (1, 1, 1), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_structure_at_the_border_of_the_scan_can_be_distorted():
    truth = np.zeros((20, 24, 28), bool)
    truth[:8, :9, 20:] = True
    assert dice(bad_mask(truth, (2.0, 1.0, 1.0), 0), truth) == pytest.approx(0.7, abs=0.03)


def test_an_empty_structure_is_refused():
    with pytest.raises(ValueError, match="nothing to distort"):
        bad_mask(np.zeros((8, 8, 8), bool), (1, 1, 1), 0)


def test_the_seed_of_a_name_does_not_change():
    assert seed_of("ct-head-neck/hn_003/Brainstem") == 1806336675
