"""Displacement fields on voxel grids: the one place that warps images and changes, composes and converts fields.

A displacement field is a tensor (B, 3, I, J, K) in VOXELS of its own grid, channel c along tensor axis c of (I, J, K).
It is a pull-back: the value of the result at x is ``image(x + u(x))``. The centres of the first and the last voxel of
an axis are the ends of that axis at every resolution (``align_corners=True`` in PyTorch's words), and beyond its border
a volume is continued by its outermost voxels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch reader expects
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

Interpolation = Literal["bilinear", "nearest"]


def warp(image: Tensor, displacement: Tensor, mode: Interpolation = "bilinear") -> Tensor:
    """Return ``image(x + displacement(x))`` for every voxel x.

    Parameters
    ----------
    image
        (B, C, I, J, K), of any floating type; a labelmap is converted first and read with "nearest".
    displacement
        (B, 3, I, J, K), voxels.
    mode
        "bilinear" (PyTorch's name; it is trilinear here) or "nearest".

    Returns
    -------
    Tensor
        (B, C, I, J, K), of the type of ``image``; positions are computed in float32 at least.

    Raises
    ------
    ValueError
        When the shapes do not belong together.
    TypeError
        When the image is not of a floating type.
    """
    _check_field(displacement)
    if image.ndim != 5 or image.shape[0] != displacement.shape[0] or image.shape[2:] != displacement.shape[2:]:
        raise ValueError(
            f"the image must be (B, C, I, J, K) on the grid of the displacement {tuple(displacement.shape)}, "
            f"not {tuple(image.shape)}"
        )
    if not image.is_floating_point():
        raise TypeError(f"the image must be of a floating type, not {image.dtype}")
    displacement = at_least_float32(displacement)
    # On an axis of 200 voxels a position in bfloat16 is wrong by up to half a voxel.
    dtype = torch.promote_types(image.dtype, displacement.dtype)
    positions = []
    for axis, size in enumerate(image.shape[2:]):
        start = torch.arange(size, dtype=dtype, device=image.device).reshape([-1 if d == axis else 1 for d in range(3)])
        positions.append((start + displacement[:, axis]) * (2 / max(size - 1, 1)) - 1)
    # grid_sample wants the coordinate of the last axis first.
    grid = torch.stack(positions[::-1], dim=-1)
    warped = F.grid_sample(image.to(dtype), grid, mode=mode, padding_mode="border", align_corners=True)
    return warped.to(image.dtype)


def resize_field(displacement: Tensor, size: Sequence[int]) -> Tensor:
    """Return the same displacement on another number of voxels over the same extent.

    Parameters
    ----------
    displacement
        (B, 3, I, J, K), voxels of its own grid.
    size
        The three new sizes.

    Returns
    -------
    Tensor
        (B, 3, \\*size), trilinear, in voxels of the new grid: channel a is multiplied by ``(new - 1) / (old - 1)``.

    Raises
    ------
    ValueError
        When the shape is not that of a field, or an axis of one voxel, which has no extent, is to get more.
    """
    _check_field(displacement)
    old, new = tuple(displacement.shape[2:]), tuple(size)
    if len(new) != 3 or min(new) < 1:
        raise ValueError(f"size must be three numbers of at least 1, not {new}")
    if old == new:
        return displacement
    if any(before == 1 < after for before, after in zip(old, new, strict=True)):
        raise ValueError(f"an axis of one voxel has no extent and cannot be resized: {old} to {new}")
    scale = _per_axis([(after - 1) / max(before - 1, 1) for before, after in zip(old, new, strict=True)], displacement)
    return F.interpolate(displacement, size=new, mode="trilinear", align_corners=True) * scale


def compose(first: Tensor, second: Tensor) -> Tensor:
    """Return the displacement of "``first``, then ``second``", as points travel.

    With ``p(x) = x + first(x)`` and ``q(y) = y + second(y)`` the result u satisfies ``x + u(x) = q(p(x))``, that is
    ``u(x) = first(x) + second(x + first(x))``. Images are pulled back, so they are warped in the other order:
    ``warp(image, compose(first, second))`` is ``warp(warp(image, second), first)``, up to interpolation.

    Parameters
    ----------
    first, second
        (B, 3, I, J, K) on one grid, voxels.
    """
    return first + warp(second, first)


def exponential(velocity: Tensor, steps: int = 7) -> Tensor:
    """Return the displacement after unit time along a stationary velocity field, by scaling and squaring.

    Source: V. Arsigny et al., "A Log-Euclidean framework for statistics on diffeomorphisms" (MICCAI 2006), with an
    explicit Euler step for the smallest part: ``u = v / 2^steps``, then ``steps`` times ``u = u + u(x + u)``.

    Parameters
    ----------
    velocity
        (B, 3, I, J, K), voxels for unit time.
    steps
        Number of squarings, not negative; 7 in J. Chen et al. (MLMI 2023, TM-DCA).
    """
    if steps < 0:
        raise ValueError(f"steps must not be negative, not {steps}")
    displacement = velocity / 2**steps
    for _ in range(steps):
        displacement = compose(displacement, displacement)
    return displacement


def normalised_to_voxels(field: Tensor) -> Tensor:
    """Return a field in voxels, channels (I, J, K), from one in the units of ``torch.nn.functional.grid_sample``.

    Parameters
    ----------
    field
        (B, 3, I, J, K), channels (x, y, z) = along K, J, I; an axis is 2 units from its first to its last voxel.
    """
    _check_field(field)
    return field.flip(1) * _per_axis([(size - 1) / 2 for size in field.shape[2:]], field)


def voxels_to_normalised(displacement: Tensor) -> Tensor:
    """Return the inverse of :func:`normalised_to_voxels`; along an axis of one voxel, where it has none, half of it."""
    _check_field(displacement)
    return (displacement * _per_axis([2 / max(size - 1, 1) for size in displacement.shape[2:]], displacement)).flip(1)


def at_least_float32(values: Tensor) -> Tensor:
    """Return the values in float32 unless they are more precise: half precision is too coarse for positions."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class BSplineUpsampling(nn.Module):
    """Dense field from cubic B-spline control points: ``f(i) = sum_r control_r B(i / c + 1 - r)`` along each axis.

    One transposed convolution with stride c an axis, of which the first c values are cropped. Control point r lies at
    voxel ``(r - 1) c``, so there is one before the first voxel and enough behind the last for the weights to sum to 1
    everywhere. Source: the B-spline head of J. Chen et al., "Deformable Cross-Attention Transformer for Medical Image
    Registration" (MLMI 2023), sizes and crop as in the authors' code.

    Parameters
    ----------
    spacing
        c, voxels from one control point to the next: one number or three.

    Raises
    ------
    ValueError
        When a spacing is below 1.
    """

    def __init__(self, spacing: int | Sequence[int] = 3) -> None:
        super().__init__()
        self.spacing = (spacing,) * 3 if isinstance(spacing, int) else tuple(spacing)
        if len(self.spacing) != 3 or min(self.spacing) < 1:
            raise ValueError(f"spacing must be one number or three, at least 1 each, not {spacing}")
        for axis, step in enumerate(self.spacing):
            offsets = torch.arange(1 - 2 * step, 2 * step, dtype=torch.float64) / step
            shape = [-1 if d == axis + 2 else 1 for d in range(5)]
            # Not a weight: a constant must not be in the saved state of a model.
            self.register_buffer(f"kernel_{axis}", cubic_b_spline(offsets).reshape(shape).float(), persistent=False)

    def control_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the number of control points an axis for a dense field of ``size``: ``ceil((n - 1) / c) + 3``."""
        return tuple(-(-(n - 1) // step) + 3 for n, step in zip(size, self.spacing, strict=True))

    def forward(self, control: Tensor, size: Sequence[int]) -> Tensor:
        """Return the dense field.

        Parameters
        ----------
        control
            (B, C, \\*control_size(size)); not rescaled, so a displacement is in voxels of the dense grid.
        size
            The three sizes of the dense field.

        Returns
        -------
        Tensor
            (B, C, \\*size), float32 at least.

        Raises
        ------
        ValueError
            When the number of control points does not fit the size.
        """
        if control.ndim != 5 or tuple(control.shape[2:]) != self.control_size(size):
            raise ValueError(
                f"a field of {tuple(size)} voxels needs {self.control_size(size)} control points, "
                f"not {tuple(control.shape[2:])}"
            )
        values = at_least_float32(control).flatten(0, 1).unsqueeze(1)
        with torch.autocast(control.device.type, enabled=False):
            for axis, (step, length) in enumerate(zip(self.spacing, size, strict=True)):
                values = F.conv_transpose3d(
                    values,
                    getattr(self, f"kernel_{axis}").to(values.dtype),
                    stride=[step if d == axis else 1 for d in range(3)],
                    padding=[2 * step - 1 if d == axis else 0 for d in range(3)],
                ).narrow(axis + 2, step, length)
        return values.reshape(*control.shape[:2], *size)


def cubic_b_spline(t: Tensor) -> Tensor:
    """Return the cubic B-spline: ``2/3 + (|t|/2 - 1) t^2`` for |t| < 1, ``(2 - |t|)^3 / 6`` for |t| < 2, else 0."""
    t = t.abs()
    inner = 2 / 3 + (t / 2 - 1) * t.square()
    return torch.where(t < 1, inner, (2 - t).clamp(min=0) ** 3 / 6)


def _check_field(field: Tensor) -> None:
    if field.ndim != 5 or field.shape[1] != 3:
        raise ValueError(f"a field must be (B, 3, I, J, K), not {tuple(field.shape)}")


def _per_axis(numbers: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(numbers, dtype=like.dtype, device=like.device).reshape(3, 1, 1, 1)
