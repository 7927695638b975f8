"""The verbs that give a transform, as the computing process runs them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from medseg.backend.encoding import decode_answer
from medseg.backend.encoding_registration import Registered, encode_registration
from medseg.backend.verbs import VERBS, Task, WarmModels
from medseg.backend.verbs_registration import LOSS, NO_MODEL, OUTPUTS
from medseg.errors import Cancelled, InputError
from medseg.progress import NO_PROGRESS, Progress
from medseg.registration import DisplacementField, SpatialTransform
from medseg.registration.maps import jacobian_map
from medseg.volumes import Geometry, Volume
from support.registration import a_head, a_smooth_warp, a_turn, distance, moved

COARSE = {"method": "field", "refine": "quick", "spacing_mm": 12.0, "device": "cpu"}


@pytest.fixture(scope="module")
def a_head_volume() -> Volume:
    return a_head((20, 24, 22), (8.0, 8.0, 8.0))


@pytest.fixture(scope="module")
def a_turned_head(a_head_volume: Volume) -> Volume:
    return moved(a_head_volume, a_turn(8.0, (6.0, -4.0, 5.0)))


@pytest.fixture(scope="module")
def a_warped_head(a_head_volume: Volume) -> Volume:
    return moved(a_head_volume, a_smooth_warp(a_head_volume.geometry, 12.0))


class Run:
    """One run of a verb; what it told is kept."""

    def __init__(self, verb: str, volumes: list[Volume], progress: Progress = NO_PROGRESS, **options: Any) -> None:
        self.told: list[tuple[str, float]] = []
        self.finish_after: int | None = None
        self._task = Task(
            NO_MODEL,
            options,
            volumes,
            WarmModels(),
            progress,
            finishing=lambda: self.finish_after is not None and len(self.told) >= self.finish_after,
            tell=lambda name, value: self.told.append((name, value)),
        )
        self._verb = VERBS[verb]

    def result(self) -> Registered:
        found = decode_answer(bytearray(b"".join(self._verb(self._task).chunks())))
        assert isinstance(found, Registered)
        return found


def register(*volumes: Volume, **options: Any) -> Registered:
    return Run("register", list(volumes), **options).result()


def labels_of(volume: Volume) -> Volume:
    return volume.with_array((volume.array > 0.3).astype(np.uint8) + (volume.array > 0.6))


def test_a_turn_is_found_and_comes_with_the_warped_volume(a_head_volume: Volume, a_turned_head: Volume) -> None:
    known = a_turn(8.0, (6.0, -4.0, 5.0))
    found = register(a_head_volume, a_turned_head, method="rigid")
    assert distance(found.transform, known, a_head_volume.geometry) < 1.0
    assert found.transform.is_linear
    assert found.figures["correlation_after"] > 0.95 > found.figures["correlation_before"]
    assert set(found.volumes) == {"warped"}
    assert found.volumes["warped"].geometry.is_close(a_head_volume.geometry)
    assert np.corrcoef(found.volumes["warped"].array.ravel(), a_head_volume.array.ravel())[0, 1] > 0.9
    assert (found.losses, found.inverse, found.method, found.device) == ([], None, "rigid", "cpu")


def test_all_that_can_be_asked_for_comes(a_head_volume: Volume, a_warped_head: Volume) -> None:
    run = Run(
        "register",
        [a_head_volume, a_warped_head, labels_of(a_head_volume), labels_of(a_warped_head)],
        inputs=["fixed", "moving", "fixed_labels", "moving_labels"],
        outputs=list(OUTPUTS),
        inverse=True,
        landmarks=[[[0, 0, 0], [20, 0, 10]], [[1, 0, 0], [20, 2, 10]]],
        start_from_landmarks=False,
        **COARSE,
    )
    run.finish_after = 40
    found = run.result()
    told = [value if math.isfinite(value) else None for _name, value in run.told]
    assert told == pytest.approx(found.losses)
    assert found.losses[1] is None, "the coarse images come after the start"
    assert {name for name, _value in run.told} == {LOSS}
    assert found.losses[2] > min(found.losses[2:])
    assert set(found.volumes) == set(OUTPUTS)
    assert all(volume.geometry.is_close(a_head_volume.geometry) for volume in found.volumes.values())
    assert set(np.unique(found.volumes["labels"].array)) == {0, 1, 2}
    field, matrix = found.transform.stages
    assert isinstance(field, DisplacementField)
    expected = jacobian_map(field, a_head_volume.geometry).array
    np.testing.assert_array_equal(found.volumes["jacobian"].array, expected)
    assert matrix.shape == (4, 4)
    assert found.inverse is not None
    figures = found.figures
    centre = np.asarray(a_head_volume.geometry.center_ras)
    back = found.inverse.apply(found.transform.apply(centre))
    assert np.linalg.norm(back - centre) < 2 * figures["inverse_error_mm"] < 10
    assert set(figures["labels"]) == {"1", "2"}
    assert figures["overlap"]["mean_dice_after"] > figures["overlap"]["mean_dice_before"]
    assert figures["landmark_errors_before_mm"] == [1.0, 2.0]
    assert len(figures["landmark_errors_after_mm"]) == 2
    assert figures["deformation"]["folded_share"] == 0.0
    assert json.dumps(figures, allow_nan=False)
    assert found.timings["deformation"] > 0


def test_the_alignment_begins_where_it_is_told_to(a_head_volume: Volume) -> None:
    far = SpatialTransform((np.array([[1, 0, 0, 400.0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),))
    moving = Volume(
        a_head_volume.array,
        Geometry(a_head_volume.shape, far.matrix @ a_head_volume.geometry.ijk_to_ras),
    )
    found = register(a_head_volume, moving, method="rigid", initial=far.matrix.tolist())
    assert distance(found.transform, far, a_head_volume.geometry) < 1.0
    with pytest.raises(InputError, match="do not overlap"):
        register(a_head_volume, moving, method="rigid", initial=np.eye(4).tolist())


def test_a_finish_keeps_the_best_so_far(a_head_volume: Volume, a_warped_head: Volume) -> None:
    run = Run("register", [a_head_volume, a_warped_head], **COARSE)
    run.finish_after = 6
    found = run.result()
    assert len(run.told) == len(found.losses) == 6
    assert any("the best that was found until then" in notice for notice in found.notices)
    assert not found.transform.is_linear
    assert set(found.volumes) == {"warped"}


def test_a_finish_that_comes_too_early_waits_for_something_to_keep(
    a_head_volume: Volume, a_warped_head: Volume
) -> None:
    run = Run("register", [a_head_volume, a_warped_head], **COARSE)
    run.finish_after = 0
    found = run.result()
    assert len(found.losses) == 1
    assert not found.transform.is_linear


def test_a_linear_method_does_not_heed_a_finish(a_head_volume: Volume, a_turned_head: Volume) -> None:
    run = Run("register", [a_head_volume, a_turned_head], method="rigid")
    run.finish_after = 0
    assert run.result().figures["correlation_after"] > 0.95


@pytest.mark.parametrize("when", [0, 3])
def test_a_cancelled_registration_gives_nothing(a_head_volume: Volume, a_warped_head: Volume, when: int) -> None:
    run: Run
    progress = Progress(cancelled=lambda: len(run.told) >= when)
    run = Run("register", [a_head_volume, a_warped_head], progress, **COARSE)
    with pytest.raises(Cancelled):
        run.result()
    assert len(run.told) == when


def test_a_linear_transform_has_no_map_and_says_so(a_head_volume: Volume, a_turned_head: Volume) -> None:
    found = register(a_head_volume, a_turned_head, method="rigid", outputs=["jacobian"])
    assert found.volumes == {}
    assert "by a factor of 1" in found.notices[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "magic"}, "no registration method 'magic'"),
        ({"inputs": ["fixed"]}, "takes a fixed and a moving volume"),
        ({"inputs": ["fixed", "fixed"]}, "takes a fixed and a moving volume"),
        ({"inputs": ["fixed", "patient"]}, "takes a fixed and a moving volume"),
        ({"outputs": ["hologram"]}, "no such volume"),
        ({"outputs": ["labels"]}, "no segmentation of the moving volume"),
        ({"smoothness": 2}, "smoothness is 2"),
        ({"smoothness": "much"}, "smoothness is much"),
        ({"similarity": "taste"}, "no similarity 'taste'"),
        ({"regulariser": "iron"}, "nothing called 'iron'"),
        ({"start": "end"}, "start cannot be 'end'"),
        ({"metric": "mile"}, "metric cannot be 'mile'"),
        ({"spacing_mm": 0}, "voxel size to work at is 0"),
        ({"initial": [[1, 2], [3]]}, "four rows of four numbers"),
        ({"initial": np.ones((4, 4)).tolist()}, "affine"),
        ({"landmarks": [[[0, 0, 0]], []]}, "1 landmarks in the fixed and 0"),
        ({"landmarks": 3}, "not two lists of points"),
        ({"landmarks": [1, 2]}, "not two lists of points"),
        ({"landmarks": [[[0, 0]], [[0, 0]]]}, "not two lists of points"),
        ({"seed": -2}, "The seed is -2"),
        ({"seed": "dice"}, "The seed is dice"),
        ({"landmarks": [[[0, 0, float("inf")]], [[0, 0, 0]]]}, "not at a finite place"),
        ({"colour": 1}, "no option colour"),
    ],
)
def test_what_makes_no_sense_is_told_in_a_sentence(a_head_volume: Volume, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        register(a_head_volume, a_head_volume, **options)


def test_a_mask_holds_whole_numbers(a_head_volume: Volume) -> None:
    with pytest.raises(InputError, match="whole numbers"):
        register(*[a_head_volume] * 3, inputs=["fixed", "moving", "fixed_mask"])


def test_nothing_of_a_name_is_in_the_answer(a_head_volume: Volume, a_turned_head: Volume) -> None:
    named = [
        Volume(volume.array, volume.geometry, name="Doe^Jane", notes=("Doe",))
        for volume in (a_head_volume, a_turned_head)
    ]
    parcel = VERBS["register"](Task(NO_MODEL, {"method": "rigid"}, named, WarmModels(), NO_PROGRESS))
    assert b"Doe" not in b"".join(parcel.chunks())


def test_a_registration_comes_back_number_by_number() -> None:
    field = a_smooth_warp(Geometry.from_spacing((5, 6, 7), (2.0, 3.0, 4.0), (1 / 3, 0, -7), "LPS")).stages[0]
    matrix = a_turn(30.0, (1.0, 2.0, 3.0)).matrix
    labels = Volume(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), Geometry.from_spacing((2, 3, 4), (1, 1, 1)))
    sent = Registered(
        SpatialTransform((field, matrix)),
        "field",
        {"x": None},
        inverse=SpatialTransform((field,)),
        volumes={"labels": labels},
        losses=[0.5, None],
        notices=["So it is."],
        timings={"alignment": 0.25},
        model={"name": "a"},
    )
    parcel = encode_registration(sent)
    data = b"".join(parcel.chunks())
    assert len(parcel) == len(data)
    found = decode_answer(bytearray(data))
    assert isinstance(found, Registered)
    for one, other in zip(found.transform.stages, sent.transform.stages, strict=True):
        if isinstance(other, DisplacementField):
            np.testing.assert_array_equal(one.vectors, other.vectors)
            np.testing.assert_array_equal(one.geometry.ijk_to_ras, other.geometry.ijk_to_ras)
        else:
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(found.inverse.stages[0].vectors, field.vectors)
    np.testing.assert_array_equal(found.volumes["labels"].array, labels.array)
    assert (found.figures, found.losses, found.notices, found.timings, found.model, found.method) == (
        {"x": None},
        [0.5, None],
        ["So it is."],
        {"alignment": 0.25},
        {"name": "a"},
        "field",
    )


@pytest.mark.parametrize("damage", ["cut", "longer", "part", "place", "matrix", "parts"])
def test_a_damaged_registration_is_refused(damage: str) -> None:
    field = a_smooth_warp(Geometry.from_spacing((5, 6, 7), (2.0, 3.0, 4.0))).stages[0]
    data = bytearray(b"".join(encode_registration(Registered(SpatialTransform((field, np.eye(4))), "field")).chunks()))
    if damage == "cut":
        data = data[:-64]
    elif damage == "longer":
        data += bytes(64)
    elif damage == "part":
        data[data.rindex(b"MEDSEG1")] = 0
    else:
        # The header has room for other words of the same length.
        old, new = {
            "place": (b'"transform":[0,', b'"transform":[7,'),
            "matrix": (b'"transform":[0,[1.0,', b'"transform":[0,["1",'),
            "parts": (b'"parts":[', b'"parst":['),
        }[damage]
        assert len(old) == len(new)
        assert old in data
        data = data.replace(old, new)
        if damage == "matrix":
            data = data.replace(b'["1",0.0,', b'["x",0.0,')
    with pytest.raises(InputError, match="cannot be read"):
        decode_answer(data)


def components(field: DisplacementField) -> list[Volume]:
    return [Volume(np.ascontiguousarray(field.vectors[..., axis]), field.geometry) for axis in range(3)]


@pytest.mark.parametrize("kind", ["diffusion", "curvature", "elastic"])
def test_a_rough_field_is_smoothed_and_a_shift_stays(kind: str) -> None:
    geometry = Geometry.from_spacing((12, 14, 16), (2.0, 3.0, 4.0), orientation="PIL")
    noise = np.random.default_rng(1).normal(0, 1.2, (*geometry.shape, 3))
    rough = DisplacementField(noise + np.array([3.0, -2.0, 5.0]), geometry)
    found = Run("smooth_transform", components(rough), kind=kind, distance_mm=6.0).result()
    (smooth,) = found.transform.stages
    assert isinstance(smooth, DisplacementField)
    inner = smooth.vectors[3:-3, 3:-3, 3:-3]
    np.testing.assert_allclose(inner.mean((0, 1, 2)), [3.0, -2.0, 5.0], atol=0.3)
    assert inner.std((0, 1, 2)).max() < 0.6
    before, after = found.figures["before"], found.figures["after"]
    assert after["std_log_jacobian"] < before["std_log_jacobian"]
    assert after["folded_share"] <= before["folded_share"]
    assert 0 < found.figures["mean_change_mm"] < found.figures["largest_change_mm"]


def test_the_way_of_the_axes_does_not_change_what_smooth_is() -> None:
    geometry = Geometry.from_spacing((10, 10, 10), (2.0, 2.0, 2.0))
    turned = Geometry(geometry.shape, a_turn(40.0, (5, 5, 5)).matrix @ geometry.ijk_to_ras)
    vectors = np.random.default_rng(2).normal(0, 1, (10, 10, 10, 3))
    turn = a_turn(40.0, (5, 5, 5)).matrix[:3, :3]
    plain = Run("smooth_transform", components(DisplacementField(vectors, geometry)), kind="elastic").result()
    other = Run("smooth_transform", components(DisplacementField(vectors @ turn.T, turned)), kind="elastic").result()
    expected = plain.transform.stages[0].vectors @ turn.T
    np.testing.assert_allclose(other.transform.stages[0].vectors, expected, atol=1e-4)


def test_smoothing_says_what_it_cannot_use() -> None:
    volumes = components(a_smooth_warp(Geometry.from_spacing((5, 6, 7), (2.0, 3.0, 4.0))).stages[0])
    for options, words in (
        ({"kind": "hope"}, "no smoothing 'hope'"),
        ({"distance_mm": 0}, "distance is 0"),
    ):
        with pytest.raises(InputError, match=words):
            Run("smooth_transform", volumes, **options).result()
    with pytest.raises(InputError, match="three volumes on one grid"):
        Run("smooth_transform", volumes[:2]).result()
    flat = [Volume(np.zeros((1, 6, 7), np.float32), Geometry.from_spacing((1, 6, 7), (1, 1, 1)))] * 3
    with pytest.raises(InputError, match="too small"):
        Run("smooth_transform", flat).result()
