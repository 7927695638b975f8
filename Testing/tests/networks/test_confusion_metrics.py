"""Figures from true and false positives and negatives, by their true definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_confusion_matrix_metric, get_confusion_matrix

from medseg.metrics import confusion_metrics, dice


def test_the_figures_of_twenty_voxels_are_as_computed_by_hand() -> None:
    # TP 3, FP 2, FN 1, TN 14.
    result = np.array([1] * 5 + [0] * 15, bool)
    truth = np.array([1] * 3 + [0] * 2 + [1] + [0] * 14, bool)
    found = confusion_metrics(result, truth)
    assert found.dice == pytest.approx(6 / 9)
    assert found.iou == pytest.approx(3 / 6)
    assert found.accuracy == pytest.approx(17 / 20)
    assert found.precision == pytest.approx(3 / 5)
    assert found.recall == pytest.approx(3 / 4)
    assert found.specificity == pytest.approx(14 / 16)
    assert found.mcc == pytest.approx((3 * 14 - 2 * 1) / math.sqrt(5 * 4 * 16 * 15))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999))
def test_they_are_those_of_monai(seed: int) -> None:
    rng = np.random.default_rng(seed)
    result, truth = rng.random((2, 4, 5, 6)) < rng.uniform(0.1, 0.9)
    matrix = get_confusion_matrix(
        *(torch.from_numpy(array[None, None].astype(np.float32)) for array in (result, truth))
    )
    found = confusion_metrics(result, truth)
    for name, theirs in (
        ("accuracy", "accuracy"),
        ("precision", "precision"),
        ("recall", "sensitivity"),
        ("specificity", "specificity"),
        ("mcc", "matthews_correlation_coefficient"),
    ):
        expected = compute_confusion_matrix_metric(theirs, matrix).item()
        assert getattr(found, name) == pytest.approx(expected, abs=1e-5), name
    assert found.dice == pytest.approx(dice(result, truth))
    assert found.iou == pytest.approx(found.dice / (2 - found.dice))


def test_what_is_not_defined_is_not_a_number() -> None:
    nothing, everything = np.zeros(8, bool), np.ones(8, bool)
    empty = confusion_metrics(nothing, nothing)
    assert (empty.dice, empty.iou, empty.accuracy, empty.specificity) == (1.0, 1.0, 1.0, 1.0)
    assert all(math.isnan(value) for value in (empty.precision, empty.recall, empty.mcc))
    assert math.isnan(confusion_metrics(everything, everything).specificity)
    assert confusion_metrics(nothing, everything).dice == 0.0


def test_large_volumes_do_not_overflow() -> None:
    result = np.zeros((512, 512, 300), bool)
    result[:256] = True
    assert confusion_metrics(result, result).mcc == pytest.approx(1.0)


def test_arrays_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="different shapes"):
        confusion_metrics(np.zeros(3, bool), np.zeros((3, 1), bool))
