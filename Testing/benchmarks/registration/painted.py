"""Brain MR painted from label maps: no real volumes, but two people, with every structure known in both."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np

from benchmarks.registration.appearance import as_mr
from benchmarks.registration.pair import Pair

if TYPE_CHECKING:
    from medseg.volumes import Volume

Contrast = Literal["T1", "T2"]

STRUCTURES = (
    *(2, 3, 4, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 26, 28),
    *(41, 42, 43, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60),
)
"""FreeSurfer's codes of what is measured."""

_T1 = {
    2: 0.85, 41: 0.85, 7: 0.85, 46: 0.85, 3: 0.58, 42: 0.58, 8: 0.58, 47: 0.58, 10: 0.70, 49: 0.70, 11: 0.62, 50: 0.62,
    12: 0.65, 51: 0.65, 13: 0.75, 52: 0.75, 16: 0.78, 17: 0.58, 53: 0.58, 18: 0.57, 54: 0.57, 26: 0.61, 58: 0.61,
    28: 0.74, 60: 0.74, 4: 0.18, 43: 0.18, 5: 0.18, 44: 0.18, 14: 0.18, 15: 0.18, 24: 0.16,
}  # fmt: skip
"""Brightness in a T1-weighted scan of what has a name; what has none gets one by its number."""
_SPREAD, _BLUR_MM = 0.03, 0.7


def painted_pair(fixed: Volume, moving: Volume, contrasts: tuple[Contrast, Contrast], seed: int) -> Pair:
    """Return two label maps as volumes, with the measured structures as labels."""
    rng = np.random.default_rng(seed)
    return Pair(
        fixed=paint(fixed, contrasts[0], rng),
        moving=paint(moving, contrasts[1], rng),
        fixed_labels=_measured(fixed),
        moving_labels=_measured(moving),
    )


def paint(labels: Volume, contrast: Contrast, rng: np.random.Generator) -> Volume:
    """Return a volume on the grid of the labels, float32, about 0 to 1.

    Every label is given a brightness; then it is blurred, shaded and made noisy. A label has about the same brightness
    in every subject, as in scans of one kind. "T2" is dark where "T1" is bright.
    """
    import SimpleITK as sitk

    values, where = np.unique(labels.array, return_inverse=True)
    bright = np.array([0.0 if value == 0 else _brightness(int(value), contrast) for value in values])
    bright[1:] += rng.normal(0, _SPREAD, len(values) - 1)
    flat = dataclasses.replace(labels, array=bright.astype(np.float32)[where].reshape(labels.shape))
    blurred = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(flat.to_sitk(), _BLUR_MM))
    return as_mr(dataclasses.replace(flat, array=blurred, modality="MR"), rng)


def _brightness(value: int, contrast: Contrast) -> float:
    t1 = _T1.get(value, float(np.random.default_rng(value).uniform(0.1, 0.9)))
    return t1 if contrast == "T1" else 1.0 - 0.85 * t1


def _measured(labels: Volume) -> Volume:
    return labels.with_array(np.where(np.isin(labels.array, STRUCTURES), labels.array, 0).astype(np.uint8))
