"""The grid that a deformable method computes on: in the fixed volume's frame, isotropic, as fine as is affordable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from medseg.errors import InputError
from medseg.registration.transform import DisplacementField
from medseg.volumes import Geometry

if TYPE_CHECKING:
    from torch import Tensor

    from medseg.models import Preprocessing
    from medseg.registration.transform import SpatialTransform
    from medseg.volumes import Volume

_LOWEST, _HIGHEST = 0.1, 99.9
"""Percentiles that become 0 and 1."""
_FEWEST, _MOST = 3, 512**3
"""Voxels along an axis, which derivatives take, and in all: one field of the most takes 1.6 GB, optimising a dozen."""


@dataclass(frozen=True)
class WorkingPair:
    """Two volumes as a registration network takes them.

    Attributes
    ----------
    fixed, moving
        (1, 1, I, J, K) float32, mostly 0 to 1; the moving one after the linear alignment.
    mask
        (1, 1, I, J, K) float32, 1 where the similarity counts: what the mask of the fixed volume marks and the moving
        volume covers.
    geometry
        Their grid, filled up to whole multiples of what the network takes.
    unpadded
        The part of it that the fixed volume fills: slices along (k, j, i).
    """

    fixed: Tensor
    moving: Tensor
    mask: Tensor
    geometry: Geometry
    unpadded: tuple[slice, slice, slice]

    def field(self, displacement: Tensor) -> DisplacementField:
        """Return a displacement (1, 3, I, J, K), voxels of this grid, as a field on the part that the volume fills."""
        k, j, i = self.unpadded
        start, stop = (k.start, j.start, i.start), (k.stop, j.stop, i.stop)
        return DisplacementField.from_voxels(
            displacement[0, :, i, j, k].cpu().numpy(), self.geometry.cropped(start, stop)
        )


def working_pair(
    fixed: Volume,
    moving: Volume,
    alignment: SpatialTransform,
    *,
    spacing_mm: float | tuple[float, float, float],
    multiple: int,
    fixed_mask: Volume | None = None,
    preprocessing: Preprocessing | None = None,
    device: str = "cpu",
) -> WorkingPair:
    """Return the pair on one grid.

    Parameters
    ----------
    alignment
        From points of ``fixed`` to points of ``moving``; linear.
    spacing_mm
        Of the grid, one number or one an axis; images that are finer are smoothed before.
    multiple
        Sizes are filled up to multiples of this with zeros, which the mask leaves out.
    preprocessing
        Of a trained network: the axes of the grid, which are the fixed volume's nearest ones, and the intensities;
        ``None``: the fixed volume's own axes, and each whole volume's percentiles as 0 and 1.

    Raises
    ------
    InputError
        When nothing is left to compare, or the grid has fewer than 3 voxels along an axis, or more than memory holds.
    """
    steps = (spacing_mm,) * 3 if isinstance(spacing_mm, (int, float)) else spacing_mm
    inner = _right_angled(fixed.geometry)
    if preprocessing is not None:
        inner = inner.reoriented(preprocessing.orientation)
    inner = inner.with_spacing(steps)
    _check_size(inner)
    before = [(-size % multiple) // 2 for size in inner.shape]
    after = [-size % multiple - low for size, low in zip(inner.shape, before, strict=True)]
    seen = alignment.coverage(moving, inner)
    if fixed_mask is not None:
        marked = fixed_mask.with_array((fixed_mask.array > 0).astype(np.uint8)).resample(inner, interpolation="nearest")
        seen &= marked.array > 0
    if not seen.any():
        raise InputError(
            "The moving volume shows nothing of what the fixed one or its mask shows.",
            advice="Align the volumes first, or draw the mask on the part that both show.",
        )
    shown = smoothed(fixed, max(steps)).resample(inner, fill=float(fixed.array.min())).array
    moved = alignment.resample(smoothed(moving, max(steps)), inner, fill=float(moving.array.min())).array
    if preprocessing is None:
        shown, moved = _scaled(shown, fixed), _scaled(moved, moving)
    else:
        shown, moved = (preprocessing.apply_intensity(array) for array in (shown, moved))

    def tensor(array: np.ndarray) -> Tensor:
        filled = np.pad(array.astype(np.float32), list(zip(before, after, strict=True)))
        return torch.from_numpy(np.ascontiguousarray(filled.transpose(2, 1, 0)))[None, None].to(device)

    k, j, i = (slice(low, low + size) for low, size in zip(before, inner.shape, strict=True))
    return WorkingPair(
        tensor(shown),
        tensor(moved),
        tensor(seen),
        inner.padded(before, after),
        (k, j, i),
    )


def _check_size(grid: Geometry) -> None:
    size = " x ".join(str(count) for count in grid.size)
    if min(grid.size) < _FEWEST:
        raise InputError(
            f"At {min(grid.spacing):.3g} mm the fixed volume is {size} voxels, too thin to be deformed.",
            advice="Choose the method rigid or affine, or a smaller voxel size to work at.",
        )
    if math.prod(grid.size) > _MOST:
        raise InputError(
            f"At {min(grid.spacing):.3g} mm the fixed volume is {size} voxels, more than memory holds.",
            advice="Choose a larger voxel size to work at.",
        )


def smoothed(volume: Volume, spacing_mm: float) -> Volume:
    """Return the volume, float32, without detail that voxels of ``spacing_mm`` cannot hold.

    A Gaussian of 0.4 target voxels (in standard deviations) on each axis that is finer, ours; slices of one voxel and
    axes that are coarser stay as they are.
    """
    import SimpleITK as sitk

    plain = volume.with_array(volume.array.astype(np.float32))
    image = plain.to_sitk()
    changed = False
    for axis, (step, size) in enumerate(zip(volume.geometry.spacing, volume.geometry.size, strict=True)):
        if step < 0.75 * spacing_mm and size >= 4:  # what ITK's recursive filter needs
            image = sitk.RecursiveGaussian(image, sigma=0.4 * spacing_mm, direction=axis)
            changed = True
    return plain.with_array(sitk.GetArrayFromImage(image)) if changed else plain


def _right_angled(geometry: Geometry) -> Geometry:
    """Return the grid, or when it is sheared one along the nearest right-angled axes."""
    if not geometry.is_sheared:
        return geometry
    left, _, right = np.linalg.svd(geometry.direction)
    matrix = np.eye(4)
    matrix[:3, :3] = (left @ right) * np.asarray(geometry.spacing)
    size = np.asarray(geometry.size)
    matrix[:3, 3] = np.asarray(geometry.center_ras) - matrix[:3, :3] @ ((size - 1) / 2)
    return Geometry(geometry.shape, matrix)


def _scaled(array: np.ndarray, volume: Volume) -> np.ndarray:
    low, high = np.percentile(volume.array, [_LOWEST, _HIGHEST])
    if high <= low:
        low, high = float(volume.array.min()), float(volume.array.max())
    return np.clip((array - low) / max(high - low, 1e-12), 0, 1)
