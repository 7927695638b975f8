"""Voxel embeddings to clusters: which voxels of a group belong to one and the same instance.

Method: "Vision transformers for segmenting organs and tissues in CT scans of arbitrary imaging ranges" (Melander and
Thånell, Lund 2024), section on clustering, after De Brabandere et al. (2017): shift a ball of fixed radius to the mean
of the points in it, from a random point that has no cluster yet, until it stands still.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

DELTA = 3.0
"""Radius of the ball: twice the margin within which the training loss pulls the points of a cluster to its centre."""

_ITERATIONS = 50
_TOLERANCE = 1e-3
_LEFT_TO_TIDY = 0.75
"""Points that have a cluster leave the arrays when no more than this share is still without one: it costs a copy."""


def cluster_embeddings(
    embeddings: np.ndarray,
    *,
    delta: float = DELTA,
    seed: int = 0,
    iterations: int = _ITERATIONS,
    tolerance: float = _TOLERANCE,
    most: int | None = None,
    progress: Progress = NO_PROGRESS,
) -> np.ndarray:
    """Return the cluster of each point, int32 (n,), numbered from 1 in the order in which they were found.

    As long as a point has no cluster: take one of those at random; move the centre to the mean of the points without a
    cluster whose Euclidean distance from it is **below** ``delta``, until it moves by less than ``tolerance``; all such
    points around the last centre are the next cluster.

    Parameters
    ----------
    embeddings
        Real numbers, (n, E): one row a voxel of the group, in any unit that ``delta`` shares.
    delta
        Radius of a cluster (3 in the paper).
    seed
        Of the random choice; the same seed and points give the same clusters (not given in the paper).
    iterations, tolerance
        When the centre is taken to stand still (not given in the paper: 50 and 0.001).
    most
        Stop after so many clusters; the points that are left get 0. Without it, points that are all far apart (the
        embeddings of a network that was not trained for it) take time in proportion to the square of their number.
    progress
        Asked between two clusters.

    Raises
    ------
    ValueError
        When the points are not a table or ``delta`` is not positive.
    Cancelled
        When the user asked to stop.
    """
    if embeddings.ndim != 2:
        raise ValueError(f"embeddings must be a table (points, dimensions), not {embeddings.ndim} axes")
    if not delta > 0:
        raise ValueError(f"delta must be positive, not {delta}")
    count = len(embeddings)
    labels = np.zeros(count, np.int32)
    if count == 0:
        return labels
    points = _Points(np.asarray(embeddings, np.result_type(embeddings.dtype, np.float32)), delta)
    for number, start in enumerate(_visits(count, seed, labels), start=1):
        if most is not None and number > most:
            break
        progress.check()
        centre = embeddings[start].astype(points.dtype)
        for _ in range(iterations):
            inside = points.near(centre)
            if inside.size == 0:
                break
            moved = points.mean(inside)
            step = float(np.linalg.norm(moved - centre))
            centre = moved
            if step < tolerance:
                break
        labels[points.take(points.near(centre), else_point=start)] = number
    return labels


def _visits(count: int, seed: int, labels: np.ndarray) -> Iterator[int]:
    """Yield points without a cluster at random: a shuffled order, from which those that got one are skipped.

    More than one round: a ball may move away from the point that it began at.
    """
    generator = np.random.default_rng(seed)
    waiting = np.arange(count)
    while waiting.size:
        for point in generator.permutation(waiting).tolist():
            if labels[point] == 0:
                yield point
        waiting = waiting[labels[waiting] == 0]


class _Points:
    """The points without a cluster, sorted along the direction in which they spread most.

    The points of a ball lie between two planes across that direction; clusters line up along a curve, as the paper
    observes, so this leaves few to look at.
    """

    def __init__(self, embeddings: np.ndarray, delta: float) -> None:
        centred = embeddings - embeddings.mean(axis=0)
        self._axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
        along = embeddings @ self._axis
        self._order = np.argsort(along, kind="stable")
        self._along = along[self._order]
        self._points = embeddings[self._order]
        self._left = np.ones(len(embeddings), bool)
        self._delta = delta
        # The planes stand a little apart: projections are rounded, and distances decide.
        self._reach = delta * (1 + 1e-5) + 1e-5 * float(np.abs(along).max())
        self.dtype = embeddings.dtype

    def near(self, centre: np.ndarray) -> np.ndarray:
        """Return where in these arrays the points at less than delta from ``centre`` are."""
        middle = float(centre @ self._axis)
        low, high = np.searchsorted(self._along, (middle - self._reach, middle + self._reach))
        apart = self._points[low:high] - centre
        squares = np.einsum("ij,ij->i", apart, apart)
        return low + np.flatnonzero((squares < self._delta**2) & self._left[low:high])

    def mean(self, inside: np.ndarray) -> np.ndarray:
        """Return the mean of some of the points."""
        return self._points[inside].mean(axis=0, dtype=np.float64).astype(self.dtype)

    def take(self, inside: np.ndarray, *, else_point: int) -> np.ndarray:
        """Take points out and return their indices; ``else_point`` alone (an index) when there is none."""
        if inside.size == 0:
            inside = np.flatnonzero(self._order == else_point)
        taken = self._order[inside]
        self._left[inside] = False
        left = np.count_nonzero(self._left)
        if left <= _LEFT_TO_TIDY * len(self._left):
            keep = self._left
            self._order, self._along, self._points = self._order[keep], self._along[keep], self._points[keep]
            self._left = np.ones(left, bool)
        return taken
