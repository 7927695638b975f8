"""Thick copies and the transfer to thin slices from the command line."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from medseg.labels import write_labels
from medseg.segmentation.seg_nrrd_labels import segment_labels
from medseg.volumes import Geometry, Volume, read_labelmap, read_volume, write_labelmap, write_volume
from support.results import LABELS


@pytest.fixture
def a_thin_file(tmp_path):
    """A bright body in noise, 18 slices of 1 mm."""
    geometry = Geometry.from_spacing((18, 26, 24), (1.0, 0.9, 1.0), (3.0, 4.0, -50.0), "LPS")
    k, j, i = np.indices(geometry.shape)
    inside = ((k - 8) / 7.0) ** 2 + ((j - 13) / 9.0) ** 2 + ((i - 11) / 8.0) ** 2 < 1
    noise = np.random.default_rng(0).normal(0, 10, geometry.shape)
    path = tmp_path / "thin.nii.gz"
    write_volume(Volume((noise + 80 * inside).astype(np.float32), geometry), path)
    return path


def draw_on(path, output):
    """Draw what is bright on a thick copy."""
    copy = read_volume(path)
    write_labelmap(copy.with_array((copy.array > 40).astype(np.uint8)), output)


def test_a_drawing_on_the_thick_copy_becomes_a_thin_segmentation(medseg, a_thin_file, tmp_path):
    thick, drawn, out, rows = (tmp_path / name for name in ("thick.nii.gz", "drawn.nrrd", "out.seg.nrrd", "rows.csv"))
    made = medseg("thick", a_thin_file, "--thickness", 3, "--output", thick)
    assert made.exit_code == 0, made.output
    assert "6 slices of 3 mm" in made.stdout
    draw_on(thick, drawn)

    found = medseg(
        "transfer", a_thin_file, "--labels", drawn, "--output", out, "--report", rows, "--steps", 5, "--device", "cpu"
    )

    assert found.exit_code == 0, found.output
    assert "agrees with what was drawn" in found.stderr
    labelmap = read_labelmap(out)
    assert labelmap.geometry.is_close(read_volume(a_thin_file).geometry)
    truth = read_volume(a_thin_file).array > 40
    assert (labelmap.array[truth] == 1).mean() > 0.8
    assert segment_labels(out).names == ("Label 1",)
    with rows.open(newline="") as file:
        assert {row["label"] for row in csv.DictReader(file)} == {"1"}


def test_names_come_from_a_table(medseg, a_thin_file, tmp_path):
    thick, drawn, out, names = (
        tmp_path / name for name in ("thick.nrrd", "drawn.nii.gz", "out.seg.nrrd", "labels.csv")
    )
    medseg("thick", a_thin_file, "-t", 2, "-o", thick)
    draw_on(thick, drawn)
    write_labels(LABELS, names)

    found = medseg("transfer", a_thin_file, "-l", drawn, "-o", out, "--names", names, "--method", "shape")

    assert found.exit_code == 0, found.output
    assert segment_labels(out).names == (LABELS.by_value(1).name,)


def test_a_rounded_thickness_is_told(medseg, a_thin_file, tmp_path):
    made = medseg("thick", a_thin_file, "--thickness", 2.9, "--output", tmp_path / "thick.nii.gz")

    assert made.exit_code == 0
    assert "slices are 3 mm thick" in made.stderr


def test_slices_along_another_axis(medseg, a_thin_file, tmp_path):
    made = medseg("thick", a_thin_file, "-t", 4, "--axis", "i", "-o", tmp_path / "thick.nii.gz")

    assert made.exit_code == 0, made.output
    assert read_volume(tmp_path / "thick.nii.gz").geometry.size == (6, 26, 18)


def test_mistakes_are_told_in_a_sentence(medseg, a_thin_file, tmp_path):
    thin = medseg("thick", a_thin_file, "--thickness", 1, "--output", tmp_path / "thick.nii.gz")
    assert (thin.exit_code, "do not become thicker" in thin.stderr) == (1, True)

    drawn = tmp_path / "drawn.nii.gz"
    draw_on(a_thin_file, drawn)
    wrong = medseg("transfer", a_thin_file, "--labels", drawn, "--output", tmp_path / "out.nii.gz")
    assert (wrong.exit_code, "lie on the thin slices already" in wrong.stderr) == (1, True)

    over = medseg("transfer", a_thin_file, "--labels", drawn, "--output", drawn)
    assert (over.exit_code, "both an input and an output" in over.stderr) == (1, True)
