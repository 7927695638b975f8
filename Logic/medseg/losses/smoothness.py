"""How rough a displacement field is, as losses that are differentiated themselves (the explicit scheme).

Fields are (B, 3, I, J, K), channels in the order of the axes; any number of channels will do. The step of the grid is
given in the unit of the field: 1 for a field in voxels; the spacing in mm for one whose channels are in mm. All is
computed in float32, float64 fields in float64.

Sources: diffusion as J. Chen et al. and T. Mok et al. (both MLMI 2023) weigh it; bending energy after D. Rueckert et
al. (IEEE TMI 1999, eq. 9); curvature after B. Fischer and J. Modersitzki, "Curvature based image registration" (2003),
as in J. Ehrhardt and H. Handels, "Implicitly solved regularization for learning-based image registration" (MLMI 2023),
whose implicit scheme is in :mod:`medseg.losses.implicit_smoothness`.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

UNIT = (1.0, 1.0, 1.0)
"""The grid of a field in voxels."""


def diffusion_energy(u: Tensor, spacing: Sequence[float] = UNIT) -> Tensor:
    """Return the mean over the three axes of the mean squared forward difference, over cases, channels and voxels.

    ``(mean(d_I u^2) + mean(d_J u^2) + mean(d_K u^2)) / 3``. Forward differences see a field that alternates from voxel
    to voxel, to which central ones (as in MONAI's ``DiffusionLoss``) are blind. A weight ``alpha`` on this acts on
    smooth fields as :class:`~medseg.losses.implicit_smoothness.ImplicitRegulariser` with
    ``alpha = 1.5 sigma gamma`` does. An axis of one voxel counts as 0.

    Parameters
    ----------
    u
        (B, 3, I, J, K).
    spacing
        Grid step along I, J, K in the unit of ``u``.

    Returns
    -------
    Tensor
        Scalar.

    Raises
    ------
    ValueError
        When ``u`` has not five axes or ``spacing`` is not three positive numbers.
    """
    u, spacing = _checked(u, spacing)
    total = u.new_zeros(())
    for axis, step in enumerate(spacing, 2):
        if u.shape[axis] > 1:
            total = total + torch.diff(u, dim=axis).square().mean() / step**2
    return total / 3


def bending_energy(u: Tensor, spacing: Sequence[float] = UNIT) -> Tensor:
    """Return the mean of all squared second derivatives: ``sum_a u_aa^2 + 2 sum_{a < b} u_ab^2``.

    The mean over cases, channels and the voxels that have both neighbours on every axis; [1, -2, 1] for the pure and
    the central four-point stencil for the mixed derivatives. An affine field costs nothing. Ours and not MONAI's
    ``BendingEnergyLoss``, whose stencils depend on the version and which knows no spacing.

    Parameters
    ----------
    u, spacing
        As for :func:`diffusion_energy`.

    Returns
    -------
    Tensor
        Scalar.

    Raises
    ------
    ValueError
        As :func:`diffusion_energy` does, and when an axis has fewer than 3 voxels.
    """
    u, spacing = _checked(u, spacing)
    if min(u.shape[2:]) < 3:
        raise ValueError(f"second derivatives take 3 voxels on every axis, not {tuple(u.shape[2:])}")
    total = u.new_zeros(())
    for axis, step in enumerate(spacing):
        pure = _inner(torch.diff(u, n=2, dim=2 + axis), keep=(axis,)) / step**2
        total = total + pure.square().mean()
    for first, second in itertools.combinations(range(3), 2):
        half = _central(u, 2 + first) / spacing[first]
        mixed = _inner(_central(half, 2 + second) / spacing[second], keep=(first, second))
        total = total + 2 * mixed.square().mean()
    return total


def curvature_energy(u: Tensor, spacing: Sequence[float] = UNIT) -> Tensor:
    """Return the mean squared Laplacian of the channels, over cases, channels and all voxels.

    Stencil [1, -2, 1] along each axis with mirrored ends, the operator of the implicit curvature regulariser: a weight
    ``alpha`` on this acts on smooth fields as that with ``alpha = sigma gamma / 2``. Mirrored, a slope is a kink at the
    border, so only a constant field costs nothing.

    Parameters
    ----------
    u, spacing
        As for :func:`diffusion_energy`.

    Returns
    -------
    Tensor
        Scalar.

    Raises
    ------
    ValueError
        As :func:`diffusion_energy` does.
    """
    u, spacing = _checked(u, spacing)
    laplacian = torch.zeros_like(u)
    for axis, step in enumerate(spacing, 2):
        flat = torch.zeros_like(u.narrow(axis, 0, 1))
        laplacian = laplacian + torch.diff(torch.diff(u, dim=axis), dim=axis, prepend=flat, append=flat) / step**2
    return laplacian.square().mean()


def folding_energy(u: Tensor, spacing: Sequence[float] = UNIT, least: float = 0.1) -> Tensor:
    """Return how far Jacobian determinants lie below ``least``: 0 for a field that folds nowhere and squeezes little.

    The mean of ``max(least - J, 0)`` over cases and voxels that have all neighbours, and over the two determinants J of
    a voxel that take the forward or the backward differences on all axes; central ones are blind to neighbours that
    change places. As "negative Jacobian loss" the penalty is common (T. Mok and A. Chung, "Fast symmetric diffeomorphic
    image registration", CVPR 2020, eq. 7); the two determinants and ``least`` are our choice.

    Parameters
    ----------
    u, spacing
        As for :func:`diffusion_energy`; three channels.
    least
        Of the volume of a voxel, what must be left of it.

    Returns
    -------
    Tensor
        Scalar.

    Raises
    ------
    ValueError
        As :func:`diffusion_energy` does, and when there are not three channels or an axis has fewer than 3 voxels.
    """
    u, spacing = _checked(u, spacing)
    if u.shape[1] != 3 or min(u.shape[2:]) < 3:
        raise ValueError(f"folds take three channels and 3 voxels on every axis, not {tuple(u.shape)}")
    # Few voxels fold: the others are looked at without a gradient, which takes a fifth of the time.
    total, values = u.flatten()[:0].sum(), u.movedim(1, -1)
    for side in (1, -1):
        with torch.no_grad():
            volumes = _determinant([_edges(u, axis, side, step) for axis, step in enumerate(spacing)])
            case, i, j, k = (volumes < least).nonzero(as_tuple=True)
        here = (i + 1, j + 1, k + 1)
        columns = []
        for axis, step in enumerate(spacing):
            i, j, k = (place + side * (number == axis) for number, place in enumerate(here))
            edge = side * (values[case, i, j, k] - values[case, here[0], here[1], here[2]]) / step
            columns.append([part + (channel == axis) for channel, part in enumerate(edge.unbind(1))])
        total = total + (least - _determinant(columns)).sum() / volumes.numel()
    return total / 2


def _checked(u: Tensor, spacing: Sequence[float]) -> tuple[Tensor, tuple[float, ...]]:
    if u.ndim != 5:
        raise ValueError(f"a displacement field is (B, 3, I, J, K), not {tuple(u.shape)}")
    steps = tuple(float(step) for step in spacing)
    if len(steps) != 3 or not all(step > 0 for step in steps):
        raise ValueError(f"the spacing is three positive numbers, not {steps}")
    return (u if u.dtype == torch.float64 else u.float()), steps


def _central(u: Tensor, axis: int) -> Tensor:
    """Central difference where there is one: two voxels less on ``axis``."""
    count = u.shape[axis] - 2
    return (u.narrow(axis, 2, count) - u.narrow(axis, 0, count)) / 2


def _inner(u: Tensor, keep: Sequence[int]) -> Tensor:
    """Cut the border voxels off the axes (0, 1, 2) that are not in ``keep``."""
    for axis in range(3):
        if axis not in keep:
            u = u.narrow(2 + axis, 1, u.shape[2 + axis] - 2)
    return u


def _edges(u: Tensor, axis: int, side: int, step: float) -> list[Tensor]:
    """Return the three components of the edge ahead (1) or behind (-1) of each voxel that has all neighbours."""
    differences = torch.diff(u, dim=2 + axis).narrow(2 + axis, int(side > 0), u.shape[2 + axis] - 2)
    parts = _inner(differences, keep=(axis,)).unbind(1)
    return [part / step + (channel == axis) for channel, part in enumerate(parts)]


def _determinant(columns: Sequence[Sequence[Tensor]]) -> Tensor:
    (a, b, c), (d, e, f), (g, h, i) = columns
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
