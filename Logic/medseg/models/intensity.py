"""The intensity steps of a model, in numpy, equal to the MONAI transforms of the same arguments.

All arrays are of any axis order, intensities in the unit of the image (HU for CT), results float32. A step needs at
most one further float32 copy of the image, never a float64 copy: volumes of 512 x 512 x 1000 voxels are ordinary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CHUNK = 1 << 20
"""Voxels that a reduction takes at a time: 8 MB as float64, small beside any volume."""


class IntensityStep(Protocol):
    """One step of a model's intensity preprocessing."""

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Return a new float32 array of the same shape; ``array`` is not changed."""

    def apply_in_place(self, array: np.ndarray) -> None:
        """Do the same to a float32 array itself, without a copy."""

    def to_monai(self, key: str) -> dict[str, Any]:
        """Return the step as an entry of a MONAI bundle's ``Compose``, for the dictionary key ``key``."""


class _Step:
    def apply(self, array: np.ndarray) -> np.ndarray:
        """Return a new float32 array of the same shape; ``array`` is not changed."""
        result = np.array(array, dtype=np.float32, order="K", copy=True)
        self.apply_in_place(result)
        return result

    def apply_in_place(self, array: np.ndarray) -> None:
        raise NotImplementedError


def _check_finite(**values: float | None) -> None:
    for name, value in values.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InputError(
                f"The intensity parameter {name} is {value!r}, not a finite number.", advice="Correct the model."
            )


@dataclass(frozen=True)
class ScaleRange(_Step):
    """Map intensities from [a_min, a_max] to [b_min, b_max] linearly; MONAI's ``ScaleIntensityRange``.

    ``y = (x - a_min) / (a_max - a_min) * (b_max - b_min) + b_min``, then clipped to [b_min, b_max] when ``clip``.

    Raises
    ------
    InputError
        When a bound is not finite or ``a_min`` equals ``a_max``.
    """

    a_min: float
    a_max: float
    b_min: float = 0.0
    b_max: float = 1.0
    clip: bool = True

    def __post_init__(self) -> None:
        _check_finite(a_min=self.a_min, a_max=self.a_max, b_min=self.b_min, b_max=self.b_max)
        if self.a_min == self.a_max:
            raise InputError(
                f"The intensity range of the model is empty: {self.a_min} to {self.a_max}.", advice="Correct the model."
            )

    def apply_in_place(self, array: np.ndarray) -> None:
        """Scale a float32 array itself."""
        _scale(array, (self.a_min, self.a_max), (self.b_min, self.b_max), clip=self.clip)

    def to_monai(self, key: str) -> dict[str, Any]:
        """Return the step as MONAI's ``ScaleIntensityRanged``."""
        return {
            "_target_": "ScaleIntensityRanged",
            "keys": key,
            "a_min": self.a_min,
            "a_max": self.a_max,
            "b_min": self.b_min,
            "b_max": self.b_max,
            "clip": self.clip,
        }


@dataclass(frozen=True)
class Normalize(_Step):
    """Subtract a mean and divide by a standard deviation; MONAI's ``NormalizeIntensity``.

    Attributes
    ----------
    mean, std
        In the unit of the image; ``None``: of the volume itself (population standard deviation). A standard deviation
        of 0 counts as 1.
    nonzero
        Take only the voxels that are not 0 into account, and leave those that are 0 at 0.

    Raises
    ------
    InputError
        When a given value is not finite.
    """

    mean: float | None = None
    std: float | None = None
    nonzero: bool = False

    def __post_init__(self) -> None:
        _check_finite(mean=self.mean, std=self.std)

    def apply_in_place(self, array: np.ndarray) -> None:
        """Normalise a float32 array itself."""
        mean, std = self.mean, self.std
        if mean is None or std is None:
            of_volume = moments(array, nonzero=self.nonzero)
            mean = of_volume[0] if mean is None else mean
            std = of_volume[1] if std is None else std
        std = std or 1.0
        where: Any = array != 0 if self.nonzero else True
        np.subtract(array, np.float32(mean), out=array, where=where)
        np.divide(array, np.float32(std), out=array, where=where)

    def to_monai(self, key: str) -> dict[str, Any]:
        """Return the step as MONAI's ``NormalizeIntensityd``."""
        return {
            "_target_": "NormalizeIntensityd",
            "keys": key,
            "subtrahend": self.mean,
            "divisor": self.std,
            "nonzero": self.nonzero,
        }


@dataclass(frozen=True)
class ScalePercentiles(_Step):
    """Map the range between two percentiles to [b_min, b_max]; MONAI's ``ScaleIntensityRangePercentiles``.

    Percentiles are linear between order statistics. A volume whose two percentiles are equal (almost constant) has the
    lower one subtracted and ``b_min`` added, without clipping, as MONAI does.

    Raises
    ------
    InputError
        When a bound is not finite or the percentiles are not rising within 0 to 100.
    """

    lower: float
    upper: float
    b_min: float = 0.0
    b_max: float = 1.0
    clip: bool = True

    def __post_init__(self) -> None:
        _check_finite(lower=self.lower, upper=self.upper, b_min=self.b_min, b_max=self.b_max)
        if not 0 <= self.lower < self.upper <= 100:
            raise InputError(
                f"The percentiles of the model, {self.lower} and {self.upper}, are not rising within 0 to 100.",
                advice="Correct the model.",
            )

    def apply_in_place(self, array: np.ndarray) -> None:
        """Scale a float32 array itself."""
        low, high = (float(value) for value in np.percentile(array, (self.lower, self.upper)))
        if low == high:
            array += np.float32(self.b_min - low)
            return
        _scale(array, (low, high), (self.b_min, self.b_max), clip=self.clip)

    def to_monai(self, key: str) -> dict[str, Any]:
        """Return the step as MONAI's ``ScaleIntensityRangePercentilesd``."""
        return {
            "_target_": "ScaleIntensityRangePercentilesd",
            "keys": key,
            "lower": self.lower,
            "upper": self.upper,
            "b_min": self.b_min,
            "b_max": self.b_max,
            "clip": self.clip,
        }


def apply_steps(steps: Iterable[IntensityStep], array: np.ndarray) -> np.ndarray:
    """Return ``array`` after all ``steps`` as a new float32 array (one copy in all); no step: just the copy."""
    result = np.array(array, dtype=np.float32, order="K", copy=True)
    for step in steps:
        step.apply_in_place(result)
    return result


def moments(array: np.ndarray, *, nonzero: bool = False) -> tuple[float, float]:
    """Return the mean and the population standard deviation of ``array``, of its non-zero values when asked.

    Sums are in float64, in two passes. An array without such values has mean 0 and standard deviation 0.
    """
    count, total = 0, 0.0
    for chunk in _chunks(array):
        values = chunk[chunk != 0] if nonzero else chunk
        count += values.size
        total += float(np.sum(values, dtype=np.float64))
    if count == 0:
        return 0.0, 0.0
    mean = total / count
    squares = 0.0
    for chunk in _chunks(array):
        difference = (chunk[chunk != 0] if nonzero else chunk).astype(np.float64) - mean
        squares += float(np.dot(difference, difference))
    return mean, (squares / count) ** 0.5


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    # "K" follows the memory: a transposed view is walked without a copy, and order does not matter to a sum.
    flat = array.ravel(order="K")
    for start in range(0, flat.size, _CHUNK):
        yield flat[start : start + _CHUNK]


def _scale(array: np.ndarray, source: tuple[float, float], target: tuple[float, float], *, clip: bool) -> None:
    array -= np.float32(source[0])
    array /= np.float32(source[1] - source[0])
    array *= np.float32(target[1] - target[0])
    array += np.float32(target[0])
    if clip:
        np.clip(array, np.float32(target[0]), np.float32(target[1]), out=array)
