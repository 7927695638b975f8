"""Whether a volume can be segmented, and what ``describe`` tells about it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.phantom import left_atrium_phantom
from medseg.volumes import Geometry, Volume, check_image, describe, read_volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import DTypeLike


@pytest.fixture
def a_noisy_image() -> Volume:
    noise = np.random.default_rng(0).normal(100, 30, (8, 9, 10)).astype(np.float32)
    return Volume(noise, Geometry.from_spacing(noise.shape, (1.0, 1.0, 3.0)), name="Case 7", modality="MR")


def changed(volume: Volume, value: float, count: int = 1) -> Volume:
    array = volume.array.copy()
    array.ravel()[:count] = value
    return volume.with_array(array)


def test_an_ordinary_image_passes_without_a_warning(a_noisy_image: Volume) -> None:
    assert check_image(a_noisy_image) == []


@pytest.mark.parametrize(
    ("value", "count", "words"), [(np.nan, 1, "1 voxel that is not"), (np.inf, 3, "3 voxels that")]
)
def test_voxels_that_are_no_numbers_are_counted(a_noisy_image: Volume, value: float, count: int, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        check_image(changed(a_noisy_image, value, count))
    assert "of 720" in caught.value.message
    assert "Replace" in caught.value.advice


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("value", [0, 7])
def test_a_constant_volume_is_refused(dtype: DTypeLike, value: int) -> None:
    volume = Volume(np.full((4, 5, 6), value, dtype), Geometry.from_spacing((4, 5, 6)), name="Flat")
    with pytest.raises(InputError, match=f"'Flat' is empty: every voxel has the value {value}"):
        check_image(volume)


def test_one_slice_is_no_volume_along_whichever_axis(a_noisy_image: Volume) -> None:
    for stop in ((1, 9, 10), (8, 1, 10), (8, 9, 1)):
        with pytest.raises(InputError, match="only one slice; segmentation needs at least 2"):
            check_image(a_noisy_image.crop((0, 0, 0), stop))


def test_a_model_may_ask_for_more_slices(a_noisy_image: Volume) -> None:
    assert check_image(a_noisy_image, minimum_slices=8) == []
    with pytest.raises(InputError, match="only 8 slices along one axis; registration needs at least 9"):
        check_image(a_noisy_image, minimum_slices=9, purpose="registration")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_a_label_map_is_told_from_an_image(dtype: DTypeLike) -> None:
    image, truth = left_atrium_phantom()
    assert check_image(image.astype(dtype)) == []
    with pytest.raises(InputError, match="looks like a label map") as caught:
        check_image(truth.astype(dtype))
    assert "CT or MR image" in caught.value.advice


def test_real_images_pass_and_real_label_maps_do_not(shared_data: Path) -> None:
    images = [
        "left-atrium-mr/la_029.nii.gz",  # few grey values and smooth: of all images the most like a label map
        "brain-mr/MR_Gd.nii.gz",
        "ct-chest-tumour/ibsi1_ct.nii.gz",
        "mr-hippocampus/hippocampus_006.nii.gz",
    ]
    labels = [
        "brain-labels/brain_labels_13.nii.gz",
        "ct-head-neck/hn_005_label.nii.gz",
        "ct-totalseg/example_seg.nii.gz",
    ]
    for name in images:
        assert check_image(read_volume(shared_data / name)) == [], name
    for name in labels:
        with pytest.raises(InputError, match="label map"):
            check_image(read_volume(shared_data / name))


@pytest.mark.parametrize("spacing", [(20, 20, 20), (0.5, 0.5, 10)])
def test_coarse_voxels_are_warned_of(a_noisy_image: Volume, spacing: tuple[float, float, float]) -> None:
    volume = Volume(a_noisy_image.array, Geometry.from_spacing(a_noisy_image.shape, spacing), name="Case 7")
    (warning,) = check_image(volume)
    assert "coarse" in warning
    assert "Case 7" in warning


def test_the_description_is_ready_for_json(a_noisy_image: Volume) -> None:
    facts = json.loads(json.dumps(describe(a_noisy_image)))
    assert facts["name"] == "Case 7"
    assert facts["modality"] == "MR"
    assert facts["size"] == [10, 9, 8]
    assert facts["spacing_mm"] == [1, 1, 3]
    assert facts["extent_mm"] == [10, 9, 24]
    assert facts["orientation"] == "RAS"
    assert facts["axes"] == ["straight"]
    assert facts["voxel_type"] == "float32"
    assert facts["intensity_range"] == [float(a_noisy_image.array.min()), float(a_noisy_image.array.max())]
    assert facts["notes"] == []
    assert facts["warnings"] == []


def test_the_description_of_a_bad_volume_says_why(a_noisy_image: Volume) -> None:
    facts = describe(changed(a_noisy_image, np.inf, 5))
    assert "5 voxels" in facts["warnings"][0]
    assert np.isfinite(facts["intensity_range"]).all()
    nothing = describe(changed(a_noisy_image, np.nan, 720))
    assert nothing["intensity_range"] == []
    assert "720 voxels" in nothing["warnings"][0]


def test_odd_axes_are_named() -> None:
    matrix = np.array([[-1.0, 0, 0.2, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    noise = np.random.default_rng(0).normal(size=(3, 4, 5))
    assert describe(Volume(noise, Geometry((3, 4, 5), matrix)))["axes"] == ["oblique", "left-handed", "sheared"]


def test_a_ct_is_guessed_from_air(a_noisy_image: Volume) -> None:
    unknown = Volume(a_noisy_image.array, a_noisy_image.geometry)
    assert describe(unknown)["modality"] == "unknown"
    assert describe(changed(unknown, -1000.0))["modality"] == "CT (guessed from its values)"
