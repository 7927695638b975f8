"""What a recipe needs to fit its data: grid, window, network, intensities.

The choices follow what is common in the field (nnU-Net: Isensee et al., Nature Methods 2021): the median voxel size, a
window that is as cubic in mm as its number of voxels allows, axes that are halved until they are short or as coarse as
the others, CT clipped to the intensities of the structures, MR normalised case by case. Sizes are ours: a window and a
network that two processor cores train in hours and a GPU in minutes.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.training.starter.survey import SurveyedCase

WINDOW_VOXELS = 600_000
_CASE_VOXELS = 16_000_000
"""A case of more voxels (at the median size) is looked at on a coarser grid."""
_MOST_HALVINGS = 4
_SHORTEST = 4
"""Voxels along an axis at the deepest level of the network."""
_FILTERS = (16, 32, 64, 128, 256)
_AIR = -500.0
_LARGEST_VALUE = 255


@dataclass(frozen=True)
class Plan:
    """The numbers of a recipe.

    Attributes
    ----------
    channels, modality, orientation
        Number of images of a case; "CT" or "MR"; the axes that most cases have.
    spacing, size
        Of the network's grid: mm, and the median case in voxels.
    window, batch_size
        Voxels along I, J, K, and windows at once.
    strides, kernels
        Of each level of the network, the first included.
    intensity
        The lower and upper HU of CT; ``None`` for MR.
    values
        The values of the label files and the classes that they become; renumbered when they have large gaps.
    fewest_slices
        The shortest axis of any case, at most 8.
    coarsened
        The grid is coarser than the median case.
    """

    channels: int
    modality: str
    orientation: str
    spacing: tuple[float, float, float]
    size: tuple[int, int, int]
    window: tuple[int, int, int]
    batch_size: int
    strides: tuple[tuple[int, int, int], ...]
    kernels: tuple[tuple[int, int, int], ...]
    intensity: tuple[float, float] | None
    values: dict[int, int]
    fewest_slices: int
    coarsened: bool

    @property
    def renumbered(self) -> bool:
        """Whether the classes are not the values of the files."""
        return any(value != becomes for value, becomes in self.values.items())

    @property
    def filters(self) -> tuple[int, ...]:
        """Channels of each level of the network."""
        return _FILTERS[: len(self.strides)]


def plan_for(cases: Sequence[SurveyedCase], modality: str = "") -> Plan:
    """Return the plan for some cases; ``modality`` is guessed from the intensities when empty."""
    orientation = Counter(case.geometry.orientation for case in cases).most_common(1)[0][0]
    turned = [case.geometry.reoriented(orientation) for case in cases]
    spacing = np.median([grid.spacing for grid in turned], axis=0)
    extent = np.median([np.array(grid.size) * grid.spacing for grid in turned], axis=0)
    # A case that is much too large for windows to see what it shows is looked at more coarsely.
    excess = max(1.0, float(np.prod(extent / spacing) / _CASE_VOXELS) ** (1 / 3))
    spacing = np.array([float(f"{step * excess:.3g}") for step in spacing])
    size = np.maximum(np.round(extent / spacing), 1).astype(int)
    strides = _strides(_largest_window(size, spacing), spacing)
    window = _whole(_largest_window(size, spacing), size, strides)
    values = _classes(sorted({value for case in cases for value in case.voxels}))
    chosen = modality or ("CT" if np.median([case.lowest for case in cases]) <= _AIR else "MR")
    return Plan(
        channels=cases[0].channels,
        modality=chosen,
        orientation=orientation,
        spacing=_three(spacing.tolist()),
        size=_three(size.tolist()),
        window=window,
        batch_size=batch_size_for(window),
        strides=strides,
        kernels=_kernels(strides, spacing),
        intensity=_hounsfield(cases) if chosen == "CT" else None,
        values=values,
        fewest_slices=min(8, *(min(case.geometry.size) for case in cases)),
        coarsened=excess > 1.0,
    )


def batch_size_for(window: Sequence[int]) -> int:
    """Return how many windows of some voxels (I, J, K) a step takes at once."""
    return min(max(WINDOW_VOXELS // (2 * math.prod(window)), 1), 4)


def _largest_window(size: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Return the window of at most so many voxels that is as cubic in mm as the case allows; real numbers."""
    low, high = 0.0, float((size * spacing).max())
    if math.prod(size.tolist()) <= WINDOW_VOXELS:
        return size.astype(float)
    for _ in range(50):
        side = (low + high) / 2
        if float(np.prod(np.minimum(size, side / spacing))) <= WINDOW_VOXELS:
            low = side
        else:
            high = side
    return np.minimum(size, low / spacing)


def _strides(window: np.ndarray, spacing: np.ndarray) -> tuple[tuple[int, int, int], ...]:
    """Return the strides of each level: axes are halved while they are long enough and not coarser than the others."""
    levels = [(1, 1, 1)]
    voxels, step = window.copy(), spacing.copy()
    while len(levels) <= _MOST_HALVINGS:
        long_enough = voxels >= 2 * _SHORTEST
        if not long_enough.any():
            break
        halved = long_enough & (step < 2 * step[long_enough].min())
        levels.append(_three([2 if half else 1 for half in halved]))
        voxels, step = np.where(halved, voxels / 2, voxels), np.where(halved, step * 2, step)
    return tuple(levels)


def _kernels(strides: Sequence[tuple[int, int, int]], spacing: np.ndarray) -> tuple[tuple[int, int, int], ...]:
    """Return the kernels of each level: 1 along axes that are still twice as coarse as the finest."""
    kernels, step = [], spacing.copy()
    for stride in strides:
        step = step * stride
        kernels.append(_three([1 if one >= 2 * step.min() else 3 for one in step]))
    return tuple(kernels)


def _whole(window: np.ndarray, size: np.ndarray, strides: Sequence[tuple[int, int, int]]) -> tuple[int, int, int]:
    """Return the window in multiples of what the network divides it by; an axis that it covers stays covered."""
    factors = np.prod(strides, axis=0)
    rounded = np.where(window >= size, np.ceil(window / factors), np.floor(window / factors))
    return _three((np.maximum(rounded, 1) * factors).astype(int).tolist())


def _classes(values: Sequence[int]) -> dict[int, int]:
    """Return the class of each value: itself, or its place where values are large or have gaps."""
    if values[-1] <= min(_LARGEST_VALUE, 2 * len(values)):
        return {value: value for value in values}
    return {value: place for place, value in enumerate(values, start=1)}


def _hounsfield(cases: Sequence[SurveyedCase]) -> tuple[float, float]:
    inside = np.concatenate([case.inside for case in cases])
    low, high = np.percentile(inside, [0.5, 99.5])
    low, high = 10 * math.floor(low / 10), 10 * math.ceil(high / 10)
    if high - low < 100:
        low, high = low - 50, high + 50
    return float(low), float(high)


def _three(values: Sequence) -> tuple:
    first, second, third = values
    return first, second, third
