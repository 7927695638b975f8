"""From end to end: the tool that was chosen follows the prompts, with or without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.correction import automatic
from medseg.correction.pipeline import TOOLS, CorrectionOptions, correct, make_tool, package_for, tool_used
from medseg.correction.prompts import Prompt
from medseg.correction.session import Corrector
from medseg.errors import InputError, ModelError
from medseg.models import ModelLibrary, read_package
from medseg.volumes import Geometry, Volume
from support.correction import write_clicks_package

GRID = Geometry.from_spacing((24, 40, 40), (1.0, 1.0, 1.5))
_AWAY = (np.indices(GRID.shape) - np.array([12, 20, 20])[:, None, None, None]) * np.array([1.5, 1, 1])[
    :, None, None, None
]
BALL = (_AWAY**2).sum(0) <= 8**2


def a_volume(noise: float = 5.0) -> Volume:
    return Volume((100 * BALL + np.random.default_rng(0).normal(0, noise, BALL.shape)).astype(np.float32), GRID)


def nothing() -> np.ndarray:
    return np.zeros(GRID.shape, bool)


def click(k: int, j: int, i: int) -> Prompt:
    return Prompt("point", GRID.ijk_to_ras_points(np.array([i, j, k], float)))


@pytest.fixture(autouse=True)
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.correction.pipeline.ModelLibrary", lambda: ModelLibrary([]))


@pytest.mark.parametrize("tool", ["threshold", "random-walker", "fast-marching"])
def test_classical_tools_need_no_model(tool: Any) -> None:
    result = correct(a_volume(), nothing(), [click(12, 20, 20)], CorrectionOptions(tool))
    assert result.tool == tool
    assert result.changed == result.mask.sum() > 0.7 * BALL.sum()
    assert not (result.mask & ~BALL).sum() > 0.1 * BALL.sum()
    assert result.region is not None


def test_smoothing_needs_no_model_and_takes_its_width() -> None:
    spiky = BALL.copy()
    spiky[12, 20, 2:12] = True
    wide, narrow = (
        correct(a_volume(), spiky, [click(12, 20, 8)], CorrectionOptions("smooth", smooth_mm=width)).mask
        for width in (4.0, 0.2)
    )
    assert not wide[12, 20, 4:10].any()
    assert np.array_equal(narrow, spiky)


def test_a_network_needs_a_model() -> None:
    with pytest.raises(InputError, match="No model that follows clicks is installed"):
        correct(a_volume(), nothing(), [click(12, 20, 20)])
    with pytest.raises(InputError, match="No model that follows clicks was given"):
        make_tool(a_volume(), CorrectionOptions("network"))


def test_limits_go_to_the_threshold() -> None:
    options = CorrectionOptions("auto", low=40.0, high=200)
    result = correct(a_volume(0.0), nothing(), [click(12, 20, 20)], options)
    assert result.tool == "threshold"
    assert np.array_equal(result.mask, BALL)


def test_the_machine_chooses_by_what_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clear, noisy, prompts = a_volume(), a_volume(60.0), [click(12, 20, 20)]
    automatic_choice = CorrectionOptions("auto")
    assert correct(clear, nothing(), prompts, automatic_choice).tool == "threshold"
    assert correct(noisy, nothing(), prompts, automatic_choice).tool == "random-walker"
    assert correct(noisy, nothing(), [], automatic_choice).tool == "auto"
    package = read_package(write_clicks_package(tmp_path / "any-structure"))
    assert correct(clear, nothing(), prompts, automatic_choice, package=package).tool == "threshold"
    assert correct(noisy, nothing(), prompts, automatic_choice, package=package).tool == "network"
    monkeypatch.setattr(automatic, "has_random_walker", lambda: False)
    assert correct(noisy, nothing(), prompts, automatic_choice).tool == "fast-marching"


def test_a_choice_can_be_taken_back_and_made_again_with_a_network(tmp_path: Path) -> None:
    package = read_package(write_clicks_package(tmp_path / "any-structure"))
    options, volume = CorrectionOptions("auto"), a_volume(60.0)
    tool = make_tool(volume, options, package)
    work = Corrector(tool, volume, nothing())
    prompts = [click(12, 20, 20), click(12, 24, 20), click(4, 4, 4)]
    work.follow(prompts)
    last = work.mask.copy()
    assert tool_used(tool, options) == "network"
    work.follow([])
    assert not work.mask.any()
    assert tool_used(tool, options) == "auto"
    work.follow(prompts)
    assert np.array_equal(work.mask, last)


def test_a_package_is_looked_for_when_the_tool_can_use_one(tmp_path: Path) -> None:
    write_clicks_package(tmp_path / "any-structure")
    write_clicks_package(tmp_path / "any-slice", flat=True)
    library, empty = ModelLibrary([tmp_path]), ModelLibrary([])
    models = {"network": "any-structure", "slice": "any-slice", "auto": "any-structure"}
    for tool in TOOLS:
        found = package_for(CorrectionOptions(tool), None, library)
        assert (None if found is None else found.name) == models.get(tool)
    assert package_for(CorrectionOptions("auto", low=3.0), None, library) is None
    assert package_for(CorrectionOptions("auto"), None, empty) is None
    with pytest.raises(InputError):
        package_for(CorrectionOptions("network"), None, empty)
    with pytest.raises(ModelError):
        package_for(CorrectionOptions("auto"), "missing", empty)


def test_models_for_volumes_and_for_slices_do_not_stand_in_for_each_other(tmp_path: Path) -> None:
    for name, flat in (("solid", False), ("flat", True)):
        write_clicks_package(tmp_path / name / name, flat=flat)
    solids, flats = ModelLibrary([tmp_path / "solid"]), ModelLibrary([tmp_path / "flat"])
    with pytest.raises(InputError, match="No model that follows clicks in single slices is installed"):
        package_for(CorrectionOptions("slice"), None, solids)
    with pytest.raises(InputError, match="No model that follows clicks is installed"):
        package_for(CorrectionOptions("network"), None, flats)
    assert package_for(CorrectionOptions("auto"), None, flats) is None
    with pytest.raises(InputError, match="'any-structure' follows clicks in volumes, not in single slices"):
        package_for(CorrectionOptions("slice"), str(tmp_path / "solid" / "solid"), solids)
    with pytest.raises(InputError, match="'any-slice' follows clicks in single slices, not in volumes"):
        correct(a_volume(), nothing(), [], package=read_package(tmp_path / "flat" / "flat"))


def test_a_slice_is_corrected_from_end_to_end_and_the_slices_beside_it_when_asked(tmp_path: Path) -> None:
    package = read_package(write_clicks_package(tmp_path / "any-slice", flat=True))
    for plane, axis in (("axial", 0), ("coronal", 1), ("sagittal", 2)):
        options = CorrectionOptions("slice", plane=plane)  # type: ignore[arg-type]
        result = correct(a_volume(), nothing(), [click(12, 20, 20)], options, package=package)
        assert result.tool == "slice"
        assert result.mask[12, 20, 20]
        assert result.region is not None
        assert result.region.shape[axis] == 1
    # A scribble in its own slices binds these whatever the model says.
    ends = GRID.ijk_to_ras_points(np.array([[20.0, 20, 11], [20, 20, 13]]))
    options = CorrectionOptions("slice", plane="axial", reach_mm=3.0)
    result = correct(a_volume(), nothing(), [Prompt("scribble", ends)], options, package=package)
    assert result.mask[11:14, 20, 20].all()
    assert result.region is not None
    assert result.region.start[0] <= 11
    assert result.region.shape[0] <= 7


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"tool": "magic"}, "no tool 'magic'"),
        ({"region_mm": 1.0}, "region"),
        ({"region_mm": True}, "region"),
        ({"low": float("nan")}, "limit of the intensities is nan"),
        ({"high": "3"}, "limit of the intensities"),
        ({"low": 5, "high": 4.5}, "No intensity lies between 5 and 4.5"),
        ({"smooth_mm": 0.0}, "smoothed away"),
        ({"smooth_mm": None}, "smoothed away"),
        ({"plane": "oblique"}, "no slices 'oblique'"),
        ({"reach_mm": -1.0}, "slices to go on to lie within -1.0"),
        ({"reach_mm": 301}, "slices to go on to"),
    ],
)
def test_options_that_cannot_be_used_are_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as raised:
        CorrectionOptions(**wrong)
    assert raised.value.advice
