"""Tables and verdicts from records made by hand."""

from __future__ import annotations

import math

import pytest

from benchmarks.registration.job import Costs
from benchmarks.registration.measure import Measured, PointErrors
from benchmarks.registration.pair import Group
from benchmarks.registration.records import BEFORE, Record
from benchmarks.registration.report import RegistrationReport, report_on
from benchmarks.registration.summary import summarise

BRAINS = Group("Brains", "Some brains.", "mm", goal="syn")
CONTRASTS = Group("Contrasts", "Two contrasts.", "mm", "several", goal="elastix")
ORGANS = Group("Organs", "Some organs.", "dice")


def by_error(method: str, mean: float, seconds: float = 10.0, *, pair: str = "one", folded: float = 0.0) -> Record:
    measured = Measured(PointErrors(mean, mean / 2, mean * 2, mean * 1.5), {}, folded, folded)
    return Record(pair, "brains", method, measured=measured, costs=Costs(seconds, 2 * seconds, 10**9))


def by_dice(method: str, *values: float, pair: str = "one") -> Record:
    measured = Measured(None, dict(enumerate(values, start=1)), 0.0, 0.0)
    return Record(pair, "organs", method, measured=measured, costs=Costs(1.0, 1.0, 10**9))


def failed(method: str, pair: str = "one") -> Record:
    return Record(pair, "brains", method, "failed", "it ran away")


def test_a_summary_is_the_mean_over_the_pairs_and_the_most_of_memory_and_folds():
    records = [
        by_error("affine", 1.0, 4.0),
        by_error("affine", 3.0, 8.0, pair="two", folded=0.02),
    ]
    found = summarise("affine", "mm", records)

    assert found is not None
    assert (found.accuracy, found.median, found.p95, found.worst) == (2.0, 1.0, 4.0, 3.0)
    assert (found.folded, found.most_folded) == (0.01, 0.02)
    assert (found.seconds, found.processor_seconds, found.peak_bytes) == (6.0, 12.0, 10**9)
    assert found.complete


def test_dice_is_taken_over_all_structures_of_all_pairs():
    found = summarise("affine", "dice", [by_dice("affine", 0.9, 0.5, 0.8), by_dice("affine", 0.1, 0.7, pair="two")])

    assert found is not None
    assert found.accuracy == pytest.approx(0.6)
    assert found.worst == pytest.approx(0.3)  # 0.1 and 0.5 of five
    assert math.isnan(found.median)


def test_a_method_without_a_transform_has_no_summary():
    assert summarise("affine", "mm", [failed("affine")]) is None


def test_a_row_has_accuracy_folds_time_and_memory():
    report = report_on(BRAINS, [by_error(BEFORE, 6.0), by_error("affine", 2.0, folded=0.001)])

    assert report.rows == (
        ("before registration", "1", "6.00", "3.00", "12.00", "9.00", "–", "–", "–", "–"),
        ("affine", "1", "2.00", "1.00", "4.00", "3.00", "0.100 % (0.100 %)", "10.0", "20.0", "1.00 GB"),
    )


def test_a_dice_row_has_the_worst_too():
    report = report_on(ORGANS, [by_dice("affine", 0.9, 0.5)])
    assert report.rows[0][:4] == ("affine", "1", "0.700", "0.500")
    assert len(report.rows[0]) == len(report.columns)


def test_a_missing_rival_has_a_line_that_says_so():
    missing = Record("one", "brains", "ants-syn", "left out", "antspyx is not installed (pip install -e .[bench])")
    report = report_on(BRAINS, [by_error("affine", 2.0), missing])

    assert report.rows[1][:3] == (
        "ANTs SyN, defaults of antspyx",
        "0",
        "antspyx is not installed (pip install -e .[bench])",
    )
    assert "The goal is not judged: ANTs SyN is not in this table with every pair." in report.verdict


def test_a_method_that_failed_on_some_pairs_says_on_which_and_is_not_ranked():
    records = [
        by_error("affine", 2.0),
        by_error("affine", 2.0, pair="two"),
        by_error("demons", 1.0),
        failed("demons", "two"),
    ]
    report = report_on(BRAINS, records)

    assert report.rows[1][1] == "1 of 2"
    assert any("gave no transform for 1 pairs (two: it ran away)" in note for note in report.notes)
    assert report.verdict.startswith("Most accurate: affine (2.00 mm")


@pytest.mark.parametrize(
    ("mean", "seconds", "folded", "met"),
    [
        (1.0, 20.0, 0.001, True),
        (1.01, 20.0, 0.0, False),
        (0.5, 20.1, 0.0, False),
        (0.5, 5.0, 0.0011, False),
    ],
)
def test_the_goal_on_brains_asks_for_accuracy_time_and_folds_at_once(mean, seconds, folded, met):
    records = [by_error("field-quick", mean, seconds, folded=folded), by_error("ants-syn", 1.0, 100.0)]
    verdict = report_on(BRAINS, records).verdict

    assert ("is met by field (IO), quick" in verdict) == met
    assert ("is not met." in verdict) == (not met)
    assert "in at most 20.0 s (a fifth of its time) with at most 0.1 % folds in any pair" in verdict


def test_two_ways_that_each_reach_a_part_of_the_goal_do_not_reach_it():
    records = [by_error("affine", 2.0, 1.0), by_error("field-full", 0.5, 90.0), by_error("ants-syn", 1.0, 100.0)]
    assert "is not met." in report_on(BRAINS, records).verdict


def test_with_two_contrasts_accuracy_alone_counts():
    records = [by_error("field-full", 1.0, 500.0, folded=0.1), by_error("elastix", 1.0, 100.0)]
    assert "is met by field (IO), full" in report_on(CONTRASTS, records).verdict


def test_every_preset_of_a_rival_is_judged_against():
    records = [
        by_error("field-full", 1.0, 5.0),
        by_error("ants-syn", 2.0, 100.0),
        by_error("ants-syn-script", 0.5, 900.0),
    ]
    verdict = report_on(BRAINS, records).verdict
    assert verdict.count("is met by") == 1
    assert verdict.count("is not met.") == 1


def test_a_busy_machine_is_told_because_its_seconds_say_little():
    measured, costs = by_error("affine", 2.0).measured, Costs(100.0, 20.0, 10**9)
    waiting = Record("one", "brains", "affine", measured=measured, costs=costs)

    assert any("had 20% of one processor" in note for note in report_on(BRAINS, [waiting]).notes)
    assert report_on(BRAINS, [by_error("affine", 2.0)]).notes == ()


def test_the_best_of_ours_is_named_beside_the_best():
    verdict = report_on(ORGANS, [by_dice("affine", 0.6), by_dice("field-quick", 0.7), by_dice("elastix", 0.8)]).verdict
    assert verdict.startswith("Most accurate: elastix, default B-spline (Dice 0.800")
    assert "of ours, field (IO), quick (Dice 0.700" in verdict


def test_without_a_complete_method_there_is_no_winner():
    report = report_on(BRAINS, [by_error(BEFORE, 6.0), failed("affine")])
    assert report.verdict == "No method gave a transform for every pair."


def test_the_report_is_a_heading_the_setting_and_a_part_for_each_group():
    part = report_on(BRAINS, [by_error("affine", 2.0)])
    text = RegistrationReport(("Two threads.",), (part,), 125.0).markdown()

    assert text.startswith(
        "## Registration against ANTs, elastix and Demons\n\n- Two threads.\n\n### Brains\n\nSome brains.\n"
    )
    assert text.endswith("This run took 2 min.\n")
    assert "| affine | 1 | 2.00 |" in text
