"""Prompts: what a list may hold, and which voxels a point, a scribble, a box and a lasso mark on any grid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.correction.prompts import Prompt, prompts_from, read_prompts
from medseg.errors import InputError, ReadError
from medseg.volumes import Geometry

PLAIN = Geometry.from_spacing((10, 12, 14), (1.0, 1.0, 2.0))


def an_oblique_grid(degrees: float = 30.0) -> Geometry:
    angle = np.deg2rad(degrees)
    matrix = np.eye(4)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    matrix[:3, :3] = turn @ np.diag([-0.8, 0.8, 3.0])
    matrix[:3, 3] = (30, -12, 80)
    return Geometry((9, 40, 44), matrix)


def voxels(prompt: Prompt, geometry: Geometry = PLAIN) -> set[tuple[int, ...]]:
    return {tuple(int(n) for n in place) for place in prompt.voxels(geometry)}


def test_a_list_is_read_in_its_order_and_written_back(tmp_path: Path) -> None:
    entries = [
        {"type": "point", "ras": [1, 2, 3.5], "positive": True},
        {"type": "scribble", "ras": [[1, 2, 3], [4, 5, 6]], "positive": False},
        {"type": "box", "ras": [[0, 0, 0], [5, 5, 5]], "positive": True},
        {"type": "lasso", "ras": [[0, 0, 1], [4, 0, 1], [0, 4, 1]], "positive": True},
        {"type": "point", "ras": [1, 2, 3], "positive": True, "plane": "coronal"},
    ]
    path = tmp_path / "p.json"
    path.write_text(json.dumps(entries))
    prompts = read_prompts(path)
    assert [prompt.kind for prompt in prompts] == ["point", "scribble", "box", "lasso", "point"]
    assert [prompt.to_dict() for prompt in prompts] == entries
    assert prompts_from([{"type": "point", "ras": [1, 2, 3]}])[0].positive


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"type": "point"}, "not a list"),
        ([3], "Prompt 1 cannot be used"),
        ([{"type": "point", "ras": [1, 2, 3]}, {"type": "blob", "ras": [1, 2, 3]}], "Prompt 2 .* no prompt 'blob'"),
        ([{"type": "point", "ras": [1, 2]}], "takes one place"),
        ([{"type": "point", "ras": [[1, 2, 3], [4, 5, 6]]}], "takes one place"),
        ([{"type": "box", "ras": [[1, 2, 3]]}], "two opposite corners"),
        ([{"type": "lasso", "ras": [[1, 2, 3], [4, 5, 6]]}], "at least three"),
        ([{"type": "scribble", "ras": []}], "at least one"),
        ([{"type": "scribble", "ras": "here"}], "at least one"),
        ([{"type": "point", "ras": [1, 2, float("nan")]}], "finite"),
        ([{"type": "point", "ras": [1, 2, 3], "positive": 1}], "true or false"),
        ([{"type": "point", "ras": [1, 2, 3], "colour": "red"}], "keys"),
        ([{"type": "point", "ras": [1, 2, 3], "plane": "oblique"}], "no slices 'oblique'"),
        ([{"type": "point", "ras": [1, 2, 3], "plane": 1}], "no slices '1'"),
    ],
)
def test_what_is_no_prompt_is_refused_in_a_sentence(entries: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        prompts_from(entries)


def test_a_file_that_is_missing_or_damaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="no file"):
        read_prompts(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("[{")
    with pytest.raises(ReadError, match="not a list of prompts in JSON"):
        read_prompts(tmp_path / "bad.json")


def test_a_point_marks_the_nearest_voxel() -> None:
    assert voxels(Prompt("point", np.array([3.4, 5.6, 7.2]))) == {(4, 6, 3)}
    assert voxels(Prompt("point", np.array([-4.0, 5, 7]))) == set()


def test_a_scribble_passes_every_voxel_between_its_places() -> None:
    line = Prompt("scribble", np.array([[1, 1, 4], [6, 1, 4], [6, 4, 4]]))
    assert voxels(line) == {(2, 1, i) for i in range(1, 7)} | {(2, j, 6) for j in range(1, 5)}


def test_a_flat_box_marks_the_slice_that_it_lies_in() -> None:
    flat = Prompt("box", np.array([[1.6, 2.6, 8.3], [4.4, 4.4, 8.3]]))
    assert voxels(flat) == {(4, j, i) for j in (3, 4) for i in (2, 3, 4)}
    full = Prompt("box", np.array([[4.4, 4.4, 11], [1.6, 2.6, 3]]))
    assert voxels(full) == {(k, j, i) for k in (2, 3, 4, 5) for j in (3, 4) for i in (2, 3, 4)}


def test_a_lasso_marks_what_it_goes_around_in_its_slice() -> None:
    corner = Prompt(
        "lasso", np.array([[1.5, 1.5, 6], [8.5, 1.5, 6], [8.5, 4.5, 6], [4.5, 4.5, 6], [4.5, 7.5, 6], [1.5, 7.5, 6]])
    )
    wide, tall = (
        {(3, j, i) for j in (2, 3, 4) for i in range(2, 9)},
        {(3, j, i) for j in range(2, 8) for i in (2, 3, 4)},
    )
    assert voxels(corner) == wide | tall


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(8, 30), st.integers(8, 30), st.integers(3, 7), st.floats(0, 90))
def test_a_round_lasso_on_an_oblique_slice_is_a_disk(k: int, j: int, i: int, radius: int, degrees: float) -> None:
    grid = an_oblique_grid(degrees)
    turns = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    edge = np.stack([i + radius * np.cos(turns), j + radius * np.sin(turns), np.full(60, float(k))], axis=1)
    marked = Prompt("lasso", grid.ijk_to_ras_points(edge)).voxels(grid)
    assert set(marked[:, 0]) == {k}
    away = np.hypot(marked[:, 1] - j, marked[:, 2] - i)
    assert away.max() <= radius + 1e-6
    inside = [(y, x) for y in range(40) for x in range(44) if np.hypot(y - j, x - i) < 0.97 * radius]
    assert {(y, x) for _, y, x in marked.tolist()} >= set(inside)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(0, n - 1) for n in (9, 40, 44)]), st.floats(-80, 80))
def test_a_point_in_a_voxel_is_found_on_every_grid(place: tuple[int, int, int], degrees: float) -> None:
    grid = an_oblique_grid(degrees)
    ras = grid.ijk_to_ras_points(np.array(place[::-1], float) + 0.4)
    assert voxels(Prompt("point", ras), grid) == {place}


def test_prompts_that_say_the_same_are_equal() -> None:
    here, there = Prompt("point", [1.0, 2, 3]), Prompt("point", [1.0, 2, 4])
    assert here == Prompt("point", [[1, 2, 3]])
    assert hash(here) == hash(Prompt("point", [[1, 2, 3]]))
    assert here != there
    assert here != Prompt("point", [1.0, 2, 3], positive=False)
    assert here != Prompt("scribble", [1.0, 2, 3])
    assert here != Prompt("point", [1.0, 2, 3], plane="axial")
    assert here != "here"
