"""A network of clicks at work on single slices, and from slice to slice.

Source: A. Chang et al., PE-MED (MLMI 2023), which segments slices. What is ours: the window, which goes where the
prompt is, grows while the answer fills it and stays while prompts lie in its inner part; and how it goes on to the next
slice. There the segment of the slice before is the previous answer, the clicks are those of the first slice at the same
place where that segment does not contradict them, and an area that changes by more than 30 % ends it. Imports torch:
for the computing process.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from medseg.correction.engine import EDGE_MM, LEAST_EDGE_MM, MOST_EDGE_MM
from medseg.correction.intensity import normalised
from medseg.correction.interaction import Interaction
from medseg.correction.prompts import PLANES, axis_across
from medseg.correction.region import Mark, Region, bounding_box, merged
from medseg.correction.simulation import first_click
from medseg.correction.window import Window
from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from medseg.correction.prompts import Plane
    from medseg.networks import ClickNetwork
    from medseg.volumes import Geometry, Volume

SIZE = (128, 128)
RADIUS = 3.0
"""Of the disk around a click, in pixels of the window: 5 of 224, as :data:`medseg.correction.clicks.RADIUS_VOXELS`."""
MOST_CHANGE = 0.3
"""Of the area from one slice to the next; more ends it."""

_ROOM, _GROWTH, _FRAME_ROOM, _INNER, _TOUCHING = 1.5, 1.5, 1.2, 0.7, 2
"""As for volumes, see :mod:`medseg.correction.engine`."""
_SAME = 1e-3
"""Spacings that differ by less, relatively, are one."""


def slicing_axis(mark: Mark, geometry: Geometry, plane: Plane | None = None) -> int:
    """Return across which axis (k, j, i) of a volume the slices lie in which a mark is followed.

    It is that of the mark's own plane, else of ``plane``, else the one in which the mark is flat. Of several, and for a
    mark that is flat in none, the axis of the largest spacing is taken: the slices have the best resolution. Where
    spacings are equal too, axial slices come before coronal ones before sagittal ones. A volume of one slice has only
    that one.
    """
    wanted = mark.plane or plane
    if wanted is not None:
        return axis_across(wanted, geometry)
    spacing = geometry.spacing[::-1]
    single = [axis for axis in range(3) if geometry.shape[axis] == 1]
    flat = [axis for axis in range(3) if not np.ptp(mark.voxels[:, axis])]
    axes = (single if len(single) == 1 else flat) or [0, 1, 2]
    most = max(spacing[axis] for axis in axes)
    in_order = [axis_across(name, geometry) for name in reversed(PLANES)]
    return next(axis for axis in in_order if axis in axes and spacing[axis] >= (1 - _SAME) * most)


@dataclass(frozen=True, eq=False)
class _State:
    """The flat window, the logits (1, 1, \\*size) of the last answer in it, and whether it began without a segment."""

    axis: int
    window: Window
    last: Tensor
    from_nothing: bool


@dataclass(frozen=True, eq=False)
class _Asked:
    """The segment (k, j, i) bool, all marks, and across which axis the slices lie."""

    mask: np.ndarray
    marks: Sequence[Mark]
    axis: int

    @property
    def mark(self) -> Mark:
        """The last one."""
        return self.marks[-1]

    def voxels_in(self, index: int) -> np.ndarray:
        """Return those of the last mark in a slice, (N, 3)."""
        return self.mark.voxels[self.mark.voxels[:, self.axis] == index]


@dataclass(frozen=True, eq=False)
class _Part:
    """What a slice is to be: values are bool, of the region's shape."""

    window: Window
    region: Region
    values: np.ndarray


class SliceTool:
    """Follows prompts by a network of clicks in the slice where they lie (a :class:`~medseg.correction.session.Tool`).

    A prompt that lies in several slices is followed in each of them.

    Parameters
    ----------
    network
        A network of clicks in 2D, in eval mode, on the device that it is to run on.
    volume
        Of one channel.
    plane
        In which slices prompts are followed that do not say it themselves; ``None``: see :func:`slicing_axis`.
    reach_mm
        So far it goes on to each side, slice by slice, from a corrected slice; 0: not at all.
    edge_mm
        Edge of the window; ``None`` chooses by the segment, and lets it grow while the answer fills it.
    size, radius, self_loop
        As the network was trained: pixels of the window, of the disk around a click, and whether the first answer from
        nothing enters a second pass.

    Raises
    ------
    InputError
        When the network follows clicks in volumes.
    """

    def __init__(
        self,
        network: ClickNetwork,
        volume: Volume,
        *,
        plane: Plane | None = None,
        reach_mm: float = 0.0,
        edge_mm: float | None = None,
        size: Sequence[int] = SIZE,
        radius: float = RADIUS,
        self_loop: bool = True,
    ) -> None:
        if network.dims != 2:
            raise InputError(
                "The model follows clicks in volumes, and this tool looks at single slices.",
                advice="Choose a model for single slices, or the tool network.",
            )
        self._network, self._volume, self._plane = network, volume, plane
        self._reach_mm, self._edge_mm = reach_mm, edge_mm
        self._size, self._radius, self._self_loop = tuple(size), radius, self_loop
        self._spacing = np.asarray(volume.geometry.spacing[::-1])
        self._axis = 0
        self._window: Window | None = None
        self._talk: Interaction | None = None
        self._from_nothing = True
        self._state: _State | None = None

    @property
    def state(self) -> _State | None:
        """See :class:`~medseg.correction.session.Tool`: that of the slice of the last prompt."""
        return self._state

    def restore(self, state: _State | None) -> None:
        """See :class:`~medseg.correction.session.Tool`; the features of another window are computed when needed."""
        self._state = state
        window = None if state is None else state.window
        if window is not self._window:
            self._window, self._talk = window, None
        elif state is not None and self._talk is not None:
            self._talk.resume(state.last)
        if state is not None:
            self._axis, self._from_nothing = state.axis, state.from_nothing

    def propose(self, mask: np.ndarray, marks: Sequence[Mark]) -> tuple[Region, np.ndarray]:
        """See :class:`~medseg.correction.session.Tool`.

        The region is flat, but for a prompt in several slices or a reach. A box is the region; one that is not flat is
        begun in its middle slice, and bounds how far it goes on.
        """
        mark = marks[-1]
        axis = slicing_axis(mark, self._volume.geometry, self._plane)
        places, counts = np.unique(mark.voxels[:, axis], return_counts=True)
        middle = places[np.abs(places - mark.middle[axis]).argmin()]
        home = int(middle if mark.is_frame else places[counts.argmax()])
        asked = _Asked(mask, marks, axis)
        first = self._answered(asked, home)
        parts = [first]
        for direction in (-1, 1):
            parts += self._gone_on(asked, first, direction)
        region = parts[0].region
        for part in parts[1:]:
            region = part.region.joined(region)
        found = mask[region.slices].copy()
        for part in parts:
            start = np.subtract(part.region.start, region.start)
            found[tuple(slice(at, at + n) for at, n in zip(start, part.region.shape, strict=True))] = part.values
        return region, found

    # --- the slice of the prompt

    def _answered(self, asked: _Asked, index: int) -> _Part:
        """Return what the slice of the last mark is to be; the window and its last answer stay."""
        mask, mark, axis, voxels = asked.mask, asked.mark, asked.axis, asked.voxels_in(index)
        centre = (voxels.min(0) + voxels.max(0)) / 2
        if mark.is_frame:
            self._open(mask, axis, centre, max(_FRAME_ROOM * self._extent_mm(voxels, axis), LEAST_EDGE_MM))
        elif not self._stays(voxels, axis):
            # A long scribble lies in its region, whatever was chosen.
            edge = max(self._edge_mm or self._usual_edge(mask, axis, index), _ROOM * self._extent_mm(voxels, axis))
            self._open(mask, axis, centre, edge)
        window, found = self._told(asked.marks)
        while self._edge_mm is None and not mark.is_frame and _is_full(found) and self._grow(mask):
            window, found = self._told(asked.marks)
        return self._part(asked, window, found)

    def _part(self, asked: _Asked, window: Window, found: Tensor) -> _Part:
        """Return a slice of probabilities (1, \\*size): what looks the same in the coarser window keeps its voxels."""
        region = window.region(self._volume.shape)
        if asked.mark.is_frame:
            region = _within(region, asked.mark, asked.axis)
        after = window.put_back(found.unsqueeze(asked.axis + 1), region) > 0.5
        before = window.put_back(window.read_mask(asked.mask), region) > 0.5
        values = np.where(after == before, asked.mask[region.slices], after)
        return _Part(window, region, merged(asked.mask, values, region, asked.marks))

    def _extent_mm(self, voxels: np.ndarray, axis: int) -> float:
        return float(np.delete((np.ptp(voxels, axis=0) + 1) * self._spacing, axis).max())

    def _stays(self, voxels: np.ndarray, axis: int) -> bool:
        window = self._window
        if window is None or axis != self._axis or window.centre[axis] != voxels[0, axis]:
            return False
        away = np.abs(window.index_of(voxels) - (np.asarray(window.size) - 1) / 2)
        return bool((away <= _INNER * np.asarray(window.size) / 2).all())

    def _usual_edge(self, mask: np.ndarray, axis: int, index: int) -> float:
        box = bounding_box(mask.take([index], axis))
        return EDGE_MM if box is None else self._roomy_edge(box, axis)

    def _roomy_edge(self, box: Region, axis: int) -> float:
        extent = np.delete(np.multiply(box.shape, self._spacing), axis).max()
        return min(max(_ROOM * float(extent), LEAST_EDGE_MM), MOST_EDGE_MM)

    def _grow(self, mask: np.ndarray) -> bool:
        """Look at more of the slice; return whether there is more to see."""
        window = self._window
        assert window is not None
        edge = self._edge_of(window)
        if edge * _GROWTH > MOST_EDGE_MM or edge > np.delete(self._volume.geometry.extent_mm[::-1], self._axis).max():
            return False
        self._open(mask, self._axis, window.centre, edge * _GROWTH)
        return True

    def _edge_of(self, window: Window) -> float:
        return float((np.diag(window.steps) * self._spacing).max()) * max(window.size)

    def _laid(self, axis: int, centre: np.ndarray, edge_mm: float) -> Window:
        """Return a flat window around a place (k, j, i), which lies in the middle of a slice."""
        size = list(self._size)
        size.insert(axis, 1)
        return Window.around(centre, edge_mm, self._spacing, size)

    def _open(self, mask: np.ndarray, axis: int, centre: np.ndarray, edge_mm: float) -> None:
        """Begin anew in a window, from the segment as it is there."""
        window = self._laid(axis, centre, edge_mm)
        before = window.read_mask(mask).squeeze(axis + 1)[None]
        self._axis, self._window, self._state = axis, window, None
        self._from_nothing = not bool((before > 0.5).any())
        self._talk = self._interaction(window, axis, None if self._from_nothing else before)

    def _interaction(self, window: Window, axis: int, start: Tensor | None) -> Interaction:
        device = next(self._network.parameters()).device
        image = normalised(window.read_image(self._volume.array).squeeze(axis + 1)).to(device)[None]
        start = None if start is None else start.to(device)
        return Interaction(self._network, image, start=start, radius=self._radius, self_loop=self._self_loop)

    def _told(self, marks: Sequence[Mark]) -> tuple[Window, Tensor]:
        """Return the window and the probabilities (1, \\*size) with all marks that lie in it."""
        window = self._window
        assert window is not None
        if self._talk is None:
            assert self._state is not None
            self._talk = self._interaction(window, self._axis, None)
            self._talk.resume(self._state.last)
        self._talk.forget_prompts()
        for mark in marks:
            # The network knows no boxes: from nothing, one stands for a click into its middle.
            if not mark.is_frame:
                self._show(window, self._axis, self._talk, mark.voxels, positive=mark.positive)
            elif self._from_nothing and (mark.voxels[:, self._axis] == window.centre[self._axis]).any():
                middle = np.where(np.arange(3) == self._axis, window.centre, mark.middle)
                self._show(window, self._axis, self._talk, middle[None], positive=True)
        logits = self._talk.answer()
        self._state = _State(self._axis, window, logits, self._from_nothing)
        return window, torch.sigmoid(logits)[0]

    def _show(self, window: Window, axis: int, talk: Interaction, voxels: np.ndarray, *, positive: bool) -> None:
        """Draw those of voxels (N, 3) of the scan that lie in the slice of a window."""
        here = voxels[np.abs(voxels[:, axis] - window.centre[axis]) < 0.5]
        index = np.floor(np.delete(window.index_of(here), axis, 1) + 0.5).astype(np.int64)
        inside = ((index >= 0) & (index < self._size)).all(1)
        talk.draw(np.unique(index[inside], axis=0), positive=positive)

    # --- the slices beside it

    def _gone_on(self, asked: _Asked, first: _Part, direction: int) -> list[_Part]:
        """Return what the slices to one side are to be, as far as it goes on."""
        mark, axis = asked.mark, asked.axis
        home = first.region.start[axis]
        pointed = {int(index) for index in np.unique(mark.voxels[:, axis])}
        is_flat_frame = mark.is_frame and len(pointed) == 1
        last = max(pointed) if direction > 0 else min(pointed)
        if not mark.is_frame or is_flat_frame:
            last += direction * int(self._reach_mm / self._spacing[axis] + 1e-6)
        last = min(max(last, 0), self._volume.shape[axis] - 1)
        projected = self._projected(asked, home)
        parts: list[_Part] = []
        present = first
        for index in range(home + direction, last + direction, direction):
            is_pointed_at = index in pointed and not mark.is_frame
            if not present.values.any() and not is_pointed_at:
                break
            part = self._next(asked, present, index, projected)
            before, after = np.count_nonzero(present.values), np.count_nonzero(part.values)
            if not is_pointed_at and abs(after - before) > MOST_CHANGE * before:
                break
            parts.append(part)
            present = part
        return parts

    def _next(self, asked: _Asked, present: _Part, index: int, projected: Sequence[tuple[np.ndarray, bool]]) -> _Part:
        """Return what the slice of an index is to be after the one before it."""
        axis, window = asked.axis, self._following(asked, present, index)
        # Both are seen from the first voxel of the region that holds the segment before.
        local = dataclasses.replace(window, centre=np.where(np.arange(3) == axis, 0, window.centre - _origin(present)))
        start = local.read_mask(present.values).squeeze(axis + 1)[None]
        talk = self._interaction(window, axis, start if bool((start > 0.5).any()) else None)
        for mark in asked.marks:
            if not mark.is_frame:
                self._show(window, axis, talk, mark.voxels, positive=mark.positive)
        for voxel, positive in self._clicks_at(present, axis, index, projected):
            self._show(window, axis, talk, voxel[None], positive=positive)
        return self._part(asked, window, torch.sigmoid(talk.answer())[0])

    def _following(self, asked: _Asked, present: _Part, index: int) -> Window:
        """Return the window for the next slice: it stays where it is while the segment lies in its inner part."""
        window, axis = present.window, asked.axis
        centre, edge, box = window.centre.copy(), self._edge_of(window), bounding_box(present.values)
        if box is not None and self._edge_mm is None and not asked.mark.is_frame:
            ends = np.array([box.start, np.subtract(box.stop, 1)]) + _origin(present)
            away = np.delete(np.abs(window.index_of(ends) - (np.asarray(window.size) - 1) / 2), axis, 1)
            if (away > _INNER * np.asarray(self._size) / 2).any():
                centre, edge = ends.mean(0), max(edge, self._roomy_edge(box, axis))
        centre[axis] = index
        here = asked.voxels_in(index)
        if len(here) and not asked.mark.is_frame:
            # What was pointed at in this slice is to lie in its region: between the outermost centres of the window.
            away_mm = float((np.abs(here - centre).max(0) * self._spacing).max())
            edge = max(edge, 2 * away_mm * max(self._size) / (min(self._size) - 1))
        return self._laid(axis, centre, edge)

    def _projected(self, asked: _Asked, home: int) -> list[tuple[np.ndarray, bool]]:
        """Return a voxel (3,) of each mark in the first slice, the one nearest to its middle, and its sign."""
        found = []
        for mark in asked.marks:
            here = mark.voxels[mark.voxels[:, asked.axis] == home]
            if len(here) and not mark.is_frame:
                away = np.square((here - here.mean(0)) * self._spacing).sum(1)
                found.append((here[away.argmin()], mark.positive))
        return found

    def _clicks_at(
        self, present: _Part, axis: int, index: int, projected: Sequence[tuple[np.ndarray, bool]]
    ) -> list[tuple[np.ndarray, bool]]:
        """Return the clicks for the next slice: those that the segment does not contradict, and one in it at least."""
        shape, clicks = np.asarray(present.region.shape), []
        for voxel, positive in projected:
            local = np.where(np.arange(3) == axis, 0, voxel - _origin(present))
            is_seen = bool(((local >= 0) & (local < shape)).all())
            if (is_seen and bool(present.values[tuple(local)])) == positive:
                clicks.append((np.where(np.arange(3) == axis, index, voxel), positive))
        if present.values.any() and not any(positive for _voxel, positive in clicks):
            place = first_click(present.values.squeeze(axis), spacing=np.delete(self._spacing, axis).tolist()).place
            middle = np.insert(np.asarray(place), axis, 0) + _origin(present)
            clicks.append((np.where(np.arange(3) == axis, index, middle), True))
        return clicks


def _origin(part: _Part) -> np.ndarray:
    return np.asarray(part.region.start)


def _within(region: Region, mark: Mark, axis: int) -> Region:
    """Return the part of a flat region that lies in a box, but for the directions in which the box is flat."""
    low, high = mark.voxels.min(0), mark.voxels.max(0) + 1
    stays = (np.arange(3) == axis) | (high - low == 1)
    start = np.where(stays, region.start, np.maximum(low, region.start))
    stop = np.where(stays, region.stop, np.minimum(high, region.stop))
    return Region((int(start[0]), int(start[1]), int(start[2])), (int(stop[0]), int(stop[1]), int(stop[2])))


def _is_full(found: Tensor) -> bool:
    inner = found[0, _TOUCHING:-_TOUCHING, _TOUCHING:-_TOUCHING]
    return bool((found > 0.5).sum() > (inner > 0.5).sum())
