"""The pairs: what is taken from the folder of real volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.registration.cases import cases, coarser
from benchmarks.registration.groups import GROUPS
from benchmarks.registration.measure import measure
from benchmarks.registration.painted import STRUCTURES, paint, painted_pair
from medseg.registration import SpatialTransform
from medseg.volumes import Geometry, Volume, write_labelmap, write_volume
from support.registration import a_head


def some_labels(*values: int) -> Volume:
    array = np.zeros((16, 18, 20), np.int16)
    for number, value in enumerate(values):
        array[4:12, 4:14, 2 + 4 * number : 6 + 4 * number] = value
    return Volume(array, Geometry.from_spacing(array.shape, (1.0, 1.0, 1.0), orientation="LPS"))


def put(folder: Path, name: str, ending: str = "_label") -> None:
    folder.mkdir(exist_ok=True)
    head = a_head((12, 14, 16), (3.0, 3.0, 3.0))
    write_volume(head, folder / f"{name}.nii.gz")
    write_labelmap(head.with_array((head.array > 0.3).astype(np.uint8)), folder / f"{name}{ending}.nii.gz")


def test_an_empty_folder_gives_no_pairs(tmp_path: Path):
    assert cases(tmp_path) == []


def test_subjects_are_registered_each_with_the_next(tmp_path: Path):
    for name in ("hippocampus_001", "hippocampus_007", "hippocampus_003"):
        put(tmp_path / "mr-hippocampus", name)
    found = cases(tmp_path)

    assert [case.name for case in found] == [
        "hippocampus_001 and hippocampus_003",
        "hippocampus_003 and hippocampus_007",
    ]
    assert [case.quick for case in found] == [True, False]
    pair = found[0].build(None)
    assert pair.fixed.modality == "MR"
    assert measure(SpatialTransform(), pair).dice == {1: pytest.approx(1.0)}


def test_heads_are_taken_when_every_organ_is_annotated(tmp_path: Path):
    folder = tmp_path / "ct-head-neck"
    for name in ("hn_001", "hn_002", "hn_003", "hn_004"):
        put(folder, name)
    (folder / "cases.csv").write_text("case,a,b\nhn_001,5,9\nhn_002,0,4\nhn_003,7,7\nhn_004,1,1\n", encoding="utf-8")

    assert [case.name for case in cases(tmp_path)] == ["hn_001 and hn_003", "hn_003 and hn_004"]


def test_a_heart_is_registered_from_one_phase_to_the_other(tmp_path: Path):
    for phase in ("ed", "es"):
        put(tmp_path / "mr-cardiac-cine", f"patient001_{phase}", "_gt")
    assert [(case.name, case.group) for case in cases(tmp_path)] == [("patient001", "cardiac-mr")]


def test_every_table_has_pairs_and_three_of_them_are_quick(shared_data: Path):
    found = cases(shared_data)

    assert {case.group for case in found} == set(GROUPS)
    assert len({(case.group, case.name) for case in found}) == len(found)
    assert [case.group for case in found if case.quick] == ["brain-mr", "brain-contrasts", "hippocampus-mr"]


def test_the_lungs_come_with_their_landmarks_the_right_way_round(shared_data: Path):
    case = next(case for case in cases(shared_data) if case.group == "lung-ct")
    pair = case.build(6.0)

    assert pair.fixed_points.shape == (51, 3)
    found = measure(SpatialTransform(), pair)
    assert found.points.mean == pytest.approx(35.3, abs=0.1)  # as the page of the data says
    shift = np.eye(4)
    shift[:3, 3] = (pair.moving_points - pair.fixed_points).mean(0)
    assert measure(SpatialTransform((shift,)), pair).points.mean == pytest.approx(4.2, abs=0.1)
    for volume, points in ((pair.fixed, pair.fixed_points), (pair.moving, pair.moving_points)):
        index = volume.geometry.ras_to_ijk_points(points)
        assert ((index > 0) & (index < np.asarray(volume.geometry.size) - 1)).all()
    assert pair.fixed_mask.array.any()
    assert pair.moving_mask.array.any()


def test_a_volume_is_made_coarser_only_along_its_fine_axes():
    volume = a_head((60, 50, 50), (1.0, 2.0, 8.0))
    found = coarser(volume, 4.0)

    assert found.geometry.spacing == pytest.approx((4.0, 4.0, 8.0))
    np.testing.assert_allclose(found.geometry.center_ras, volume.geometry.center_ras, atol=1e-6)
    assert abs(float(found.array.mean()) - float(volume.array.mean())) < 0.02
    assert coarser(volume, None) is volume
    assert coarser(volume, 0.5) is volume


def test_small_volumes_stay_as_they_are():
    volume = a_head((20, 20, 20), (1.0, 1.0, 1.0))
    assert coarser(volume, 4.0) is volume


def test_labels_stay_labels_when_they_are_made_coarser():
    volume = a_head((60, 50, 50), (1.0, 1.0, 1.0))
    labels = volume.with_array(np.where(volume.array > 0.3, 53, 0).astype(np.int16))
    assert set(np.unique(coarser(labels, 3.0, labels=True).array)) == {0, 53}


def test_painted_brains_have_the_structures_of_both():
    pair = painted_pair(some_labels(2, 17, 502), some_labels(2, 17, 53), ("T1", "T1"), 0)

    assert set(np.unique(pair.fixed_labels.array)) == {0, 2, 17}
    assert set(np.unique(pair.moving_labels.array)) == {0, 2, 17, 53}
    assert set(measure(SpatialTransform(), pair).dice) == {2, 17}
    assert len(set(STRUCTURES)) == 29


def test_white_matter_is_bright_in_t1_and_fluid_in_t2():
    labels = some_labels(2, 3, 4)
    shown = {
        contrast: [paint(labels, contrast, np.random.default_rng(1)).array[labels.array == v].mean() for v in (2, 3, 4)]
        for contrast in ("T1", "T2")
    }
    white, cortex, fluid = shown["T1"]
    assert white > cortex > fluid
    white, cortex, fluid = shown["T2"]
    assert white < cortex < fluid


def test_what_has_no_name_has_one_brightness_in_every_subject():
    first, second = (
        paint(some_labels(511), "T1", np.random.default_rng(seed)).array[6:10, 6:12, 3:5].mean() for seed in (1, 2)
    )
    assert first == pytest.approx(second, abs=0.2)
