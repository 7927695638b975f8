"""`medseg bench registration`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from benchmarks.claims.report import ClaimReport
from benchmarks.registration import runner
from benchmarks.registration.report import RegistrationReport
from medseg.cli import app, bench


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", "registration", *map(str, arguments)])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict:
    """Put a run that only writes down what it was asked in the place of the real one."""
    seen: dict = {}

    def compare(**options: object) -> RegistrationReport:
        seen.update(options)
        part = ClaimReport("Made up", "Two volumes.", ("method",), (("affine",),), "Nobody wins.")
        return RegistrationReport(("Two threads.",), (part,), 3.0)

    monkeypatch.setattr(runner, "run", compare)
    monkeypatch.delenv("MEDSEG_TEST_DATA", raising=False)
    return seen


def test_tables_and_verdicts_are_printed_and_written(asked: dict, tmp_path: Path):
    output = tmp_path / "registration.md"
    result = run("--data", tmp_path, "--output", output)

    assert result.exit_code == 0
    assert "### Made up" in result.stdout
    assert "**Verdict.** Nobody wins." in result.stdout
    assert output.read_text(encoding="utf-8") == result.stdout


def test_every_option_reaches_the_run(asked: dict, tmp_path: Path):
    records = tmp_path / "records.json"
    result = run(
        "--data", tmp_path, "--quick", "--threads", 1, "--only", "lung-ct", "--only", "chris_t1",
        "--method", "affine", "--method", "ants-syn", "--records", records,
    )  # fmt: skip

    assert result.exit_code == 0
    asked.pop("progress")
    assert asked == {
        "data": tmp_path,
        "quick": True,
        "only": ["lung-ct", "chris_t1"],
        "methods": ["affine", "ants-syn"],
        "threads": 1,
        "records": records,
    }


def test_without_options_everything_is_registered_with_two_threads(asked: dict, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MEDSEG_TEST_DATA", str(tmp_path))
    run()

    asked.pop("progress")
    assert asked == {"data": tmp_path, "quick": False, "only": (), "methods": (), "threads": 2, "records": None}


@pytest.mark.parametrize("option", ["--output", "--records"])
def test_a_file_that_cannot_be_written_is_told_before_the_hours_pass(asked: dict, tmp_path: Path, option: str):
    result = run("--data", tmp_path, option, tmp_path / "nowhere" / "file")

    assert result.exit_code == 1
    assert asked == {}


def test_a_name_that_fits_nothing_is_answered_with_those_that_fit(tmp_path: Path):
    result = run("--data", tmp_path, "--method", "magic", "--only", "feet")

    assert result.exit_code == 1
    assert "No pair and no group is called 'feet'." in result.stderr


def test_an_installed_copy_says_that_the_benchmarks_are_in_the_clone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench, "repository_root", lambda: None)
    result = run()

    assert result.exit_code == 1
    assert "part of MedSeg's source tree" in result.stderr
