"""The claim on thick labels: what its drawings and distances promise, and that its machinery runs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.claims import run_claim, thin_thick
from benchmarks.claims.thick_slice_data import (
    atria,
    distance_along_slices,
    draw,
    fill_between_slices,
    phantom,
    staircase,
)
from benchmarks.claims.thin_thick import CLASSIC, FILLED, GUIDED, JOINT, NAMES, QUICK, STAIRS, THICK, Column, Job, Score
from medseg.volumes import Geometry, Volume


def a_stack(*slices: int) -> tuple[Volume, np.ndarray]:
    """Return an image and its truth: one voxel a slice, 1 where asked."""
    truth = np.array(slices, np.uint8)[:, None, None]
    return Volume(truth.astype(np.float32), Geometry.from_spacing(truth.shape)), truth


def test_a_voxel_is_drawn_by_its_majority_or_by_any_touch():
    stack = a_stack(1, 1, 0, 0, 0, 1, 1, 1, 1)
    assert draw(*stack, 3, "majority").drawn.array[:, 0, 0].tolist() == [1, 0, 1]
    assert draw(*stack, 3, "any touch").drawn.array[:, 0, 0].tolist() == [1, 1, 1]


def test_the_larger_share_has_a_voxel_that_two_labels_touch():
    drawn = draw(*a_stack(2, 1, 2), 3, "any touch")
    assert (drawn.drawn.array[0, 0, 0], drawn.values) == (2, (2,))


def test_the_staircase_repeats_what_was_drawn_and_leaves_the_rest():
    drawing = draw(*a_stack(1, 1, 0, 0, 0, 0, 1, 1), 3, "majority")
    assert staircase(drawing)[:, 0, 0].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert drawing.covered == 6


def test_distances_are_measured_along_the_slices():
    first, second = np.zeros((2, 12, 1, 2), bool)
    first[2:8, 0, 0] = True
    second[4:9, 0, 0] = True
    assert distance_along_slices(first, first, 2.5) == 0
    # The borders are 2 and 1 slices apart, both ways.
    assert distance_along_slices(first, second, 2.5) == pytest.approx(np.percentile([2, 1, 2, 1], 95) * 2.5)
    # A run of 4 slices that the other lacks counts as 4.
    second[3:7, 0, 1] = True
    assert distance_along_slices(first, second, 1.0) == pytest.approx(np.percentile([2, 1, 2, 1, 4, 4], 95))
    assert math.isnan(distance_along_slices(first, np.zeros_like(first), 1.0))


def test_phantoms_hold_bodies_that_are_brighter_on_average():
    image, truth = phantom(3, 32, 24)
    assert 0.01 < truth.mean() < 0.4
    assert image.array[truth == 1].mean() - image.array[truth == 0].mean() == pytest.approx(1.0, abs=0.15)


def test_filling_between_slices_is_what_slicer_does():
    truth = np.zeros((9, 20, 20), np.uint8)
    truth[:, 4:14, 4:14] = 1
    drawing = draw(Volume(truth.astype(np.float32), Geometry.from_spacing(truth.shape)), truth, 3, "majority")
    filled = fill_between_slices(drawing)
    if filled is None:
        pytest.skip("slicer-core is not installed")
    np.testing.assert_array_equal(filled[1:8], truth[1:8])
    assert not filled[[0, 8]].any()


def table_of(**dice: float) -> tuple[list[Column], dict]:
    column = Column("phantom", 3, "majority", ("0",))
    return [column], {(column, method): Score(value, 1.0) for method, value in dice.items()}


def test_the_verdict_follows_the_table():
    rivals = {STAIRS: 0.8, CLASSIC: 0.9, FILLED: 0.85, THICK: 0.7}
    held = thin_thick.verdict(*table_of(**rivals, **{JOINT: 0.92, GUIDED: 0.95}))
    assert held.startswith("The claim held: ")
    assert "above all of these in 1 of 1" in held
    lost = thin_thick.verdict(*table_of(**rivals, **{JOINT: 0.88, GUIDED: 0.89}))
    assert lost.startswith("The claim did not hold: ")
    assert "(i) in 1, (ii) in 0, (iii) in 1" in lost
    assert "above all of these in 0 of 1" in lost


def test_the_machinery_runs():
    report = run_claim("thin-thick", quick=True, threads=1)
    assert report.columns == ("method", "phantom, r = 3, majority")
    cells = dict(report.rows)
    assert set(cells) <= set(NAMES.values())
    assert cells[NAMES[GUIDED]] != "–"
    assert float(cells[NAMES[STAIRS]].split(" / ")[0]) > 0.5


def test_real_volumes_are_drawn_like_phantoms(shared_data: Path):
    columns = thin_thick.columns_of(QUICK, 1, shared_data)
    if not atria(shared_data):
        pytest.skip("the left atria of the experiment are not here")
    assert [column.title for column in columns] == ["phantom, r = 3, majority", "left atrium, r = 8"]
    drawing = thin_thick.drawing_of(Job(columns[1], columns[1].cases[0], STAIRS, QUICK, shared_data))
    assert drawing.values == (1,)
    assert drawing.drawn.geometry.spacing[2] == pytest.approx(5.0)
    assert (staircase(drawing) == drawing.truth).mean() > 0.95
