"""`medseg bench claims`: listing, running, and what it says when there is nothing to run."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from benchmarks import claims
from benchmarks.claims.report import ClaimReport
from medseg.cli import app, bench


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", "claims", *map(str, arguments)])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict:
    """Put a claim that only writes down what it was asked in the place of all others."""
    seen: dict = {}

    def run_claim(name: str, **options: object) -> ClaimReport:
        seen.update(name=name, **options)
        return ClaimReport("Made up", "A claim.", ("a",), (("1",),), "It does not hold.", seconds=seen.get("took", 3.0))

    monkeypatch.setattr(claims, "available", lambda: {"made-up": "Something."})
    monkeypatch.setattr(claims, "run_claim", run_claim)
    monkeypatch.delenv("MEDSEG_TEST_DATA", raising=False)
    return seen


def test_without_a_name_the_claims_are_listed_with_a_line_on_each():
    result = run()

    assert result.exit_code == 0
    assert "tsfmunet" in result.stdout
    assert "Attention between slices keeps its accuracy" in result.stdout


def test_every_module_that_has_a_run_is_a_claim_and_has_a_line():
    found = claims.available()

    assert "tsfmunet" in found
    assert not {"report", "fitting", "anisotropic-data"} & set(found)
    assert all(line.endswith(".") and "_" not in name for name, line in found.items())


def test_a_claim_that_is_not_there_is_answered_with_those_that_are(asked: dict):
    result = run("tsfmunot")

    assert result.exit_code == 1
    assert "There is no claim 'tsfmunot'. The claims here are: made-up." in result.stderr


def test_table_and_verdict_are_printed_whichever_way_it_came_out(asked: dict, tmp_path: Path):
    output = tmp_path / "made-up.md"
    result = run("made-up", "--quick", "--seeds", 2, "--threads", 1, "--data", tmp_path, "--output", output)

    assert result.exit_code == 0
    assert "| 1 |" in result.stdout
    assert "**Verdict.** It does not hold." in result.stdout
    assert "Took 3 s." in result.stdout
    assert output.read_text(encoding="utf-8") == result.stdout
    asked.pop("progress")
    assert asked == {"name": "made-up", "quick": True, "seeds": 2, "threads": 1, "data": tmp_path}


def test_the_data_is_that_of_the_variable_unless_it_is_named(asked: dict, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MEDSEG_TEST_DATA", str(tmp_path))
    run("made-up")

    assert asked["data"] == tmp_path
    assert not asked["quick"]


def test_the_data_beside_the_clone_is_found_and_may_be_missing(asked: dict, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(bench, "repository_root", lambda: tmp_path / "clone")
    assert bench._data_folder(None) is None
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert bench._data_folder(None) == tmp_path / "shared" / "data"


def test_a_data_folder_that_does_not_exist_is_named(asked: dict, tmp_path: Path):
    result = run("made-up", "--data", tmp_path / "nowhere")

    assert result.exit_code == 1
    assert f"The folder {tmp_path / 'nowhere'} does not exist." in result.stderr
    assert asked == {}


def test_an_output_that_cannot_be_written_is_told_before_the_minutes_pass(asked: dict, tmp_path: Path):
    result = run("made-up", "--output", tmp_path / "nowhere" / "made-up.md")

    assert result.exit_code == 1
    assert asked == {}


def test_an_installed_copy_says_that_the_claims_are_in_the_clone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench, "repository_root", lambda: None)
    result = run("tsfmunet")

    assert result.exit_code == 1
    assert "part of MedSeg's source tree" in result.stderr
    assert "Clone the repository" in result.stderr


def test_the_source_tree_is_known_by_where_the_package_lies(repository: Path, tmp_path: Path, monkeypatch):
    import medseg

    assert bench.repository_root() == repository
    monkeypatch.setattr(medseg, "__file__", str(tmp_path / "site-packages" / "medseg" / "__init__.py"))
    assert bench.repository_root() is None
