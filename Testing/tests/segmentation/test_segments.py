"""IDs and tags of segments, and which labels become segments."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from medseg.labels import Code, Label, LabelTable
from medseg.labels.codes import ANATOMICAL_STRUCTURE
from medseg.segmentation.results import SegmentationResult
from medseg.segmentation.segments import algorithm_name, found_labels, segment_ids, segment_tags
from medseg.segmentation.statistics import measure_segments
from medseg.version import VERSION
from medseg.volumes import Geometry, Volume

ORGAN = Code("SCT", "113343008", "Organ")


def labels_named(*names: str) -> LabelTable:
    return LabelTable(
        [Label(value, name, (1, 2, 3), ANATOMICAL_STRUCTURE, ORGAN) for value, name in enumerate(names, start=1)]
    )


def test_ids_are_readable_and_plain() -> None:
    labels = labels_named("Left atrium", "Kidney, left (lower)", "Größe", "心臓")
    assert segment_ids(labels) == {1: "Left_atrium", 2: "Kidney_left_lower", 3: "Gr_e", 4: "Segment_4"}


def test_ids_are_unique_also_where_names_come_out_the_same() -> None:
    identifiers = segment_ids(labels_named("a b", "a,b", "a_b_2", "a.b"))
    assert len(set(identifiers.values())) == 4
    assert identifiers[1] == "a_b"


def test_only_labels_with_a_voxel_are_found_with_and_without_statistics() -> None:
    labels = labels_named("one", "two", "three")
    geometry = Geometry.from_spacing((4, 4, 4))
    array = np.zeros((4, 4, 4), np.uint8)
    array[3, 0, 0], array[0, 3, 3] = 1, 3
    labelmap = Volume(array, geometry)
    counted = SegmentationResult(labelmap, labels, measure_segments(labelmap, labelmap, labels))
    assert [label.name for label in found_labels(counted)] == ["one", "three"]
    uncounted = dataclasses.replace(counted, statistics=[])
    assert [label.name for label in found_labels(uncounted)] == ["one", "three"]


def test_tags_name_the_model_and_the_software() -> None:
    model = {"name": "left-atrium-mr", "version": "1.0.0", "weights_sha256": "ab" * 32}
    tags = segment_tags(labels_named("Left atrium")[0], model)
    assert tags["DICOM.SegmentAlgorithmType"] == "AUTOMATIC"
    assert tags["DICOM.SegmentAlgorithmName"] == "MedSeg left-atrium-mr 1.0.0"
    assert tags["TerminologyEntry"].count("~") == 6
    assert tags["MedSeg.LabelValue"] == "1"
    assert (tags["MedSeg.Model"], tags["MedSeg.ModelVersion"]) == ("left-atrium-mr", "1.0.0")
    assert (tags["MedSeg.WeightsSHA256"], tags["MedSeg.Version"]) == ("ab" * 32, VERSION)


@pytest.mark.parametrize("length", [10, 48, 80])
def test_the_algorithm_name_fits_dicom_and_keeps_the_version(length: int) -> None:
    name = algorithm_name({"name": "m" * length, "version": "12.3.4"})
    assert len(name) <= 64
    assert name.startswith("MedSeg mmm")
    assert name.endswith(" 12.3.4")


def test_a_model_name_cannot_break_a_file_header() -> None:
    tags = segment_tags(labels_named("a")[0], {"name": "a|b\\c\nd", "version": "1"})
    assert tags["MedSeg.Model"] == "a_b_c_d"
    assert "|" not in "".join(tags.values())
