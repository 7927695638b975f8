"""Which windows a network is run on, how they are weighted, and in which order: numbers only, no network.

The positions and the weights are those of MONAI's ``SlidingWindowInferer``, so that a bundle gives here what it gives
there, or those of nnU-Net's predictor for its models. The order is ours: windows are run slab by slab along one axis
(the *stream* axis), so that the scores of a slice can be turned into labels, and forgotten, as soon as no later window
touches it. Where even one slab of scores would be too much, the volume is cut into *bands* along a second axis; windows
that cross the border of two bands are run once for each, which costs time and changes nothing in the result.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medseg.segmentation.grids import AxisSampling

SCORE_LIMIT_BYTES = 768 << 20
"""Blended scores held at once, at most (our choice): with it 512 x 512 x 300 voxels and 25 classes stay below 2 GB also
when the image is in 64-bit numbers; the second band that this costs takes about 9 % more windows of 64 cubed."""

_SCORE_BYTES = {False: 4, True: 2}
_MOST_BANDS = 64
_SIGMA_SCALE = 0.125
_SMALLEST_WEIGHT = 1e-3


def window_starts(size: int, window: int, overlap: float, placement: str = "monai") -> tuple[int, ...]:
    """Return where the windows begin along one axis, ascending.

    Parameters
    ----------
    size
        Voxels of the image along the axis.
    window
        Voxels of the window along the axis; 0 or less means the whole axis.
    overlap
        Share of a window that the next one covers again, 0 <= overlap < 1.
    placement
        ``"monai"``: steps of ``1 - overlap`` windows, and the last window moved back into the image. ``"nnunet"``: as
        many equal steps as keep below that, rounded to voxels.

    Returns
    -------
    tuple of int
        A window covers ``start`` to ``start + window``. The last one ends with the image. Where the image is smaller
        than the window there is one start, zero or negative: the image lies in the middle of the window (the odd
        voxel of padding behind it), as MONAI pads.

    Raises
    ------
    ValueError
        When ``overlap`` is outside its range or ``size`` is not positive.
    """
    if not 0.0 <= overlap < 1.0:
        message = f"overlap must be at least 0 and below 1, not {overlap}"
        raise ValueError(message)
    if size < 1:
        message = f"an axis must have at least one voxel, not {size}"
        raise ValueError(message)
    window = window if window > 0 else size
    if window >= size:
        return (-((window - size) // 2),)
    if placement == "nnunet":
        # A window of one voxel is a slice: each is taken once.
        count = math.ceil((size - window) / max(window * (1.0 - overlap), 1.0)) + 1
        return tuple(round((size - window) / (count - 1) * index) for index in range(count))
    step = max(int(window * (1.0 - overlap)), 1)
    count = math.ceil((size - window) / step) + 1
    return tuple(min(index * step, size - window) for index in range(count))


def importance_map(window_ijk: Sequence[int], blend: str = "gaussian") -> np.ndarray:
    """Return the weight of each voxel of a window, float32, axes (i, j, k), at least 0.001.

    ``gaussian``: a product of three Gaussians with a standard deviation of 0.125 window widths; ``constant``: ones.
    ``nnunet``: the same Gaussians about the middle voxel (the upper of two), with a maximum of 10, in the half
    precision in which nnU-Net keeps them; weights that are 0 in it are the least other one (6e-8).
    """
    if blend == "constant":
        return np.ones(tuple(window_ijk), np.float32)
    if blend == "nnunet":
        return _nnunet_importance(window_ijk)
    if blend != "gaussian":
        message = f"blend must be 'gaussian', 'constant' or 'nnunet', not '{blend}'"
        raise ValueError(message)
    weights = np.ones((1, 1, 1), np.float32)
    for axis, width in enumerate(window_ijk):
        offset = np.arange(width, dtype=np.float32) - np.float32((width - 1) / 2.0)
        bell = np.exp(offset**2 / np.float32(-2.0 * (width * _SIGMA_SCALE) ** 2)).astype(np.float32)
        weights = weights * bell.reshape([-1 if axis == other else 1 for other in range(3)])
    return np.maximum(weights, np.float32(max(float(weights.min()), _SMALLEST_WEIGHT)))


def _nnunet_importance(window_ijk: Sequence[int]) -> np.ndarray:
    weights = np.full((1, 1, 1), 10.0)
    for axis, width in enumerate(window_ijk):
        offset = np.arange(width) - width // 2
        bell = np.exp(offset**2 / (-2.0 * (width * _SIGMA_SCALE) ** 2))
        weights = weights * bell.reshape([-1 if axis == other else 1 for other in range(3)])
    half = weights.astype(np.float16)
    half[half == 0] = half[half > 0].min()
    return half.astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Band:
    """A range of the output along the band axis, and what it needs of the network grid.

    ``output`` are output voxels, ``network`` the voxels of the network grid between which they are interpolated,
    ``starts`` the windows that touch these; all half-open and in ascending order.
    """

    output: tuple[int, int]
    network: tuple[int, int]
    starts: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """The order of a run: which axis is streamed, into which bands the volume is cut.

    Sizes are voxels of the network grid in the order (i, j, k); axes are numbered 0 to 2 in that order. Blended scores
    are 32-bit numbers, or 16-bit ones with ``half_precision``.
    """

    size: tuple[int, int, int]
    window: tuple[int, int, int]
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    classes: int
    stream_axis: int
    band_axis: int
    bands: tuple[Band, ...]
    half_precision: bool = False

    @property
    def rest_axis(self) -> int:
        """The axis that is neither streamed nor cut."""
        return 3 - self.stream_axis - self.band_axis

    @property
    def ring_length(self) -> int:
        """Slices held at once: one slab of windows and the slice before it, which interpolation may still need."""
        return min(self.size[self.stream_axis], self.window[self.stream_axis] + 1)

    @property
    def windows(self) -> int:
        """Runs of the network, those repeated for a second band included."""
        across = sum(len(band.starts) for band in self.bands)
        return across * len(self.starts[self.stream_axis]) * len(self.starts[self.rest_axis])

    @property
    def distinct_windows(self) -> int:
        """Windows of the volume, each counted once."""
        return math.prod(len(starts) for starts in self.starts)

    @property
    def score_bytes(self) -> int:
        """Bytes of blended scores and weights held at once."""
        rows = max(band.network[1] - band.network[0] for band in self.bands)
        each = _SCORE_BYTES[self.half_precision]
        return (self.classes + 1) * self.ring_length * rows * self.size[self.rest_axis] * each

    def describe(self) -> str:
        """Return the plan in a few words for a person."""
        text = f"{self.windows} windows of {' x '.join(map(str, self.window))} voxels"
        if len(self.bands) > 1:
            text += f", in {len(self.bands)} parts to save memory"
        return text


def make_plan(
    size_ijk: Sequence[int],
    window_ijk: Sequence[int],
    overlap: float,
    classes: int,
    sampling: Sequence[AxisSampling],
    *,
    limit_bytes: int = SCORE_LIMIT_BYTES,
    placement: str = "monai",
    half_precision: bool = False,
) -> Plan:
    """Return the plan with the fewest runs of the network whose scores fit into ``limit_bytes``.

    Parameters
    ----------
    size_ijk, window_ijk
        Voxels of the network grid and of a window, (i, j, k); 0 or less in ``window_ijk`` means the whole axis.
    overlap
        Share of a window that the next one covers again.
    classes
        Channels of the network's output.
    sampling
        For each axis, how the output grid is interpolated from the network grid.
    limit_bytes
        Bytes for blended scores. When even the smallest plan needs more, that one is returned.
    placement
        As in :func:`window_starts`.
    half_precision
        Blended scores are 16-bit numbers.
    """
    size = (int(size_ijk[0]), int(size_ijk[1]), int(size_ijk[2]))
    wide = [int(w) if w > 0 else n for w, n in zip(window_ijk, size, strict=True)]
    window = (wide[0], wide[1], wide[2])
    along = [window_starts(n, w, overlap, placement) for n, w in zip(size, window, strict=True)]
    starts = (along[0], along[1], along[2])

    def candidates(count: int) -> Iterator[Plan]:
        for stream in range(3):
            for across in range(3):
                if across != stream and sampling[across].output_size >= count:
                    bands = _bands(starts[across], window[across], sampling[across], count)
                    yield Plan(size, window, starts, classes, stream, across, bands, half_precision)

    best = min(candidates(1), key=lambda plan: plan.score_bytes)
    count = 1
    while best.score_bytes > limit_bytes and count < _MOST_BANDS:
        count += 1
        plans = list(candidates(count))
        if any(plan.score_bytes <= limit_bytes for plan in plans):
            # One or two bands more sometimes fall better between the windows and repeat fewer of them.
            plans += [*candidates(count + 1), *candidates(count + 2)]
            fitting = [plan for plan in plans if plan.score_bytes <= limit_bytes]
            return min(fitting, key=lambda plan: (plan.windows, plan.score_bytes))
        best = min([best, *plans], key=lambda plan: plan.score_bytes)
    return best


def _bands(starts: tuple[int, ...], window: int, sampling: AxisSampling, count: int) -> tuple[Band, ...]:
    edges = [round(sampling.output_size * index / count) for index in range(count + 1)]
    bands = []
    for first, last in itertools.pairwise(edges):
        low, high = int(sampling.lower[first]), int(sampling.upper[last - 1]) + 1
        touching = tuple(start for start in starts if start < high and start + window > low)
        bands.append(Band((first, last), (low, high), touching))
    return tuple(bands)
