"""The whole verb, with networks whose right answer is known and with a real trained one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import Cancelled, DeviceMemoryError, InputError, ModelError
from medseg.metrics import dice
from medseg.models import InputSlot, Normalize, Postprocessing, read_package
from medseg.networks import TSFMUNet
from medseg.progress import Progress
from medseg.segmentation import SegmentOptions, pipeline, preparers, segment
from medseg.volumes import Geometry, Volume, read_volume
from support.packages import bright_blob_case, write_bright_blob_package
from support.segmentation import Levels, Threshold, label_table, package_of, random_network

ORIENTATIONS = [
    "".join(letters) for axes in itertools.permutations(("LR", "PA", "IS")) for letters in itertools.product(*axes)
]


def an_oblique_geometry(shape=(20, 22, 18), spacing=(0.9, 1.1, 1.7)):
    angle = 0.35
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    ) * np.asarray(spacing)
    matrix[:3, 3] = (12, -40, 3)
    return Geometry(shape, matrix)


def a_left_handed_geometry():
    matrix = an_oblique_geometry().ijk_to_ras @ np.diag([1.0, 1.0, -1.0, 1.0])
    return Geometry((20, 22, 18), matrix)


def a_sheared_geometry():
    matrix = an_oblique_geometry().ijk_to_ras.copy()
    matrix[:3, 2] += 0.3 * matrix[:3, 1]
    return Geometry((20, 22, 18), matrix)


def points_of(geometry):
    k, j, i = np.indices(geometry.shape)
    return geometry.ijk_to_ras_points(np.stack([i.ravel(), j.ravel(), k.ravel()], axis=1).astype(float))


def a_ball(geometry, radius=9.0):
    """Return 100 - distance to the middle (mm): a threshold of 100 - r segments a ball of the radius r."""
    distance = np.linalg.norm(points_of(geometry) - geometry.center_ras, axis=1)
    return Volume((100.0 - distance).reshape(geometry.shape).astype(np.float32), geometry, name="ball")


def noise(geometry, seed=0):
    array = np.random.default_rng(seed).normal(size=geometry.shape).astype(np.float32)
    return Volume(array, geometry, name="noise")


def test_the_result_lies_on_the_inputs_own_grid_and_says_where_it_came_from():
    geometry = an_oblique_geometry()
    result = segment([a_ball(geometry)], package_of(), network=Threshold(91.0))
    assert result.labelmap.geometry == geometry
    assert result.labelmap.array.dtype == np.uint8
    assert result.device == "cpu"
    assert result.model == {"name": "test-model", "version": "1.2.3", "weights_sha256": "ab" * 32}
    assert result.notices == []
    (ball,) = result.statistics
    assert ball.voxels == np.count_nonzero(result.labelmap.array)
    assert ball.volume_ml == pytest.approx(4 / 3 * np.pi * 9**3 / 1000, rel=0.03)
    assert {"imports", "load", "prepare", "network", "labels", "postprocess", "statistics", "other"} <= set(
        result.timings
    )
    assert all(seconds >= 0 for seconds in result.timings.values())


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation_of_a_volume_gets_the_same_labels(orientation):
    volume = noise(an_oblique_geometry())
    network, package = random_network(3), package_of(classes=3)
    expected = segment([volume], package, network=network).labelmap
    turned = volume.reorient(orientation)
    result = segment([turned], package, network=network).labelmap
    assert result.geometry == turned.geometry
    assert np.array_equal(result.array, expected.reorient(orientation).array)


@pytest.mark.parametrize("orientation", ORIENTATIONS[::5])
def test_every_orientation_gets_the_same_labels_when_the_spacing_changes(orientation):
    volume = noise(an_oblique_geometry())
    network, package = random_network(3), package_of(classes=3, spacing=(1.4, 0.8, 1.3))
    expected = segment([volume], package, network=network).labelmap.reorient(orientation)
    result = segment([volume.reorient(orientation)], package, network=network).labelmap
    assert (result.array != expected.array).mean() < 2e-4


@pytest.mark.parametrize(
    "geometry", [an_oblique_geometry(), a_left_handed_geometry(), a_sheared_geometry()], ids=lambda g: g.orientation
)
@pytest.mark.parametrize("spacing", [(None, None, None), (1.5, 1.5, 1.5)])
def test_a_ball_stays_where_it_is_on_any_grid(geometry, spacing):
    result = segment([a_ball(geometry)], package_of(spacing=spacing), network=Threshold(91.0))
    assert result.labelmap.geometry == geometry
    distance = np.linalg.norm(points_of(geometry) - geometry.center_ras, axis=1).reshape(geometry.shape)
    inside = result.labelmap.array > 0
    slack = 0.9 if geometry.is_sheared else 0.25
    assert distance[inside].max() < 9 + slack
    assert distance[~inside].min() > 9 - slack
    middle = points_of(geometry)[inside.ravel()].mean(axis=0)
    np.testing.assert_allclose(middle, geometry.center_ras, atol=0.1)


def test_a_sheared_grid_is_told_to_the_user():
    result = segment([a_ball(a_sheared_geometry())], package_of(), network=Threshold(91.0))
    assert any("sheared" in notice for notice in result.notices)


@settings(max_examples=25, deadline=None)
@given(
    spacing=st.tuples(*[st.floats(0.5, 2.5)] * 3),
    axis=st.integers(0, 2),
    place=st.floats(8.0, 14.0),
)
def test_places_come_back_unshifted_through_any_spacing(spacing, axis, place):
    """A ramp of one unit a voxel, cut at ``place``: where the labels change tells the shift to 0.05 voxel."""
    geometry = an_oblique_geometry((24, 24, 24), (1.1, 0.9, 1.3))
    step = geometry.reoriented("RAS").ijk_to_ras
    oriented = geometry.reoriented("RAS")
    ramp = np.broadcast_to(
        np.arange(24, dtype=np.float32).reshape([-1 if axis == 2 - a else 1 for a in range(3)]), oriented.shape
    )
    assert np.allclose(step, oriented.ijk_to_ras)
    place = np.floor(place)
    low, high = (
        segment(
            [Volume(ramp + np.float32(0.25), oriented)],
            package_of(spacing=spacing),
            SegmentOptions(statistics=False),
            network=Threshold(place + 0.25 + shift),
        ).labelmap.array
        for shift in (-0.05, 0.05)
    )
    below, above = (ramp == place - 1), (ramp == place + 1)
    at = ramp == place
    assert low[at].all()
    assert not low[below].any()
    assert not high[at].any()
    assert high[above].all()


def test_many_classes_on_a_ramp_change_where_they_should():
    geometry = Geometry.from_spacing((20, 20, 40), (1.0, 1.0, 1.0))
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32), geometry.shape).copy()
    package = package_of(classes=20, spacing=(1.7, 1.0, 1.0))
    result = segment([Volume(ramp, geometry)], package, network=Levels(20, 2.0))
    inner = (slice(None), slice(None), slice(2, 37))
    wrong = np.abs(result.labelmap.array[inner] * 2.0 - ramp[inner]) > 1.001
    assert not wrong.any()


def test_a_trained_model_finds_bright_spheres(bright_blob_package):
    image, truth = bright_blob_case(3, spacing=(1.0, 1.0, 1.0), orientation="LPS")
    result = segment([image], read_package(bright_blob_package))
    assert dice(result.labelmap.array == 1, truth.array == 1) > 0.9
    assert result.model["weights_sha256"] == read_package(bright_blob_package).weights.sha256


def test_a_trained_model_finds_bright_spheres_on_a_finer_grid(tmp_path):
    folder = write_bright_blob_package(tmp_path / "model", spacing=(1.0, 1.0, 1.0), orientation="LPI")
    image, truth = bright_blob_case(4, shape=(30, 70, 80), spacing=(0.6, 0.7, 1.6))
    result = segment([image], read_package(folder))
    assert dice(result.labelmap.array == 1, truth.array == 1) > 0.85


def test_a_volume_smaller_than_the_window_is_segmented():
    geometry = Geometry.from_spacing((5, 6, 7), (4.0, 4.0, 4.0))
    result = segment([a_ball(geometry)], package_of(window=(32, 32, 32)), network=Threshold(91.0))
    assert result.statistics[0].voxels == np.count_nonzero(a_ball(geometry).array > 91.0)


def test_clean_up_follows_the_package_unless_the_user_refuses():
    geometry = Geometry.from_spacing((12, 12, 12))
    image = np.zeros(geometry.shape, np.float32)
    image[2:7, 2:7, 2:7] = 1
    image[4, 4, 4] = 0
    image[10, 10, 9:11] = 1
    image += 0.25  # whole numbers in large areas would be taken for labels
    package = package_of(postprocessing=Postprocessing(largest_component=True, fill_holes=True))
    volume = Volume(image, geometry)
    cleaned = segment([volume], package, network=Threshold(0.5))
    raw = segment([volume], package, SegmentOptions(postprocess=False), network=Threshold(0.5))
    assert cleaned.statistics[0].voxels == 125
    assert raw.statistics[0].voxels == 124 + 2


def test_the_smallest_volume_is_in_millilitres():
    geometry = Geometry.from_spacing((12, 12, 12), (2.0, 2.0, 2.0))
    image = np.zeros(geometry.shape, np.float32)
    image[2:7, 2:7, 2:7] = 1
    image[9:11, 9:11, 9:11] = 1
    image += 0.25
    package = package_of(postprocessing=Postprocessing(minimum_volume_ml=0.1))
    result = segment([Volume(image, geometry)], package, network=Threshold(0.5))
    assert result.statistics[0].voxels == 125


def test_statistics_can_be_left_out():
    result = segment(
        [a_ball(an_oblique_geometry())], package_of(), SegmentOptions(statistics=False), network=Threshold(91.0)
    )
    assert result.statistics == []


def test_values_of_the_label_table_are_the_channels_and_channels_without_a_name_are_background():
    geometry = Geometry.from_spacing((8, 8, 40))
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32), geometry.shape).copy()
    package = package_of(classes=5, labels=label_table(0, [1, 2, 4]))
    result = segment([Volume(ramp, geometry)], package, network=Levels(5, 8.0))
    assert sorted(np.unique(result.labelmap.array)) == [0, 1, 2, 4]
    assert [entry.value for entry in result.statistics] == [1, 2, 4]
    assert result.labelmap.array[0, 0, 24] == 0


def test_labels_above_255_are_kept():
    geometry = Geometry.from_spacing((4, 4, 40))
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32), geometry.shape).copy()
    package = package_of(classes=301)
    result = segment([Volume(ramp, geometry)], package, network=Levels(301, 0.125))
    assert result.labelmap.array.dtype == np.uint16
    assert result.labelmap.array[0, 0, 36] == 288


def test_inputs_on_different_grids_are_brought_onto_the_first():
    geometry = an_oblique_geometry()
    other = geometry.padded((2, 3, 1), (2, 1, 1)).reoriented("LPS").with_spacing((1.0, 1.0, 1.2))
    slots = (InputSlot("first", "MR", "", 2), InputSlot("second", "MR", "", 2))

    class Second(Threshold):
        def forward(self, image):
            return super().forward(image[:, 1:])

    package = package_of(inputs=slots)
    centre = a_ball(geometry)
    elsewhere = np.linalg.norm(points_of(other) - geometry.center_ras, axis=1)
    second = Volume((100.0 - elsewhere).reshape(other.shape).astype(np.float32), other, name="second scan")
    result = segment([noise(geometry), second], package, network=Second(91.0))
    assert any("'second scan'" in notice and "resampled" in notice for notice in result.notices)
    expected = centre.array > 91.0
    assert dice(result.labelmap.array > 0, expected) > 0.98
    same = segment([noise(geometry), centre], package, network=Second(91.0))
    assert same.notices == []
    assert np.array_equal(same.labelmap.array > 0, expected)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_volumes_than_the_model_takes_is_refused(count):
    slots = (InputSlot("CT image", "CT", "", 2), InputSlot("PET image", "PT", "", 2))
    with pytest.raises(InputError, match=r"takes 2 volumes.*CT image \(CT\), PET image \(PT\)"):
        segment([noise(an_oblique_geometry())] * count, package_of(inputs=slots), network=Threshold(0.0))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_numbers_are_refused(value):
    volume = noise(an_oblique_geometry())
    volume.array[3, 4, 5] = value
    with pytest.raises(InputError, match="NaN or infinite"):
        segment([volume], package_of(), network=Threshold(0.0))


def test_a_constant_volume_is_refused():
    geometry = an_oblique_geometry()
    with pytest.raises(InputError):
        segment([Volume(np.full(geometry.shape, 3, np.int16), geometry)], package_of(), network=Threshold(0.0))


def test_too_few_slices_are_refused():
    geometry = Geometry.from_spacing((1, 30, 30))
    with pytest.raises(InputError, match="one slice"):
        segment([noise(geometry)], package_of(), network=Threshold(0.0))


def test_a_volume_of_another_modality_is_segmented_with_a_warning():
    ball = a_ball(an_oblique_geometry())
    volume = Volume(ball.array, ball.geometry, modality="CT")
    package = package_of(inputs=(InputSlot("image", "MR", "", 2),))
    result = segment([volume], package, network=Threshold(91.0))
    assert any("made for MR" in notice for notice in result.notices)


def test_what_the_reader_did_is_passed_on():
    ball = a_ball(an_oblique_geometry())
    volume = Volume(ball.array, ball.geometry, notes=("Uneven slices were resampled.",))
    assert "Uneven slices were resampled." in segment([volume], package_of(), network=Threshold(91.0)).notices


def test_a_device_that_is_not_there_is_replaced_with_a_notice():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    result = segment(
        [a_ball(an_oblique_geometry())], package_of(), SegmentOptions(device="cuda"), network=Threshold(91.0)
    )
    assert result.device == "cpu"
    assert len(result.notices) == 1


@pytest.mark.parametrize("options", [{"overlap": 1.0}, {"overlap": -0.1}, {"overlap": float("nan")}, {"batch_size": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError):
        SegmentOptions(**options)


def test_more_overlap_runs_more_windows():
    counts = []
    for overlap in (0.0, 0.5):
        seen = []
        segment(
            [noise(Geometry.from_spacing((30, 30, 30)))],
            package_of(),
            SegmentOptions(overlap=overlap),
            network=Threshold(0.0),
            progress=Progress(lambda _, text, seen=seen: seen.append(text)),
        )
        counts.append(sum(text.startswith("Window") for text in seen))
    assert counts == [8, 27]


def test_progress_rises_from_0_to_1():
    seen = []
    package = package_of(postprocessing=Postprocessing(largest_component=True))
    progress = Progress(lambda fraction, _: seen.append(fraction))
    segment([a_ball(an_oblique_geometry())], package, network=Threshold(91.0), progress=progress)
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)


def test_the_images_are_not_changed():
    volume = a_ball(an_oblique_geometry())
    before = volume.array.copy()
    from medseg.models import Preprocessing

    package = package_of(preprocessing=Preprocessing("RAS", (None, None, None), (Normalize(),)))
    segment([volume], package, network=Threshold(0.0))
    assert np.array_equal(volume.array, before)


def test_little_memory_gives_a_smaller_plan_with_a_notice_and_the_same_labels(monkeypatch):
    volume = noise(Geometry.from_spacing((30, 40, 50)))
    network, package = random_network(4), package_of(classes=4)
    expected = segment([volume], package, network=network)
    free = 400_000
    monkeypatch.setattr(pipeline, "available_memory", lambda _: free)
    monkeypatch.setattr(pipeline, "memory_of", lambda *_: free - 1)
    result = segment([volume], package, network=network)
    assert any("To save memory" in notice for notice in result.notices)
    assert (result.labelmap.array != expected.labelmap.array).mean() < 1e-4


def test_too_little_memory_is_told_before_the_run(monkeypatch):
    monkeypatch.setattr(pipeline, "available_memory", lambda _: 50_000)
    with pytest.raises(DeviceMemoryError, match=r"needs about 0\.\d GB of memory.*crop the volume"):
        segment([noise(Geometry.from_spacing((60, 60, 60)))], package_of(), network=Threshold(0.0))


def test_memory_that_runs_out_all_the_same_is_told_in_a_sentence(monkeypatch):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(preparers, "to_network_grid", full)
    with pytest.raises(DeviceMemoryError, match="too little memory"):
        segment([noise(an_oblique_geometry())], package_of(), network=Threshold(0.0))


def test_a_volume_in_which_nothing_is_found_is_told_to_the_user():
    result = segment([a_ball(an_oblique_geometry())], package_of(), network=Threshold(1000.0))
    assert any("found none" in notice for notice in result.notices)
    assert result.statistics[0].voxels == 0
    assert np.isnan(result.statistics[0].mean)


@pytest.mark.parametrize("spacing", [(None, None, None), (1.0, 1.0, 2.0)])
def test_bone_in_a_real_ct_is_found_where_it_is(shared_data, spacing):
    volume = read_volume(shared_data / "ct-misc" / "CT_AVM.nii.gz")
    package = package_of(window=(96, 96, 96), spacing=spacing)
    result = segment([volume], package, network=Threshold(300.5))
    truth = volume.array > 300.5
    assert truth.sum() > 1000
    assert result.labelmap.geometry == volume.geometry
    if spacing[0] is None:
        assert np.array_equal(result.labelmap.array > 0, truth)
        assert result.statistics[0].mean == pytest.approx(volume.array[truth].mean(), rel=1e-5)
    else:
        assert dice(result.labelmap.array > 0, truth) > 0.8


def test_a_real_ct_with_a_tilted_gantry_is_segmented(shared_data):
    volume = read_volume(shared_data / "dicom-ct-gantry-tilt")
    result = segment([volume], package_of(window=(128, 128, 16)), network=Threshold(-300.0))
    assert result.labelmap.geometry == volume.geometry
    assert dice(result.labelmap.array > 0, volume.array > -300) > 0.999
    assert set(volume.notes) <= set(result.notices)


def test_a_model_whose_weights_are_missing_is_told_in_a_sentence():
    with pytest.raises(ModelError, match="weights are missing"):
        segment([noise(an_oblique_geometry())], package_of())


def test_a_cancelled_run_lets_go_of_all_that_it_held():
    import gc
    import weakref

    class Watched(Threshold):
        held: weakref.ref

        def forward(self, image):
            scores = super().forward(image)
            Watched.held = weakref.ref(image)
            stop.append(True)
            return scores

    stop: list[bool] = []
    gc.disable()
    try:
        with pytest.raises(Cancelled) as caught:
            segment(
                [noise(an_oblique_geometry())],
                package_of(),
                network=Watched(0.0),
                progress=Progress(None, lambda: bool(stop)),
            )
        assert len(stop) == 1
        assert Watched.held() is None
        assert caught.value.__context__ is None
    finally:
        gc.enable()


def test_a_network_that_asks_for_it_is_told_how_far_apart_the_slices_are():
    torch.manual_seed(0)
    network = TSFMUNet(base=4, depth=1, spacing_aware=True, reference_spacing=1.0).eval()
    package = package_of(window=(16, 16, 8), spacing=(1.0, 1.0, None))
    for distance in (2.0, 4.0):
        geometry = Geometry.from_spacing((8, 16, 16), (1.0, 1.0, distance))
        segment([noise(geometry)], package, network=network)
        assert network.slice_spacing == pytest.approx(distance)
