"""The box of the body stretched to a fixed plane: the grid, the image, the labels, the bundle."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Compose, CropForeground, Orientation, Resize, Spacing

from medseg.errors import GeometryError, InputError, ModelError, UntrustedModelError
from medseg.models import FitInPlane, Preprocessing, ScaleRange, read_package
from medseg.segmentation import segment
from medseg.segmentation.estimate import plan_for
from medseg.segmentation.preprocess import box_within, network_geometry, shown_geometry, to_network_grid
from medseg.volumes import Geometry, Volume
from support.grids import ALL_ORIENTATIONS, geometries
from support.packages import write_bright_blob_package
from support.segmentation import Threshold, package_of

FIT = FitInPlane((16, 12))
STEPS = (ScaleRange(-700, 1400, clip=False),)


def a_body(geometry: Geometry, low: tuple[int, int, int], high: tuple[int, int, int]) -> Volume:
    """Return air with a box of 40 HU, voxels low <= (i, j, k) < high."""
    array = np.full(geometry.shape, -1000, np.int16)
    array[low[2] : high[2], low[1] : high[1], low[0] : high[0]] = 40
    return Volume(array, geometry, name="body", modality="CT")


def test_the_box_is_that_of_the_body_in_the_plane_and_all_slices():
    geometry = Geometry.from_spacing((10, 20, 30), (2.0, 3.0, 5.0))
    volume = a_body(geometry, (4, 6, 2), (14, 11, 5))
    shown = shown_geometry(volume, Preprocessing("RAS", (None, None, 2.5), fit_in_plane=FIT))
    assert shown.size == (10, 5, 10)
    assert shown.origin == (8.0, 18.0, 0.0)
    assert box_within(geometry, shown) == (slice(0, 10), slice(6, 11), slice(4, 14))
    grid = network_geometry(shown, Preprocessing("RAS", (None, None, 2.5), fit_in_plane=FIT))
    assert grid.size == (16, 12, 20)
    np.testing.assert_allclose(grid.spacing, (20 / 16, 15 / 12, 2.5))
    np.testing.assert_allclose(grid.center_ras, shown.center_ras)


@settings(deadline=None)
@given(
    geometry=geometries(sheared=False, largest=9),
    orientation=st.sampled_from(ALL_ORIENTATIONS),
    fractions=st.lists(st.floats(0, 1), min_size=6, max_size=6),
)
def test_the_box_is_the_same_part_of_the_patient_in_any_orientation(geometry, orientation, fractions):
    size = np.array(geometry.size)
    low = np.minimum((np.array(fractions[:3]) * size).astype(int), size - 1)
    high = low + 1 + (np.array(fractions[3:]) * (size - low - 1)).astype(int)
    volume = a_body(geometry, tuple(low), tuple(high))
    preprocessing = Preprocessing(orientation, fit_in_plane=FIT)
    shown = shown_geometry(volume, preprocessing)
    turned = volume.reorient(orientation)
    assert shown.orientation == orientation
    outside = turned.array.copy()
    outside[box_within(turned.geometry, shown)] = -1000
    assert (outside == -1000).all()
    inside = turned.array[box_within(turned.geometry, shown)] > -200
    assert inside.shape[0] == turned.geometry.shape[0]
    for axis in (1, 2):
        filled = inside.any(axis=tuple({0, 1, 2} - {axis}))
        assert filled[0]
        assert filled[-1]


def test_an_image_of_air_is_shown_whole():
    volume = a_body(Geometry.from_spacing((4, 5, 6)), (0, 0, 0), (0, 0, 0))
    assert shown_geometry(volume, Preprocessing("LPI", fit_in_plane=FIT)).size == (6, 5, 4)


def test_the_largest_component_leaves_the_couch_out():
    volume = a_body(Geometry.from_spacing((6, 30, 20)), (5, 5, 0), (15, 15, 6))
    volume.array[:, 25, :] = 100
    with_couch = Preprocessing("RAS", fit_in_plane=FitInPlane((8, 8)))
    without = Preprocessing("RAS", fit_in_plane=FitInPlane((8, 8), largest_component=True))
    assert shown_geometry(volume, with_couch).size == (20, 21, 6)
    assert shown_geometry(volume, without).size == (10, 10, 6)


def test_the_image_is_what_monais_transforms_make_of_it():
    rng = np.random.default_rng(2)
    volume = a_body(Geometry.from_spacing((9, 23, 31), (1.5, 1.2, 4.0), orientation="LAS"), (3, 5, 1), (25, 20, 8))
    volume = volume.with_array((volume.array + rng.integers(0, 150, volume.shape)).astype(np.float32))
    preprocessing = Preprocessing("LPI", fit_in_plane=FIT, intensity=STEPS)
    prepared = to_network_grid(volume, preprocessing)
    tensor = MetaTensor(torch.from_numpy(volume.array_ijk.copy())[None], affine=volume.geometry.ijk_to_ras)
    theirs = Compose(
        [
            Orientation("LPI"),
            CropForeground(select_fn=lambda x: x > -200, margin=[0, 0, 99], allow_smaller=True),
            Spacing(pixdim=(-1, -1, -1), mode="bilinear"),
            Resize((16, 12, -1), mode="trilinear"),
        ]
    )(tensor)
    np.testing.assert_allclose(prepared.array_ijk, (theirs[0].numpy() + 700) / 2100, atol=1e-5)
    np.testing.assert_allclose(prepared.geometry.ijk_to_ras, theirs.affine.numpy(), atol=1e-5)


def test_intensities_run_from_minus_700_to_1400_without_clipping():
    volume = a_body(Geometry.from_spacing((2, 2, 2)), (0, 0, 0), (2, 2, 2))
    volume.array[0] = [[-1000, -700], [1400, 3500]]
    prepared = to_network_grid(volume, Preprocessing("RAS", intensity=STEPS))
    np.testing.assert_allclose(prepared.array[0], [[-300 / 2100, 0.0], [1.0, 2.0]], atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(orientation=st.sampled_from(ALL_ORIENTATIONS), sheared=st.booleans())
def test_labels_come_back_to_their_place_and_nothing_is_found_outside_the_box(orientation, sheared):
    geometry = Geometry.from_spacing((12, 20, 24), (1.0, 1.0, 2.0), orientation=orientation)
    if sheared:
        matrix = geometry.ijk_to_ras.copy()
        matrix[:3, 2] += 0.1 * matrix[:3, 0]
        geometry = Geometry(geometry.shape, matrix)
    volume = a_body(geometry, (4, 6, 3), (20, 18, 9))
    volume.array[3:9, 9:15, 8:16] = 400
    # 16 x 12 voxels of the body become 32 x 24, a whole multiple, so that a threshold half-way keeps the border.
    package = package_of(
        orientation="LPI",
        preprocessing=Preprocessing("LPI", fit_in_plane=FitInPlane((32, 24))),
        window=(32, 24, 8),
    )
    result = segment([volume], package, network=Threshold(220.0)).labelmap
    assert result.geometry == geometry
    assert not result.array[:, :5].any()
    assert not result.array[:, :, :3].any()
    truth = volume.array == 400
    agreement = 2 * (truth & (result.array > 0)).sum() / (truth.sum() + result.array.sum())
    assert agreement > (0.9 if sheared else 0.99)


def test_the_plan_of_the_whole_image_has_the_windows_of_the_part_that_is_shown():
    package = package_of(
        orientation="RAS",
        preprocessing=Preprocessing("RAS", (None, None, 3.0), fit_in_plane=FitInPlane((32, 32))),
        window=(32, 32, 8),
        overlap=0.5,
    )
    volume = a_body(Geometry.from_spacing((30, 40, 50), (1.0, 1.0, 2.0)), (10, 10, 0), (30, 25, 30))
    whole = plan_for(volume.geometry, package, limit_bytes=1 << 30)
    part = plan_for(shown_geometry(volume, package.preprocessing), package, limit_bytes=1 << 30)
    assert whole.windows == part.windows == 4
    assert whole.size == part.size == (32, 32, 20)


def test_a_part_that_is_no_part_is_refused():
    geometry = Geometry.from_spacing((4, 5, 6))
    with pytest.raises(GeometryError, match="does not have"):
        box_within(geometry, geometry.padded((0, 0, 0), (1, 0, 0)))
    with pytest.raises(GeometryError, match="does not have"):
        box_within(geometry, Geometry.from_spacing((4, 5, 6), (2.0, 1.0, 1.0)))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: FitInPlane((128, 0)), "two sizes"),
        (lambda: FitInPlane((128,)), "two sizes"),
        (lambda: FitInPlane((8, 8), threshold=float("nan")), "not a finite number"),
        (lambda: Preprocessing("RAS", (1.0, None, 3.0), fit_in_plane=FIT), "both a spacing and a fixed number"),
    ],
)
def test_a_fit_that_makes_no_sense_is_refused(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()


@pytest.fixture
def a_fitting_package(tmp_path):
    def write(fit: FitInPlane, spacing=(None, None, 3.0)):
        preprocessing = Preprocessing("LPI", spacing, STEPS, fit)
        return write_bright_blob_package(tmp_path / "package", preprocessing=preprocessing), preprocessing

    return write


@pytest.mark.parametrize("fit", [FIT, FitInPlane((64, 48), -350.5, largest_component=True)])
@pytest.mark.parametrize("spacing", [(None, None, 3.0), (None, None, None)])
def test_a_package_keeps_the_fit_and_its_card_tells_it(a_fitting_package, fit, spacing):
    folder, preprocessing = a_fitting_package(fit, spacing)
    assert read_package(folder).preprocessing == preprocessing
    assert f"stretched to {fit.size[0]} x {fit.size[1]} voxels" in (folder / "docs" / "README.md").read_text()


@pytest.mark.parametrize("largest", [False, True])
def test_monai_builds_the_same_image_from_the_package(a_fitting_package, tmp_path, largest):
    from monai.bundle import ConfigParser

    from medseg.volumes import write_volume

    folder, preprocessing = a_fitting_package(FitInPlane((16, 12), -200.0, largest_component=largest), (None,) * 3)
    volume = a_body(Geometry.from_spacing((9, 23, 31), (1.5, 1.2, 4.0), orientation="RPS"), (3, 5, 1), (25, 20, 8))
    volume.array[0, 0, 0] = 300
    write_volume(volume, tmp_path / "body.nii.gz")
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    theirs = parser.get_parsed_content("preprocessing")({"image": str(tmp_path / "body.nii.gz")})["image"]
    ours = to_network_grid(volume, preprocessing)
    np.testing.assert_allclose(theirs[0].numpy(), ours.array_ijk, atol=1e-5)
    np.testing.assert_allclose(theirs.affine.numpy(), ours.geometry.ijk_to_ras, atol=1e-5)


@pytest.mark.parametrize(
    ("place", "change", "error", "sentence"),
    [
        ("CropForegroundd", {"select_fn": "$lambda x: __import__('os')"}, UntrustedModelError, "__import__"),
        ("CropForegroundd", {"select_fn": "$lambda x: x > -200.0 or print(1)"}, UntrustedModelError, "print"),
        ("CropForegroundd", {"margin": 0}, ModelError, "'margin'.*a box in the plane only"),
        ("CropForegroundd", {"allow_smaller": False}, ModelError, "'allow_smaller'.*true"),
        ("CropForegroundd", {"source_key": "label"}, ModelError, "'source_key'"),
        ("CropForegroundd", {"k_divisible": 16}, ModelError, "CropForegroundd with 'k_divisible'"),
        ("Resized", {"spatial_size": [16, 12, 5]}, ModelError, "'spatial_size'.*two whole numbers"),
        ("Resized", {"spatial_size": [16, 0, -1]}, ModelError, "two sizes from 1"),
        ("Resized", {"mode": "nearest"}, ModelError, "'mode'.*trilinear"),
        ("Resized", {"_target_": "EnsureTyped"}, ModelError, "EnsureTyped with"),
        ("Orientationd", {"_target_": "Resized"}, ModelError, "Resized with 'axcodes'"),
    ],
)
def test_another_crop_or_stretch_is_refused_and_named(a_fitting_package, place, change, error, sentence):
    folder, _ = a_fitting_package(FIT)
    file = folder / "configs" / "inference.json"
    config = json.loads(file.read_text())
    (entry,) = [step for step in config["preprocessing"]["transforms"] if step["_target_"] == place]
    entry.update(change)
    file.write_text(json.dumps(config))
    with pytest.raises(error, match=sentence):
        read_package(folder)


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        (("Orientationd", "CropForegroundd", "Spacingd"), "CropForegroundd without a Resized"),
        (("Orientationd", "Spacingd", "Resized"), "Resized without one CropForegroundd"),
        (("Orientationd", "Spacingd", "CropForegroundd", "Resized"), "another place than after one Orientationd"),
        (("Orientationd", "CropForegroundd", "Resized", "Spacingd"), "Spacingd without one Orientationd"),
        (("Orientationd", "CropForegroundd", "Resized", "Resized"), "Resized without one CropForegroundd"),
    ],
)
def test_steps_out_of_order_are_refused(a_fitting_package, kept, sentence):
    folder, _ = a_fitting_package(FIT)
    file = folder / "configs" / "inference.json"
    config = json.loads(file.read_text())
    steps = {step["_target_"]: step for step in config["preprocessing"]["transforms"]}
    config["preprocessing"]["transforms"] = [steps[name] for name in kept]
    file.write_text(json.dumps(config))
    with pytest.raises(ModelError, match=sentence):
        read_package(folder)
