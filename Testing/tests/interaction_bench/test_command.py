"""`medseg bench interaction`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from benchmarks.interaction import runner
from benchmarks.interaction.report import InteractionReport, Table
from medseg.cli import app, bench


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", "interaction", *map(str, arguments)])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict:
    """Put a run that only writes down what it was asked in the place of the real one."""
    seen: dict = {}

    def compare(**options: object) -> InteractionReport:
        seen.update(options)
        table = Table("Made up", "Two blocks.", ("method",), (("grow-cut",),))
        return InteractionReport(("Two threads.",), (table,), ("Nobody wins.",), 3.0)

    monkeypatch.setattr(runner, "run", compare)
    monkeypatch.delenv("MEDSEG_TEST_DATA", raising=False)
    return seen


def test_tables_and_verdicts_are_printed_and_written(asked: dict, tmp_path: Path):
    output = tmp_path / "interaction.md"
    result = run("--data", tmp_path, "--output", output)

    assert result.exit_code == 0
    assert "### Made up" in result.stdout
    assert "**Verdict.** Nobody wins." in result.stdout
    assert output.read_text(encoding="utf-8") == result.stdout


def test_every_option_reaches_the_run(asked: dict, tmp_path: Path):
    records = tmp_path / "records.jsonl"
    result = run(
        "--data", tmp_path, "--quick", "--threads", 1, "--only", "mr-hippocampus", "--method", "network",
        "--method", "grow-cut", "--records", records, "--model", "one", "--model", "two",
        "--recipe", tmp_path / "r.yaml", "--most", 3, "--device", "cuda",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    asked.pop("progress")
    assert asked == {
        "data": tmp_path,
        "models": ["one", "two"],
        "recipe": tmp_path / "r.yaml",
        "quick": True,
        "only": ["mr-hippocampus"],
        "methods": ["network", "grow-cut"],
        "most": 3,
        "threads": 1,
        "device": "cuda",
        "records": records,
    }


def test_without_options_the_default_model_is_measured_on_the_processor(asked: dict, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MEDSEG_TEST_DATA", str(tmp_path))
    run()
    asked.pop("progress")
    assert asked == {
        "data": tmp_path, "models": (), "recipe": None, "quick": False, "only": (), "methods": (), "most": 12,
        "threads": 2, "device": "cpu", "records": None,
    }  # fmt: skip


@pytest.mark.parametrize("option", ["--output", "--records"])
def test_a_file_that_cannot_be_written_is_told_before_the_hours_pass(asked: dict, tmp_path: Path, option: str):
    result = run("--data", tmp_path, option, tmp_path / "nowhere" / "file")

    assert result.exit_code == 1
    assert asked == {}


def test_a_method_that_does_not_exist_is_answered_with_those_that_do(tmp_path: Path):
    result = run("--data", tmp_path, "--method", "magic")

    assert result.exit_code == 1
    assert "There is no method 'magic'." in result.stderr


def test_an_installed_copy_says_that_the_benchmarks_are_in_the_clone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench, "repository_root", lambda: None)
    result = run()

    assert result.exit_code == 1
    assert "part of MedSeg's source tree" in result.stderr
