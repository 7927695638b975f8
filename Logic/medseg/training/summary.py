"""The cases of a run at a glance: for the terminal and for the report."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.labels import LabelTable
    from medseg.training.checks import CaseFacts

LABEL_HEAD = ("Label", "Annotated in", "Found in", "Median voxels", "Fewest", "Most")


def data_rows(facts: Sequence[CaseFacts]) -> list[tuple[str, str]]:
    """Return what there is and its text: cases, sizes, voxels in mm, orientations, intensities."""
    splits = Counter(case.split for case in facts)
    sizes = np.array([case.size for case in facts])
    spacings = np.array([case.spacing for case in facts])
    limits = np.array([case.intensity for case in facts])
    orientations = Counter(case.orientation for case in facts)
    low, high = (_range(limits[:, which], "{:,.0f}" if np.ptp(limits) > 100 else "{:.3g}") for which in (0, 1))
    return [
        ("Cases", f"{len(facts)}: {splits['training']} to train on, {splits['validation']} kept aside"),
        ("Size (voxels)", " x ".join(_range(sizes[:, axis], "{:.0f}") for axis in range(3))),
        ("Voxel size (mm)", " x ".join(_range(spacings[:, axis], "{:.3g}") for axis in range(3))),
        ("Orientation", ", ".join(f"{name} ({count})" for name, count in orientations.most_common())),
        ("Intensity", f"from {low} to {high} (0.5th and 99.5th percentile of each case)"),
    ]


def label_rows(facts: Sequence[CaseFacts], labels: LabelTable) -> list[tuple[str, ...]]:
    """Return a row of :data:`LABEL_HEAD` for each label; voxels are of the files, over the cases that hold it."""
    rows: list[tuple[str, ...]] = []
    for label in labels:
        annotated = [case for case in facts if label.value in case.annotated]
        counts = [case.voxels[label.value] for case in annotated if case.voxels[label.value]]
        voxels = (f"{np.median(counts):.0f}", str(min(counts)), str(max(counts))) if counts else ("–", "–", "–")
        rows.append((label.name, f"{len(annotated)} of {len(facts)}", str(len(counts)), *voxels))
    return rows


def _range(values: np.ndarray, form: str) -> str:
    low, high = form.format(values.min()), form.format(values.max())
    return low if low == high else f"{low}–{high}"
