"""Synthetic bones whose truth is known: a spine of blocks with processes, and a cage of ribs that arch and slant.

Arrays are (slices, rows, columns), slice 0 at the head; every instance has a number of its own, 0 is background.
"""

from __future__ import annotations

import numpy as np

from medseg.segmentation.windows import window_starts

ROWS, COLUMNS = 28, 40


def spine(heights: list[int], *, gap: int = 1, before: int = 0, after: int = 0) -> np.ndarray:
    """Return a stack of vertebrae, int32: a body, an arch behind it, a spinous and two transverse processes.

    ``heights`` are slices of each from the head to the feet, ``gap`` the empty slices between two, ``before`` and
    ``after`` those at the ends (negative: the scan cuts the first or the last).
    """
    total = sum(heights) + gap * (len(heights) - 1)
    bones = np.zeros((total, ROWS, COLUMNS), np.int32)
    top = 0
    for number, height in enumerate(heights, start=1):
        here = bones[top : top + height]
        here[:, 8:16, 14:26] = number
        here[height // 4 : -(height // 4) or None, 16:19, 16:24] = number
        here[height // 3 :, 19:25, 19:21] = number
        here[height // 3 : height // 3 + 3, 16:18, 9:31] = number
        top += height + gap
    bones = bones[max(-before, 0) : total - max(-after, 0)]
    return np.pad(bones, ((max(before, 0), max(after, 0)), (0, 0), (0, 0)))


def random_spine(
    slices: int, rng: np.random.Generator, *, heights: tuple[int, int] = (16, 26), gap: int = 1
) -> np.ndarray:
    """Return ``slices`` slices of a spine of vertebrae of random heights (at least, at most), cut at both ends."""
    chosen: list[int] = []
    first = int(rng.integers(0, heights[0]))
    while sum(chosen) + gap * len(chosen) < slices + first + 1:
        chosen.append(int(rng.integers(heights[0], heights[1] + 1)))
    return spine(chosen, gap=gap)[first : first + slices]


def random_cage(slices: int, rng: np.random.Generator, *, pairs: int = 12) -> np.ndarray:
    """Return ``2 * pairs`` ribs over ``slices`` slices, left ones first: thin arcs that slant to the front and down."""
    bones = np.zeros((slices, ROWS, COLUMNS), np.int32)
    step = slices / (pairs + 1)
    slant = rng.uniform(0.8, 2.2) * step
    arch = rng.uniform(0.2, 0.8) * step
    for side in (0, 1):
        for rib in range(pairs):
            along = np.linspace(0, 1, 8 * int(slant + arch + ROWS))
            down = (rib + 0.3) * step + slant * along - arch * np.sin(np.pi * along)
            out = 3 + 14 * np.sin(0.95 * np.pi * (0.08 + 0.92 * along))
            back = 24 - 20 * along
            columns = COLUMNS / 2 + (out if side else -out)
            for shift in (0, 1):
                k, j, i = (np.rint(part).astype(int) for part in (down, back + shift, columns))
                inside = (k >= 0) & (k < slices)
                bones[k[inside], np.clip(j[inside], 0, ROWS - 1), np.clip(i[inside], 0, COLUMNS - 1)] = (
                    1 + rib + pairs * side
                )
    return bones


def cut_windows(
    bones: np.ndarray, rng: np.random.Generator, *, slices: int = 64, overlap: float = 0.5
) -> list[tuple[int, np.ndarray]]:
    """Return the windows of a scan as a perfect network would give them: each with numbers of its own, shuffled."""
    windows = []
    for start in window_starts(len(bones), min(slices, len(bones)), overlap):
        cut = bones[start : start + slices]
        present = np.unique(cut)
        numbers = np.zeros(int(bones.max()) + 1, np.int32)
        present = present[present > 0]
        numbers[present] = 1 + rng.permutation(len(present))
        windows.append((start, numbers[cut]))
    return windows
