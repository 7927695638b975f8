"""What the per-case tool works on: the crop, its groups of slices, its grey values."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.training.thin_thick import thick_copy
from medseg.training.thin_thick.case import make_case
from medseg.training.thin_thick.guided import image_channels
from medseg.volumes import Geometry, Volume


def a_drawing(axis: str = "k", factor: int = 3) -> tuple[Volume, Volume]:
    """Return a volume of 50 x 60 x 70 voxels and a box of labels 4 and 7 on its thick copy."""
    geometry = Geometry.from_spacing((50, 60, 70), (1.0, 2.0, 0.5))
    thin = Volume(np.random.default_rng(0).normal(40, 10, geometry.shape).astype(np.float32), geometry)
    copy = thick_copy(thin, factor=factor, axis=axis)
    labels = np.zeros(copy.shape, np.uint8)
    labels[6:9, 12:16, 10:14] = 4
    labels[6:9, 16:18, 10:14] = 7
    return thin, Volume(labels, copy.geometry)


def test_the_crop_is_the_labels_with_a_margin_of_millimetres_and_two_thick_slices() -> None:
    case = make_case(*a_drawing(), margin_mm=6.0)
    # Thick slices 4 to 10, rows 12 - 3 to 18 + 3, columns 10 - 6 to 14 + 6.
    assert (case.start, case.image.shape) == ((12, 9, 4), (21, 12, 16))
    assert case.drawn.shape == (7, 12, 16)
    assert (case.first, case.ratio, case.first_drawn, case.values) == (0, 3, 4, (4, 7))
    assert case.spacing == (0.5, 2.0, 1.0)
    assert case.thick_spacing == (1.5, 2.0, 1.0)
    assert (case.drawn[2, 3:7, 6:10] == 1).all()
    assert (case.drawn[2, 7:9, 6:10] == 2).all()


@pytest.mark.parametrize("axis", ["i", "j", "k"])
def test_class_indices_go_back_to_values_where_they_were(axis: str) -> None:
    thin, labels = a_drawing(axis)
    case = make_case(thin, labels, margin_mm=6.0)
    classes = np.repeat(case.drawn, 3, axis=0)
    if len(case.image) > len(classes):
        classes = np.pad(classes, [(0, len(case.image) - len(classes)), (0, 0), (0, 0)])
    found = case.restored(classes, thin)
    assert found.geometry == thin.geometry
    place = 2 - "ijk".index(axis)
    expected = np.repeat(labels.array, 3, axis=place)
    expected = np.pad(expected, [(0, have - own) for have, own in zip(thin.shape, expected.shape, strict=True)])
    np.testing.assert_array_equal(found.array, expected)


def test_slices_that_fill_no_group_belong_to_a_crop_that_reaches_the_end() -> None:
    thin, labels = a_drawing()
    labels.array[15, 12, 12] = 4
    case = make_case(thin, labels, margin_mm=6.0)
    assert case.start[0] + len(case.image) == 50
    assert case.group(len(case.drawn) - 1) == slice(33, 36)
    assert len(case.image) == 38


def test_grey_values_near_the_labels_span_minus_one_to_one_whatever_is_elsewhere() -> None:
    thin, labels = a_drawing()
    bright = thin.array.copy()
    bright[:, :, 28:] = 3000  # beyond the margin and the pixels near the labels
    case = make_case(thin.with_array(bright), labels, margin_mm=30.0)
    middle = case.image[1 + 3 * 4, 12:18, 10:14]
    assert abs(middle.mean()) < 0.3
    assert 0.4 < middle.std() < 0.8
    assert case.image.max() == 2.0


def test_the_mean_around_a_slice_is_as_wide_as_a_thick_one() -> None:
    for factor in (3, 4):
        case = make_case(*a_drawing(factor=factor), margin_mm=6.0)
        channels = image_channels(case, 8)
        np.testing.assert_array_equal(channels[:3], case.image[7:10])
        weights = [1, 1, 1] if factor == 3 else [0.5, 1, 1, 1, 0.5]
        around = case.image[8 - factor // 2 : 9 + factor // 2]
        np.testing.assert_allclose(channels[3], np.average(around, axis=0, weights=weights), atol=1e-5)
    # The thick slice itself, in its middle.
    case = make_case(*a_drawing(), margin_mm=6.0)
    np.testing.assert_allclose(image_channels(case, 7)[3], case.thick_image()[2], atol=1e-5)
