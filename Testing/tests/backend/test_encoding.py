"""Volumes and results on their way: nothing is lost, nothing of the patient goes along, garbage is refused."""

from __future__ import annotations

import io
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medseg.backend.encoding import (
    MAGIC,
    VOLUME_DTYPES,
    decode_result,
    encode_result,
    encode_volume,
    geometry_from_dict,
    geometry_to_dict,
    make_parcel,
    open_volume,
    read_layout,
)
from medseg.errors import InputError, MedSegError
from medseg.labels import Code, Label, LabelTable
from medseg.segmentation import SegmentationResult, SegmentStatistics
from medseg.volumes import Geometry, Volume

if TYPE_CHECKING:
    from pathlib import Path

SCT = "SCT"
ANATOMY = Code(SCT, "123037004", "Anatomical Structure")


def bytes_of(volume: Volume) -> bytes:
    return b"".join(encode_volume(volume).chunks())


@pytest.fixture
def a_result() -> SegmentationResult:
    """Two segments, one of them empty, with all codes."""
    array = np.zeros((3, 4, 5), np.uint8)
    array[1, 1:3, 2] = 1
    kidney = Code(SCT, "64033007", "Kidney")
    labels = LabelTable(
        [
            Label(1, "left kidney", (1, 2, 255), ANATOMY, kidney, Code(SCT, "7771000", "Left"), kidney, None),
            Label(7, "Zyste ä", (9, 8, 7), ANATOMY, kidney),
        ]
    )
    return SegmentationResult(
        labelmap=Volume(array, Geometry.from_spacing((3, 4, 5), (1.5, 1.0, 0.3), (1, 2, 3), "LPS"), name="x"),
        labels=labels,
        statistics=[
            SegmentStatistics(1, "left kidney", 2, 0.0009, 12.5, 0.5, 12.0, 13.0),
            SegmentStatistics(7, "Zyste ä", 0, 0.0, math.nan, math.nan, math.nan, math.nan),
        ],
        notices=["The GPU was full."],
        timings={"network": 1.25},
        device="cpu",
        model={"name": "kidneys", "version": "1.0", "weights_sha256": "ab" * 32},
    )


def test_a_result_comes_out_as_it_went_in(a_result: SegmentationResult) -> None:
    back = decode_result(b"".join(encode_result(a_result).chunks()), name="CT of today")
    np.testing.assert_array_equal(back.labelmap.array, a_result.labelmap.array)
    np.testing.assert_array_equal(back.labelmap.geometry.ijk_to_ras, a_result.labelmap.geometry.ijk_to_ras)
    assert list(back.labels) == list(a_result.labels)
    assert back.statistics[0] == a_result.statistics[0]
    assert back.statistics[1].voxels == 0
    assert math.isnan(back.statistics[1].mean)
    assert (back.notices, back.timings, back.device, back.model) == (
        a_result.notices,
        a_result.timings,
        a_result.device,
        a_result.model,
    )
    assert back.labelmap.name == "CT of today"


@pytest.mark.parametrize("cut", [0, 7, 15, 40, -1])
def test_a_result_that_is_cut_short_is_refused(a_result: SegmentationResult, cut: int) -> None:
    data = b"".join(encode_result(a_result).chunks())
    with pytest.raises(InputError):
        decode_result(data[:cut])


def test_a_volume_parcel_holds_no_name(a_small_volume: Volume) -> None:
    data = bytes_of(a_small_volume)
    assert b"Doe" not in data
    assert b"Jane" not in data


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    array=st.sampled_from(sorted(VOLUME_DTYPES | {">i2", ">f4", "|b1"})).flatmap(
        lambda dtype: arrays.arrays(
            np.dtype(dtype),
            arrays.array_shapes(min_dims=3, max_dims=3, max_side=6),
            elements={"allow_nan": False} if np.dtype(dtype).kind == "f" else None,
        )
    ),
    modality=st.text(max_size=8),
    in_other_order=st.booleans(),
)
def test_any_array_comes_back_bit_by_bit(
    tmp_path: Path, array: np.ndarray, modality: str, in_other_order: bool
) -> None:
    array = np.asfortranarray(array) if in_other_order else array
    volume = Volume(
        array, Geometry.from_spacing(array.shape, (0.5, 0.25, 3.0), (1 / 3, 0, -7), "PIR"), modality=modality
    )
    path = tmp_path / "volume"
    path.write_bytes(bytes_of(volume))
    back = open_volume(path)
    np.testing.assert_array_equal(back.array, array)
    assert back.modality == modality
    np.testing.assert_array_equal(back.geometry.ijk_to_ras, volume.geometry.ijk_to_ras)
    assert not back.array.flags.writeable


@pytest.mark.parametrize(("dtype", "arrives_as"), [(np.float16, np.float32), (np.longdouble, np.float64)])
def test_unusual_floats_travel_as_usual_ones(
    a_small_volume: Volume, tmp_path: Path, dtype: type, arrives_as: type
) -> None:
    path = tmp_path / "volume"
    path.write_bytes(bytes_of(a_small_volume.astype(dtype)))
    back = open_volume(path)
    assert back.array.dtype == arrives_as
    np.testing.assert_array_equal(back.array, a_small_volume.array)


def test_equal_volumes_have_one_address_and_others_have_another(a_small_volume: Volume) -> None:
    same = Volume(a_small_volume.array.copy(), a_small_volume.geometry, name="another name", modality="CT")
    other_array = a_small_volume.array.copy()
    other_array[0, 0, 0] += 1
    moved = np.array(a_small_volume.geometry.ijk_to_ras)
    moved[0, 3] += 1e-9
    address = encode_volume(a_small_volume).sha256()
    assert encode_volume(same).sha256() == address
    assert encode_volume(a_small_volume.with_array(other_array)).sha256() != address
    moved_volume = Volume(a_small_volume.array, Geometry(a_small_volume.geometry.shape, moved), modality="CT")
    assert encode_volume(moved_volume).sha256() != address


def test_the_voxels_of_a_parcel_are_aligned_and_not_copied(a_small_volume: Volume) -> None:
    parcel = encode_volume(a_small_volume)
    assert len(parcel.head) % 64 == 0
    assert np.shares_memory(np.frombuffer(parcel.body, np.int16), a_small_volume.array)


def layout_of(data: bytes, limit: int = 1 << 30) -> Any:
    return read_layout(io.BytesIO(data).read, kind="volume", dtypes=VOLUME_DTYPES, limit=limit)


def with_header(**changes: Any) -> bytes:
    header = {"kind": "volume", "ijk_to_ras": [float(number) for number in np.eye(4).reshape(-1)], **changes}
    shape, dtype = header.pop("shape", None), header.pop("dtype", None)
    data = make_parcel(header, np.zeros((2, 2, 2), np.int16)).head
    fields = json.loads(data[16:])
    fields.update({key: value for key, value in (("shape", shape), ("dtype", dtype)) if value is not None})
    text = json.dumps(fields).encode()
    return MAGIC + len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "segmentation"},
        {"dtype": "|O"},
        {"dtype": ">i2"},
        {"dtype": "<f8,<f8"},
        {"dtype": ["<i2"]},
        {"shape": [1, 2]},
        {"shape": [1, 2, 0]},
        {"shape": [1, 2, True]},
        {"shape": [1, 2, 1.5]},
        {"shape": [1, 1, -5]},
        {"shape": [1 << 20, 1 << 20, 1 << 20]},
        {"shape": [1, 2, 1 << 40]},
        {"ijk_to_ras": [0.0] * 15},
        {"ijk_to_ras": ["1"] * 16},
        {"ijk_to_ras": [1e300] * 16},
        {"ijk_to_ras": "identity"},
    ],
)
def test_a_header_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        layout_of(with_header(**changes))


def test_a_volume_above_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(InputError, match="Crop the volume"):
        layout_of(with_header(shape=[512, 512, 512]), limit=1 << 20)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda rest: MAGIC + rest))
def test_garbage_is_refused_as_garbage(data: bytes) -> None:
    with pytest.raises(InputError):
        layout_of(data)
    with pytest.raises(InputError):
        decode_result(data)


def test_a_grid_comes_back_from_json(a_small_volume: Volume) -> None:
    fields = json.loads(json.dumps(geometry_to_dict(a_small_volume.geometry)))
    assert geometry_from_dict(fields) == a_small_volume.geometry


@pytest.mark.parametrize("data", [None, [], {}, {"shape": [1, 2, 3]}, {"shape": [1, 2, 3], "ijk_to_ras": [0] * 16}])
def test_a_grid_that_makes_no_sense_is_refused(data: object) -> None:
    with pytest.raises(MedSegError):
        geometry_from_dict(data)
