"""Settings of the tests of the comparison of registrations, and a small pair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings

from benchmarks.registration.pair import Pair
from medseg.registration import SpatialTransform
from medseg.volumes import Volume
from support.registration import a_head, a_smooth_warp, a_turn

# No test of this project fails because the machine is slow.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


def a_small_head() -> Volume:
    return a_head((28, 34, 30), (5.5, 5.5, 5.5))


@pytest.fixture(scope="session")
def the_way() -> SpatialTransform:
    """From the fixed to the moving volume of `a_pair`."""
    return a_smooth_warp(a_small_head().geometry, 6.0).then(a_turn(6.0, (3.0, -4.0, 5.0)))


@pytest.fixture(scope="session")
def a_pair(the_way: SpatialTransform) -> Pair:
    """A head, its front half a label, and the same head elsewhere; the way from the one to the other is known."""
    moving = a_small_head()
    front = np.zeros(moving.shape, np.uint8)
    front[6:22, 17:28, 6:24] = 1
    labels = moving.with_array(front)
    fixed = the_way.resample(moving, moving.geometry)
    points = moving.geometry.ijk_to_ras_points(np.random.default_rng(0).uniform(8, 22, (200, 3)))
    return Pair(
        fixed,
        moving,
        fixed_points=points,
        moving_points=the_way.apply(points),
        fixed_labels=the_way.resample(labels, moving.geometry, "nearest"),
        moving_labels=labels,
    )
