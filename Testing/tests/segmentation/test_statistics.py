from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import GeometryError, WriteError
from medseg.segmentation import SegmentStatistics
from medseg.segmentation.statistics import STATISTICS_COLUMNS, measure_segments, write_statistics_csv
from medseg.volumes import Geometry, Volume
from support.segmentation import label_table


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    offset=st.sampled_from([0.0, -1000.0, 1e6]),
    kind=st.sampled_from([np.uint8, np.int16, np.float32, np.float64]),
)
def test_every_figure_is_that_of_the_voxels_of_the_segment(seed, offset, kind):
    rng = np.random.default_rng(seed)
    geometry = Geometry.from_spacing((5, 6, 7), (0.7, 0.9, 2.0), orientation="LPS")
    labels = rng.integers(0, 4, geometry.shape).astype(np.uint8)
    image = (offset + 100 * rng.random(geometry.shape)).astype(kind) if kind != np.uint8 else labels * 50
    table = label_table(5)
    for entry in measure_segments(Volume(labels, geometry), Volume(image, geometry), table):
        voxels = image[labels == entry.value].astype(np.float64)
        assert entry.name == table.by_value(entry.value).name
        assert entry.voxels == voxels.size
        assert entry.volume_ml == pytest.approx(voxels.size * 0.7 * 0.9 * 2.0 / 1000)
        if voxels.size == 0:
            assert all(math.isnan(x) for x in (entry.mean, entry.std, entry.minimum, entry.maximum))
            continue
        assert entry.mean == pytest.approx(voxels.mean())
        assert entry.std == pytest.approx(voxels.std(ddof=1), rel=1e-6, abs=1e-6)
        assert (entry.minimum, entry.maximum) == (voxels.min(), voxels.max())


def test_a_small_deviation_about_a_large_value_is_not_drowned():
    geometry = Geometry.from_spacing((40, 30, 30))
    image = 1e8 + np.random.default_rng(0).normal(0, 0.01, geometry.shape)
    labels = np.ones(geometry.shape, np.uint8)
    (entry,) = measure_segments(Volume(labels, geometry), Volume(image, geometry), label_table(1))
    assert entry.std == pytest.approx(0.01, rel=0.05)


def test_one_voxel_has_no_deviation():
    geometry = Geometry.from_spacing((3, 3, 3))
    labels = np.zeros(geometry.shape, np.uint8)
    labels[1, 1, 1] = 1
    (entry,) = measure_segments(Volume(labels, geometry), Volume(labels * 7, geometry), label_table(1))
    assert (entry.voxels, entry.mean, entry.std) == (1, 7.0, 0.0)


def test_the_volume_of_an_oblique_left_handed_voxel_is_its_determinant():
    matrix = np.array([[0.8, 0.3, 0, 0], [-0.3, 0.8, 0, 0], [0, 0, -2.5, 0], [0, 0, 0, 1.0]])
    geometry = Geometry((2, 2, 2), matrix)
    labels = np.ones(geometry.shape, np.uint8)
    (entry,) = measure_segments(Volume(labels, geometry), Volume(labels, geometry), label_table(1))
    assert entry.volume_ml == pytest.approx(8 * abs(np.linalg.det(matrix[:3, :3])) / 1000)


def test_values_that_the_table_does_not_name_are_left_out():
    geometry = Geometry.from_spacing((3, 3, 3))
    labels = np.full(geometry.shape, 9, np.uint16)
    labels[0] = 2
    (entry,) = measure_segments(Volume(labels, geometry), Volume(labels, geometry), label_table(1, [2]))
    assert (entry.value, entry.voxels, entry.maximum) == (2, 9, 2.0)


def test_volumes_of_two_sizes_are_refused():
    labels = Volume(np.zeros((3, 3, 3), np.uint8), Geometry.from_spacing((3, 3, 3)))
    image = Volume(np.zeros((3, 3, 4), np.uint8), Geometry.from_spacing((3, 3, 4)))
    with pytest.raises(GeometryError, match="Resample"):
        measure_segments(labels, image, label_table(1))


def test_the_table_is_written_with_a_row_for_each_segment(tmp_path):
    entries = [
        SegmentStatistics(1, 'left "atrium", wall', 1200, 1.2, 98.76543, 12.5, -3.0, 255.0),
        SegmentStatistics(2, "empty", 0, 0.0, math.nan, math.nan, math.nan, math.nan),
    ]
    write_statistics_csv(tmp_path / "s.csv", entries)
    with (tmp_path / "s.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == list(STATISTICS_COLUMNS)
    assert rows[0]["segment"] == 'left "atrium", wall'
    assert float(rows[0]["mean"]) == pytest.approx(98.76543, rel=1e-5)
    assert rows[1]["mean"] == ""
    assert rows[1]["voxels"] == "0"


def test_a_table_that_cannot_be_written_is_told_in_a_sentence(tmp_path):
    with pytest.raises(WriteError):
        write_statistics_csv(tmp_path / "missing" / "s.csv", [])
