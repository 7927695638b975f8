"""Whether a volume can be worked on, and what it is: for the pipeline's start and for ``medseg info``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medseg.volumes.volume import Volume


def check_image(volume: Volume, *, purpose: str = "segmentation", minimum_slices: int = 2) -> list[str]:
    """Check that ``volume`` is an image that can be worked on, and return warnings (sentences).

    Parameters
    ----------
    purpose
        What the volume is for, as the sentences name it.
    minimum_slices
        The smallest number of voxels along any axis that makes sense: 2 for a three-dimensional method.

    Raises
    ------
    InputError
        When voxels are not finite, all have the same value, or there are fewer slices than ``minimum_slices``.
    """
    if min(volume.shape) < minimum_slices:
        raise InputError(
            f"{_named(volume)} has {_slices(min(volume.shape))}; {purpose} needs at least {minimum_slices}.",
            advice="Choose a whole three-dimensional volume.",
        )
    bad = sum(int(part.size - np.count_nonzero(np.isfinite(part))) for part in _slabs(volume))
    if bad:
        raise InputError(
            f"{_named(volume)} has {bad} of {volume.array.size} voxels that are not finite numbers (NaN or infinite).",
            advice="Replace them, for example by the value of air, and try again.",
        )
    low, high = value_range(volume)
    if low == high:
        raise InputError(
            f"{_named(volume)} is empty: every voxel has the value {low:g}.",
            advice="Choose another volume or load it again.",
        )
    return []


def value_range(volume: Volume) -> tuple[float, float]:
    """Return the smallest and the largest value of the voxels; NaN when there is one."""
    parts = [(part.min(), part.max()) for part in _slabs(volume)]
    return float(np.min([low for low, _ in parts])), float(np.max([high for _, high in parts]))


def describe(volume: Volume) -> dict[str, Any]:
    """Return what ``medseg info`` shows."""
    geometry = volume.geometry
    return {
        "name": volume.name,
        "modality": volume.modality or "unknown",
        "size": list(geometry.size),
        "spacing_mm": list(geometry.spacing),
        "orientation": geometry.orientation,
        "intensity_range": list(value_range(volume)),
        "notes": list(volume.notes),
    }


def _named(volume: Volume) -> str:
    return f"The volume '{volume.name}'" if volume.name else "The volume"


def _slices(count: int) -> str:
    return "one slice" if count == 1 else f"{count} slices"


def _slabs(volume: Volume) -> Iterator[np.ndarray]:
    yield from volume.array
