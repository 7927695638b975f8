"""``medseg register --model``: which model, what it began with, its smoothness unless another is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medseg.volumes import write_volume
from support.registration import a_head, a_turn, moved
from support.registration_packages import write_small_lapirn


@pytest.fixture(scope="module")
def a_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_lapirn(tmp_path_factory.mktemp("models") / "small-lapirn")


@pytest.fixture
def two_heads(tmp_path: Path) -> tuple[Path, Path]:
    head = a_head((24, 28, 26), (6.0, 6.0, 6.0))
    paths = tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz"
    write_volume(head, paths[0])
    write_volume(moved(head, a_turn(4, (4, -3, 2))), paths[1])
    return paths


def test_a_model_is_run_and_named(medseg, a_model: Path, two_heads: tuple[Path, Path], tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    found = medseg("register", *two_heads, "--model", a_model, "--refine", "none", "--report", report)
    assert found.exit_code == 0, found.output
    assert "began with trained weights of Small LapIRN version 1.2.3" in found.stderr
    said = json.loads(report.read_text())
    assert said["start"] == "trained weights of Small LapIRN version 1.2.3"
    assert said["settings"]["method"] == said["method"] == "model"
    assert said["settings"]["model"] == str(a_model)
    assert said["quality"]["deformation"] is not None


def test_the_models_smoothness_holds_until_another_is_asked_for(
    medseg, a_model: Path, two_heads: tuple[Path, Path], tmp_path: Path
) -> None:
    losses = {}  # a weighted sum, by the smoothness, of what the network gave
    for name, options in {"own": (), "same": ("--smoothness", 0.7), "other": ("--smoothness", 0.1)}.items():
        report = tmp_path / f"{name}.json"
        found = medseg(
            "register", *two_heads, "--model", a_model, "--refine", "none", "--gamma", 3, *options, "--report", report
        )
        assert found.exit_code == 0, found.output
        (losses[name],) = set(json.loads(report.read_text())["losses"])
    assert losses["own"] == pytest.approx(losses["same"], rel=1e-3)
    assert losses["own"] != pytest.approx(losses["other"], rel=0.1)


def test_a_batch_loads_the_model_once(
    medseg, a_model: Path, two_heads: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.models import loading

    (tmp_path / "pairs.csv").write_text(
        "name,fixed,moving\na,fixed.nii.gz,moving.nii.gz\nb,moving.nii.gz,fixed.nii.gz\n"
    )
    read: list[str] = []
    original = loading.load_network

    def counted(package, *arguments, **options):
        read.append(package.name)
        return original(package, *arguments, **options)

    monkeypatch.setattr("medseg.models.load_network", counted, raising=False)
    monkeypatch.setattr("medseg.registration.deformation.load_network", counted)
    found = medseg("register-many", tmp_path / "pairs.csv", "-o", tmp_path / "out", "-m", a_model, "--refine", "none")
    assert found.exit_code == 0, found.output
    assert read == ["small-lapirn"]


def test_a_missing_model_is_one_sentence_and_not_one_for_each_pair(
    medseg, two_heads: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text("fixed,moving\nfixed.nii.gz,moving.nii.gz\n")
    found = medseg("register-many", tmp_path / "pairs.csv", "-o", tmp_path / "out", "-m", tmp_path / "none")
    assert found.exit_code == 1
    assert not (tmp_path / "out" / "summary.csv").exists()
    assert found.output.count("none") == 1
