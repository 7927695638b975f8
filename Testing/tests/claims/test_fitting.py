"""The training loop and the figures that the claim tests share."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.claims.fitting import (
    each_on_one_thread,
    fit,
    mean_and_std,
    mean_of,
    parameters_of,
    seconds_of,
    seed_everything,
)
from medseg.errors import Cancelled
from medseg.progress import Progress
from support.jobs import threads_and_double


def a_line(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.linspace(-1, 1, 16)[:, None]
    return x, 2 * x + 1


def squared_error(network: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return (network(batch[0]) - batch[1]).square().mean()


def test_a_line_is_learned_and_every_step_is_told():
    seed_everything(0)
    network, told = nn.Linear(1, 1), []
    fitted = fit(
        network,
        a_line,
        squared_error,
        steps=200,
        lr=0.1,
        weight_decay=0.0,
        progress=Progress(lambda fraction, text: told.append((fraction, text))),
    )
    assert network.weight.item() == pytest.approx(2, abs=0.02)
    assert network.bias.item() == pytest.approx(1, abs=0.02)
    assert len(fitted.losses) == len(told) == 200
    assert told[-1][0] == 1
    assert fitted.losses[-1] < 1e-3 < fitted.losses[0]
    assert fitted.seconds_per_step == pytest.approx(fitted.seconds / 200)
    assert not network.training


def test_the_learning_rate_falls_along_a_cosine():
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    places = []

    def unit_slope(network: nn.Module, _batch: None) -> torch.Tensor:
        places.append(network.weight.item())
        return -network.weight.sum()

    fit(network, lambda _step: None, unit_slope, steps=4, lr=1.0, weight_decay=0.0)
    places.append(network.weight.item())
    # Adam's step for a constant slope is the learning rate itself.
    expected = [0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
    assert np.diff(places).tolist() == pytest.approx(expected, abs=1e-4)


def test_equal_seeds_give_equal_trainings():
    def trained(seed: int) -> list[float]:
        seed_everything(seed)
        network = nn.Linear(1, 1)
        return list(fit(network, a_line, squared_error, steps=3).losses)

    assert trained(1) == trained(1) != trained(2)


def test_seeding_reaches_all_three_generators():
    seed_everything(3)
    first = random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002 - the one that is seeded
    seed_everything(3)
    assert (random.random(), np.random.random(), torch.rand(1).item()) == first  # noqa: NPY002


def test_clipping_limits_what_a_wild_gradient_does():
    def gradient_after(norm: float | None) -> float:
        network = nn.Linear(1, 1, bias=False)
        fit(network, lambda _step: None, lambda n, _b: 1000 * n.weight.sum(), steps=1, gradient_norm=norm)
        return network.weight.grad.item()

    assert gradient_after(None) == pytest.approx(1000)
    assert gradient_after(1.0) == pytest.approx(1.0, rel=1e-4)


def test_a_loss_that_is_not_a_number_stops_the_training():
    with pytest.raises(FloatingPointError, match="Linear is nan at step 0"):
        fit(nn.Linear(1, 1), a_line, lambda network, batch: squared_error(network, batch) * math.nan, steps=3)


def test_the_user_can_stop_a_training():
    with pytest.raises(Cancelled):
        fit(nn.Linear(1, 1), a_line, squared_error, steps=3, progress=Progress(cancelled=lambda: True))


def test_only_weights_that_are_trained_are_counted():
    network = nn.Linear(3, 2)
    assert parameters_of(network) == 8
    network.bias.requires_grad_(False)
    assert parameters_of(network) == 6


def test_timing_leaves_the_first_call_out():
    calls = []
    assert seconds_of(lambda: calls.append(1), repeat=2) >= 0
    assert len(calls) == 3


def test_figures_leave_out_what_is_no_number():
    assert mean_of([1.0, math.nan, 3.0]) == 2.0
    assert math.isnan(mean_of([]))
    assert mean_and_std([0.8, 0.9, math.nan]) == "0.850 ± 0.071"
    assert mean_and_std([0.125], digits=2) == "0.12"
    assert mean_and_std([math.nan]) == "–"


@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_run_on_one_thread_each_and_keep_their_order(workers: int):
    before, told = torch.get_num_threads(), []
    try:
        outcomes = each_on_one_thread(
            threads_and_double,
            [3, 1, 2],
            workers=workers,
            progress=Progress(lambda fraction, _text: told.append(fraction)),
        )
    finally:
        torch.set_num_threads(before)
    assert outcomes == [(1, 6), (1, 2), (1, 4)]
    assert told == pytest.approx([1 / 6, 3 / 6, 5 / 6] if workers == 1 else [1 / 3, 2 / 3, 1])
