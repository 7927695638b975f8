"""``medseg correct --tool slice``: a prompt changes its slice, and those beside it as far as asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from medseg.volumes import Geometry, Volume, read_labelmap, write_volume
from support.correction import write_clicks_package

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result

GRID = Geometry.from_spacing((20, 36, 32), (1.0, 1.0, 3.0), (30.0, 20.0, -10.0), "LPS")
PLACE = (10, 18, 16)


@pytest.fixture
def correct(medseg: Callable[..., Result], tmp_path: Path) -> Callable[..., Result]:
    """Draw a lesion from nothing by one click, with these options."""
    model = write_clicks_package(tmp_path / "any-slice", flat=True)
    noise = np.random.default_rng(0).normal(size=GRID.shape).astype(np.float32)
    write_volume(Volume(noise, GRID), tmp_path / "scan.nii.gz")
    ras = GRID.ijk_to_ras_points(np.array(PLACE[::-1], float)).tolist()

    def run(*options: Any, prompt: dict[str, Any] | None = None) -> Result:
        entry = {"type": "point", "ras": ras, **(prompt or {})}
        (tmp_path / "p.json").write_text(json.dumps([entry]))
        return medseg(
            "correct", tmp_path / "scan.nii.gz", "--segment", "Lesion", "--prompts", tmp_path / "p.json",
            "--output", tmp_path / "out.nii.gz", "--report", tmp_path / "r.json", "--model", model,
            "--device", "cpu", *options,
        )  # fmt: skip

    return run


@pytest.mark.parametrize(
    ("options", "prompt", "axis"),
    [
        ((), {}, 0),
        (("--plane", "sagittal"), {}, 2),
        (("--plane", "sagittal"), {"plane": "coronal"}, 1),
    ],
)
def test_a_click_changes_one_slice(
    correct: Callable[..., Result], tmp_path: Path, options: tuple[str, ...], prompt: dict[str, Any], axis: int
) -> None:
    result = correct("--tool", "slice", *options, prompt=prompt)
    assert result.exit_code == 0, result.output
    found = np.argwhere(read_labelmap(tmp_path / "out.nii.gz").array)
    assert set(found[:, axis]) == {PLACE[axis]}
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["tool"] == "slice"
    assert told["model"]["name"] == "any-slice"
    assert told["settings"]["plane"] == (options[1] if options else None)


def test_reach_goes_on_to_the_slices_beside_it(correct: Callable[..., Result], tmp_path: Path) -> None:
    assert correct("--tool", "slice", "--reach", 6).exit_code == 0
    found = np.argwhere(read_labelmap(tmp_path / "out.nii.gz").array)
    assert PLACE[0] in found[:, 0]
    assert found[:, 0].min() >= PLACE[0] - 2
    assert found[:, 0].max() <= PLACE[0] + 2
    assert json.loads((tmp_path / "r.json").read_text())["settings"]["reach_mm"] == 6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tool", "slice", "--plane", "oblique"), "There are no slices 'oblique'."),
        (("--tool", "slice", "--reach", "-2"), "The slices to go on to lie within -2.0."),
        (("--tool", "network"), "The model 'any-slice' follows clicks in single slices, not in volumes."),
        (("--tool", "network", "--reach", "5"), "does not work in slices"),
        (("--tool", "auto", "--plane", "axial"), "does not work in slices"),
    ],
)
def test_what_does_not_go_together_is_refused(
    correct: Callable[..., Result], options: tuple[str, ...], words: str
) -> None:
    result = correct(*options)
    assert result.exit_code != 0
    assert words in " ".join(result.output.replace("│", " ").split())
