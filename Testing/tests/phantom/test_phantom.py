"""The synthetic heart: always the same for one seed, like a late-gadolinium MR, with a truth on its own grid."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.phantom import left_atrium_phantom


def test_one_seed_always_gives_the_same_heart():
    first, second, other = (left_atrium_phantom(seed) for seed in (3, 3, 4))

    assert np.array_equal(first[0].array, second[0].array)
    assert np.array_equal(first[1].array, second[1].array)
    assert not np.array_equal(first[1].array, other[1].array)


def test_image_and_truth_share_a_grid_of_the_asked_spacing():
    image, truth = left_atrium_phantom(shape_mm=(110.0, 90.0, 50.0), spacing=(2.0, 1.5, 2.5))

    assert image.geometry == truth.geometry
    assert image.geometry.orientation == "LPS"
    assert np.allclose(image.geometry.spacing, (2.0, 1.5, 2.5))
    assert image.array.shape == (20, 60, 55)
    assert image.array.dtype == np.int16
    assert truth.array.dtype == np.uint8


@pytest.mark.parametrize("seed", range(4))
def test_the_atrium_has_the_size_and_the_contrast_of_a_real_one(seed):
    image, truth = left_atrium_phantom(seed)
    inside = truth.array > 0

    assert 30 < inside.sum() * truth.geometry.voxel_volume_mm3 / 1000 < 90
    assert set(np.unique(truth.array)) == {0, 1}
    assert image.array.min() >= 0
    assert image.array.max() <= 255
    blood = image.array[inside].mean()
    assert np.percentile(image.array, 10) < 0.3 * blood  # lungs
    assert 0.05 < image.array[inside].std() / blood < 0.2  # texture, shading and noise


def test_the_truth_does_not_depend_on_the_resolution():
    volume = [left_atrium_phantom(1, spacing=(size, size, size))[1] for size in (1.0, 2.5)]

    fine, coarse = (truth.array.sum() * truth.geometry.voxel_volume_mm3 for truth in volume)
    assert coarse == pytest.approx(fine, rel=0.05)
