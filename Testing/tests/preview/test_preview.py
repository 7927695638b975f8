"""Previews: the right slices the right way round, true outlines, and a surface that looks like its shape."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import GeometryError, MedSegError
from medseg.labels import Label, LabelTable
from medseg.labels.codes import ANATOMICAL_STRUCTURE, Code
from medseg.preview import draw_preview
from medseg.preview.figure import legend_entries, scale_bar_mm, three_slices
from medseg.preview.surface import render_surface, view_axes
from medseg.volumes import Geometry, Volume

if TYPE_CHECKING:
    from pathlib import Path

ORGAN = Code("SCT", "113343008", "Organ")
TABLE = LabelTable(
    [
        Label(1, "first organ", (250, 60, 60), ANATOMICAL_STRUCTURE, ORGAN),
        Label(2, "second organ", (60, 220, 90), ANATOMICAL_STRUCTURE, ORGAN),
        Label(3, "an organ that is not there", (60, 60, 250), ANATOMICAL_STRUCTURE, ORGAN),
    ]
)
ORIENTATIONS = [
    "".join(letters) for order in itertools.permutations(("RL", "AP", "SI")) for letters in itertools.product(*order)
]


def ball(shape: tuple[int, int, int], centre: tuple[float, float, float], radius: float) -> np.ndarray:
    k, j, i = np.indices(shape)
    return (k - centre[0]) ** 2 + (j - centre[1]) ** 2 + (i - centre[2]) ** 2 <= radius**2


def volumes(labels: np.ndarray, spacing=(1.0, 1.0, 1.0), orientation="LPS") -> tuple[Volume, Volume]:
    geometry = Geometry.from_spacing(labels.shape, spacing, orientation=orientation)
    rng = np.random.default_rng(0)
    image = (100.0 * (labels > 0) + rng.normal(50, 5, labels.shape)).astype(np.float32)
    return Volume(image, geometry, name="a scan", modality="MR"), Volume(labels.astype(np.uint8), geometry)


@pytest.fixture
def a_patient_with_an_organ_right_anterior_superior() -> tuple[Volume, Volume]:
    """In left-posterior-superior order, the organ lies at low i (right), low j (anterior) and high k (superior)."""
    return volumes(ball((40, 50, 60), (32, 10, 12), 6), spacing=(1.0, 1.5, 2.0))


def pixels(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return (imread(path)[..., :3] * 255).round().astype(int)


def has_color(picture: np.ndarray, color: tuple[int, int, int], tolerance: int = 30) -> bool:
    return bool((np.abs(picture - np.array(color)).max(axis=-1) <= tolerance).any())


def test_slices_pass_through_the_largest_cross_section_and_are_the_right_way_round(
    a_patient_with_an_organ_right_anterior_superior,
):
    image, labelmap = a_patient_with_an_organ_right_anterior_superior

    axial, coronal, sagittal = three_slices(image, labelmap)

    assert (axial.title, coronal.title, sagittal.title) == ("Axial 33", "Coronal 11", "Sagittal 13")
    for shown, row, column in ((axial, 10, 12), (coronal, 39 - 32, 12), (sagittal, 39 - 32, 10)):
        rows, columns = np.nonzero(shown.labels)
        assert (rows.mean(), columns.mean()) == (pytest.approx(row, abs=0.5), pytest.approx(column, abs=0.5))
        assert np.array_equal(shown.pixels > 100, shown.labels > 0)
    assert (axial.letters, coronal.letters, sagittal.letters) == ("RLAP", "RLSI", "APSI")
    assert (axial.pixel_mm, coronal.pixel_mm, sagittal.pixel_mm) == ((1.5, 1.0), (2.0, 1.0), (2.0, 1.5))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_way_a_volume_is_stored_does_not_change_its_picture(
    a_patient_with_an_organ_right_anterior_superior, orientation
):
    image, labelmap = a_patient_with_an_organ_right_anterior_superior
    stored = labelmap.reorient(orientation)

    slices = three_slices(image.reorient(orientation).reorient("LPS"), stored.reorient("LPS"))

    for shown, expected in zip(slices, three_slices(image, labelmap), strict=True):
        assert np.array_equal(shown.labels, expected.labels)
        assert np.array_equal(shown.pixels, expected.pixels)


def test_a_preview_is_a_png_with_outlines_in_the_colours_of_the_labels(tmp_path):
    labels = ball((30, 60, 50), (15, 30, 15), 9) + 2 * ball((30, 60, 50), (14, 30, 38), 7)
    image, labelmap = volumes(labels, orientation="RAS")
    path = tmp_path / "preview.png"

    draw_preview(image, labelmap, TABLE, path)

    picture = pixels(path)
    assert picture.shape == (1080, 1440, 3)
    assert has_color(picture, (250, 60, 60))
    assert has_color(picture, (60, 220, 90))
    assert not has_color(picture, (60, 60, 250))
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_segmentation_still_has_a_picture(tmp_path):
    image, labelmap = volumes(np.zeros((12, 20, 20)))

    draw_preview(image, labelmap, TABLE, tmp_path / "empty.png")

    assert pixels(tmp_path / "empty.png").shape == (1080, 1440, 3)


@pytest.mark.parametrize("letter", ["W", "i"])
def test_a_long_name_ends_before_the_edge_of_the_picture(tmp_path, letter):
    image, labelmap = volumes(np.zeros((12, 20, 20)))

    draw_preview(replace(image, name=40 * letter), labelmap, TABLE, tmp_path / "named.png")

    title = pixels(tmp_path / "named.png")[:40, 1080:]
    assert has_color(title[:, :200], (240, 240, 240), 40)
    assert not has_color(title[:, -12:], (240, 240, 240), 40)


def test_two_grids_are_refused(tmp_path):
    image, _ = volumes(np.ones((12, 20, 20)))
    _, labelmap = volumes(np.ones((12, 20, 20)), spacing=(1.0, 1.0, 1.1))

    with pytest.raises(GeometryError, match="same voxel grid"):
        draw_preview(image, labelmap, TABLE, tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    image, labelmap = volumes(np.ones((12, 20, 20)))
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(MedSegError, match=r"medseg\[preview\]"):
        draw_preview(image, labelmap, TABLE, tmp_path / "x.png")


def test_the_legend_has_names_and_millilitres_also_of_unknown_labels():
    labels = np.zeros((10, 10, 10))
    labels[:2], labels[5:6] = 2, 9
    _, labelmap = volumes(labels, spacing=(1.0, 2.0, 3.0))

    entries = legend_entries(labelmap, TABLE)

    assert [(entry.name, entry.value) for entry in entries] == [("second organ", 2), ("Label 9", 9)]
    assert [entry.volume_ml for entry in entries] == [pytest.approx(1.2), pytest.approx(0.6)]


@given(st.floats(0.5, 5000.0))
def test_scale_bars_are_round_and_fit(extent):
    length = scale_bar_mm(extent)

    digits = f"{length:.0e}"
    assert digits[0] in "125"
    assert 0.15 * extent < length <= 0.4 * extent * (1 + 1e-9)


def test_the_camera_looks_from_in_front_of_the_patient_with_left_on_the_right():
    axes = view_axes()

    assert np.allclose(axes @ axes.T, np.eye(3))
    right, up, forward = axes
    assert right[0] > 0.8
    assert up[2] > 0.9
    assert forward[1] > 0.7


def test_a_ball_is_seen_as_a_disc_of_its_size():
    _, labelmap = volumes(ball((48, 48, 48), (23.5, 23.5, 23.5), 16))

    view = render_surface(labelmap, {1: (200, 100, 100)}, width=200, height=200)

    seen = view.pixels[..., 3] > 0
    assert seen.sum() * view.pixel_mm**2 == pytest.approx(np.pi * 16.3**2, rel=0.06)
    rows, columns = np.nonzero(seen)
    assert (rows.mean(), columns.mean()) == (pytest.approx(99.5, abs=1.5), pytest.approx(99.5, abs=1.5))
    # Light comes from the upper left.
    brightness = view.pixels[..., :3].sum(-1)
    assert brightness[60:90, 60:90].mean() > 1.3 * brightness[115:145, 115:145].mean()


@pytest.mark.parametrize("in_front", [True, False])
def test_the_nearer_of_two_structures_hides_the_other(in_front):
    big, away = np.array([32.0, 32.0, 32.0]), 22.0 * view_axes()[2][::-1]  # forward, as (k, j, i)
    small = big + away if in_front else big - away
    labels = ball((64, 64, 64), tuple(big), 13) + 2 * ball((64, 64, 64), tuple(small), 6)
    _, labelmap = volumes(labels)

    view = render_surface(labelmap, {1: (255, 0, 0), 2: (0, 0, 255)}, width=120, height=120)

    blue = (view.pixels[..., 2] > view.pixels[..., 0] + 0.05).sum() * view.pixel_mm**2
    assert blue == pytest.approx(0.0 if in_front else np.pi * 6.3**2, rel=0.15)


def test_a_structure_of_one_voxel_is_still_seen():
    labels = np.zeros((20, 20, 20))
    labels[10, 10, 10] = 1
    labels[3:6, 3:6, 3:6] = 2
    _, labelmap = volumes(labels)

    view = render_surface(labelmap, {1: (255, 0, 0), 2: (0, 0, 255)}, width=150, height=150)

    assert (view.pixels[..., 0] > view.pixels[..., 2] + 0.1).sum() > 20


def test_nothing_to_see_is_none():
    _, labelmap = volumes(np.zeros((8, 8, 8)))

    assert render_surface(labelmap, {1: (1, 2, 3)}) is None
