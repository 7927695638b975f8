"""Tables and verdicts from sessions made by hand."""

from __future__ import annotations

import math

import pytest

from benchmarks.interaction.cases import Group
from benchmarks.interaction.methods import Contestant
from benchmarks.interaction.records import Conditions, Record, Start
from benchmarks.interaction.report import InteractionReport, Table, tables_of, verdict_of
from benchmarks.interaction.summary import Summary
from benchmarks.interaction.users import Session

GROUPS = {
    "organs": Group("Organs", "Some organs.", seen=True, load=list, notes=("They are small.",)),
    "others": Group("Others", "Some others.", seen=False, load=list),
}
TWO_THREADS = Conditions(2, "a processor", 10)
NETWORK = Contestant("network", "any-structure", dict, weights="ab")
OTHER = Contestant("network", "no-palm", dict, weights="cd")
WALKER = Contestant("random-walker", "random walker", dict)


def a_session(
    *scores: float, before: float = 0.0, first: float = 2.0, later: float = 0.5, busy: float = 1.0
) -> Session:
    scores = (*scores, *[scores[-1]] * (10 - len(scores)))
    seconds = (first, *[later] * 9)
    return Session(before, scores, seconds, tuple(busy * one for one in seconds))


def a_record(
    session: Session | None,
    contestant: Contestant = NETWORK,
    *,
    group: str = "organs",
    structure: str = "Liver",
    scan: str = "one",
    start: Start = "nothing",
) -> Record:
    names = (group, scan, structure, contestant.method, contestant.weights)
    if session is None:
        return Record(*names, start, "failed", "it ran away")
    return Record(*names, start, session=session)


def test_clicks_to_a_dice_count_as_all_where_it_is_not_reached():
    found = Summary([a_record(a_session(0.5, 0.8, 0.9)), a_record(a_session(0.3)), a_record(a_session(0.95))])
    reached = found.reached(0.9)
    assert (reached.clicks, reached.count, reached.of) == (pytest.approx((3 + 10 + 1) / 3), 2, 3)
    assert found.reached(0.9, within=2).count == 1
    assert found.after(2) == pytest.approx((0.8 + 0.3 + 0.95) / 3)


def test_a_start_that_is_good_enough_takes_no_click():
    assert Summary([a_record(a_session(0.5, before=0.86))]).reached(0.85).clicks == 0


def test_each_kind_of_structure_counts_as_much_as_the_others():
    records = [a_record(a_session(1.0)), a_record(a_session(0.8)), a_record(a_session(0.5), structure="Rod")]
    assert Summary(records).over_kinds(5) == pytest.approx((0.9 + 0.5) / 2)


def test_the_first_click_of_a_session_is_timed_apart():
    found = Summary([a_record(a_session(0.5, first=3.0, later=0.2)), a_record(a_session(0.5, first=1.0, later=0.4))])
    assert found.first_click().median == 2.0
    assert found.later_clicks().median == pytest.approx(0.3)
    assert found.later_clicks().p95 == pytest.approx(0.4)
    assert math.isnan(Summary([a_record(None)]).first_click().median)


def test_a_row_has_dice_clicks_and_seconds():
    records = [a_record(a_session(0.5, 0.8, 0.9)), a_record(a_session(0.7, before=0.7), start="mask")]
    overall, organs = tables_of(GROUPS, [NETWORK], records, TWO_THREADS)
    assert organs.columns[4:11] == (
        "after 1", "after 3", "after 5", "after 10", "clicks to 0.85", "clicks to 0.90", "clicks to 0.95",
    )  # fmt: skip
    assert organs.rows[0] == (
        "nothing", "any-structure", "1", "0.000", "0.500", "0.900", "0.900", "0.900", "3.0 (1 of 1)", "3.0 (1 of 1)",
        "10.0 (0 of 1)", "2.00", "2.00", "0.50", "0.50",
    )  # fmt: skip
    assert organs.rows[1][:4] == ("bad mask", "any-structure", "1", "0.700")
    assert organs.notes == ("They are small.",)
    assert overall.rows == (("any-structure", "0.900", "1 of 1", "–", "–", "2.00", "2.00", "0.50", "0.50"),)


def test_packages_of_one_method_have_rows_and_columns_of_their_own():
    records = [
        a_record(a_session(score), contestant, structure=structure)
        for contestant, score in ((NETWORK, 0.9), (OTHER, 0.6), (WALKER, 0.4))
        for structure in ("Liver", "Rod")
    ]
    _, organs, kinds = tables_of(GROUPS, [NETWORK, OTHER, WALKER], records, TWO_THREADS)
    assert [(row[1], row[6]) for row in organs.rows] == [
        ("any-structure", "0.900"), ("no-palm", "0.600"), ("random walker", "0.400"),
    ]  # fmt: skip
    assert kinds.columns == ("begun with", "structure", "scans", "any-structure", "no-palm", "random walker")
    assert kinds.rows[0] == ("nothing", "Liver", "1", "0.900", "0.600", "0.400")


def test_what_failed_is_told_and_not_judged():
    records = [a_record(a_session(0.95)), a_record(None, scan="two")]
    _, organs = tables_of(GROUPS, [NETWORK], records, TWO_THREADS)
    assert organs.rows[0][2] == "1 of 2"
    assert "any-structure failed 1 times (two Liver: it ran away)." in organs.notes
    assert "is not judged" in verdict_of(GROUPS, [NETWORK], records, TWO_THREADS, "cpu")[0]


@pytest.mark.parametrize(
    ("seen", "held_out", "words"), [(0.90, 0.84, ("met", "missed")), (0.89, 0.85, ("missed", "met"))]
)
def test_the_goals_are_on_seen_structures_and_on_those_held_out(seen, held_out, words):
    records = [a_record(a_session(seen)), a_record(a_session(held_out), group="others")]
    first, second, _ = verdict_of(GROUPS, [NETWORK], records, TWO_THREADS, "cpu")
    assert f"structures seen in training, is {words[0]} with {seen:.3f}" in first
    assert f"structures held out, is {words[1]} with {held_out:.3f}" in second


def test_a_bad_mask_does_not_help_to_reach_the_goal():
    records = [a_record(a_session(0.5)), a_record(a_session(0.99), start="mask")]
    assert "is missed with 0.500" in verdict_of(GROUPS, [NETWORK], records, TWO_THREADS, "cpu")[0]


@pytest.mark.parametrize(
    ("kind", "later", "words"),
    [
        ("cpu", 1.5, "goal, 1.50 s, is met"),
        ("cpu", 1.6, "goal, 1.50 s, is missed"),
        ("cuda", 0.07, "goal, 60 ms, is missed"),
        ("cuda", 0.05, "goal, 60 ms, is met"),
    ],
)
def test_the_goal_on_seconds_is_that_of_the_device(kind: str, later: float, words: str):
    records = [a_record(a_session(0.5, later=later))]
    assert words in verdict_of(GROUPS, [NETWORK], records, TWO_THREADS, kind)[2]


def test_seconds_of_one_thread_are_not_judged():
    records = [a_record(a_session(0.5))]
    said = verdict_of(GROUPS, [NETWORK], records, Conditions(1, "a processor", 10), "cpu")[2]
    assert "is for 2 threads and is not judged" in said


def test_a_busy_machine_is_told():
    said = verdict_of(GROUPS, [NETWORK], [a_record(a_session(0.5, busy=0.5))], TWO_THREADS, "cpu")
    assert "had 50% of one processor" in said[-1]


def test_without_a_network_nothing_is_judged():
    assert verdict_of(GROUPS, [WALKER], [a_record(a_session(0.5), WALKER)], TWO_THREADS, "cpu") == (
        "No network was asked, so no goal is judged.",
    )


def test_the_report_is_a_heading_the_setting_a_verdict_and_tables():
    table = Table("Organs", "Some.", ("a", "b"), (("x|y", "2"),), ("Small.",))
    text = InteractionReport(("Two threads.",), (table, table), ("Well.",), 90.0).markdown()
    assert text.startswith("## Correcting by clicks\n\n- Two threads.\n\n### Organs\n\nSome.\n\n| a | b |\n|---|---|\n")
    assert "| x\\|y | 2 |\n\n- Small.\n\n**Verdict.** Well.\n\n### Organs" in text
    assert text.endswith("This run took 2 min.\n")
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        Table("Organs", "", ("a", "b"), (("x",),))
