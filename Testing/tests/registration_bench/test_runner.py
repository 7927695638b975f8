"""From pairs to a report."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from benchmarks.registration import methods, runner
from benchmarks.registration.job import Costs
from benchmarks.registration.methods import METHODS
from benchmarks.registration.pair import Case, Group, Pair
from benchmarks.registration.records import Conditions, Records
from medseg.errors import InputError
from medseg.registration import SpatialTransform

ONE_THREAD = Conditions(1, quick=False)
GROUPS = {
    "heads": Group("Heads", "A small head under a known warp.", "mm"),
    "parts": Group("Parts", "The front of that head.", "dice"),
    "contrasts": Group("Contrasts", "Made up.", "mm", "several"),
}


@pytest.fixture
def heads(a_pair: Pair) -> list[Case]:
    return [Case("a head", "heads", lambda _spacing: a_pair)]


def compared(cases: list[Case], names: list[str], records: Records | None = None):
    return runner.compare(cases, names, records or Records(ONE_THREAD), groups=GROUPS)


def test_affine_and_demons_are_measured_on_a_small_pair(a_pair: Pair):
    """Real processes; each is closer to the known way than the one before it."""
    cases = [Case("a head", group, lambda _spacing: a_pair) for group in ("heads", "parts")]
    report = compared(cases[:1], ["affine", "demons"])

    before, affine, demons = (float(row[2]) for row in report.parts[0].rows)
    assert demons < affine < before
    assert [row[1] for row in report.parts[0].rows] == ["1", "1", "1"]
    assert all(float(row[7]) > 0 and float(row[9].split()[0]) > 0.05 for row in report.parts[0].rows[1:])
    assert any(f"SimpleITK {METHODS['demons'].version().split()[1]}" in line for line in report.setting)


def test_a_rival_that_is_not_installed_is_a_line_and_the_rest_goes_on(heads: list[Case], monkeypatch):
    gone = dataclasses.replace(METHODS["ants-syn"], module="a_module_that_nobody_has")
    monkeypatch.setitem(METHODS, "ants-syn", gone)
    monkeypatch.setattr(runner, "register_apart", found_at_once)

    report = compared(heads, ["ants-syn", "affine"])

    line = "antspyx is not installed (pip install -e .[bench])"
    assert report.parts[0].rows[1][:3] == ("ANTs SyN, defaults of antspyx", "0", line)
    assert report.parts[0].rows[2][0] == "affine"
    assert f"Missing: ANTs SyN, defaults of antspyx. {line}." in report.setting


def test_a_method_for_one_contrast_is_left_out_where_there_are_two(a_pair: Pair, monkeypatch):
    monkeypatch.setattr(runner, "register_apart", found_at_once)
    report = compared([Case("a head", "contrasts", lambda _spacing: a_pair)], ["affine", "demons"])
    assert report.parts[0].rows[2][1:3] == ("0", "compares brightness, so not for two contrasts")


def test_what_is_made_for_two_contrasts_stands_only_where_there_are_two(a_pair: Pair, monkeypatch):
    monkeypatch.setattr(runner, "register_apart", found_at_once)
    cases = [Case("a head", group, lambda _spacing: a_pair) for group in ("heads", "contrasts")]
    one, several = compared(cases, ["affine", "field-mind"]).parts

    assert [row[0] for row in one.rows] == ["before registration", "affine"]
    assert [row[0] for row in several.rows] == ["before registration", "affine", METHODS["field-mind"].title]


def test_a_failure_is_told_and_the_rest_goes_on(heads: list[Case], monkeypatch):
    def register_apart(pair: Pair, method: str, **_: object):
        return "it ran away" if method == "affine" else found_at_once(pair, method)

    monkeypatch.setattr(runner, "register_apart", register_apart)
    report = compared(heads, ["affine", "field-quick"])

    assert report.parts[0].rows[1][:3] == ("affine", "0", "it ran away")
    assert report.parts[0].rows[2][1] == "1"


def test_what_was_measured_before_is_not_measured_again(heads: list[Case], tmp_path: Path, monkeypatch):
    monkeypatch.setattr(runner, "register_apart", found_at_once)
    first = compared(heads, ["affine"], Records(ONE_THREAD, tmp_path / "records.json"))

    asked: list[str] = []
    monkeypatch.setattr(
        runner, "register_apart", lambda pair, name, **_: asked.append(name) or found_at_once(pair, name)
    )
    again = compared(heads, ["affine", "field-quick"], Records(ONE_THREAD, tmp_path / "records.json"))

    assert asked == ["field-quick"]
    assert again.parts[0].rows[:2] == first.parts[0].rows


def test_a_pair_with_nothing_left_to_measure_is_not_made(heads: list[Case], tmp_path: Path, monkeypatch):
    monkeypatch.setattr(runner, "register_apart", found_at_once)
    compared(heads, ["affine"], Records(ONE_THREAD, tmp_path / "records.json"))

    def build(_spacing: float | None) -> Pair:
        raise AssertionError("it was made")

    cases = [dataclasses.replace(heads[0], build=build)]
    assert compared(cases, ["affine"], Records(ONE_THREAD, tmp_path / "records.json")).parts


def test_a_quick_run_makes_coarse_pairs_and_says_what_it_is_worth(heads: list[Case], a_pair: Pair, monkeypatch):
    asked = []
    monkeypatch.setattr(runner, "register_apart", found_at_once)
    cases = [dataclasses.replace(heads[0], build=lambda spacing: asked.append(spacing) or a_pair)]
    report = compared(cases, ["affine"], Records(Conditions(1, quick=True)))

    assert asked == [4.0]
    assert any("say nothing about the methods" in line for line in report.setting)


def test_cases_are_chosen_by_table_or_by_a_part_of_their_name():
    known = [
        Case("chris, warp 1", "heads", lambda _: None, quick=True),
        Case("chris, warp 2", "heads", lambda _: None),
        Case("a part", "parts", lambda _: None),
    ]
    choose = runner._chosen_cases

    assert choose(known, (), quick=False) == known
    assert choose(known, (), quick=True) == known[:1]
    assert choose(known, ("heads",), quick=False) == known[:2]
    assert choose(known, ("warp 2", "parts"), quick=True) == known[1:]
    with pytest.raises(InputError, match=r"'feet'\. The groups here are: heads, parts\."):
        choose(known, ("feet",), quick=False)
    with pytest.raises(InputError, match="holds none of the volumes"):
        choose([], (), quick=False)


def test_methods_are_all_but_the_slow_ones_unless_they_are_named():
    assert "ants-syn-script" not in runner._chosen_methods(())
    assert {"affine", "field-full", "lapirn-full", "ants-syn", "elastix", "demons"} <= set(runner._chosen_methods(()))
    assert runner._chosen_methods(("ants-syn-script", "affine")) == ["affine", "ants-syn-script"]
    with pytest.raises(InputError, match=r"'magic'\. The methods are: affine,"):
        runner._chosen_methods(("magic",))


def test_without_a_folder_there_is_a_sentence():
    with pytest.raises(InputError, match="There is no folder of real volumes"):
        runner.run(data=None)


def test_the_model_is_a_method_as_soon_as_a_package_registers(monkeypatch):
    class Library:
        found: tuple = ()

        def packages(self):
            return self.found

    monkeypatch.setattr(methods, "ModelLibrary", Library)
    assert methods._with_model() == {}

    monkeypatch.setattr(Library, "found", (type("Package", (), {"verb": "register"})(),))
    assert list(methods._with_model()) == ["model", "model-quick", "model-full"]


def found_at_once(pair: Pair, method: str, **_: object) -> tuple[SpatialTransform, Costs]:
    """Stand in for a process, where only what becomes of its result is looked at."""
    return SpatialTransform(), Costs(1.0, 1.0, 10**8)
