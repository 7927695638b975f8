"""``medseg analyse instances`` and ``medseg analyse panoptic``."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np
import pytest

from medseg.labels import Code, Label, LabelTable, write_labels
from medseg.labels.codes import ANATOMICAL_STRUCTURE, LEFT
from medseg.segmentation.results import SegmentationResult
from medseg.segmentation.seg_nrrd import write_seg_nrrd
from medseg.segmentation.seg_nrrd_labels import segment_labels
from medseg.volumes import Geometry, Volume, read_labelmap, write_labelmap

if TYPE_CHECKING:
    from pathlib import Path

RIBS = Label(3, "Left ribs", (200, 150, 90), ANATOMICAL_STRUCTURE, Code("SCT", "113197003", "Rib"), LEFT)
HEART = Label(8, "Heart", (200, 0, 0), ANATOMICAL_STRUCTURE, Code("SCT", "80891009", "Heart"))


def bars(*, voxels: tuple[int, ...] = (6, 4, 2)) -> Volume:
    """Bars at slices 0, 4, 8, ... from the head, and a heart."""
    array = np.zeros((12, 5, 8), np.uint8)
    for index, count in enumerate(voxels):
        array[4 * index, 2, :count] = RIBS.value
    array[6, 0, 0] = HEART.value
    return Volume(array, Geometry.from_spacing(array.shape, (1.0, 1.0, 2.0), orientation="LPI"))


@pytest.fixture
def ribs(tmp_path: Path) -> Path:
    path = tmp_path / "ribs.seg.nrrd"
    write_seg_nrrd(SegmentationResult(bars(), LabelTable([RIBS, HEART])), path)
    return path


@pytest.mark.parametrize("label", ["Left ribs", "left RIBS", "3"])
def test_a_segment_is_split_by_name_or_value(medseg, ribs, tmp_path, label):
    target = tmp_path / "single.seg.nrrd"
    result = medseg("analyse", "instances", ribs, "--label", label, "--output", target)
    assert result.exit_code == 0, result.output
    assert "Left ribs: 3 instances" in result.output
    found = segment_labels(target)
    assert found.names == ("Left ribs a", "Left ribs b", "Left ribs c")
    assert {(each.type, each.type_modifier) for each in found} == {(RIBS.type, LEFT)}
    labels = read_labelmap(target)
    assert labels.geometry.is_close(bars().geometry)
    assert [int(labels.array[k].max()) for k in (0, 4, 8)] == [1, 2, 3]


def test_small_parts_are_removed_and_volumes_written(medseg, ribs, tmp_path):
    target, table = tmp_path / "single.nii.gz", tmp_path / "volumes.csv"
    result = medseg(
        "analyse", "instances", ribs, "-l", "Left ribs", "-o", target, "--minimum", 5, "--statistics", table
    )
    assert result.exit_code == 0, result.output
    assert "1 part of 'Left ribs'" in result.output
    with table.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["segment"], row["voxels"], row["volume_ml"], row["mean"]) for row in rows] == [
        ("Left ribs a", "6", "0.012", ""),
        ("Left ribs b", "4", "0.008", ""),
    ]


def test_a_labelmap_gets_its_names_from_a_table(medseg, tmp_path):
    write_labelmap(bars(), tmp_path / "ribs.nii.gz")
    write_labels(LabelTable([RIBS, HEART]), tmp_path / "labels.csv")
    plain = medseg("analyse", "instances", tmp_path / "ribs.nii.gz", "-l", 3, "-o", tmp_path / "a.seg.nrrd")
    assert "Label 3: 3 instances" in plain.output
    named = medseg(
        "analyse", "instances", tmp_path / "ribs.nii.gz", "--labels", tmp_path / "labels.csv", "-l", "heart",
        "-o", tmp_path / "b.seg.nrrd",
    )  # fmt: skip
    assert "Heart: 1 instance\n" in named.output


def test_a_segment_that_is_not_there_is_told_with_those_that_are(medseg, ribs, tmp_path):
    result = medseg("analyse", "instances", ribs, "-l", "Liver", "-o", tmp_path / "a.seg.nrrd")
    assert result.exit_code == 1
    assert "There is no segment 'Liver'. The segments are: Left ribs, Heart." in result.output
    assert not (tmp_path / "a.seg.nrrd").exists()


def test_a_wrong_option_is_a_sentence(medseg, ribs, tmp_path):
    result = medseg("analyse", "instances", ribs, "-l", "3", "-o", tmp_path / "a.seg.nrrd", "--minimum", -1)
    assert result.exit_code == 1
    assert "minimum volume" in result.output


def instances(tmp_path: Path, name: str, rows: dict[str, tuple[int, int]]) -> Path:
    """Write a segmentation of one row of 12 voxels: name to its first voxel and the one behind its last."""
    array = np.zeros((1, 1, 12), np.uint8)
    labels = []
    for value, (title, (start, stop)) in enumerate(rows.items(), start=1):
        array[..., start:stop] = value
        labels.append(Label(value, title, (1, 2, 3), RIBS.category, RIBS.type))
    volume = Volume(array, Geometry.from_spacing(array.shape))
    write_seg_nrrd(SegmentationResult(volume, LabelTable(labels)), tmp_path / name)
    return tmp_path / name


def test_two_segmentations_are_compared_by_group_and_pooled(medseg, tmp_path):
    truth = instances(tmp_path, "truth.seg.nrrd", {"Rib a": (0, 4), "Vertebra a": (4, 8), "Vertebra b": (8, 10)})
    ours = instances(
        tmp_path, "ours.seg.nrrd", {"Rib a": (0, 2), "Rib b": (2, 4), "Vertebra g": (4, 8), "Vertebra i": (8, 10)}
    )
    table = tmp_path / "pq.csv"
    result = medseg("analyse", "panoptic", ours, truth, "--csv", table)
    assert result.exit_code == 0, result.output
    # The rib is cut into halves: Dice 2/3 once, and one too many.
    with table.open() as stream:
        rows = {row["group"]: row for row in csv.DictReader(stream)}
    assert rows["Rib"]["pq"] == "0.4444"
    assert rows["Vertebra"]["pq"] == "1.0000"
    # Pooled: SQ = (2/3 + 1 + 1) / 3, RQ = 3 / 3.5.
    assert rows["all"]["pq"] == f"{(8 / 9) * (3 / 3.5):.4f}"
    assert (rows["all"]["true_positives"], rows["all"]["false_positives"]) == ("3", "1")
    assert "Vertebra" in result.output
    some = medseg("analyse", "panoptic", ours, truth, "--only", "vert")
    assert "Rib" not in some.output


def test_without_names_all_values_are_one_group(medseg, tmp_path):
    geometry = Geometry.from_spacing((1, 1, 4))
    write_labelmap(Volume(np.array([[[1, 1, 2, 2]]], np.uint8), geometry), tmp_path / "a.nii.gz")
    write_labelmap(Volume(np.array([[[5, 5, 0, 0]]], np.uint8), geometry), tmp_path / "b.nii.gz")
    result = medseg("analyse", "panoptic", tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    assert "0.6667" in result.output
    refused = medseg("analyse", "panoptic", tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", "--only", "Rib")
    assert refused.exit_code == 1
    assert "--labels" in refused.output


def test_a_name_that_nothing_has_is_told(medseg, tmp_path):
    path = instances(tmp_path, "a.seg.nrrd", {"Rib a": (0, 4)})
    result = medseg("analyse", "panoptic", path, path, "--only", "Tooth")
    assert result.exit_code == 1
    assert "No instance is called Tooth" in result.output
