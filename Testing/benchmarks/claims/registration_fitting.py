"""What the claims on registration share: training a network on pairs, and what a field is worth on one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from benchmarks.claims.fitting import Fitted, fit, is_fast_in_bfloat16, mean_of
from benchmarks.claims.registration_data import REGIONS, Pair
from medseg.metrics import dice_per_label
from medseg.metrics.deformation import folded_share, jacobian_determinant, std_log_jacobian
from medseg.networks import RegistrationNetwork
from medseg.networks.registration_network import Fields
from medseg.networks.spatial import warp
from medseg.progress import NO_PROGRESS, Progress

NONE, KNOWN = "no registration", "the known displacement"
"""What needs no network: the least and the most that a network can reach."""

Predict = Callable[[RegistrationNetwork, Tensor, Tensor], Fields]
"""Takes a network and the fixed and the moving image."""


@dataclass(frozen=True)
class Figures:
    """What a displacement is worth on a pair.

    Attributes
    ----------
    dice
        Mean over the regions; the moving labels are moved with nearest neighbours.
    folded
        Share of voxels whose Jacobian determinant J is not positive, 0 to 1.
    std_log_jacobian, std_jacobian
        Standard deviation of log J and of J.
    """

    dice: float
    folded: float
    std_log_jacobian: float
    std_jacobian: float


class _Seeded(Protocol):
    @property
    def seed(self) -> int: ...


class _OfJob(Protocol):
    @property
    def job(self) -> _Seeded: ...


ResultT = TypeVar("ResultT", bound=_OfJob)


def per_seed(
    results: Sequence[ResultT],
    value: Callable[[ResultT], float],
    summary: Callable[[Sequence[float]], float] = mean_of,
) -> list[float]:
    """Return for each seed of the jobs, the lowest first, the summary of a value over its results."""
    seeds = sorted({result.job.seed for result in results})
    return [summary([value(result) for result in results if result.job.seed == seed]) for seed in seeds]


def fit_on_pairs(
    network: RegistrationNetwork,
    pairs: Sequence[Pair],
    similarity: Callable[[Tensor, Tensor], Tensor],
    roughness: Callable[[Tensor], Tensor],
    *,
    steps: int,
    lr: float,
    seed: int,
    predict: Predict | None = None,
    progress: Progress = NO_PROGRESS,
) -> Fitted:
    """Train ``network`` without labels, a random pair a step, mirrored along random axes.

    Networks that are trained with the same seed on the same pairs see the same in the same order.

    Parameters
    ----------
    similarity
        Loss of the fixed and the moved image.
    roughness
        Loss of the velocity where the network predicts one, else of the displacement.
    predict
        What to train of the network; all of it when omitted.
    """
    rng = np.random.default_rng((seed, 3))
    predict = predict or RegistrationNetwork.fields
    half = is_fast_in_bfloat16()

    def draw(_step: int) -> tuple[Tensor, Tensor]:
        pair = pairs[int(rng.integers(len(pairs)))]
        mirrored = [axis for axis in (2, 3, 4) if rng.random() < 0.5]
        return pair.fixed.flip(mirrored), pair.moving.flip(mirrored)

    def loss(network: RegistrationNetwork, batch: tuple[Tensor, Tensor]) -> Tensor:
        fixed, moving = batch
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            fields = predict(network, fixed, moving)
        smooth = fields.displacement if fields.velocity is None else fields.velocity
        return similarity(fixed, warp(moving, fields.displacement)) + roughness(smooth)

    return fit(network, draw, loss, steps=steps, lr=lr, weight_decay=0.0, gradient_norm=1.0, progress=progress)


def untrained(what: str, pair: Pair) -> Tensor:
    """Return the displacement of :data:`KNOWN` or of :data:`NONE`."""
    return pair.displacement * (what == KNOWN)


def predicted(network: RegistrationNetwork, pair: Pair) -> Tensor:
    """Return the displacement (1, 3, I, J, K) of a trained network, in the precision of its training."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=is_fast_in_bfloat16()):
        return network(pair.fixed, pair.moving)


def figures_of(displacement: Tensor, pair: Pair) -> Figures:
    """Return the figures of a displacement (1, 3, I, J, K), voxels."""
    moved = warp(pair.moving_labels.float(), displacement, "nearest").to(torch.uint8)
    scores = dice_per_label(moved.numpy(), pair.fixed_labels.numpy(), range(1, REGIONS + 1))
    inside = jacobian_determinant(displacement)[..., 1:-1, 1:-1, 1:-1]
    return Figures(
        dice=mean_of(scores.values()),
        folded=folded_share(displacement),
        std_log_jacobian=std_log_jacobian(displacement).std,
        std_jacobian=float(inside.std(correction=0)),
    )
