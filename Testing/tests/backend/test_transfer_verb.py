"""The verb that transfers labels to thin slices, as the computing process runs it."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.backend.encoding import decode_result
from medseg.backend.verbs import VERBS, Task, WarmModels
from medseg.backend.verbs_transfer import NO_MODEL, TransferRequest
from medseg.errors import Cancelled, InputError
from medseg.labels.codes import LEFT_ATRIUM
from medseg.progress import NO_PROGRESS, Progress
from medseg.training.thin_thick import TransferOptions, thick_copy, transfer
from medseg.volumes import Geometry, Volume
from support.results import LABELS


def a_case() -> list[Volume]:
    geometry = Geometry.from_spacing((15, 24, 24), (1.0, 1.0, 0.8), orientation="LPS")
    k, j, i = np.indices(geometry.shape)
    inside = ((k - 7) / 6.0) ** 2 + ((j - 12) / 8.0) ** 2 + ((i - 11) / 7.0) ** 2 < 1
    noise = np.random.default_rng(0).normal(0, 10, geometry.shape)
    thin = Volume((noise + 80 * inside).astype(np.float32), geometry)
    thick = thick_copy(thin.with_array(inside.astype(np.uint8)), factor=3)
    return [thin, thick.with_array((thick.array > 0.5).astype(np.uint8) * 4)]


def run(volumes, progress=NO_PROGRESS, **options):
    parcel = VERBS["transfer"](Task(NO_MODEL, options, volumes, WarmModels(), progress))
    return decode_result(bytes(parcel.head) + bytes(parcel.body))


def test_the_result_is_that_of_the_tool_with_names_and_measurements():
    volumes = a_case()
    label = {"value": 4, "name": "Atrium", "color": [1, 2, 3], "terminology": LABELS[0].terminology_entry()}
    found = run(volumes, steps=5, device="cpu", labels=[label])
    expected = transfer(*volumes, TransferOptions(steps=5, device="cpu"))
    np.testing.assert_array_equal(found.labelmap.array, expected.labelmap.array)
    assert found.labelmap.geometry == volumes[0].geometry
    assert (found.labels.names, found.labels[0].color, found.labels[0].type) == (("Atrium",), (1, 2, 3), LEFT_ATRIUM)
    assert found.statistics[0].voxels == np.count_nonzero(expected.labelmap.array)
    assert found.statistics[0].mean == pytest.approx(volumes[0].array[expected.labelmap.array == 4].mean(), rel=1e-5)
    assert found.model["name"] == "thin-from-thick"
    assert any("agrees with what was drawn" in notice for notice in found.notices)
    assert found.timings["train"] > 0


def test_labels_that_are_not_described_are_called_after_their_number():
    found = run(a_case(), method="shape", labels=[{"value": 9, "name": "Elsewhere"}])
    assert found.labels.names == ("Label 4",)


def test_options_are_those_of_the_tool():
    known = {name: value for name, value in vars(TransferRequest()).items() if name != "labels"}
    assert known == vars(TransferOptions())
    with pytest.raises(InputError, match="no method 'magic'"):
        run(a_case(), method="magic")
    with pytest.raises(InputError, match="no option colour"):
        run(a_case(), colour=1)
    with pytest.raises(InputError, match="has no value"):
        run(a_case(), labels=[{"name": "nothing"}])


def test_two_volumes_are_needed():
    with pytest.raises(InputError, match="takes two volumes"):
        run(a_case()[:1])


def test_a_cancelled_transfer_gives_nothing():
    with pytest.raises(Cancelled):
        run(a_case(), Progress(cancelled=lambda: True))
