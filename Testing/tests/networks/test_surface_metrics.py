"""Distances of surfaces, with numbers that a person can check."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medseg.metrics import surface_agreement


def a_box(shift: int = 0) -> np.ndarray:
    array = np.zeros((10, 12, 16), bool)
    array[2:8, 3:9, 4 + shift : 10 + shift] = True
    return array


def test_equal_structures_agree_wholly() -> None:
    found = surface_agreement(a_box(), a_box(), (1.0, 2.0, 3.0))
    assert (found.surface_dice, found.hd95_mm) == (1.0, 0.0)


def test_distances_are_millimetres_along_the_axis_of_the_shift() -> None:
    # Moved by two voxels of 1.5 mm: the 36 voxels of a face are 3 mm from the other's, so is the 95th percentile.
    found = surface_agreement(a_box(2), a_box(), (1.0, 1.0, 1.5), tolerance_mm=2.9)
    assert found.hd95_mm == pytest.approx(3.0)
    assert found.surface_dice < 0.9
    assert surface_agreement(a_box(2), a_box(), (1.0, 1.0, 1.5), tolerance_mm=3.0).surface_dice == 1.0


def test_the_surface_dice_is_the_share_of_surface_voxels_within_the_tolerance() -> None:
    # A single voxel is its whole surface.
    first, second = np.zeros((3, 3, 9), bool), np.zeros((3, 3, 9), bool)
    first[1, 1, [1, 6]] = True
    second[1, 1, [4, 6]] = True
    # Distances: 1 -> 4 is 3 mm, 4 -> 6 is 2 mm, 6 -> 6 is 0: three of four surface voxels are within 2 mm.
    assert surface_agreement(first, second, (1.0, 1.0, 1.0), tolerance_mm=2.0).surface_dice == pytest.approx(3 / 4)


def test_where_the_structures_lie_in_the_image_does_not_matter() -> None:
    small = surface_agreement(a_box(2)[1:9, 2:10, 3:13], a_box()[1:9, 2:10, 3:13], (1.0, 1.0, 1.0))
    assert small == surface_agreement(a_box(2), a_box(), (1.0, 1.0, 1.0))


def test_an_empty_structure_has_no_distance() -> None:
    nothing = np.zeros_like(a_box())
    missed = surface_agreement(nothing, a_box(), (1.0, 1.0, 1.0))
    assert missed.surface_dice == 0.0
    assert math.isnan(missed.hd95_mm)
    both = surface_agreement(nothing, nothing, (1.0, 1.0, 1.0))
    assert (both.surface_dice, both.hd95_mm) == (1.0, 0.0)


def test_arrays_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="different shapes"):
        surface_agreement(a_box(), a_box()[1:], (1.0, 1.0, 1.0))
