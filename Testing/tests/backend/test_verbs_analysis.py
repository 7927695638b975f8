"""The verb that splits a segment, as the computing process runs it."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.backend.encoding import decode_result
from medseg.backend.verbs import VERBS, Task, WarmModels
from medseg.backend.verbs_analysis import NO_MODEL
from medseg.errors import Cancelled, InputError
from medseg.labels.codes import LEFT_ATRIUM
from medseg.progress import NO_PROGRESS, Progress
from medseg.volumes import Geometry, Volume
from support.results import LABELS


def two_blocks() -> Volume:
    array = np.zeros((6, 4, 4), np.uint8)
    array[1:3, 1:3, 1:3] = 1
    array[4, 1, 1] = 1
    return Volume(array, Geometry.from_spacing(array.shape, (1.0, 1.0, 2.0), orientation="LPS"))


def run(volumes, progress=NO_PROGRESS, **options):
    parcel = VERBS["split_instances"](Task(NO_MODEL, options, volumes, WarmModels(), progress))
    return decode_result(bytes(parcel.head) + bytes(parcel.body))


def test_a_segment_comes_back_in_its_instances():
    result = run([two_blocks()], name="Atrium", terminology=LABELS[0].terminology_entry())
    # k runs towards the head: the upper block is the single voxel.
    assert result.labels.names == ("Atrium a", "Atrium b")
    assert [entry.voxels for entry in result.statistics] == [1, 8]
    assert result.labels[0].type == LEFT_ATRIUM
    assert np.isnan(result.statistics[0].mean)
    assert result.model["name"] == "instances"
    assert result.labelmap.geometry == two_blocks().geometry


def test_the_image_is_measured_when_it_is_given():
    volume = two_blocks()
    result = run([volume, volume.with_array(np.full(volume.shape, 40.0, np.float32))])
    assert [entry.mean for entry in result.statistics] == [40.0, 40.0]


def test_options_are_those_of_the_analysis():
    assert len(run([two_blocks()], minimum_mm3=3.0).labels) == 1
    with pytest.raises(InputError, match="no way to split"):
        run([two_blocks()], method="magic")
    with pytest.raises(InputError, match="no option neck"):
        run([two_blocks()], neck=1)


def test_what_is_no_label_map_is_refused():
    with pytest.raises(InputError, match="whole numbers"):
        run([two_blocks().astype(np.float32)])
    with pytest.raises(InputError, match="label map"):
        run([])


def test_splitting_stops_when_asked():
    with pytest.raises(Cancelled):
        run([two_blocks()], progress=Progress(cancelled=lambda: True))


def row(*values: int) -> Volume:
    array = np.array(values, np.uint8).reshape(1, 1, -1)
    return Volume(array, Geometry.from_spacing(array.shape, (10.0, 10.0, 10.0)))


def compared(volumes, **options):
    parcel = VERBS["compare_instances"](Task(NO_MODEL, options, volumes, WarmModels(), NO_PROGRESS))
    return decode_result(bytes(parcel.head) + bytes(parcel.body))


def test_instances_are_compared_and_shown_where_they_agree():
    # 1 matches 5 (Dice 4/5), 2 is invented, 6 is missed.
    result = compared([row(1, 1, 0, 2, 2, 0, 0), row(5, 5, 5, 0, 0, 0, 6)])
    assert result.labelmap.array.ravel().tolist() == [1, 1, 1, 2, 2, 0, 3]
    assert result.notices == ["All: PQ 0.400, SQ 0.800, RQ 0.500 (1 found, 1 invented, 1 missed)."]
    assert [entry.volume_ml for entry in result.statistics] == [3.0, 2.0, 1.0]


def test_groups_are_compared_on_their_own_and_together():
    volumes = [row(1, 1, 2, 2), row(1, 1, 2, 2)]
    result = compared(volumes, groups={"Rib": [[1], [2]], "Vertebra": [[2], [1]]})
    assert len(result.notices) == 3
    assert result.notices[0] == "Rib: PQ 0.000, RQ 0.000 (0 found, 1 invented, 1 missed)."
    assert result.notices[2].startswith("All together: PQ 0.000")
    same = compared(volumes, groups={"Rib": [[1], [1]]})
    assert same.labelmap.array.ravel().tolist() == [1, 1, 0, 0]


def test_empty_label_maps_agree_on_nothing():
    assert compared([row(0, 0), row(0, 0)]).notices == ["All: no instance (0 found, 0 invented, 0 missed)."]


@pytest.mark.parametrize("groups", [[], {"Rib": [1, 2]}, {"Rib": [[1], [0]]}, {"Rib": [["1"], [1]]}])
def test_groups_that_are_none_are_refused(groups):
    with pytest.raises(InputError, match="groups"):
        compared([row(1, 0), row(1, 0)], groups=groups)


def test_one_label_map_cannot_be_compared():
    with pytest.raises(InputError, match="two label maps"):
        compared([row(1, 0)])
