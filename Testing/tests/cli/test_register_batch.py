"""``medseg register-many`` and ``register-series``: many pairs, one summary; what fails does not stop the others."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from medseg.errors import WriteError
from medseg.registration import read_transform
from medseg.registration.batch import register_pair
from medseg.volumes import read_volume, write_labelmap, write_volume
from support.registration import a_head, a_turn, distance, inner_points, moved

TURNS = {"may": a_turn(8, (6, -5, 3)), "june": a_turn(-6, (-4, 6, 2))}
QUICK = ("--method", "rigid")


@pytest.fixture
def a_study(tmp_path: Path) -> Path:
    """A head, two turned heads, labels and landmarks of the first of them."""
    folder = tmp_path / "study"
    folder.mkdir()
    head = a_head((24, 28, 26), (6.0, 6.0, 6.0))
    write_volume(head, folder / "base.nii.gz")
    for name, turn in TURNS.items():
        write_volume(moved(head, turn), folder / f"{name}.nii.gz")
    labels = head.with_array((head.array > 0.25).astype(np.uint8))
    write_labelmap(labels, folder / "base_seg.nii.gz")
    inverse = TURNS["may"].inverse(head.geometry)[0]
    write_labelmap(inverse.resample(labels, head.geometry, "nearest"), folder / "may_seg.nii.gz")
    points = inner_points(head.geometry)[:6]
    pairs = zip(points, TURNS["may"].apply(points), strict=True)
    lines = [",".join(f"{value:.4f}" for value in (*first, *second)) for first, second in pairs]
    (folder / "points.csv").write_text("\n".join(["fixed_r,fixed_a,fixed_s,moving_r,moving_a,moving_s", *lines]))
    return folder


def table(study: Path, *rows: str) -> Path:
    path = study / "pairs.csv"
    path.write_text("\n".join(["name;fixed;moving;fixed_labels;moving_labels;landmarks", *rows]) + "\n")
    return path


def summary_of(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "summary.csv").open(newline="") as stream:
        return {row["name"]: row for row in csv.DictReader(stream)}


def test_every_pair_gets_a_folder_and_a_failure_does_not_stop_the_others(medseg, a_study: Path, tmp_path: Path) -> None:
    pairs = table(
        a_study,
        "first;base.nii.gz;may.nii.gz;base_seg.nii.gz;may_seg.nii.gz;points.csv",
        "gone;base.nii.gz;nowhere.nii.gz;;;",
        ";base.nii.gz;june.nii.gz;;;",
    )
    out = tmp_path / "out"

    found = medseg("register-many", pairs, "-o", out, *QUICK, "--landmarks-measure-only", "--also", "preview")

    assert found.exit_code == 1
    assert "2 of 3 pairs registered" in found.stdout
    assert "gone:" in found.stderr
    assert "nowhere.nii.gz" in found.stderr
    rows = summary_of(out)
    assert [row["status"] for row in rows.values()] == ["done", "failed", "done"]
    assert "nowhere.nii.gz" in rows["gone"]["message"]
    assert float(rows["first"]["dice_after"]) > 0.9 > float(rows["first"]["dice_before"])
    assert float(rows["first"]["tre_after_mm"]) < 1 < float(rows["first"]["tre_before_mm"])
    geometry = read_volume(a_study / "base.nii.gz").geometry
    for name, turn in (("first", "may"), ("june_to_base", "june")):
        assert distance(read_transform(out / name / "transform.h5"), TURNS[turn], geometry) < 1
        assert read_volume(out / name / "warped.nii.gz").geometry.is_close(geometry)
        assert json.loads((out / name / "report.json").read_text())["name"] == name
        assert (out / name / "preview.png").is_file()
    assert (out / "first" / "labels.nii.gz").is_file()
    assert not (out / "june_to_base" / "labels.nii.gz").exists()
    assert not (out / "gone").exists()


def test_what_is_done_is_not_done_again(medseg, a_study: Path, tmp_path: Path) -> None:
    pairs, out = table(a_study, "a;base.nii.gz;may.nii.gz;;;", "b;base.nii.gz;june.nii.gz;;;"), tmp_path / "out"
    assert medseg("register-many", pairs, "-o", out, *QUICK).exit_code == 0
    written = {name: (out / name / "transform.h5").stat().st_mtime_ns for name in "ab"}
    figures = summary_of(out)["a"]["correlation_after"]
    later = (out / "b" / "report.json").stat().st_mtime + 10
    os.utime(a_study / "june.nii.gz", (later, later))

    found = medseg("register-many", pairs, "-o", out, *QUICK, "--resume")

    assert found.exit_code == 0, found.output
    assert "1 of 2 pairs registered, 1 done before." in found.stdout
    assert (out / "a" / "transform.h5").stat().st_mtime_ns == written["a"]
    assert (out / "b" / "transform.h5").stat().st_mtime_ns > written["b"]
    rows = summary_of(out)
    assert [row["status"] for row in rows.values()] == ["skipped", "done"]
    assert rows["a"]["correlation_after"] == figures
    again = medseg("register-many", pairs, "-o", out, *QUICK, "--seed", 1, "--resume")
    assert "2 of 2 pairs registered." in again.stdout


def test_an_interruption_keeps_what_is_done_and_a_defect_fails_its_pair(
    medseg, a_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = table(a_study, *(f"{name};base.nii.gz;may.nii.gz;;;" for name in ("a", "b", "c")))
    raised = {"a": RuntimeError("a defect"), "c": KeyboardInterrupt()}

    def broken(pair, options, **given):
        if pair.name in raised:
            raise raised[pair.name]
        return register_pair(pair, options, **given)

    monkeypatch.setattr("medseg.registration.batch.register_pair", broken)
    found = medseg("register-many", pairs, "-o", tmp_path / "out", *QUICK)
    assert found.exit_code == 130
    assert "2 of 3 pairs were worked on" in found.stderr
    rows = summary_of(tmp_path / "out")
    assert {name: row["status"] for name, row in rows.items()} == {"a": "failed", "b": "done"}
    assert "should not have" in rows["a"]["message"]
    assert (tmp_path / "out" / "b" / "report.json").is_file()


def test_a_series_is_brought_onto_one_volume(medseg, a_study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = medseg(
        "register-series", a_study / "base.nii.gz", a_study / "may.nii.gz", a_study / "june.nii.gz", "-o", out, *QUICK,
        "--also", "difference", "--also", "inverse",
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    geometry = read_volume(a_study / "base.nii.gz").geometry
    for name, turn in TURNS.items():
        there = read_transform(out / name / "transform.h5")
        assert distance(there, turn, geometry) < 1
        back = there.then(read_transform(out / name / "inverse.h5"))
        assert np.abs(back.matrix - np.eye(4)).max() < 1e-4
        assert (out / name / "difference.nii.gz").is_file()


def test_a_group_is_brought_onto_its_mean(medseg, a_study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    volumes = [a_study / f"{name}.nii.gz" for name in ("base", "may", "june")]

    found = medseg("register-series", *volumes, "-o", out, *QUICK, "--groupwise", "--rounds", 1)

    assert found.exit_code == 0, found.output
    base, mean = read_volume(volumes[0]), read_volume(out / "mean.nii.gz")
    assert mean.geometry.is_close(base.geometry)
    assert np.corrcoef(mean.array.ravel(), base.array.ravel())[0, 1] > 0.97
    assert set(summary_of(out)) == {"base", "may", "june"}
    assert distance(read_transform(out / "june" / "transform.h5"), TURNS["june"], base.geometry) < 1.5
    written = (out / "mean.nii.gz").stat().st_mtime_ns
    again = medseg("register-series", *volumes, "-o", out, *QUICK, "--groupwise", "--rounds", 1, "--resume")
    assert "0 of 3 pairs registered, 3 done before." in again.stdout
    assert (out / "mean.nii.gz").stat().st_mtime_ns == written


def test_what_lies_there_of_other_settings_is_made_again(medseg, a_study: Path, tmp_path: Path) -> None:
    pairs, out = table(a_study, "a;base.nii.gz;may.nii.gz;;;"), tmp_path / "out"
    assert medseg("register-many", pairs, "-o", out, *QUICK, "--also", "inverse").exit_code == 0
    assert medseg("register-many", pairs, "-o", out, "--method", "affine").exit_code == 0
    old = (out / "a" / "inverse.h5").stat().st_mtime_ns
    found = medseg("register-many", pairs, "-o", out, "--method", "affine", "--also", "inverse", "--resume")
    assert "1 of 1 pairs registered." in found.stdout
    there, back = (read_transform(out / "a" / f"{name}.h5") for name in ("transform", "inverse"))
    assert np.abs(there.then(back).matrix - np.eye(4)).max() < 1e-4
    assert (out / "a" / "inverse.h5").stat().st_mtime_ns > old, "that one was of the rigid registration"


def test_a_report_does_not_outlive_what_it_tells_of(
    medseg, a_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, out = table(a_study, "a;base.nii.gz;may.nii.gz;;;"), tmp_path / "out"
    assert medseg("register-many", pairs, "-o", out, *QUICK).exit_code == 0

    def full(_volume: object, path: Path) -> None:
        raise WriteError(f"The disk is full: {path} was not written.", advice="Free some space.")

    with monkeypatch.context() as patch:
        patch.setattr("medseg.volumes.write_volume", full)
        assert medseg("register-many", pairs, "-o", out, "--method", "affine").exit_code == 1
    again = medseg("register-many", pairs, "-o", out, *QUICK, "--resume")
    assert "1 of 1 pairs registered." in again.stdout, "the transform is that of the affine registration"


def test_no_input_is_overwritten_with_what_is_written_for_all_pairs(medseg, a_study: Path) -> None:
    pairs = table(a_study, "a;base.nii.gz;may.nii.gz;;;").rename(a_study / "summary.csv")
    mean = a_study / "mean.nii.gz"
    (a_study / "june.nii.gz").rename(mean)
    for command, kept in (
        (("register-many", pairs, "-o", a_study, *QUICK), pairs),
        (("register-series", a_study / "base.nii.gz", mean, "-o", a_study, *QUICK, "--groupwise"), mean),
    ):
        before = kept.read_bytes()
        found = medseg(*command)
        assert found.exit_code == 1
        assert "both an input and an output" in found.stderr
        assert kept.read_bytes() == before


def test_mistakes_are_said_before_the_mean_is_computed(
    medseg, a_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    monkeypatch.setattr("medseg.registration.groupwise.mean_image", lambda *_args, **_options: computed.append(1))
    volumes = [a_study / f"{name}.nii.gz" for name in ("base", "may", "june")]
    found = medseg("register-series", *volumes, "-o", tmp_path / "out", *QUICK, "--groupwise", "--also", "jacobian")
    assert found.exit_code == 2
    assert "methods that deform" in " ".join(found.output.replace("│", " ").split())
    assert not computed


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        (("a;base.nii.gz;;;;",), (), "names no moving volume"),
        (("a;base.nii.gz;may.nii.gz;;;", "A;base.nii.gz;june.nii.gz;;;"), (), "named A, a"),
        ((), (), "no line but the first"),
        (("a;base.nii.gz;may.nii.gz;;;",), ("--also", "jacobian"), "methods that deform"),
        (("a;base.nii.gz;may.nii.gz;;;",), ("--method", "field", "--refine", "none"), "no trained weights"),
        (("a;base.nii.gz;../out/a/warped.nii.gz;;;",), (), "both an input and an output"),
    ],
)
def test_mistakes_are_said_before_anything_is_computed(
    medseg, a_study: Path, tmp_path: Path, rows: tuple, options: tuple, words: str
) -> None:
    found = medseg("register-many", table(a_study, *rows), "-o", tmp_path / "out", *options)
    assert found.exit_code in (1, 2)
    assert words in " ".join(found.output.replace("│", " ").split())
    assert not list(tmp_path.rglob("summary.csv"))
