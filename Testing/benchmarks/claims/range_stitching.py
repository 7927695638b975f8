"""Exact stitching, no learning: the first part of the claim ``arbitrary-range``.

Spines and cages of known truth are cut into overlapping windows, as a network without an error would give them: each
window numbers its bones anew. In a window a rib is what is connected there, so an arch that the window cuts is two.
Vertebrae touch each other, so two that a window takes for one stay one in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from benchmarks.claims.torso import cut_windows, random_cage, random_spine
from medseg.analysis.components import components_by_value
from medseg.analysis.panoptic import Panoptic, panoptic_quality
from medseg.analysis.small_objects import remove_small_instances
from medseg.analysis.stitching import JoiningStitcher, NaiveStitcher, OverwritingStitcher, Stitched, Stitcher, stitch
from medseg.progress import Progress

VERTEBRAE, RIBS = "vertebrae", "ribs"
LEAST_VOXELS = 11
"""Smaller pieces are removed after stitching, whatever the rule: it leaves rib ends of up to 10 voxels separate."""

_SHARE_WITH_MERGE = 1 / 3

Shape = tuple[int, int, int]


class _AsPrinted:
    """The rule for vertebrae without what we added for bones taller than the overlap."""

    def __init__(self, shape: Shape) -> None:
        self._out = np.zeros(shape, np.int32)
        self._next = 0

    def add(self, start: int, instances: np.ndarray) -> None:
        """Take the next window."""
        own = np.where(instances > 0, instances + self._next, 0)
        self._next = max(self._next, int(own.max()))
        out = self._out[start : start + len(own)]
        cut = own[0][own[0] > 0] if start else []
        np.copyto(out, own, where=~np.isin(own, cut))

    def finish(self) -> Stitched:
        """Return the whole scan."""
        return Stitched(self._out)


METHODS: dict[str, Callable[[Shape], Stitcher]] = {
    "rule for vertebrae, with our addition": OverwritingStitcher,
    "rule for vertebrae, as printed": _AsPrinted,
    "rule for ribs": JoiningStitcher,
    "naive: the last window wins": lambda shape: NaiveStitcher(shape, winner="last"),
    "naive: the first window wins": lambda shape: NaiveStitcher(shape, winner="first"),
    "naive: the windows' own numbers": lambda shape: NaiveStitcher(shape, unique=False),
}


@dataclass
class Tally:
    """How often a method gave the truth, its pooled quality, and that with windows that took two bones for one."""

    quality: Panoptic = field(default_factory=Panoptic)
    with_merges: Panoptic = field(default_factory=Panoptic)
    exact: int = 0
    scans: int = 0


def stitched(scans: int, seed: int, progress: Progress) -> dict[str, dict[str, Tally]]:
    """Stitch ``scans`` spines and cages of 64 to 400 slices by every method; return bones -> method -> tally."""
    generator = np.random.default_rng(seed)
    tallies = {bones: {name: Tally() for name in METHODS} for bones in (VERTEBRAE, RIBS)}
    for index in range(scans):
        slices = int(generator.integers(64, 401))
        for bones in (VERTEBRAE, RIBS):
            truth = random_spine(slices, generator, gap=0) if bones == VERTEBRAE else random_cage(slices, generator)
            truth = components_by_value(truth, 26)
            windows = cut_windows(truth, generator)
            if bones == RIBS:
                windows = [(start, components_by_value(window, 26)) for start, window in windows]
            merged = [(start, _two_in_one(window, generator)) for start, window in windows]
            for name, tally in tallies[bones].items():
                quality = _quality(windows, METHODS[name](truth.shape), truth)
                tally.quality += quality
                tally.with_merges += _quality(merged, METHODS[name](truth.shape), truth)
                tally.scans += 1
                # Of a rib, the few voxels of an end that was removed may be missing.
                least = 0.9 if bones == RIBS else 1.0
                tally.exact += quality.rq == 1.0 and min(match.dice for match in quality.matches) >= least
        progress.update((index + 1) / scans, f"Stitching scan {index + 1} of {scans}")
    return tallies


def _quality(windows: list[tuple[int, np.ndarray]], stitcher: Stitcher, truth: np.ndarray) -> Panoptic:
    found, judged = stitch(windows, stitcher).instances, truth.copy()
    for side in (found, judged):
        remove_small_instances(side, LEAST_VOXELS, keep_ends=False)
    return panoptic_quality(found, judged)


def _two_in_one(window: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return the window, in one of three with two neighbours (by height) under one number."""
    numbers = [int(number) for number in np.unique(window) if number]
    if len(numbers) < 2 or generator.uniform() > _SHARE_WITH_MERGE:
        return window
    heights = [float(np.flatnonzero((window == number).any(axis=(1, 2))).mean()) for number in numbers]
    order = [number for _, number in sorted(zip(heights, numbers, strict=True))]
    first = int(generator.integers(0, len(order) - 1))
    return np.where(window == order[first + 1], order[first], window)
