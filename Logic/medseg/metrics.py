"""Figures of agreement between two label arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Return ``2 |A and B| / (|A| + |B|)`` of two boolean arrays of one shape; 1 when both are empty.

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"the arrays have different shapes: {first.shape} and {second.shape}")
    total = int(np.count_nonzero(first)) + int(np.count_nonzero(second))
    if total == 0:
        return 1.0
    return 2.0 * int(np.count_nonzero(np.logical_and(first, second))) / total


def dice_per_label(result: np.ndarray, truth: np.ndarray, values: Iterable[int]) -> dict[int, float]:
    """Return the Dice coefficient of each label value in two label arrays of one shape."""
    return {value: dice(result == value, truth == value) for value in values}
