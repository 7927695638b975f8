"""The verb that gives a volume: what travels, and the same result as without the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.backend import WorkerClient
from medseg.backend.encoding import decode_answer, decode_derived, encode_derived, encode_result
from medseg.errors import InputError, ModelError
from medseg.labels import LabelTable
from medseg.models import read_package
from medseg.segmentation import SegmentationResult
from medseg.segmentation.attention_map import attention_row
from medseg.volumes import Geometry, Volume
from medseg.volumes.derived import DerivedVolume
from support.attention import write_attending_package
from support.packages import LABELS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 250


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_attending_package(tmp_path_factory.mktemp("models") / "attending")


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerClient]:
    client = WorkerClient(home=tmp_path_factory.mktemp("home"))
    yield client
    client.stop()


@pytest.fixture
def an_image() -> Volume:
    array = np.random.default_rng(0).uniform(0, 300, (20, 24, 28)).astype(np.float32)
    return Volume(array, Geometry.from_spacing((20, 24, 28), (1.0, 1.2, 1.5), (9.0, 8.0, 7.0), "LPS"), name="Jane Doe")


@pytest.fixture
def a_derived_volume() -> DerivedVolume:
    array = np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 3, 4)
    geometry = Geometry.from_spacing((2, 3, 4), (8.0, 9.0, 10.0), (1.0, 2.0, 3.0), "PIR")
    return DerivedVolume(
        Volume(array, geometry, name="Jane Doe attention", modality="MR"), "attention", ["Derived."], {"name": "m"}
    )


def bytes_of(result: DerivedVolume) -> bytes:
    return b"".join(encode_derived(result).chunks())


def test_a_derived_volume_comes_out_as_it_went_in_but_for_its_name(a_derived_volume: DerivedVolume) -> None:
    data = bytes_of(a_derived_volume)
    assert b"Jane" not in data
    back = decode_answer(data, name="CT of today")
    assert isinstance(back, DerivedVolume)
    np.testing.assert_array_equal(back.volume.array, a_derived_volume.volume.array)
    np.testing.assert_array_equal(back.volume.geometry.ijk_to_ras, a_derived_volume.volume.geometry.ijk_to_ras)
    assert (back.volume.name, back.volume.modality) == ("CT of today attention", "MR")
    assert (back.kind, back.notices, back.model) == ("attention", ["Derived."], {"name": "m"})


def test_a_segmentation_is_still_told_from_a_derived_volume() -> None:
    labelmap = Volume(np.ones((2, 2, 2), np.uint8), Geometry.from_spacing((2, 2, 2)))
    sent = SegmentationResult(labelmap, LabelTable(LABELS[:1]), notices=['"kind":"derived"'])
    back = decode_answer(b"".join(encode_result(sent).chunks()), name="CT")
    assert isinstance(back, SegmentationResult)
    assert back.labelmap.name == "CT segmentation"


@pytest.mark.parametrize("cut", [0, 7, 15, 40, -1])
def test_a_derived_volume_that_is_cut_short_is_refused(a_derived_volume: DerivedVolume, cut: int) -> None:
    for decode in (decode_answer, decode_derived):
        with pytest.raises(InputError):
            decode(bytes_of(a_derived_volume)[:cut])


def test_the_row_is_the_same_as_without_the_worker(worker: WorkerClient, folder: Path, an_image: Volume) -> None:
    point = an_image.geometry.ijk_to_ras_points((5, 6, 7)).tolist()
    here = attention_row([an_image], read_package(folder), point, device="cpu")
    job = worker.submit("attention_row", str(folder), [an_image], {"point": point, "device": "cpu"})
    assert job.wait(PATIENCE)
    there = job.result()
    assert isinstance(there, DerivedVolume)
    np.testing.assert_allclose(there.volume.array, here.volume.array, atol=1e-6)
    np.testing.assert_array_equal(there.volume.geometry.ijk_to_ras, here.volume.geometry.ijk_to_ras)
    assert (there.volume.name, there.kind) == ("Jane Doe attention", "attention")
    assert (there.notices, there.model) == (here.notices, here.model)


def test_what_cannot_be_done_is_told_by_the_verb_itself(
    worker: WorkerClient, folder: Path, bright_blob_package: Path, an_image: Volume
) -> None:
    inside = an_image.geometry.center_ras
    for model, options, kind, words in (
        (folder, {"point": [1e6, 0, 0]}, InputError, "outside the volume"),
        (folder, {"point": "here"}, InputError, "three numbers"),
        (folder, {}, InputError, "option"),
        (folder, {"point": inside, "colour": "red"}, InputError, "There is no option colour"),
        (bright_blob_package, {"point": inside}, ModelError, "cannot tell where it looks"),
    ):
        job = worker.submit("attention_row", str(model), [an_image], options)
        assert job.wait(PATIENCE)
        assert isinstance(job.error, kind)
        assert words in str(job.error)
        assert "defect" not in str(job.error)
