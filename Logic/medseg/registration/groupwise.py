"""The mean image of several volumes, to which all of them can be registered instead of to one that was chosen.

In the first round all volumes are aligned linearly to the first and averaged; in each further round they are registered
to the average of the round before by the method that was asked for, and averaged again (as S. Joshi et al., "Unbiased
diffeomorphic atlas construction", NeuroImage 2004, alternate; no unbiasing step is taken: the mean keeps the pose and
the size of the first volume).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import Cancelled, InputError, MedSegError
from medseg.progress import NO_PROGRESS, Progress
from medseg.registration.pipeline import register
from medseg.registration.transform import SpatialTransform
from medseg.volumes import Volume
from medseg.volumes.checks import guess_modality

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from medseg.registration.pipeline import RegistrationOptions

ROUNDS = 2
_LOWEST, _HIGHEST = 0.5, 99.5
"""Percentiles of the volumes that are brought onto each other before they are averaged, but for CT."""


@dataclasses.dataclass(frozen=True)
class MeanImage:
    """The mean (float32, on the first volume's grid), and a sentence for each volume that is not in it."""

    volume: Volume
    left_out: tuple[str, ...] = ()


def mean_image(
    readers: Sequence[Callable[[], Volume]],
    options: RegistrationOptions,
    *,
    rounds: int = ROUNDS,
    fixed_mask: Volume | None = None,
    network: nn.Module | None = None,
    progress: Progress = NO_PROGRESS,
) -> MeanImage:
    """Return the mean of volumes of one kind.

    Parameters
    ----------
    readers
        Each gives a volume. The first is kept; the others are read in every round, so that one of them is held at a
        time.
    options
        How to register them; the first round is linear.
    rounds
        How often the mean is taken.
    fixed_mask
        Where to compare, in the space of the first volume.
    network
        That of the model, when it is loaded already.

    Raises
    ------
    InputError
        When ``rounds`` is less than 1, the first volume cannot be read, or fewer than two can be averaged.
    Cancelled
        When the user asked to stop.
    """
    if rounds < 1:
        raise InputError(f"A mean of {rounds} rounds is none.", advice="Give a number from 1.")
    is_rigid = options.method == "rigid"
    first_options = options if is_rigid else dataclasses.replace(options, method="affine", model=None)
    first = readers[0]()
    reference, left_out = first, {}
    for number in range(rounds):
        part = progress.part(number / rounds, (number + 1) / rounds)
        heap = _Heap(first)
        for place, read in enumerate(readers):
            inner = part.part(place / len(readers), (place + 1) / len(readers))
            inner.update(0.0, f"Mean, round {number + 1}")
            if place in left_out:
                continue
            if number == 0 and place == 0:
                heap.add(first, SpatialTransform())
                continue
            try:
                volume = first if place == 0 else read()
                chosen = first_options if number == 0 else options
                found = register(reference, volume, chosen, fixed_mask=fixed_mask, network=network, progress=inner)
            except Cancelled:
                raise
            except MedSegError as error:
                left_out[place] = str(error)
                continue
            heap.add(volume, found.transform)
        if heap.count < 2:
            raise InputError(
                "Fewer than two of the volumes could be brought together, so there is no mean. "
                + " ".join(left_out.values()),
                advice="Register them one by one to see what is wrong.",
            )
        reference = heap.mean()
    return MeanImage(reference, tuple(left_out.values()))


class _Heap:
    """The sum of the volumes so far on the first one's grid, and how many of them cover each voxel."""

    def __init__(self, first: Volume) -> None:
        self.count = 0
        self._first = first
        self._range = _range_of(first)
        self._sum = np.zeros(first.shape, np.float32)
        self._covering = np.zeros(first.shape, np.uint16)

    def add(self, volume: Volume, transform: SpatialTransform) -> None:
        grid = self._first.geometry
        covered = transform.coverage(volume, grid)
        values: Any = transform.resample(volume, grid).array
        if self._range is not None and (own := _range_of(volume)) is not None:
            scale = (self._range[1] - self._range[0]) / (own[1] - own[0])
            values = (values - own[0]) * scale + self._range[0]
        self._sum[covered] += values[covered]
        self._covering += covered
        self.count += 1

    def mean(self) -> Volume:
        values = self._sum / np.maximum(self._covering, 1)
        values[self._covering == 0] = self._first.array.min()
        return Volume(values, self._first.geometry, name="mean", modality=self._first.modality)


def _range_of(volume: Volume) -> tuple[float, float] | None:
    """Return the two percentiles of the voxels; ``None`` for CT, whose numbers mean something, and for flat volumes."""
    if guess_modality(volume).startswith("CT"):
        return None
    low, high = (float(value) for value in np.percentile(volume.array, [_LOWEST, _HIGHEST]))
    return (low, high) if high > low else None
