"""The claim of implicitly solved smoothness: its fronts, its toy, and that its machinery runs."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.claims import implicit_reg
from benchmarks.claims.implicit_reg import (
    DIFFUSION,
    ELASTIC,
    EXPLICIT,
    KNOWN,
    NONE,
    QUICK,
    Job,
    Point,
    Result,
    Setup,
)
from benchmarks.claims.implicit_reg_toy import moved_square, reaches
from benchmarks.claims.registration_fitting import Figures


def test_a_front_leaves_out_what_is_rougher_and_no_better():
    smooth, better, worse, best = Point(0.1, 0.7), Point(0.2, 0.8), Point(0.25, 0.75), Point(0.4, 0.85)
    assert implicit_reg.front_of([best, worse, smooth, better]) == [smooth, better, best]
    assert implicit_reg.front_of([Point(0.1, 0.6), Point(0.1, 0.7)]) == [Point(0.1, 0.7)]


def test_the_gain_is_taken_at_equal_spread_and_not_at_equal_weight():
    theirs = [Point(0.1, 0.6), Point(0.3, 0.8)]
    # The same front, of which other points were trained.
    assert implicit_reg.gain_of([Point(0.15, 0.65), Point(0.25, 0.75)], theirs) == pytest.approx(0, abs=1e-12)
    assert implicit_reg.gain_of([Point(0.15, 0.70), Point(0.25, 0.80)], theirs) == pytest.approx(0.05)
    # Rougher without being better: the best Dice stays on offer.
    assert implicit_reg.gain_of([Point(0.2, 0.8), Point(0.5, 0.7)], theirs) == pytest.approx(0.05)
    assert math.isnan(implicit_reg.gain_of([Point(0.4, 0.9), Point(0.5, 0.9)], theirs))


def results_of(family: str, points: list[Point], seed: int) -> list[Result]:
    return [
        Result(Job(QUICK, family, weight, seed), Figures(point.dice, 0.0, point.spread, point.spread))
        for weight, point in enumerate(points)
    ]


def a_trial(*gains: float) -> list[Result]:
    results = []
    for seed, gain in enumerate(gains):
        results += results_of(EXPLICIT, [Point(0.1, 0.6), Point(0.3, 0.8)], seed)
        results += results_of(DIFFUSION, [Point(0.1, 0.6 + gain), Point(0.3, 0.8 + gain)], seed)
        results += results_of(NONE, [Point(0.0, 0.5)], seed)
    return results


@pytest.mark.parametrize(
    ("gains", "word"),
    [
        ((0.02, 0.01), ": a gain."),
        ((0.004, 0.004), ": no gain."),
        ((0.03, -0.001), ": no gain."),
        ((-0.02, -0.01), ": a loss."),
        ((0.0, 0.0), ": no gain."),
    ],
    ids=["above", "within the margin", "with one seed only", "below", "the same front"],
)
def test_the_verdict_can_go_either_way(gains: tuple[float, ...], word: str):
    assert word in implicit_reg.verdict_of(a_trial(*gains), DIFFUSION)


def test_fronts_that_share_no_spread_are_not_compared():
    results = a_trial(0.0) + results_of(ELASTIC, [Point(0.5, 0.9), Point(0.6, 0.9)], 0)
    assert "cannot be compared" in implicit_reg.verdict_of(results, ELASTIC)


def test_a_network_that_is_no_better_than_no_registration_has_not_learned():
    learned = a_trial(0.0)
    assert implicit_reg.has_learned(learned)
    idle = [result for result in learned if result.job.family != NONE] + results_of(NONE, [Point(0.0, 0.795)], 0)
    assert not implicit_reg.has_learned(idle)


def test_the_square_moves_at_its_borders_only():
    field = moved_square()
    assert field[:, 0].abs().max() > 0.5
    assert not field[:, 2].any()
    assert torch.count_nonzero(field) < 0.05 * field.numel()
    assert not field[:, :, :20].any()
    assert not field[:, :, 50:].any()


def test_the_explicit_gradient_stays_near_the_deformation_and_the_implicit_one_does_not():
    reach = reaches()
    assert reach["explicit diffusion"].farthest == 1
    assert reach["explicit curvature"].farthest == 2
    # exp(-r / sqrt(2)) falls to a millionth within some 20 voxels; with gamma = 50 it never does in 64.
    near, far = reach["implicit diffusion, γ = 2"], reach["implicit diffusion, γ = 50"]
    assert 12 <= near.farthest <= 28
    assert far.share == 1
    assert reach["explicit diffusion"].share < near.share < far.share


def test_every_kind_has_as_many_weights_and_the_same_pairs():
    jobs = implicit_reg.jobs_of(Setup(), 2)
    counts = {family: sum(job.family == family for job in jobs) for family in implicit_reg.FAMILIES}
    assert len(set(counts.values())) == 1
    assert implicit_reg.pairs_of(QUICK, 1) is implicit_reg.pairs_of(QUICK, 1)


def test_the_same_seed_gives_the_same_result():
    first, again = (implicit_reg.outcome_of(Job(QUICK, ELASTIC, 1, 3)) for _ in range(2))
    assert first == again


def test_a_heavy_weight_makes_a_smoother_field():
    setup = Setup(**{**vars(QUICK), "steps": 40, "explicit": (0.0, 50.0)})
    rough, smooth = (
        implicit_reg.points_of(implicit_reg.outcome_of(Job(setup, EXPLICIT, weight, 0)), EXPLICIT, 0)[0].spread
        for weight in (0, 1)
    )
    assert smooth < 0.5 * rough


def test_a_quick_run_makes_the_whole_table_and_tells_that_it_proves_nothing():
    report = implicit_reg.run(quick=True, seeds=1, threads=1)
    assert [row[0] for row in report.rows] == [NONE, *[EXPLICIT] * 2, *[DIFFUSION] * 2, *[ELASTIC] * 2, KNOWN]
    assert report.rows[1][1] == "α = 0.25"
    assert report.rows[-2][1] == "σ = 2, γ = 2"
    assert report.verdict.startswith("A quick run, which says nothing")
    assert "% longer with implicit elastic" in report.verdict
    assert "explicit diffusion 1 voxel (" in report.notes[4]
