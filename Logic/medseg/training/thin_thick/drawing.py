"""What was drawn on the thick slices: how a thin segmentation is made to agree with it, and how far it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.training.thin_thick.thick import place_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.volumes import Volume

_LEAST = 1e-3


def keep_drawing(scores: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return the scores of the thin slices of one group, shifted so that most of them show what was drawn.

    Each column of voxels across the group is shifted by the least constant that makes more than half of its slices the
    drawn class, or leaves at most half of them a label where background was drawn; columns that agree stay as they
    are. So the shape within the slice comes from the scores and what the user drew is never overruled. Ours.

    Parameters
    ----------
    scores
        (labels, slices, rows, columns), positive inside; the background's is 0. Changed in place.
    drawn
        (rows, columns) class indices: 0, or 1 + the index of the label.
    """
    slices = scores.shape[1]
    needed = slices - (slices // 2 + 1)  # index, in rising order, of the value that decides over more than half
    background = drawn == 0
    if background.any():
        best = np.sort(scores[:, :, background].max(0), axis=0)[needed]
        scores[:, :, background] -= np.where(best > 0, best + _LEAST, 0)
    for index in np.unique(drawn[~background]).tolist():
        own = drawn == index
        column = scores[index - 1][:, own]
        others = np.delete(scores[:, :, own], index - 1, axis=0)
        rival = np.maximum(others.max(0), 0) if len(others) else np.zeros_like(column)
        lead = np.sort(column - rival, axis=0)[needed]
        scores[index - 1][:, own] = column + np.where(lead > 0, 0, _LEAST - lead)
    return scores


@dataclass(frozen=True)
class SliceAgreement:
    """How a thin segmentation agrees with what was drawn on one thick slice.

    Attributes
    ----------
    thick_slice
        Index on the thick grid that was drawn on (or would have been, when labels were cropped), from 0.
    first_thin, last_thin
        The thin slices that it covers.
    value
        The label.
    drawn_voxels
        Voxels of the label on the thick slice.
    mean_difference
        Mean of |mean thin mask - thick mask| over the voxels where either is not zero.
    dice
        Dice coefficient of the mean thin mask (a fraction at each voxel) and the thick mask.
    """

    thick_slice: int
    first_thin: int
    last_thin: int
    value: int
    drawn_voxels: int
    mean_difference: float
    dice: float


def agreement(
    thin: np.ndarray, drawn: np.ndarray, values: Sequence[int], *, first: int, ratio: int
) -> list[SliceAgreement]:
    """Compare thin labels with thick ones; rows only for slices on which a label is drawn or found.

    Parameters
    ----------
    thin
        (T, rows, columns) label values.
    drawn
        (n, rows, columns) label values; each slice stands for ``ratio`` thin ones, from ``first`` on.
    values
        The labels to compare.
    """
    rows = []
    for number, plane in enumerate(drawn):
        start = first + number * ratio
        group = thin[start : start + ratio]
        for value in values:
            mean = (group == value).mean(0)
            mask = plane == value
            either = (mean > 0) | mask
            if either.any():
                difference = float(np.abs(mean - mask)[either].mean())
                dice = float(2 * mean[mask].sum() / (mean.sum() + mask.sum()))
                voxels = int(mask.sum())
                rows.append(SliceAgreement(number, start, start + ratio - 1, value, voxels, difference, dice))
    return rows


def measure_agreement(labelmap: Volume, thick_labels: Volume) -> list[SliceAgreement]:
    """Return how thin labels agree with those that were drawn on a thick copy: what a transfer reports of itself.

    Also for a result that was corrected since. Light: no torch, and only the region of the labels is looked at.

    Raises
    ------
    InputError, GeometryError
        See :func:`medseg.training.thin_thick.thick.place_labels`.
    """
    placed = place_labels(labelmap.geometry, thick_labels)
    grouping = placed.grouping
    thin = np.moveaxis(labelmap.array, grouping.array_axis, 0)
    drawn = np.moveaxis(placed.array, grouping.array_axis, 0)
    flat = np.asarray(thin.any(0) | drawn.any(0))
    rows, columns = (np.flatnonzero(flat.any(axis)) for axis in (1, 0))
    box = (slice(None), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    values = [value for value in np.unique(drawn).tolist() if value]
    return agreement(thin[box], drawn[box], values, first=grouping.first, ratio=grouping.ratio)
