"""How far the gradient of a smoothness term reaches beyond a deformation, and what the term costs a step.

The toy of Fig. 2 of Ehrhardt and Handels (MLMI 2023): a square that has moved. At which field they draw the gradients
is not given, and at zero all of them vanish; here it is a few steps of gradient descent on the images alone, which move
nothing but the borders of the square.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from benchmarks.claims.fitting import seconds_of
from medseg.losses import ImplicitRegulariser, curvature_energy, diffusion_energy
from medseg.networks.spatial import warp

_SIZE, _STEPS, _FLOOR = 64, 5, 1e-6


@dataclass(frozen=True)
class Reach:
    """How far beyond the deformed voxels a gradient reaches.

    Attributes
    ----------
    farthest
        Steps from neighbour to neighbour to the farthest voxel where it is above a millionth of its largest value.
    share
        Of the voxels of the image, where it is above that, 0 to 1.
    """

    farthest: int
    share: float


def reaches() -> dict[str, Reach]:
    """Return the reach of each smoothness term on the moved square, by a name for the table."""
    field = moved_square()
    shape = tuple(field.shape[2:])
    terms: dict[str, Callable[[Tensor], Tensor]] = {
        "explicit diffusion": diffusion_energy,
        "explicit curvature": curvature_energy,
        "implicit diffusion, γ = 2": ImplicitRegulariser("diffusion", shape, 2.0),
        "implicit diffusion, γ = 50": ImplicitRegulariser("diffusion", shape, 50.0),
        "implicit elastic, γ = 2": ImplicitRegulariser("elastic", shape, 2.0),
    }
    return {name: reach_of(term, field) for name, term in terms.items()}


def moved_square() -> Tensor:
    """Return a field (1, 3, 64, 64, 1), float64, voxels, that is not 0 at the borders of the squares only."""
    fixed, moving = (torch.zeros(1, 1, _SIZE, _SIZE, 1, dtype=torch.float64) for _ in range(2))
    fixed[..., 24:40, 24:40, :] = 1
    moving[..., 28:44, 24:40, :] = 1
    field = torch.zeros(1, 3, _SIZE, _SIZE, 1, dtype=torch.float64)
    for _ in range(_STEPS):
        leaf = field.clone().requires_grad_()
        difference = (fixed - warp(moving, leaf)).square().mean()
        (slope,) = torch.autograd.grad(difference, leaf)
        field = field - slope * (0.25 / slope.abs().max())
    return field


def reach_of(term: Callable[[Tensor], Tensor], field: Tensor) -> Reach:
    """Return how far the gradient of ``term`` at ``field`` (1, 3, I, J, 1) reaches beyond where the field is not 0."""
    leaf = field.clone().requires_grad_()
    (slope,) = torch.autograd.grad(term(leaf), leaf)
    felt = slope.abs().amax(1)[0, ..., 0].numpy()
    deformed = (field != 0).any(1)[0, ..., 0].numpy()
    steps = ndimage.distance_transform_cdt(~deformed, metric="taxicab")
    above = felt > _FLOOR * felt.max()
    return Reach(int(steps[above].max()), float(np.count_nonzero(above) / above.size))


def seconds_per_step(
    step: Callable[[Callable[[Tensor], Tensor]], None], terms: dict[str, Callable[[Tensor], Tensor]]
) -> dict[str, float]:
    """Return the least seconds of ``step``, a whole step of a training, with each of the terms."""
    return {name: seconds_of(functools.partial(step, term), repeat=5) for name, term in terms.items()}
