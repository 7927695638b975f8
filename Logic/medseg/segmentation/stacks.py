"""Networks that see a volume as a stack of slices: how many they are shown, and what their user should know."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.models.package import ModelPackage
    from medseg.volumes import Geometry

_STACKING = ("medseg.networks.TSFMUNet", "medseg.networks.UNet3D")
"""Networks with an axis of slices, of which they take any number."""

_TOLERANCE = 0.02
"""Spacings that differ by less than this share count as equal; headers are rounded."""

_ALONG = {"R": "left-right", "A": "posterior-anterior", "S": "inferior-superior"}


def slice_axis_of(package: ModelPackage) -> int | None:
    """Return the axis (0, 1, 2 for i, j, k of the network's grid) along which the network stacks slices.

    ``None`` for a network without such an axis. The network itself is not needed.
    """
    return stacking_axis(package.network_target, package.network_arguments)


def stacking_axis(target: str, arguments: Mapping[str, Any]) -> int | None:
    """Return :func:`slice_axis_of` a package with this network."""
    if target not in _STACKING:
        return None
    axis = arguments.get("slice_axis", -1)
    return axis % 3 if isinstance(axis, int) and -3 <= axis <= -1 else None


def window_of(package: ModelPackage, size_ijk: Sequence[int]) -> tuple[int, int, int]:
    """Return the package's window for an image of ``size_ijk`` voxels on the network's grid.

    A stack shorter than the window is simply shorter: slices of zeros would inform the others like real ones. A model
    that separates instances is shown whole slices, filled up to a multiple of its window: embeddings of two windows
    side by side would have nothing to do with each other.
    """
    window = list(package.window.size_ijk)
    if package.instances is not None:
        window[:2] = [math.ceil(count / step) * step for count, step in zip(size_ijk[:2], window[:2], strict=True)]
    axis = slice_axis_of(package)
    if axis is not None:
        window[axis] = min(window[axis], int(size_ijk[axis]))
    return window[0], window[1], window[2]


def slice_notices(package: ModelPackage, grid: Geometry) -> list[str]:
    """Return what a user should know about the slices of an image on the network's ``grid``; one sentence each."""
    axis = slice_axis_of(package)
    if axis is None:
        return []
    notices = []
    spacing = grid.spacing[axis]
    if grid.size[axis] == 1:
        notices.append(
            "The volume has a single slice, so the model works in two dimensions: no other slice informs it."
        )
    known = package.slice_spacing_range
    if known and grid.size[axis] > 1 and not known[0] * (1 - _TOLERANCE) <= spacing <= known[1] * (1 + _TOLERANCE):
        trained = f"{known[0]:.3g} to {known[1]:.3g} mm" if known[0] < known[1] else f"{known[0]:.3g} mm"
        notices.append(
            f"The slices are {spacing:.3g} mm apart, and the model was trained with {trained}; check the result."
        )
    widest = max(range(3), key=lambda other: (grid.spacing[other], other == axis))
    if grid.spacing[widest] > spacing * (1 + _TOLERANCE):
        names = [_axis_name(grid.orientation[other]) for other in (widest, axis)]
        notices.append(
            f"The voxels are longest along {names[0]}, and the model takes slices along {names[1]}; it was made for"
            " scans whose slices lie that way."
        )
    return notices


def _axis_name(letter: str) -> str:
    return _ALONG[{"L": "R", "P": "A", "I": "S"}.get(letter, letter)]
