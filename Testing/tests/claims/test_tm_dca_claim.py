"""The claim of TM-DCA: what its pairs promise, and that its machinery runs."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.claims import tm_dca
from benchmarks.claims.fitting import parameters_of
from benchmarks.claims.registration_fitting import Figures
from benchmarks.claims.tm_dca import (
    KNOWN,
    LARGE,
    MONO,
    MULTI,
    NETWORKS,
    NONE,
    OURS,
    PLAIN,
    QUICK,
    SELF,
    SMALL,
    WINDOWED,
    Job,
    Result,
    Setup,
)
from medseg.networks.deformable_cross_attention import AddedOffsets


def test_the_encoders_have_about_as_many_parameters_and_the_same_decoder():
    setup = Setup()
    networks = {name: tm_dca.new_network(name, setup) for name in (OURS, WINDOWED, SELF)}
    wanted = parameters_of(networks[OURS])
    for network in networks.values():
        assert parameters_of(network) == pytest.approx(wanted, rel=0.03)
        assert parameters_of(network.decoder) == parameters_of(networks[OURS].decoder)


def test_large_displacements_are_larger_than_a_window_of_the_first_stage_and_small_ones_are_not():
    setup = Setup(training=0, testing=2)
    world = tm_dca.world_of(setup, MULTI, 0)
    window = setup.window * setup.patch
    farthest = {
        reach: [float(pair.displacement.square().sum(1).sqrt().max()) for pair in pairs]
        for reach, pairs in world.testing.items()
    }
    assert min(farthest[LARGE]) > window
    assert max(farthest[SMALL]) < window / 2


def test_networks_of_a_seed_see_the_same_pairs_and_start_from_the_seed():
    first, again = (tm_dca.outcome_of(Job(QUICK, MONO, OURS, 5)) for _ in range(2))
    assert [r.figures for r in first] == [r.figures for r in again]
    assert [r.offset for r in first] == [r.offset for r in again]
    assert tm_dca.world_of(QUICK, MONO, 5) is tm_dca.world_of(QUICK, MONO, 5)


def test_offsets_are_measured_in_voxels():
    network = tm_dca.new_network(OURS, QUICK)
    pair = tm_dca.world_of(QUICK, MONO, 0).training[0]
    for module in network.modules():
        if isinstance(module, AddedOffsets):
            # Every offset is half the grid along the first of three axes: half the image.
            module.register_forward_hook(lambda _module, _inputs, raw: _only_the_first(raw))
    assert tm_dca.mean_offset(network, pair) == pytest.approx(QUICK.edge / 2, rel=1e-3)
    assert math.isnan(tm_dca.mean_offset(tm_dca.new_network(WINDOWED, QUICK), pair))


def _only_the_first(raw: torch.Tensor) -> torch.Tensor:
    set_to = torch.zeros_like(raw)
    set_to[:, ::3] = 100.0
    return set_to


def results_of(large: dict[str, float], small: dict[str, float], spread: float = 0.0) -> list[Result]:
    return [
        Result(
            Job(QUICK, MONO, name, seed),
            reach,
            Figures(value + (spread if name == OURS and seed else 0.0), 0.0, 0.2, 0.2),
            0.1,
            0.5,
        )
        for reach, values in ((LARGE, large), (SMALL, small))
        for name, value in values.items()
        for seed in range(2)
    ]


@pytest.mark.parametrize(
    ("large", "small", "spread", "words"),
    [
        ((0.80, 0.75, 0.75), 0.90, 0.0, ("the claim holds",)),
        ((0.75, 0.75, 0.75), 0.90, 0.0, ("the claim does not hold", "are not above straight ones")),
        ((0.74, 0.75, 0.75), 0.90, 0.1, ("the claim does not hold", "are not above straight ones")),
        ((0.80, 0.75, 0.77), 0.90, 0.0, ("the claim does not hold", "is below self-attention")),
        ((0.80, 0.75, 0.75), 0.93, 0.0, ("the claim does not hold", "not near parity")),
        ((0.61, 0.60, 0.60), 0.90, 0.0, ("nothing is said",)),
    ],
    ids=["above", "no gain", "a gain with one seed only", "self-attention better", "no parity", "nothing learned"],
)
def test_the_verdict_can_go_either_way(
    large: tuple[float, float, float], small: float, spread: float, words: tuple[str, ...]
):
    scores = dict(zip((OURS, WINDOWED, SELF), large, strict=True)) | {NONE: 0.6, PLAIN: 0.7}
    on_small = dict.fromkeys((NONE, WINDOWED, SELF, PLAIN), 0.9) | {OURS: small}
    verdict = tm_dca.verdict_of(MONO, results_of(scores, on_small, spread))
    assert all(word in verdict for word in words)
    assert verdict.startswith("One contrast: ")


def test_a_quick_run_makes_the_whole_table_and_tells_that_it_proves_nothing():
    told: list[float] = []
    report = tm_dca.run(
        quick=True,
        seeds=1,
        threads=1,
        progress=tm_dca.Progress(lambda fraction, _text: told.append(fraction)),
    )
    assert [row[:2] for row in report.rows] == [
        (world, name) for world in (MONO, MULTI) for name in (NONE, *NETWORKS, KNOWN)
    ]
    assert report.verdict.startswith("A quick run, which says nothing")
    none, known = (next(float(row[3]) for row in report.rows if row[1] == name) for name in (NONE, KNOWN))
    assert known > none
    assert told == sorted(told)
