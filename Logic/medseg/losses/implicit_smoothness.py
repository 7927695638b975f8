"""Smoothness of a displacement field without differentiating its energy: pull it towards its own smoothed version.

Source: J. Ehrhardt and H. Handels, "Implicitly solved regularization for learning-based image registration" (MLMI 2023
Part I, pp. 137-146). Each step solves ``u_bar = argmin_v 1/2 ||u - v||^2 + gamma R(v)`` (eq. 4), that is ``u_bar = (I -
gamma A)^-1 u`` (eq. 5), and adds ``sigma / 2 ||u - u_bar||^2`` to the loss (eq. 3), ``u_bar`` held fixed. That is the
exact gradient of the whole objective (eq. 2) at the best ``u_bar``, so nothing is lost by not differentiating the
solver.

Not given in the paper, our choices: the norm is a mean over all entries; the ends are mirrored (cosine transform) for
diffusion and curvature, and the elastic solver, periodic by nature, works on a field continued by reflection; the grid
may have a spacing. Its operator splitting for diffusion is far from the solution that it stands for (on white noise
with gamma = 2 the difference is larger than the solution), so the exact solver is the default. The curvature operator
is printed with the wrong sign: ``I - gamma Laplace^2`` is indefinite, the gradient of eq. 4 gives ``I + gamma
Laplace^2``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["diffusion", "curvature", "elastic"]
"""The energy R of the field.

diffusion
    ``1/2 sum_i |grad u_i|^2``, A the Laplacian of each channel.
curvature
    ``1/2 sum_i (Laplace u_i)^2``, A minus the squared Laplacian.
elastic
    ``mu/4 sum_ij (d_i u_j + d_j u_i)^2 + lam/2 (div u)^2``, A u = mu Laplace u + (mu + lam) grad div u.
"""

Solver = Literal["dct", "aos"]
"""How ``u_bar`` is found.

dct
    Exactly, in frequencies: cosine transform, or Fourier transform for the elastic kind.
aos
    Additive operator splitting, as the paper has it for diffusion: the mean over the axes of solutions along one axis.
"""


class ImplicitRegulariser(nn.Module):
    """The term ``1/2 mean((u - u_bar)^2)`` and the smoother that it comes from.

    Its weight ``sigma`` is the caller's. On smooth fields the term acts as ``alpha`` times
    :func:`~medseg.losses.smoothness.diffusion_energy` with ``alpha = 1.5 sigma gamma``, as ``alpha`` times
    :func:`~medseg.losses.smoothness.curvature_energy` with ``alpha = sigma gamma / 2``; on rough ones it saturates.
    The paper's values for brain MR: ``sigma`` 1, ``gamma`` 2 for diffusion and elastic, 5 for curvature.

    It has no parameters and adds nothing to a state dict. The tables of the solver are made for the device and
    precision of the first field and kept; nothing is computed in less than float32, also under autocast or in a network
    of half precision. They take one number a voxel, the elastic ones 3 a voxel of the padded grid.

    Parameters
    ----------
    kind
        See :data:`Kind`.
    shape
        (I, J, K) of the fields.
    gamma
        Smoothness of ``u_bar``, positive; for diffusion its kernel decays with ``sqrt(gamma)`` grid units.
    mu, lam
        Lamé's constants of the elastic kind, ``mu > 0`` and ``mu + lam >= 0``.
    spacing
        Grid step along I, J, K in the unit of the field: ones for a field in voxels, mm for a field in mm.
    solver
        See :data:`Solver`; ``aos`` is for diffusion only.
    padding
        Voxels by which the elastic solver continues the field at each end, as far as an axis has them; 0 makes it
        periodic.

    Raises
    ------
    ValueError
        When an argument is none of the above.
    """

    def __init__(
        self,
        kind: Kind,
        shape: Sequence[int],
        gamma: float,
        *,
        mu: float = 1.0,
        lam: float = 0.0,
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        solver: Solver = "dct",
        padding: int = 16,
    ) -> None:
        super().__init__()
        if kind not in {"diffusion", "curvature", "elastic"}:
            raise ValueError(f"the kind is diffusion, curvature or elastic, not {kind!r}")
        if solver not in {"dct", "aos"}:
            raise ValueError(f"the solver is dct or aos, not {solver!r}")
        if solver == "aos" and kind != "diffusion":
            raise ValueError(f"operator splitting solves diffusion, not {kind}")
        self.kind, self.solver = kind, solver
        self.shape = tuple(int(count) for count in shape)
        self.spacing = tuple(float(step) for step in spacing)
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"the shape is three numbers of voxels, not {self.shape}")
        if len(self.spacing) != 3 or not all(step > 0 for step in self.spacing):
            raise ValueError(f"the spacing is three positive numbers, not {self.spacing}")
        if not gamma > 0 or padding < 0:
            raise ValueError(f"gamma is positive and the padding not negative, not {gamma} and {padding}")
        if not (mu > 0 and mu + lam >= 0):
            raise ValueError(f"mu is positive and mu + lam not negative, not {mu} and {lam}")
        self.gamma, self.mu, self.lam = float(gamma), float(mu), float(lam)
        # Reflection needs one voxel more than it adds.
        self.padding = tuple(min(padding, count - 1) for count in self.shape)
        # Not buffers: those would be cast with the network, and a float32 table cast to float64 is no float64 table.
        self._tables: tuple[Tensor, ...] = ()
        self._tables_are_for: tuple[torch.device, torch.dtype] | None = None

    def extra_repr(self) -> str:
        """Say what tells one from another, for ``print(network)``."""
        return f"{self.kind}, shape={self.shape}, gamma={self.gamma}, solver={self.solver}"

    def forward(self, u: Tensor) -> Tensor:
        """Return the scalar ``1/2 mean((u - u_bar)^2)``, whose gradient is ``(u - u_bar)`` over the number of entries.

        Parameters
        ----------
        u
            (B, 3, I, J, K).

        Raises
        ------
        ValueError
            When the shape is not that of the fields.
        """
        with torch.no_grad():
            smooth = self.smooth(u)
        return 0.5 * (u.to(smooth.dtype) - smooth).square().mean()

    def smooth(self, u: Tensor) -> Tensor:
        """Return ``u_bar``, the smoothed field, of the shape of ``u``; float64 where ``u`` is, else float32.

        Linear and symmetric but for the border of the elastic kind; constants are preserved. It may be differentiated.

        Parameters
        ----------
        u
            (B, 3, I, J, K).

        Raises
        ------
        ValueError
            When the shape is not that of the fields.
        """
        if u.ndim != 5 or u.shape[1] != 3 or tuple(u.shape[2:]) != self.shape:
            raise ValueError(f"the field is (B, 3, {', '.join(map(str, self.shape))}), not {tuple(u.shape)}")
        # Under autocast the matrix products would be half precision, and the residual a thousand times larger.
        with torch.autocast(device_type=u.device.type, enabled=False):
            u = u if u.dtype == torch.float64 else u.float()
            tables = self._tables_for(u)
            if self.solver == "aos":
                parts = [_along(u, matrix, axis) for axis, matrix in enumerate(tables, 2)]
                return (parts[0] + parts[1] + parts[2]) / 3
            if self.kind == "elastic":
                return self._elastic(u, tables)
            *cosines, gain = tables
            for axis, matrix in enumerate(cosines, 2):
                u = _along(u, matrix, axis)
            u = u * gain
            for axis, matrix in enumerate(cosines, 2):
                u = _along(u, matrix.T, axis)
            return u

    def _elastic(self, u: Tensor, inverse: tuple[Tensor, ...]) -> Tensor:
        pads = [pad for count in reversed(self.padding) for pad in (count, count)]
        padded = F.pad(u, pads, mode="reflect")
        x, y, z = torch.fft.rfftn(padded, dim=(2, 3, 4)).unbind(1)
        xx, xy, xz, yy, yz, zz = inverse
        rows = torch.stack([xx * x + xy * y + xz * z, xy * x + yy * y + yz * z, xz * x + yz * y + zz * z], 1)
        smooth = torch.fft.irfftn(rows, s=padded.shape[2:], dim=(2, 3, 4))
        for axis, (pad, count) in enumerate(zip(self.padding, self.shape, strict=True), 2):
            smooth = smooth.narrow(axis, pad, count)
        return smooth

    def _tables_for(self, u: Tensor) -> tuple[Tensor, ...]:
        if self._tables_are_for != (u.device, u.dtype):
            # Made during a validation in inference mode, they could not be differentiated through afterwards.
            with torch.inference_mode(False):
                tables = self._make_tables()
            self._tables = tuple(table.to(dtype=u.dtype).to(u.device) for table in tables)
            self._tables_are_for = (u.device, u.dtype)
        return self._tables

    def _make_tables(self) -> tuple[Tensor, ...]:
        """Make, in float64 on the CPU, what :meth:`smooth` multiplies with."""
        grid = list(zip(self.shape, self.spacing, strict=True))
        if self.kind == "elastic":
            return self._elastic_tables()
        if self.solver == "aos":
            return tuple(
                torch.linalg.inv(torch.eye(count, dtype=torch.float64) + 3 * self.gamma * _mirrored(count) / step**2)
                for count, step in grid
            )
        eigen = [(2 - 2 * torch.cos(math.pi * _numbers(count) / count)) / step**2 for count, step in grid]
        total = eigen[0][:, None, None] + eigen[1][:, None] + eigen[2]
        gain = 1 / (1 + self.gamma * (total if self.kind == "diffusion" else total.square()))
        return (*(_cosines(count) for count in self.shape), gain)

    def _elastic_tables(self) -> tuple[Tensor, ...]:
        """Return the six entries of the inverse of ``I - gamma A`` at every frequency (I, J, K // 2 + 1).

        Second differences on the diagonal, central ones in the mixed terms, as J. Modersitzki, "Numerical methods for
        image registration" (2004): ``M_ii = 1 + gamma (mu L + (mu + lam) l_i)``, ``M_ij = gamma (mu + lam) s_i s_j``.
        """
        counts = [count + 2 * pad for count, pad in zip(self.shape, self.padding, strict=True)]
        angles = [2 * math.pi * _numbers(count) / count for count in counts]
        angles[2] = angles[2][: counts[2] // 2 + 1]
        spread = [angles[0][:, None, None], angles[1][:, None], angles[2]]
        eigen = [(2 - 2 * torch.cos(angle)) / step**2 for angle, step in zip(spread, self.spacing, strict=True)]
        sines = [torch.sin(angle) / step for angle, step in zip(spread, self.spacing, strict=True)]
        shear, bulk = self.gamma * self.mu, self.gamma * (self.mu + self.lam)
        common = 1 + shear * (eigen[0] + eigen[1] + eigen[2])
        a, b, c = (common + bulk * own for own in eigen)
        d, e, f = bulk * sines[0] * sines[1], bulk * sines[0] * sines[2], bulk * sines[1] * sines[2]
        xx, xy, xz = b * c - f * f, e * f - c * d, d * f - b * e
        determinant = a * xx + d * xy + e * xz
        cofactors = (xx, xy, xz, a * c - e * e, d * e - a * f, a * b - d * d)
        return tuple(cofactor / determinant for cofactor in cofactors)


def _along(u: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Multiply every line of ``u`` along ``axis`` with ``matrix``."""
    return (u.movedim(axis, -1) @ matrix.T).movedim(-1, axis)


def _numbers(count: int) -> Tensor:
    return torch.arange(count, dtype=torch.float64)


def _cosines(count: int) -> Tensor:
    """Return the orthonormal matrix (frequency, voxel) of the cosine transform of type II."""
    matrix = torch.cos(math.pi / count * _numbers(count)[:, None] * (_numbers(count) + 0.5)) * math.sqrt(2 / count)
    matrix[0] /= math.sqrt(2)
    return matrix


def _mirrored(count: int) -> Tensor:
    """Return minus the second difference (count, count) with mirrored ends."""
    step = torch.diff(torch.eye(count, dtype=torch.float64), dim=0)
    return step.T @ step
