"""Overlap and confusion of two label arrays, by counting voxels."""

from __future__ import annotations

import dataclasses
import math
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


@dataclasses.dataclass(frozen=True)
class ConfusionMetrics:
    """Figures of one structure from its true and false positives and negatives; NaN where one is not defined."""

    dice: float
    iou: float
    accuracy: float
    precision: float
    recall: float
    specificity: float
    mcc: float


def confusion_metrics(result: np.ndarray, truth: np.ndarray) -> ConfusionMetrics:
    """Return the figures of two boolean arrays of one shape.

    Dice = 2TP / (2TP + FP + FN) and IoU = TP / (TP + FP + FN), both 1 when both arrays are empty; accuracy =
    (TP + TN) / all; precision = TP / (TP + FP); recall = TP / (TP + FN); specificity = TN / (TN + FP); MCC =
    (TP TN - FP FN) / sqrt((TP + FP)(TP + FN)(TN + FP)(TN + FN)).

    Definitions: Yu and Han, "3D Medical Image Segmentation based on multi-scale MPU-Net" (arXiv 2307.05799), whose own
    program exchanges FP and FN, so that what it calls precision and specificity may be recall and the negative
    predictive value.

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    if result.shape != truth.shape:
        raise ValueError(f"the arrays have different shapes: {result.shape} and {truth.shape}")
    found, real = int(np.count_nonzero(result)), int(np.count_nonzero(truth))
    hits = int(np.count_nonzero(np.logical_and(result, truth)))
    excess, missed = found - hits, real - hits
    rest = result.size - hits - excess - missed
    # Whole numbers of any size: the product of four counts leaves 64 bits.
    root = math.sqrt(found * real * (rest + excess) * (rest + missed))
    return ConfusionMetrics(
        dice=_share(2 * hits, 2 * hits + excess + missed, empty=1.0),
        iou=_share(hits, hits + excess + missed, empty=1.0),
        accuracy=_share(hits + rest, result.size),
        precision=_share(hits, found),
        recall=_share(hits, real),
        specificity=_share(rest, rest + excess),
        mcc=_share(hits * rest - excess * missed, root),
    )


def _share(part: float, whole: float, *, empty: float = math.nan) -> float:
    return part / whole if whole else empty
