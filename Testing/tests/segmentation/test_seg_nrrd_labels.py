from __future__ import annotations

import numpy as np
import pytest

from medseg.errors import ReadError
from medseg.labels.codes import TISSUE
from medseg.segmentation.results import SegmentationResult
from medseg.segmentation.seg_nrrd import write_seg_nrrd
from medseg.segmentation.seg_nrrd_labels import plain_label, segment_labels, with_terminology
from medseg.volumes import Geometry, Volume
from support.results import LABELS, MODEL


def test_what_was_written_is_read_back(tmp_path):
    array = np.zeros((3, 1, 1), np.uint8)
    array[:, 0, 0] = LABELS.values
    result = SegmentationResult(Volume(array, Geometry.from_spacing((3, 1, 1))), LABELS, model=dict(MODEL))
    write_seg_nrrd(result, tmp_path / "a.seg.nrrd")
    assert segment_labels(tmp_path / "a.seg.nrrd") == LABELS


def write(tmp_path, *lines: str):
    path = tmp_path / "a.seg.nrrd"
    path.write_bytes(("NRRD0004\n" + "\n".join(lines) + "\n\n\x00").encode())
    return path


def test_a_segment_without_codes_or_colour_gets_the_usual_ones(tmp_path):
    path = write(tmp_path, "Segment0_Name:=Lesion", "Segment0_LabelValue:=4", "Segment0_Tags:=Segmentation.Status:x|")
    (label,) = segment_labels(path)
    assert (label.value, label.name, label.type) == (4, "Lesion", TISSUE)
    assert label == plain_label(4, "Lesion")


def test_a_header_without_segments_is_told(tmp_path):
    with pytest.raises(ReadError, match="cannot be used"):
        segment_labels(write(tmp_path, "type: uchar"))


def test_overlapping_segments_are_told(tmp_path):
    with pytest.raises(ReadError, match="overlap"):
        segment_labels(write(tmp_path, "Segment0_LabelValue:=1", "Segment1_LabelValue:=1", "Segment1_Layer:=1"))


@pytest.mark.parametrize("value", ["", "one", "-3", "0", "99999999"])
def test_a_value_that_is_none_is_told(tmp_path, value):
    with pytest.raises(ReadError):
        segment_labels(write(tmp_path, "Segment0_Name:=A", f"Segment0_LabelValue:={value}"))


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ReadError, match="cannot be read"):
        segment_labels(tmp_path / "none.seg.nrrd")


def test_a_terminology_that_says_nothing_changes_nothing():
    label = plain_label(2, "A")
    assert with_terminology(label, "~~") == label
    assert with_terminology(label, LABELS[1].terminology_entry()).type == LABELS[1].type
