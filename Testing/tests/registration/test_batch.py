"""Many pairs: tables of files, landmarks that only measure, what is done already, the summary."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from medseg.errors import InputError, ReadError
from medseg.registration import RegistrationOptions, write_report
from medseg.registration.batch import (
    FIGURES,
    Outcome,
    figures_of,
    finished_report,
    mean_figures,
    register_pair,
    report_of,
    write_summary,
)
from medseg.registration.pairs import Pair, PairFiles, pairs_of, read_landmarks, series_of
from support.registration import a_head, a_turn, inner_points, moved

SETTINGS = {"method": "rigid", "seed": 0}


@pytest.fixture(scope="module")
def a_pair() -> Pair:
    """A head and the head turned, with landmarks that are 4 mm wrong along R."""
    head, known = a_head(), a_turn(9, (8, -6, 5))
    points = inner_points(head.geometry)[:10]
    return Pair("head", head, moved(head, known), landmarks=(points, known.apply(points) + np.array([4.0, 0.0, 0.0])))


@pytest.fixture
def a_done_pair(tmp_path: Path) -> tuple[Path, PairFiles, list[Path]]:
    """A report that was written after its inputs, one of which is a folder, and an output."""
    files = PairFiles("a", tmp_path / "fixed", tmp_path / "moving.nrrd", landmarks=tmp_path / "points.csv")
    files.fixed.mkdir()
    for path in (files.fixed / "1.dcm", files.moving, files.landmarks, tmp_path / "other.nrrd"):
        path.write_text("x")
        os.utime(path, (1000, 1000))
    os.utime(files.fixed, (1000, 1000))
    report, output = tmp_path / "report.json", tmp_path / "transform.h5"
    output.write_text("x")
    told = {column: str(path.resolve()) for column, path in files.paths.items()}
    written = [output.name, report.name]
    write_report(report, {"files": told, "settings": SETTINGS, "outputs": written, "total_seconds": 2.5})
    os.utime(report, (2000, 2000))
    return report, files, [output, report]


def test_a_table_gives_pairs_whose_paths_start_from_its_folder() -> None:
    rows = [
        (2, {"fixed": "a/now.nii.gz", "moving": "/far/prior.nrrd", "name": "", "fixed_labels": "a/seg.seg.nrrd"}),
        (3, {"fixed": "now.mha", "moving": "old", "name": "second", "fixed_labels": ""}),
    ]
    first, second = pairs_of(("fixed", "moving", "name", "fixed_labels"), rows, Path("/table"))
    assert first.name == "prior_to_now"
    assert first.paths == {
        "fixed": Path("/table/a/now.nii.gz"),
        "moving": Path("/far/prior.nrrd"),
        "fixed_labels": Path("/table/a/seg.seg.nrrd"),
    }
    assert (second.name, second.moving, second.fixed_labels) == ("second", Path("/table/old"), None)


@pytest.mark.parametrize(
    ("columns", "rows", "words"),
    [
        (("fixed", "movng"), [], "unknown column movng"),
        (("fixed",), [], "no column moving"),
        (("fixed", "moving"), [], "no line but the first"),
        (("fixed", "moving"), [(2, {"fixed": "a.nrrd", "moving": ""})], "Line 2 of the table of pairs names no moving"),
        (("fixed", "moving"), [(n, {"fixed": "a.nrrd", "moving": "b.nrrd"}) for n in (2, 3)], "named b_to_a"),
        (
            ("fixed", "moving", "name"),
            [(n, {"fixed": "a.nrrd", "moving": "b.nrrd", "name": name}) for n, name in ((2, "Case"), (3, "case"))],
            "named Case, case",
        ),
        (("fixed", "moving", "name"), [(2, {"fixed": "a", "moving": "b", "name": "../x"})], "cannot be the name"),
        (("fixed", "moving", "name"), [(2, {"fixed": "a", "moving": "b", "name": ".."})], "cannot be the name"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_a_sentence(columns: tuple, rows: list, words: str) -> None:
    with pytest.raises(InputError, match=words):
        pairs_of(columns, rows, Path("/table"))


def test_a_series_is_called_after_its_moving_volumes() -> None:
    pairs = series_of(Path("base.nii.gz"), [Path("may/ct.nii.gz"), Path("june/ct.nii.gz"), Path("july.nrrd")])
    assert [pair.name for pair in pairs] == ["may_ct", "june_ct", "july"]
    assert {pair.fixed for pair in pairs} == {Path("base.nii.gz")}
    with pytest.raises(InputError, match="named may_ct"):
        series_of(Path("base.nii.gz"), [Path("may/ct.nii.gz"), Path("may/ct.nrrd")])


def test_landmarks_are_read_and_what_is_none_is_refused(tmp_path: Path) -> None:
    header = "moving_r,moving_a,moving_s,fixed_r,fixed_a,fixed_s,note\n"
    (tmp_path / "good.csv").write_text(header + "4,5,6,1,2,3,apex\n40,50,60,10,20,30,\n")
    fixed, moving = read_landmarks(tmp_path / "good.csv")
    assert fixed.tolist() == [[1, 2, 3], [10, 20, 30]]
    assert moving.tolist() == [[4, 5, 6], [40, 50, 60]]
    for text, words in ((header, "no landmarks"), (header + "1,2,3,4,5,nan,\n", "finite"), ("a,b\n1,2\n", "needs the")):
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(ReadError, match=words):
            read_landmarks(tmp_path / "bad.csv")
    with pytest.raises(ReadError, match="cannot be read"):
        read_landmarks(tmp_path / "none.csv")


def test_landmarks_that_only_measure_do_not_change_the_transform(a_pair: Pair) -> None:
    options = RegistrationOptions("rigid")
    without = register_pair(Pair("head", a_pair.fixed, a_pair.moving), options)
    measured = register_pair(a_pair, options, landmarks_measure_only=True)
    np.testing.assert_allclose(measured.transform.matrix, without.transform.matrix, atol=1e-3)
    assert without.quality.landmarks_after is None
    # The landmarks are wrong by 4 mm, which an independent registration finds.
    assert measured.quality.landmarks_after.mean_mm == pytest.approx(4.0, abs=0.6)
    assert measured.quality.landmarks_before.mean_mm > 6


def test_a_report_holds_what_the_summary_shows(a_pair: Pair, tmp_path: Path) -> None:
    result = register_pair(a_pair, RegistrationOptions("rigid", inverse=True))
    files = PairFiles("head", tmp_path / "fixed.nrrd", tmp_path / "moving.nrrd")
    report = report_of(files, a_pair, result, SETTINGS)
    assert report["inverse_consistency"]["mean_mm"] < 1e-6
    assert report["settings"] == SETTINGS
    assert report["files"] == {"fixed": str(files.fixed.resolve()), "moving": str(files.moving.resolve())}
    write_report(tmp_path / "r.json", report)
    figures = figures_of(json.loads((tmp_path / "r.json").read_text()))
    assert set(figures) == set(FIGURES)
    assert figures["correlation_after"] == result.quality.correlation_after > figures["correlation_before"]
    assert figures["tre_after_mm"] == pytest.approx(result.quality.landmarks_after.mean_mm)
    assert figures["seconds"] == pytest.approx(sum(result.timings.values()))
    assert math.isnan(figures["dice_after"])
    assert math.isnan(figures["folded_share"])


def test_a_pair_that_was_done_with_the_same_settings_is_known(a_done_pair: tuple) -> None:
    report, files, outputs = a_done_pair
    assert figures_of(finished_report(report, files, SETTINGS, outputs))["seconds"] == 2.5


@pytest.mark.parametrize(
    "change", ["settings", "table", "input", "slice", "output", "earlier", "report", "damaged", "gone"]
)
def test_a_pair_is_registered_again_when_anything_changed(a_done_pair: tuple, change: str) -> None:
    report, files, outputs = a_done_pair
    settings = {**SETTINGS, "seed": 1} if change == "settings" else SETTINGS
    if change == "input":
        os.utime(files.landmarks, (3000, 3000))
    elif change == "slice":
        os.utime(files.fixed / "1.dcm", (3000, 3000))
    elif change == "table":
        files = dataclasses.replace(files, moving=files.moving.with_name("other.nrrd"))
    elif change == "output":
        outputs[0].unlink()
    elif change == "earlier":
        # It lies there, but of a registration with other settings.
        outputs = [*outputs, outputs[0].with_name("inverse.h5")]
        outputs[-1].write_text("x")
    elif change == "report":
        report.unlink()
    elif change == "damaged":
        report.write_text("[")
    elif change == "gone":
        files.moving.unlink()
    assert finished_report(report, files, settings, outputs) is None


def test_the_summary_has_a_line_for_each_pair_and_means_of_those_that_worked(tmp_path: Path) -> None:
    outcomes = [
        Outcome("a", "done", {"dice_after": 0.8, "seconds": 1.0}),
        Outcome("b", "failed", message="The file b, is not there."),
        Outcome("c", "skipped", {"dice_after": 0.6, "seconds": math.nan}),
    ]
    write_summary(tmp_path / "s.csv", outcomes)
    with (tmp_path / "s.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["name"], row["status"], row["dice_after"], row["seconds"]) for row in rows] == [
        ("a", "done", "0.8", "1"),
        ("b", "failed", "", ""),
        ("c", "skipped", "0.6", ""),
    ]
    assert rows[1]["message"] == "The file b, is not there."
    assert mean_figures(outcomes) == {"dice_after": pytest.approx(0.7), "seconds": 1.0}
    assert mean_figures(outcomes[1:2]) == {}
