"""The claim of instance optimisation: its pairs, its measures, and that its machinery runs."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from benchmarks.claims import nio
from benchmarks.claims.nio import (
    ALIKE,
    FIELD,
    FRESH,
    METHODS,
    MULTI,
    NONE,
    PAPER,
    QUICK,
    SHIFTED,
    SINGLE,
    TRIED,
    UNREGISTERED,
    Job,
    Result,
    Setup,
)
from benchmarks.claims.registration_fitting import Figures
from medseg.registration.instance import Objective


@functools.cache
def a_start() -> nio.Trained:
    return nio.trained((QUICK, 0))


@pytest.mark.parametrize(
    ("values", "mean"),
    [([0.5], 0.5), ([0.9, 0.1, 0.5], 0.1), ([n / 10 for n in range(10)], 0.1), ([0.8, 0.2, 0.4, 0.6, 1, 1], 0.3)],
    ids=["at least one", "one of three", "three of ten", "two of six"],
)
def test_the_worst_30_per_cent_are_averaged(values: list[float], mean: float):
    assert nio.worst(values) == pytest.approx(mean)


def test_shifted_pairs_look_and_move_otherwise_than_those_of_the_training():
    setup = Setup()
    alike, shifted = (nio.kind_of(setup, world) for world in (ALIKE, SHIFTED))
    assert alike.fixed == alike.moving != shifted.fixed == shifted.moving
    assert shifted.noise > alike.noise
    assert shifted.bias > alike.bias
    assert shifted.reach[0] >= alike.reach[1]


def test_every_method_sees_the_same_pair():
    one, other, next_one = (
        nio.pair_of(Job(QUICK, 0, SHIFTED, number, method)) for number, method in ((0, FIELD), (0, MULTI), (1, FIELD))
    )
    assert torch.equal(one.moving, other.moving)
    assert not torch.equal(one.moving, next_one.moving)


def test_refining_lowers_the_loss_and_leaves_what_the_others_start_from():
    start = a_start()
    before = {name: value.copy() for name, value in start.weights.items()}
    pair = nio.pair_of(Job(QUICK, 0, SHIFTED, 0, MULTI))
    loss = Objective().on(nio.working_pair_of(pair))
    found = {method: nio.registered(method, pair, QUICK, start, 0) for method in METHODS}
    plain = loss(found[NONE]).item()
    for method in (FIELD, SINGLE, MULTI):
        assert loss(found[method]).item() <= plain
    assert loss(found[FIELD]).item() < plain
    assert not torch.equal(found[FRESH], found[MULTI])
    for name, value in start.weights.items():
        np.testing.assert_array_equal(value, before[name])


def test_the_rates_are_chosen_among_those_given():
    start = a_start()
    assert start.network_rate in QUICK.network_rates
    assert start.field_rate in QUICK.field_rates


def test_the_same_seed_gives_the_same_result():
    job = Job(QUICK, 0, ALIKE, 0, MULTI)
    first, again = (nio.measured((job, start)) for start in (a_start(), nio.trained((QUICK, 0))))
    assert first.figures == again.figures


def results_of(
    dice: dict[str, float], *, worst: float = 0.0, spread: float = 0.0, control: float = 0.0, io_seconds: float = 10.0
) -> list[Result]:
    """Two pairs a seed, of which the worse is 0.2 below the other, less so for NIO_m by ``worst``."""
    seconds = {NONE: 0.1, FIELD: io_seconds}
    results = []
    for method in (UNREGISTERED, *METHODS):
        for seed in range(2):
            for number, place in enumerate((0.1, -0.1)):
                lifted = worst if number and method == MULTI else 0.0
                figures = Figures(dice[method] + place + lifted, 0.0, 0.3, 0.3 + spread * (method == MULTI))
                results.append(Result(Job(QUICK, seed, SHIFTED, number, method), figures, seconds.get(method, 10.0)))
            alike = Figures(0.8 + control * (method == MULTI), 0.0, 0.3, 0.3)
            results.append(Result(Job(QUICK, seed, ALIKE, 0, method), alike, 1.0))
    return results


_AS_CLAIMED = {UNREGISTERED: 0.5, NONE: 0.6, FIELD: 0.65, SINGLE: 0.68, MULTI: 0.7, PAPER: 0.66, FRESH: 0.6}


@pytest.mark.parametrize(
    ("scores", "options", "words"),
    [
        ({}, {"worst": 0.02}, ("All three claims hold", "(smaller)", "as long as NIO_m.")),
        (
            {FIELD: 0.75},
            {"worst": 0.02, "spread": 0.1},
            ("One of the three claims holds", "in DSC30: no:", "than IO: no:"),
        ),
        ({FIELD: 0.7}, {"worst": 0.0}, ("One of the three claims holds", "in DSC30: no:", "gain most: no:")),
        ({MULTI: 0.59}, {"spread": 0.1}, ("None of the three claims holds",)),
        ({}, {"control": 0.3}, ("Two of the three claims hold", "(not smaller)")),
        ({}, {"io_seconds": 5.0}, ("Not as long as NIO_m had: IO: the field.",)),
    ],
    ids=["as claimed", "IO better and smoother", "a tie", "worse", "gains on the control too", "IO had less time"],
)
def test_the_verdict_can_go_either_way(scores: dict[str, float], options: dict[str, float], words: tuple[str, ...]):
    verdict = nio.verdict_of(results_of(_AS_CLAIMED | scores, **options))
    for word in words:
        assert word in verdict


def test_a_quick_run_makes_the_whole_table_and_tells_that_it_proves_nothing():
    told: list[float] = []
    report = nio.run(
        quick=True, seeds=1, threads=1, progress=nio.Progress(lambda fraction, _text: told.append(fraction))
    )
    assert [row[:2] for row in report.rows] == [
        (world, method) for world, methods in TRIED.items() for method in methods
    ]
    assert report.verdict.startswith("A quick run, which says nothing")
    assert told == sorted(told)
