"""Optimisation on one pair: of a network's weights, coarse levels first (NIO), or of the field itself (IO).

Source: T. Mok et al., "Deformable Medical Image Registration Under Distribution Shifts with Neural Instance
Optimization" (MLMI 2023), Eq. 1 to 3. Given there: three levels, all levels up to the current one trained, Adam at
1e-4, LNCC of 7 voxels at full size, diffusion of weight 0.4, [100, 60, 30] iterations. Ours: a new optimiser for each
level, the best field of all iterations is kept, the unit of the regulariser is the voxel of the full-size grid, and the
larger learning rate for weights that were never trained.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch reader expects
from torch import Tensor

from medseg.errors import Cancelled
from medseg.losses import (
    bending_energy,
    curvature_energy,
    diffusion_energy,
    folding_energy,
    local_ncc,
    mind_ssc_loss,
    normalised_mutual_information,
)
from medseg.losses.implicit_smoothness import ImplicitRegulariser
from medseg.networks.spatial import resize_field, warp
from medseg.progress import NO_PROGRESS, Progress
from medseg.registration.contrast import have_one_contrast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medseg.networks import ConditionalLapIRN
    from medseg.registration.transform import SpatialTransform
    from medseg.registration.working_grid import WorkingPair
    from medseg.volumes import Volume

Similarity = Literal["lncc", "nmi", "mind"]
Regulariser = Literal[
    "diffusion", "bending", "curvature", "implicit_diffusion", "implicit_curvature", "implicit_elastic"
]

PAPER_ITERATIONS = (100, 60, 30)
TRAINED_RATE, FRESH_RATE = 1e-4, 1e-3
WEIGHTS: dict[str, float] = {"lncc": 1.0, "nmi": 1 / 6, "mind": 1.0}
"""Of the similarities, so that one smoothness is about as stiff for each (ours). Mutual information of full weight fits
the noise: with a sixth of it two pairs of MR contrasts come to 2.4 and 1.2 mm instead of 3.2 and 1.9."""


@dataclass(frozen=True)
class Objective:
    """``(1 - smoothness) * dissimilarity + smoothness * roughness`` (Eq. 3), the first times :data:`WEIGHTS`.

    Attributes
    ----------
    similarity
        "lncc" for volumes of one contrast, "mind" or "nmi" for any pair; "auto" until :meth:`settled`.
    regulariser
        Of the displacement in voxels; "implicit_…" pulls it towards its own smooth version (Ehrhardt and Handels), with
        ``gamma`` as the strength of that smoothing.
    smoothness
        0 to 1.
    window
        Voxels of the LNCC's window.
    mu, lam
        Lamé's constants of "implicit_elastic".
    folds
        Weight of :func:`~medseg.losses.folding_energy`, which is 0 where nothing folds (our addition); 0 is the paper.
    """

    similarity: Similarity | Literal["auto"] = "lncc"
    regulariser: Regulariser = "diffusion"
    smoothness: float = 0.4
    window: int = 7
    gamma: float = 2.0
    mu: float = 1.0
    lam: float = 0.0
    folds: float = 5.0

    def settled(self, fixed: Volume, moving: Volume, alignment: SpatialTransform) -> Objective:
        """Return it with a similarity that suits volumes which a linear transform has aligned, where that was open."""
        if self.similarity != "auto":
            return self
        one = have_one_contrast(fixed, moving, alignment)
        return dataclasses.replace(self, similarity="lncc" if one else "nmi")

    def on(self, pair: WorkingPair) -> Callable[[Tensor], Tensor]:
        """Return the loss of a displacement (1, 3, I, J, K), voxels of the pair's grid.

        Raises
        ------
        ValueError
            When the similarity is still open.
        """
        if self.similarity == "auto":
            raise ValueError("the similarity is settled before a loss is taken")
        apart_by = dissimilarity(self.similarity, self.window)
        rough = roughness(self.regulariser, pair.fixed.shape[2:], gamma=self.gamma, mu=self.mu, lam=self.lam)
        weight = (1 - self.smoothness) * WEIGHTS[self.similarity]

        def loss(displacement: Tensor) -> Tensor:
            apart = apart_by(pair.fixed, warp(pair.moving, displacement), mask=pair.mask)
            value = weight * apart + self.smoothness * rough(displacement)
            return value + self.folds * folding_energy(displacement) if self.folds else value

        return loss


def dissimilarity(kind: Similarity, window: int = 7) -> Callable[..., Tensor]:
    """Return a function of two images (B, 1, I, J, K), and a mask, that is the lower the better they fit."""
    measures: dict[str, Callable[..., Tensor]] = {
        "lncc": functools.partial(local_ncc, window=window),
        "nmi": normalised_mutual_information,
        "mind": mind_ssc_loss,
    }
    return measures[kind]


def roughness(
    kind: Regulariser, size: Sequence[int], *, gamma: float = 2.0, mu: float = 1.0, lam: float = 0.0
) -> Callable[[Tensor], Tensor]:
    """Return a function of a field (B, 3, \\*size) in voxels that is the lower the smoother it is.

    The parameters ``gamma``, ``mu`` and ``lam`` are those of
    :class:`~medseg.losses.implicit_smoothness.ImplicitRegulariser`, for the kinds that begin with "implicit".
    """
    explicit = {"diffusion": diffusion_energy, "bending": bending_energy, "curvature": curvature_energy}
    if kind in explicit:
        return explicit[kind]
    implicit = kind.removeprefix("implicit_")
    return ImplicitRegulariser(implicit, tuple(size), gamma, mu=mu, lam=lam)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Refined:
    """What came out.

    Attributes
    ----------
    displacement
        (1, 3, I, J, K), voxels: the best that was met, also when it was stopped.
    losses
        Of every iteration; the first is that of the start. A NaN stands where the grid changes, since what is before
        it and what is after it are not comparable.
    stopped
        Whether the user stopped it.
    """

    displacement: Tensor
    losses: tuple[float, ...]
    stopped: bool = False


def refine_network(
    network: ConditionalLapIRN,
    pair: WorkingPair,
    objective: Objective,
    *,
    iterations: Sequence[int] = PAPER_ITERATIONS,
    learning_rate: float = TRAINED_RATE,
    progress: Progress = NO_PROGRESS,
) -> Refined:
    """Optimise the network's weights on the pair (NIO); afterwards they are bit for bit what they were.

    ``iterations`` are those of each level, the coarsest first; with none at all, plain inference comes out. A stop by
    ``progress`` ends it with the best so far.
    """
    before = copy.deepcopy(network.state_dict())
    loss = objective.on(pair)
    keeper = _Keeper()
    total = max(sum(iterations), 1)
    try:
        with torch.no_grad():
            plain = network(pair.fixed, pair.moving, objective.smoothness)
            keeper.offer(loss(plain), plain)
        for level, count in enumerate(iterations, start=1):
            optimiser = torch.optim.Adam(network.parameters_to_level(level), lr=learning_rate)
            for _ in range(count):
                found = network.to_level(level, pair.fixed, pair.moving, objective.smoothness).full
                value = loss(found)
                keeper.offer(value, found)
                optimiser.zero_grad(set_to_none=True)
                value.backward()
                optimiser.step()
                progress.update((len(keeper.losses) - 1) / total, f"Refining, level {level}, loss {value.item():.4f}")
        if sum(iterations):
            with torch.no_grad():
                last = network.to_level(_last_level(iterations), pair.fixed, pair.moving, objective.smoothness).full
                keeper.offer(loss(last), last)
    except Cancelled:
        keeper.stopped = True
    finally:
        network.load_state_dict(before)
    return keeper.refined()


def refine_field(
    start: Tensor,
    pair: WorkingPair,
    objective: Objective,
    *,
    iterations: Sequence[int] = (60, 60, 20),
    learning_rate: float = 0.2,
    coarser: int = 2,
    progress: Progress = NO_PROGRESS,
) -> Refined:
    """Optimise the displacement itself (IO), on grids that become finer: 1/4, 1/2, 1 for three counts.

    The paper's IO runs at full size only; ``(0, 0, 200)`` with ``coarser`` 1 is that. Here the images of a coarse grid
    are coarser too, which sees farther and takes a fraction of the time. It is the change that is searched, so that the
    detail of the start is kept. A change on voxels twice as large as those of the images brought one pair of brains to
    1.2 mm in 20 s and folded nowhere; on those of the images, it came to 1.8 mm in 14 s.

    The losses of different grids are not comparable: each grid goes on from the best of the one before, and the best of
    the last is what comes out, unless it is worse than the start.

    Parameters
    ----------
    start
        (1, 3, I, J, K), voxels of the pair's grid.
    learning_rate
        Voxels of the grid of the change (not given in the paper).
    coarser
        How many voxels of the images an edge of a voxel of the change is long.
    """
    loss = objective.on(pair)
    size, total = tuple(start.shape[2:]), max(sum(iterations), 1)
    current, stopped, course = start.detach(), False, _Course()
    with torch.no_grad():
        course.add(loss(current), size)
    for place, count in enumerate(iterations):
        if not count or stopped:
            continue
        seen = tuple(min(max(n >> (len(iterations) - 1 - place), 8), n) for n in size)
        apart = loss if seen == size else objective.on(_coarser(pair, seen))
        base, keeper = resize_field(current, seen), _Keeper()
        change = base.new_zeros((1, 3, *(max(n // coarser, min(n, 2)) for n in seen))).requires_grad_()
        optimiser = torch.optim.Adam([change], lr=learning_rate)
        try:
            for _ in range(count):
                value = apart(base + resize_field(change, seen))
                keeper.offer(value, change)
                course.add(value, seen)
                optimiser.zero_grad(set_to_none=True)
                value.backward()
                optimiser.step()
                progress.update((course.count - 1) / total, f"Refining, loss {value.item():.4f}")
            with torch.no_grad():
                keeper.offer(apart(base + resize_field(change, seen)), change)
        except Cancelled:
            stopped = True
        if keeper.losses:
            current = current + resize_field(keeper.refined().displacement, size)
    if sum(iterations):
        try:
            with torch.no_grad():
                course.add(loss(current), size)
        except Cancelled:
            # Who asked to stop gets what the last grid thought best.
            return _checked(Refined(current, course.losses, stopped=True))
    first, last = course.losses[0], course.losses[-1]
    is_better = last < first or not math.isfinite(first)
    return _checked(Refined(current if is_better else start.detach(), course.losses, stopped))


def _checked(refined: Refined) -> Refined:
    if not any(map(math.isfinite, refined.losses)):
        raise FloatingPointError("the loss of the registration was never a number")
    return refined


def _coarser(pair: WorkingPair, size: Sequence[int]) -> WorkingPair:
    """Return the pair on fewer voxels over the same extent, from corner to corner, as fields are resized."""
    images = torch.cat([pair.fixed, pair.moving, pair.mask], 1)
    # What the new voxels cannot hold is averaged away before.
    blocks = [max(before // after, 1) | 1 for before, after in zip(images.shape[2:], size, strict=True)]
    smooth = F.avg_pool3d(images, blocks, 1, [block // 2 for block in blocks], count_include_pad=False)
    fixed, moving, mask = F.interpolate(smooth, size=list(size), mode="trilinear", align_corners=True).split(1, 1)
    return dataclasses.replace(pair, fixed=fixed, moving=moving, mask=(mask >= 0.5).to(mask.dtype))


class _Course:
    """The course of a loss that is taken on one grid after the other, see :class:`Refined`."""

    def __init__(self) -> None:
        self.count = 0
        self._losses: list[float] = []
        self._grid: tuple[int, ...] = ()

    @property
    def losses(self) -> tuple[float, ...]:
        return tuple(self._losses)

    def add(self, loss: Tensor, grid: tuple[int, ...]) -> None:
        if self._losses and grid != self._grid:
            self._losses.append(math.nan)
        self._grid = grid
        self._losses.append(loss.item())
        self.count += 1


class _Keeper:
    """Keeps the best field and the course of the loss."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.stopped = False
        self._best = float("inf")
        self._field: Tensor | None = None

    def offer(self, loss: Tensor, field: Tensor) -> None:
        self.losses.append(loss.item())
        if self.losses[-1] < self._best:
            self._best, self._field = self.losses[-1], field.detach().clone()

    def refined(self) -> Refined:
        if self._field is None:
            raise FloatingPointError("the loss of the registration was never a number")
        return Refined(self._field, tuple(self.losses), self.stopped)


def _last_level(iterations: Sequence[int]) -> int:
    return max(level for level, count in enumerate(iterations, start=1) if count)
