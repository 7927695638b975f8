"""One instance stays one instance where windows overlap: the two rules of the paper, and the naive ways beside them.

Section 9 of the digest of "Vision transformers for segmenting organs and tissues in CT scans of arbitrary imaging
ranges" (Melander and Thånell, Lund 2024). A scan is worked on in windows of slices, from the head to the feet, each
with instance numbers of its own. Arrays are integers (slices, rows, columns), slice 0 nearest to the head, 0 for
background.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from medseg.analysis.components import components_by_value, consecutive, counts_of

if TYPE_CHECKING:
    from collections.abc import Iterable

MINIMUM_SHARED = 10
"""Instances of two windows are the same when they share more voxels than this (from the paper)."""


@dataclasses.dataclass(frozen=True)
class Stitched:
    """Instances of a whole scan.

    Attributes
    ----------
    instances
        int32 (slices, rows, columns), numbered from 1 without gaps.
    notes
        What was decided against appearances, one sentence each: worth a look, since it may be a wrong merge.
    """

    instances: np.ndarray
    notes: tuple[str, ...] = ()


class Stitcher(Protocol):
    """Takes windows from the top of the scan to its bottom."""

    def add(self, start: int, instances: np.ndarray) -> None:
        """Take the window that begins at slice ``start``: instances (slices of the window, rows, columns)."""

    def finish(self) -> Stitched:
        """Return the whole scan."""


def stitch(windows: Iterable[tuple[int, np.ndarray]], stitcher: Stitcher) -> Stitched:
    """Give ``windows`` (first slice, instances), ordered from the top, to ``stitcher`` and return what it makes."""
    for start, instances in windows:
        stitcher.add(start, instances)
    return stitcher.finish()


class _Scan:
    """The result so far; numbers are unique over all windows."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.instances = np.zeros(shape, np.int32)
        self.notes: list[str] = []
        self.start = 0
        self.end = 0
        self._next = 1

    def own(self, start: int, instances: np.ndarray) -> np.ndarray:
        """Return a window with numbers that no window before it has."""
        if start < self.start or start > self.end or start + len(instances) < self.end:
            raise ValueError(f"a window from slice {start} does not follow one from {self.start} to {self.end}")
        numbers = consecutive(instances)
        numbers[numbers > 0] += self._next - 1
        self._next = max(self._next, int(numbers.max(initial=0)) + 1)
        return numbers

    def new_number(self) -> int:
        self._next += 1
        return self._next - 1

    def moved(self, start: int, slices: int) -> None:
        self.start, self.end = start, start + slices


class OverwritingStitcher:
    """The rule for vertebrae: the lower window wins, but for its instances that its top slice has cut.

    A vertebra that touches the top slice of a window is incomplete there; it lies whole in the window before, whose
    result is kept. That holds as long as a vertebra is not taller than the overlap (with 64 slices of 3 mm and an
    overlap of one half: 9.6 cm). All other voxels of the window, its background too, replace what was there.

    Where an instance that touches the top reaches below the windows before (it is taller than the overlap, or two were
    taken for one), nothing is there that could be kept: it gets the number of the earlier instance with which it
    shares most voxels, else a new one, and a note is made (not given in the paper).

    Parameters
    ----------
    shape
        Slices, rows and columns of the scan.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._scan = _Scan(shape)

    def add(self, start: int, instances: np.ndarray) -> None:
        """Take the next window."""
        scan = self._scan
        own = scan.own(start, instances)
        there = scan.instances[start : start + len(own)]
        if scan.end == 0:
            there[:] = own
        else:
            cut = [int(number) for number in np.unique(own[0]) if number]
            kept = np.zeros(int(own.max(initial=0)) + 1, bool)
            kept[cut] = True
            beyond = scan.end - start
            lost = [(number, own[beyond:] == number) for number in cut]
            numbers = [self._number(there[:beyond], own[:beyond], number) if mask.any() else 0 for number, mask in lost]
            np.copyto(there, own, where=~kept[own])
            for (_, mask), number in zip(lost, numbers, strict=True):
                if number:
                    there[beyond:][mask] = number
                    scan.notes.append(
                        f"An instance that the window from slice {start} cuts reaches below slice {scan.end - 1}: it is"
                        " taller than the overlap of the windows, or two were taken for one."
                    )
        scan.moved(start, len(own))

    def _number(self, earlier: np.ndarray, own: np.ndarray, number: int) -> int:
        shared = counts_of(earlier[own == number][None])
        shared[0] = 0
        return int(np.argmax(shared)) if shared.any() else self._scan.new_number()

    def finish(self) -> Stitched:
        """Return the whole scan."""
        return Stitched(consecutive(self._scan.instances), tuple(self._scan.notes))


class JoiningStitcher:
    """The rule for ribs: instances of two overlapping windows that share more than 10 voxels are one.

    The instances of a window are split into connected components first. Sharing is transitive: whatever a chain of
    shared voxels connects becomes one instance, the union of its voxels. The result so far is the upper window of each
    pair; what an earlier pair has joined is not taken apart again (our reading). A joined instance keeps the number
    with which one of its members touches the top of the upper window. When several do, it keeps the lowest and a note
    is made (not given in the paper). A voxel that two instances claim, which share too few to be one, goes to that of
    the lower window (not given in the paper).

    A rib of which at most ``minimum_shared`` voxels reach into the next window gets a number of its own there; the
    rule for small objects removes such an end.

    Parameters
    ----------
    shape
        Slices, rows and columns of the scan.
    minimum_shared
        Voxels that two instances may share and still be two.
    connectivity
        6 or 26, of the components in a window (not given in the paper).
    """

    def __init__(
        self, shape: tuple[int, int, int], *, minimum_shared: int = MINIMUM_SHARED, connectivity: int = 26
    ) -> None:
        self._scan = _Scan(shape)
        self._minimum_shared = minimum_shared
        self._connectivity = connectivity
        self._same_as = np.zeros(1, np.int32)
        """The number that each number has become: itself, until it is joined."""

    def add(self, start: int, instances: np.ndarray) -> None:
        """Take the next window."""
        scan = self._scan
        own = scan.own(start, components_by_value(instances, self._connectivity))
        grown = np.arange(max(int(own.max(initial=0)) + 1, len(self._same_as)), dtype=np.int32)
        grown[: len(self._same_as)] = self._same_as
        self._same_as = grown
        if scan.end:
            upper = self._same_as[scan.instances[start : scan.end]]
            self._join(upper, own[: scan.end - start])
        np.copyto(scan.instances[start : start + len(own)], own, where=own > 0)
        scan.moved(start, len(own))

    def _join(self, upper: np.ndarray, lower: np.ndarray) -> None:
        both = (upper > 0) & (lower > 0)
        base = len(self._same_as)
        pairs, shared = np.unique(upper[both].astype(np.int64) * base + lower[both], return_counts=True)
        edges = [divmod(pair, base) for pair in pairs[shared > self._minimum_shared].tolist()]
        top = self._same_as[self._scan.instances[self._scan.start]]
        carried = {int(number) for number in np.unique(top) if number}
        for group in _connected(edges):
            arrived = sorted(group & carried)
            if len(arrived) > 1:
                self._scan.notes.append(
                    f"{len(arrived)} instances that are separate at slice {self._scan.start} were taken for one further"
                    " down: they touch there, or two were taken for one in a window."
                )
            # "Otherwise a new number": that of an upper member is as good, and numbers are given anew in the end.
            kept = arrived[0] if arrived else min(group)
            members = np.zeros(base, bool)
            members[list(group)] = True
            self._same_as[members[self._same_as]] = kept

    def finish(self) -> Stitched:
        """Return the whole scan."""
        return Stitched(consecutive(self._same_as[self._scan.instances]), tuple(self._scan.notes))


class NaiveStitcher:
    """What the two rules are compared with: where windows overlap, the last or the first one is taken.

    Parameters
    ----------
    shape
        Slices, rows and columns of the scan.
    winner
        Whose voxels stay in an overlap: "last" (the lower window) or "first".
    unique
        Number the instances of all windows differently; without it a window's own numbers are taken as they are, so
        that different instances of two windows may get one number.
    """

    def __init__(
        self, shape: tuple[int, int, int], *, winner: Literal["last", "first"] = "last", unique: bool = True
    ) -> None:
        self._scan = _Scan(shape)
        self._winner = winner
        self._unique = unique

    def add(self, start: int, instances: np.ndarray) -> None:
        """Take the next window."""
        own = self._scan.own(start, instances)
        taken = 0 if self._winner == "last" else max(self._scan.end - start, 0)
        self._scan.instances[start + taken : start + len(own)] = (own if self._unique else instances)[taken:]
        self._scan.moved(start, len(own))

    def finish(self) -> Stitched:
        """Return the whole scan."""
        return Stitched(consecutive(self._scan.instances))


def _connected(edges: Iterable[tuple[int, int]]) -> list[set[int]]:
    """Return the connected groups of a graph, in the order of their smallest nodes."""
    group_of: dict[int, set[int]] = {}
    for first, second in edges:
        joined = group_of.get(first, {first}) | group_of.get(second, {second})
        for node in joined:
            group_of[node] = joined
    groups = {id(group): group for group in group_of.values()}
    return sorted(groups.values(), key=min)
