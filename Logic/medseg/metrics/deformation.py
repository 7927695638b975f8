"""Whether a displacement field is plausible, and how well it brings points together.

Fields are (3, I, J, K) or (1, 3, I, J, K), NumPy or PyTorch, channels in the order of the axes, in voxels, pull-back:
``phi(x) = x + u(x)`` in the fixed image is where the moved image was read. A field in mm is turned into voxels by
``spacing``, the grid step along I, J, K in the unit of the field. (The Jacobian of a field in voxels needs no spacing:
that of the same field in mm is similar to it and has the same determinant.)

Sources: the figures of J. Chen et al., "Deformable cross-attention transformer for medical image registration", and J.
Ehrhardt and H. Handels, "Implicitly solved regularization for learning-based image registration" (both MLMI 2023 Part
I), the evaluator of the Learn2Reg challenge, and Y. Liu et al., "On finite difference Jacobian computation in
deformable image registration" (2022). Voxels at the border of the image, which lack a neighbour, enter no figure.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

Field: TypeAlias = "np.ndarray | Tensor"
FieldT = TypeVar("FieldT", np.ndarray, "Tensor")

UNIT = (1.0, 1.0, 1.0)
SLAB = 16
"""Planes that are worked on at a time, where a figure needs many differences of one voxel at once."""

Offset = tuple[int, int, int]

# Edges from a voxel to its neighbours whose determinant is six times the signed volume of a tetrahedron at that voxel.
# A cell is cut into five of them in two ways; its eight corner ones are one-sided Jacobians, an inner one is a "star".
_CORNERS: tuple[tuple[Offset, Offset, Offset], ...] = tuple(
    ((i, 0, 0), (0, j, 0), (0, 0, k)) for i, j, k in itertools.product((1, -1), repeat=3)
)
_STARS: tuple[tuple[Offset, Offset, Offset], ...] = (
    ((1, 1, 0), (0, 1, 1), (1, 0, 1)),
    ((-1, -1, 0), (-1, 0, -1), (0, -1, -1)),
)


class LogJacobianSpread(NamedTuple):
    """Standard deviation of the logarithm of the Jacobian determinant, and how many voxels had to be clipped for it."""

    std: float
    clipped: int


class InverseConsistency(NamedTuple):
    """How far a point ends from where it began, having gone by one field and come back by the other.

    Attributes
    ----------
    mean_mm, p95_mm
        Mean and 95th percentile; NaN where no point stays in the image.
    inside
        Share of the points that the first field keeps in the image, 0 to 1. The others do not enter.
    """

    mean_mm: float
    p95_mm: float
    inside: float


@dataclass(frozen=True)
class DeformationFigures:
    """What the Jacobian determinant J of a field says about it; NaN everywhere when the mask is empty.

    Attributes
    ----------
    folded_share, folded_share_strict, non_diffeomorphic_volume
        As the functions of these names, 0 to 1.
    mean_negative_jacobian
        Mean of ``|min(J, 0)|`` (Ehrhardt and Handels, by the wording of their table).
    std_log_jacobian, clipped_voxels
        As :func:`std_log_jacobian`.
    sd_log_j
        As :func:`sd_log_j`; NaN also when an axis has fewer than 5 voxels.
    smallest_jacobian, largest_jacobian
        Over the voxels.
    """

    folded_share: float
    folded_share_strict: float
    non_diffeomorphic_volume: float
    mean_negative_jacobian: float
    std_log_jacobian: float
    clipped_voxels: int
    sd_log_j: float
    smallest_jacobian: float
    largest_jacobian: float


def jacobian_determinant(u: FieldT, spacing: Sequence[float] = UNIT) -> FieldT:
    """Return ``det(I + grad u)`` at every voxel, by central differences, one-sided ones at the border of the image.

    Parameters
    ----------
    u
        (3, I, J, K) or (B, 3, I, J, K), NumPy or PyTorch; a tensor may be differentiated.
    spacing
        Grid step along I, J, K in the unit of ``u``: ones for a field in voxels, mm for a field in mm.

    Returns
    -------
    numpy.ndarray or torch.Tensor
        (I, J, K) or (B, I, J, K), of the kind of ``u``, float64 where ``u`` is, else float32.

    Raises
    ------
    ValueError
        When the shape is none of these, an axis has fewer than 2 voxels, or ``spacing`` is not three positive numbers.
    """
    if u.ndim not in {4, 5} or u.shape[-4] != 3 or min(u.shape[-3:]) < 2:
        raise ValueError(f"a displacement field is (3, I, J, K) or (B, 3, I, J, K), not {tuple(u.shape)}")
    steps = _steps(spacing)
    if isinstance(u, np.ndarray):
        u = u.astype(np.result_type(u.dtype, np.float32), copy=False)
    elif "float64" not in str(u.dtype):
        u = u.float()
    columns = []
    for axis in range(3):
        column = _difference(u, axis)
        columns.append([column[..., channel, :, :, :] / step + (channel == axis) for channel, step in enumerate(steps)])
    return _determinant(columns)


def folded_share(u: Field, spacing: Sequence[float] = UNIT, mask: Field | None = None) -> float:
    """Return the share of voxels whose Jacobian determinant by central differences is not positive, 0 to 1.

    Central differences are blind to a fold between neighbours that alternate; see :func:`folded_share_strict`.

    Parameters
    ----------
    u, spacing
        (3, I, J, K) or (1, 3, I, J, K); see the head of this module.
    mask
        (I, J, K), with any axes of one before: the voxels that count are those that are not zero.

    Returns
    -------
    float
        NaN when no voxel counts.

    Raises
    ------
    ValueError
        When a shape does not fit, an axis has fewer than 3 voxels, or ``spacing`` is not three positive numbers.
    """
    return _share(_jacobian_inside(u, spacing, mask) <= 0)


def folded_share_strict(u: Field, spacing: Sequence[float] = UNIT, mask: Field | None = None) -> float:
    """Return the share of voxels at which any of the eight one-sided Jacobian determinants is not positive, 0 to 1.

    The eight take the forward or the backward difference along each axis. (The published program of Chen et al. for
    brain MR counts so, over the whole image but its border.) Never less than :func:`folded_share`, whose determinant is
    the mean of the eight.

    Parameters, result and errors as for :func:`folded_share`.
    """
    voxels, counted = _prepared(u, spacing, mask)
    folded = np.zeros(counted.shape, bool)
    for part, planes in _slabs(voxels):
        for edges in _CORNERS:
            folded[planes] |= _edge_determinant(part, edges) <= 0
    return _share(folded[counted])


def non_diffeomorphic_volume(u: Field, spacing: Sequence[float] = UNIT, mask: Field | None = None) -> float:
    """Return the volume that is turned inside out, in units of the volume of the voxels that count.

    ``NDV = sum over voxels and ten determinants of -1/2 min(J, 0) / 6`` (Liu et al.): every cell between eight voxels
    is cut into five tetrahedra in the two possible ways, and a determinant is six times the volume of one. Eight are
    the one-sided Jacobians, two the "star" ones of the inner tetrahedra (2 for the identity), here of those that have
    the voxel as a corner. 0 for a field that folds nowhere, also not between voxels; 1 where all is mirrored, and more
    where it is enlarged besides.

    Parameters, result and errors as for :func:`folded_share`.
    """
    voxels, counted = _prepared(u, spacing, mask)
    total = 0.0
    for part, planes in _slabs(voxels):
        inside = counted[planes]
        for edges in (*_CORNERS, *_STARS):
            volumes = _edge_determinant(part, edges)[inside] / 6
            total -= 0.5 * float(np.minimum(volumes, 0).sum(dtype=np.float64))
    count = int(np.count_nonzero(counted))
    return total / count if count else math.nan


def std_log_jacobian(u: Field, spacing: Sequence[float] = UNIT, mask: Field | None = None) -> LogJacobianSpread:
    """Return the standard deviation of ``log J``, with J by central differences and held between 1e-3 and 1e3.

    The measure of Ehrhardt and Handels, who do not say what becomes of a J that is not positive; the bounds are our
    choice, and the voxels beyond them are counted. Not comparable with :func:`sd_log_j`.

    Parameters and errors as for :func:`folded_share`.
    """
    return _log_spread(_jacobian_inside(u, spacing, mask))


def sd_log_j(u: Field, spacing: Sequence[float] = UNIT, mask: Field | None = None) -> float:
    """Return the "SDlogJ" of the Learn2Reg challenge: the standard deviation of ``log clip(J + 3, 1e-9, 1e9)``.

    Smaller than :func:`std_log_jacobian` by about four, because of the 3, which is there so that folds have a
    logarithm. The evaluator leaves out two voxels at each border; so does this.

    Parameters, result and errors as for :func:`folded_share`, but an axis has at least 5 voxels.
    """
    if min(u.shape[-3:]) < 5:
        raise ValueError(f"SDlogJ takes 5 voxels on every axis, not {tuple(u.shape[-3:])}")
    voxels, counted = _prepared(u, spacing, mask)
    return _shifted_spread(jacobian_determinant(voxels)[_inner(2)][counted[_inner(1)]])


def deformation_figures(u: Field, spacing: Sequence[float] = UNIT, mask: Field | None = None) -> DeformationFigures:
    """Return all figures of the Jacobian of a field.

    Parameters and errors as for :func:`folded_share`.
    """
    voxels, counted = _prepared(u, spacing, mask)
    whole = jacobian_determinant(voxels)
    inside = whole[_inner(1)][counted]
    spread = _log_spread(inside)
    # An empty mask or a thin axis leaves nothing inside, whose figure is NaN.
    deep = whole[_inner(2)][counted[_inner(1)]]
    return DeformationFigures(
        folded_share=_share(inside <= 0),
        folded_share_strict=folded_share_strict(voxels, mask=mask),
        non_diffeomorphic_volume=non_diffeomorphic_volume(voxels, mask=mask),
        mean_negative_jacobian=_mean(np.maximum(-inside, 0)),
        std_log_jacobian=spread.std,
        clipped_voxels=spread.clipped,
        sd_log_j=_shifted_spread(deep),
        smallest_jacobian=float(inside.min()) if inside.size else math.nan,
        largest_jacobian=float(inside.max()) if inside.size else math.nan,
    )


def inverse_consistency(
    u: Field, v: Field, spacing_mm: Sequence[float] = UNIT, mask: Field | None = None
) -> InverseConsistency:
    """Return how far two fields are from being inverse to each other: ``|x - phi_v(phi_u(x))|`` in mm.

    That is ``|u(x) + v(x + u(x))|``, ``v`` read trilinearly. Voxels that ``u`` moves out of the grid are left out,
    since nothing is known of ``v`` there (our choice); they are told by the share that stays.

    Parameters
    ----------
    u, v
        (3, I, J, K) or (1, 3, I, J, K), in voxels of one grid.
    spacing_mm
        Voxel size along I, J, K.
    mask
        As for :func:`folded_share`; here voxels at the border count too.

    Raises
    ------
    ValueError
        When a shape does not fit or ``spacing_mm`` is not three positive numbers.
    """
    there, back = _one_field(u), _one_field(v)
    if there.shape != back.shape:
        raise ValueError(f"the fields have different shapes: {there.shape} and {back.shape}")
    shape = there.shape[1:]
    starts = np.stack(np.nonzero(_mask_of(mask, shape)))
    if not starts.size:
        return InverseConsistency(math.nan, math.nan, math.nan)
    moves = there[:, starts[0], starts[1], starts[2]]
    ends = starts + moves
    last = np.array(shape)[:, None] - 1
    stays = ((ends >= 0) & (ends <= last)).all(0)
    if not stays.any():
        return InverseConsistency(math.nan, math.nan, 0.0)
    gaps = moves[:, stays] + _read(back, ends[:, stays])
    distances = np.linalg.norm(gaps * np.array(_steps(spacing_mm))[:, None], axis=0)
    return InverseConsistency(float(distances.mean()), float(np.percentile(distances, 95)), float(stays.mean()))


def target_registration_error(
    fixed_points: np.ndarray, moving_points: np.ndarray, u: Field, spacing_mm: Sequence[float] = UNIT
) -> np.ndarray:
    """Return the distance in mm of each moving landmark from where the field says that it is.

    ``|x_fixed + u(x_fixed) - x_moving|``, ``u`` read trilinearly; with a field of zeros, the error before registration.

    Parameters
    ----------
    fixed_points, moving_points
        (N, 3) corresponding points in voxels along I, J, K, on the grid of the field.
    u
        (3, I, J, K) or (1, 3, I, J, K), in voxels.
    spacing_mm
        Voxel size along I, J, K.

    Returns
    -------
    numpy.ndarray
        (N,) float64.

    Raises
    ------
    ValueError
        When a shape does not fit, ``spacing_mm`` is not three positive numbers, or a fixed point lies outside the
        voxels of the field, that is more than half a voxel beyond the centre of the last one.
    """
    field = _one_field(u)
    fixed, moving = (np.asarray(points, np.float64) for points in (fixed_points, moving_points))
    if fixed.shape != moving.shape or fixed.ndim != 2 or fixed.shape[1] != 3:
        raise ValueError(f"landmarks are two arrays (N, 3), not {fixed.shape} and {moving.shape}")
    outside = ~((fixed >= -0.5) & (fixed <= np.array(field.shape[1:]) - 0.5)).all(1)
    if outside.any():
        number = int(np.flatnonzero(outside)[0])
        raise ValueError(
            f"{np.count_nonzero(outside)} fixed points lie outside the field, the first is number {number}"
        )
    found = fixed + _read(field, fixed.T).T
    return np.asarray(np.linalg.norm((found - moving) * np.array(_steps(spacing_mm)), axis=1))


def _steps(spacing: Sequence[float]) -> tuple[float, float, float]:
    steps = tuple(float(step) for step in spacing)
    if len(steps) != 3 or not all(step > 0 for step in steps):
        raise ValueError(f"the spacing is three positive numbers, not {steps}")
    return steps[0], steps[1], steps[2]


def _array(values: Field) -> np.ndarray:
    return values if isinstance(values, np.ndarray) else values.detach().cpu().numpy()


def _one_field(u: Field) -> np.ndarray:
    """Return (3, I, J, K), float32 or float64."""
    if u.ndim not in {4, 5} or u.shape[-4] != 3 or (u.ndim == 5 and u.shape[0] != 1):
        raise ValueError(f"one displacement field is (3, I, J, K) or (1, 3, I, J, K), not {tuple(u.shape)}")
    if not isinstance(u, np.ndarray) and "float64" not in str(u.dtype):
        # NumPy has no bfloat16.
        u = u.float()
    field = _array(u).reshape(u.shape[-4:])
    return field.astype(np.result_type(field.dtype, np.float32), copy=False)


def _mask_of(mask: Field | None, shape: tuple[int, ...]) -> np.ndarray:
    if mask is None:
        return np.ones(shape, bool)
    if tuple(mask.shape[-3:]) != shape or math.prod(mask.shape) != math.prod(shape):
        raise ValueError(f"the mask {tuple(mask.shape)} is not of the shape of the field {shape}")
    return _array(mask).reshape(shape) != 0


def _prepared(u: Field, spacing: Sequence[float], mask: Field | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the field (3, I, J, K) in voxels and which of the voxels with all neighbours (I-2, J-2, K-2) count."""
    field = _one_field(u)
    if min(field.shape[1:]) < 3:
        raise ValueError(f"the figures take 3 voxels on every axis, not {field.shape[1:]}")
    steps = np.array(_steps(spacing), field.dtype)
    return field / steps[:, None, None, None], _mask_of(mask, field.shape[1:])[_inner(1)]


def _jacobian_inside(u: Field, spacing: Sequence[float], mask: Field | None) -> np.ndarray:
    """Return the determinants (N,) of the voxels that count."""
    voxels, counted = _prepared(u, spacing, mask)
    return np.asarray(jacobian_determinant(voxels)[_inner(1)][counted])


def _difference(u: FieldT, axis: int) -> FieldT:
    """Return the central difference on one of the last three axes, the one-sided at its ends."""
    last: int = u.shape[axis - 3] - 1
    after, before = [*range(1, last + 1), last], [0, *range(last)]
    result = (u[_along(axis, after)] - u[_along(axis, before)]) / 2
    result[_along(axis, [0, last])] *= 2
    return result


def _along(axis: int, places: list[int]) -> tuple[Any, ...]:
    """Return the index of ``places`` on one of the last three axes."""
    return (..., places) + (slice(None),) * (2 - axis)


def _inner(border: int) -> tuple[slice, slice, slice]:
    cut = slice(border, -border)
    return cut, cut, cut


def _slabs(voxels: np.ndarray) -> Iterator[tuple[np.ndarray, slice]]:
    """Yield planes of a field with a plane more at either side, and where their inner voxels lie in the inner ones."""
    count = voxels.shape[1] - 2
    for start in range(0, count, SLAB):
        stop = min(start + SLAB, count)
        yield voxels[:, start : stop + 2], slice(start, stop)


def _edge_determinant(part: np.ndarray, edges: Sequence[Offset]) -> np.ndarray:
    """Return the determinant of three deformed edges at each inner voxel, as positive as that of the identity is."""
    inner, sign, columns = _inner(1), 1, []
    for edge in edges:
        shifted = tuple(slice(1 + step, count - 1 + step) for step, count in zip(edge, part.shape[1:], strict=True))
        columns.append([values[shifted] - values[inner] + step for values, step in zip(part, edge, strict=True)])
        if sum(map(abs, edge)) == 1:
            sign *= sum(edge)
    return np.asarray(sign * _determinant(columns))


def _determinant(columns: Sequence[Sequence[FieldT]]) -> FieldT:
    (a, b, c), (d, e, f), (g, h, i) = columns
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def _read(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return a field (3, I, J, K) at points (3, N) between its voxels, trilinearly; (3, N) float64.

    Beyond the centres of the last voxels their values go on.
    """
    last = np.array(field.shape[1:])[:, None] - 1
    points = np.clip(np.asarray(points, np.float64), 0, last)
    base = np.minimum(np.floor(points).astype(np.int64), np.maximum(last - 1, 0))
    part = points - base
    result = np.zeros((3, points.shape[1]))
    for corner in itertools.product((0, 1), repeat=3):
        shift = np.array(corner)[:, None]
        i, j, k = np.minimum(base + shift, last)
        result += field[:, i, j, k] * np.where(shift, part, 1 - part).prod(0)
    return result


def _mean(values: np.ndarray) -> float:
    return float(values.mean(dtype=np.float64)) if values.size else math.nan


def _share(chosen: np.ndarray) -> float:
    return float(np.count_nonzero(chosen) / chosen.size) if chosen.size else math.nan


def _log_spread(jacobian: np.ndarray) -> LogJacobianSpread:
    if not jacobian.size:
        return LogJacobianSpread(math.nan, 0)
    held = np.clip(jacobian, 1e-3, 1e3)
    return LogJacobianSpread(float(np.log(held).std(dtype=np.float64)), int(np.count_nonzero(held != jacobian)))


def _shifted_spread(jacobian: np.ndarray) -> float:
    if not jacobian.size:
        return math.nan
    return float(np.log(np.clip(jacobian + 3, 1e-9, 1e9)).std(dtype=np.float64))
