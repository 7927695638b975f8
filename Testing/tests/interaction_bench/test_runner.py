"""From structures to a report."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from benchmarks.interaction import methods, runner
from benchmarks.interaction.cases import Case, Group, Scan
from benchmarks.interaction.methods import METHODS, NETWORKS, RIVALS, Contestant, contestants
from benchmarks.interaction.records import Conditions, Records
from benchmarks.interaction.report import InteractionReport
from medseg.correction.region import Region
from medseg.errors import InputError, ModelError
from medseg.models import ModelPackage, read_package
from support.correction import write_clicks_package

TWO_CLICKS = Conditions(1, "a processor", 2)
GROUPS = {"blocks": Group("Blocks", "Some blocks.", seen=True, load=list)}


class Filler:
    """Makes everything the structure."""

    state = None

    def restore(self, state: None) -> None: ...

    def propose(self, mask, _marks):
        return Region((0, 0, 0), mask.shape), np.ones(mask.shape, bool)


class Refuser(Filler):
    def propose(self, _mask, _marks):
        raise InputError("It does not like that.", advice="Click elsewhere.")


def a_filler(title: str = "filler", tool: type = Filler) -> Contestant:
    return Contestant("network", title, lambda: lambda _volume: tool(), weights=title)


def compared(cases: list[Case], asked: list[Contestant], records: Records | None = None) -> InteractionReport:
    return runner.compare(GROUPS, cases, asked, records or Records(TWO_CLICKS))


def test_every_way_to_run_a_package_gives_a_row_for_both_starts(a_case: Case, a_package: ModelPackage):
    asked = contestants(list(NETWORKS), [a_package], "cpu")
    report = compared([a_case], asked)
    rows = report.tables[1].rows
    titles = ["any-structure", "any-structure, without the Self-Loop", "any-structure, without TSIP"]
    assert [row[:2] for row in rows] == [(start, title) for start in ("nothing", "bad mask") for title in titles]
    assert {row[3] for row in rows[:3]} == {"0.000"}
    assert all(abs(float(row[3]) - 0.7) < 0.02 for row in rows[3:])
    assert all(float(row[-2]) > 0 for row in rows)


def test_what_is_left_out_is_left_out(blocks: Scan, a_package: ModelPackage):
    tools = (one.make_tool(blocks[0]) for one in contestants(list(NETWORKS), [a_package], "cpu"))
    whole, no_loop, no_memory = (tool._network for tool in tools)
    assert (whole.self_loop, no_loop.self_loop, no_memory.self_loop) == (True, False, True)
    assert [seen.network.memory is None for seen in (whole, no_loop, no_memory)] == [False, False, True]
    assert whole.size == (32, 32, 32)


def test_further_packages_are_run_as_they_are_and_told_apart(a_package: ModelPackage, tmp_path: Path):
    other = read_package(write_clicks_package(tmp_path / "no-palm" / "any-structure", seed=1))
    found = contestants(METHODS, [a_package, other], "cpu")
    outer = a_package.folder.parent.name
    assert [one.title for one in found][:4] == [
        f"any-structure ({outer})", "any-structure (no-palm)", f"any-structure ({outer}), without the Self-Loop",
        f"any-structure ({outer}), without TSIP",
    ]  # fmt: skip
    assert len({(one.method, one.weights) for one in found}) == len(found) == 4 + len(RIVALS)
    assert [one.side for one in found[1:4]] == ["network", "ablation", "ablation"]
    assert {one.side for one in found[4:]} == {"rival"}


def test_a_package_without_the_self_loop_has_none_to_leave_out(a_package: ModelPackage):
    assert a_package.correction is not None
    without = dataclasses.replace(a_package, correction=dataclasses.replace(a_package.correction, self_loop=False))
    assert [one.method for one in contestants(["network", "no-loop"], [without], "cpu")] == ["network"]


def test_what_was_measured_before_is_not_measured_again_nor_read(a_case: Case, tmp_path: Path):
    path = tmp_path / "records.jsonl"
    first = compared([a_case], [a_filler()], Records(TWO_CLICKS, path))

    def unread() -> Scan:
        raise AssertionError("it was read")

    again = compared([dataclasses.replace(a_case, build=unread)], [a_filler()], Records(TWO_CLICKS, path))
    assert again.tables == first.tables
    with pytest.raises(AssertionError, match="it was read"):
        compared([dataclasses.replace(a_case, build=unread)], [a_filler("other")], Records(TWO_CLICKS, path))


def test_each_method_answers_once_before_it_is_timed(a_case: Case):
    made: list[object] = []
    contestant = Contestant("network", "filler", lambda: lambda _volume: made.append(1) or Filler(), weights="ab")
    cases = [a_case, dataclasses.replace(a_case, scan="scan 2")]
    compared(cases, [contestant])
    assert len(made) == 1 + 2 * len(cases)


def test_a_failure_is_told_and_the_rest_goes_on(a_case: Case):
    report = compared([a_case], [a_filler("refuser", Refuser), a_filler()])
    rows = report.tables[1].rows
    assert rows[0][1:4] == ("refuser", "0", "It does not like that.")
    assert rows[1][1:3] == ("filler", "1")


def test_a_rival_that_is_not_installed_is_a_line(a_case: Case, monkeypatch: pytest.MonkeyPatch):
    gone = dataclasses.replace(RIVALS["grow-cut"], module="a_module_that_nobody_has")
    monkeypatch.setitem(RIVALS, "grow-cut", gone)
    report = compared([a_case], [*contestants(["grow-cut"], []), a_filler()])
    line = f"slicer-core is not installed ({methods.INSTALL})"
    assert report.tables[1].rows[0][1:4] == ("grow-cut", "0", line)
    assert f"Missing: grow-cut. {line}." in report.setting
    assert report.tables[1].rows[1][2] == "1"


def test_structures_are_chosen_by_table_or_by_a_part_of_their_name():
    loaded: list[str] = []

    def group(name: str, structure: str) -> Group:
        cases = [Case(name, f"scan {number}", structure, seen=True, build=lambda: None) for number in range(3)]
        return Group(name, "", seen=True, load=lambda: loaded.append(name) or cases)

    known = {"livers": group("livers", "Liver"), "rods": group("rods", "Rod")}
    names = lambda *options: [case.name for case in runner._chosen_cases(known, *options)]  # noqa: E731

    assert names((), 2) == ["scan 0 Liver", "scan 1 Liver", "scan 0 Rod", "scan 1 Rod"]
    assert names(("scan 2", "rods"), 9) == ["scan 2 Liver", "scan 0 Rod", "scan 1 Rod", "scan 2 Rod"]
    loaded.clear()
    assert names(("rods",), 1) == ["scan 0 Rod"]
    assert loaded == ["rods"]
    with pytest.raises(InputError, match=r"'feet'\. The groups here are: livers, rods\."):
        names(("feet",), 1)
    with pytest.raises(InputError, match="holds none of the volumes"):
        runner._chosen_cases({}, (), 1)


def test_methods_are_all_unless_they_are_named():
    assert runner._chosen_methods(()) == list(METHODS)
    assert runner._chosen_methods(("grow-cut", "network")) == ["network", "grow-cut"]
    with pytest.raises(InputError, match=r"'magic'\. The methods are: network,"):
        runner._chosen_methods(("magic",))


def test_without_a_folder_or_a_model_there_is_a_sentence(tmp_path: Path):
    with pytest.raises(InputError, match="There is no folder of real volumes"):
        runner.run(data=None)
    with pytest.raises(ModelError, match="nobody-has-this"):
        runner.run(data=tmp_path, models=["nobody-has-this"])


def test_real_structures_are_corrected_by_rivals_without_any_model(shared_data: Path):
    pytest.importorskip("slicer")
    report = runner.run(data=shared_data, only=["mr-hippocampus"], methods=["grow-cut"], quick=True, threads=1)
    _, hippocampi = report.tables
    assert hippocampi.rows[0][1:3] == ("grow-cut", "1")
    assert float(hippocampi.rows[0][5]) > 0.3
    assert report.verdict[0] == "No network was asked, so no goal is judged."
    assert any("quick run" in line for line in report.setting)
