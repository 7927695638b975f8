"""A simulated user, for training and for measuring: it clicks into the middle of what is most wrong.

Source: K. Sofiiuk et al., "Reviving iterative training with mask guidance for interactive segmentation" (ICIP 2022),
which PE-MED (MLMI 2023) follows as far as it says. The largest error is the largest connected piece of what is missed
or too much; its middle is where it is farthest from its border. The border of the image counts as one, so that no click
lies there unless nothing else is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.correction.clicks import Click

if TYPE_CHECKING:
    from collections.abc import Sequence


def first_click(
    truth: np.ndarray, *, spacing: Sequence[float] | None = None, rng: np.random.Generator | None = None
) -> Click:
    """Return the first click, which is positive: into the largest piece of the structure.

    Parameters
    ----------
    truth
        (k, j, i) or (j, i), the structure above 0.
    spacing
        Size of the voxels along these axes; ``None``: the same along all.
    rng
        With it, a random place in the inner part of the piece; without, its middle.

    Raises
    ------
    ValueError
        When the structure is empty.
    """
    click = next_click(np.zeros(truth.shape, bool), truth, spacing=spacing, rng=rng)
    if click is None:
        raise ValueError("there is nothing to click at: the structure is empty")
    return click


def next_click(
    answer: np.ndarray,
    truth: np.ndarray,
    *,
    spacing: Sequence[float] | None = None,
    rng: np.random.Generator | None = None,
) -> Click | None:
    """Return the click that corrects the largest error of an answer: positive where it missed, else negative.

    Parameters
    ----------
    answer, truth
        (k, j, i) or (j, i), the structure above 0.
    spacing, rng
        As for :func:`first_click`.

    Returns
    -------
    Click or None
        ``None`` when nothing is wrong.
    """
    given, wanted = answer > 0, truth > 0
    missed, excess = _largest_piece(wanted & ~given), _largest_piece(given & ~wanted)
    if missed is None and excess is None:
        return None
    is_positive = bool(excess is None or (missed is not None and missed.sum() >= excess.sum()))
    return Click(_middle(missed if is_positive else excess, spacing, rng), is_positive)


def _largest_piece(mask: np.ndarray) -> np.ndarray | None:
    from scipy import ndimage

    pieces, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    if not count:
        return None
    return pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])


def _middle(
    region: np.ndarray | None, spacing: Sequence[float] | None, rng: np.random.Generator | None
) -> tuple[int, ...]:
    from scipy import ndimage

    assert region is not None
    box = ndimage.find_objects(region.astype(np.uint8))[0]
    depth = ndimage.distance_transform_edt(np.pad(region[box], 1), sampling=spacing)
    inside = depth[(slice(1, -1),) * region.ndim]
    if rng is None:
        # A long piece is equally deep at many places.
        best = np.argwhere(inside >= inside.max() - 1e-6)
        place = best[np.square(best - best.mean(0)).sum(1).argmin()]
    else:
        best = np.argwhere(inside > inside.max() / 2)
        place = best[rng.integers(len(best))]
    return tuple(int(at + part.start) for at, part in zip(place, box, strict=True))
