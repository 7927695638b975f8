"""How far apart the surfaces of two structures are: surface Dice and Hausdorff distance, by MONAI."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class SurfaceAgreement:
    """The agreement of two surfaces.

    Attributes
    ----------
    surface_dice
        The share of both surfaces that lies within the tolerance of the other, 0 to 1; 0 when one of the structures is
        empty, 1 when both are (our choice: nothing was to be found and nothing was).
    hd95_mm
        The larger of the two directed 95th percentiles of the distance from one surface to the other; NaN when one of
        the structures is empty, 0 when both are.
    """

    surface_dice: float
    hd95_mm: float


def surface_agreement(
    result: np.ndarray, truth: np.ndarray, spacing_mm: Sequence[float], *, tolerance_mm: float = 2.0
) -> SurfaceAgreement:
    """Return surface Dice and HD95 of two boolean arrays of one shape.

    The surface is the voxels of a structure that touch what is not in it (faces only), as MONAI has it; what lies
    beyond the border of the image is not in it.

    Parameters
    ----------
    result, truth
        (k, j, i), or any axis order that ``spacing_mm`` follows.
    spacing_mm
        Voxel size along the axes of the arrays.
    tolerance_mm
        Distance that counts as agreement (Nikolov et al., arXiv 1809.04430).

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    if result.shape != truth.shape:
        raise ValueError(f"the arrays have different shapes: {result.shape} and {truth.shape}")
    box = _box_of(result, truth)
    if box is None:
        return SurfaceAgreement(1.0, 0.0)
    if not (result.any() and truth.any()):
        return SurfaceAgreement(0.0, math.nan)

    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    # Cut out first: the distances of a vertebra need not be computed over a whole trunk. The margin is background.
    found, real = (torch.from_numpy(np.pad(array[box], 1))[None, None].float() for array in (result, truth))
    steps = [float(step) for step in spacing_mm]
    with warnings.catch_warnings():
        # MONAI 1.5 warns of an argument that it gives itself.
        warnings.filterwarnings("ignore", ".*always_return_as_numpy.*")
        overlap = compute_surface_dice(
            found, real, class_thresholds=[tolerance_mm], include_background=True, spacing=steps
        )
        distance = compute_hausdorff_distance(found, real, include_background=True, percentile=95, spacing=steps)
    return SurfaceAgreement(float(overlap), float(distance))


def _box_of(first: np.ndarray, second: np.ndarray) -> tuple[slice, ...] | None:
    """Return the smallest box that holds both structures; ``None`` when both are empty."""
    either: np.ndarray = first.astype(bool) | second.astype(bool)
    box = []
    for axis in range(either.ndim):
        filled = np.flatnonzero(either.any(axis=tuple(other for other in range(either.ndim) if other != axis)))
        if not filled.size:
            return None
        box.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return tuple(box)
