"""A network of clicks that sees a volume through a window: what its tools for volumes and for slices have in common.

What is ours and not of a paper: the window goes where the prompt is, grows while the answer fills it, and stays while
prompts lie in its inner part, so that features and previous answers stay too. One click does not tell how large a
structure is, and a network takes it for as large as its window suggests; a positive click beside the answer says that
it is larger, so the window of a segment that was begun here becomes larger too. A box is a window of its own. Imports
torch: for the computing process.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from medseg.correction.intensity import normalised
from medseg.correction.interaction import Interaction
from medseg.correction.region import bounding_box
from medseg.correction.window import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from medseg.correction.region import Mark, Region
    from medseg.networks import ClickNetwork
    from medseg.volumes import Volume

EDGE_MM, LEAST_EDGE_MM, MOST_EDGE_MM = 64.0, 32.0, 192.0
"""Of the window from nothing, and its bounds."""

_ROOM, _GROWTH = 1.5, 1.5
"""The window of an existing segment is so many times as long as it; a full one grows by so much."""
_SPREAD, _WIDER = 2.0, 1.1
"""The window of a segment that was begun here is so many times as long as what is known of it; only if it is so many
times as long as before, and no longer than the longest. Of 1.6, 2 and 2.5, 2 was best on ten structures kept aside."""
_FRAME_ROOM = 1.2
"""The window of a box is so many times as long as it."""
_INNER = 0.7
"""Part of a window's edge, about its middle, in which further prompts keep it."""
_TOUCHING = 2
"""Voxels of the window at its border; an answer that reaches them fills it."""


@dataclass(frozen=True, eq=False)
class NetworkState:
    """The window, the logits (1, 1, \\*size) of the last answer in it, and whether it began without a segment.

    Of a segment ``begun_here`` there was nothing before the prompts, in a slice nothing of its area.
    """

    window: Window
    last: Tensor
    from_nothing: bool
    begun_here: bool


@dataclass(frozen=True, eq=False)
class Look:
    """A window, what goes on in it from prompt to prompt, and whether it began without a segment."""

    window: Window
    interaction: Interaction
    from_nothing: bool

    def show(self, mark: Mark) -> None:
        """Draw what of a mark lies in the window."""
        if not mark.is_frame:
            self.draw(mark.voxels, positive=mark.positive)
        elif self.from_nothing and len(self._here(mark.voxels)):
            # The network knows no boxes: from nothing, one stands for a click into its middle.
            middle, axis = mark.middle, self.window.flat_axis
            if axis is not None:
                middle[axis] = self.window.centre[axis]
            self.draw(middle[None], positive=True)

    def draw(self, voxels: np.ndarray, *, positive: bool) -> None:
        """Draw those of voxels (N, 3), (k, j, i) of the scan, that lie in the window; in a flat one, in its slice."""
        axis = self.window.flat_axis
        index = np.floor(_in_plane(self.window.index_of(self._here(voxels)), axis) + 0.5).astype(np.int64)
        inside = ((index >= 0) & (index < _in_plane(self.window.size, axis))).all(1)
        self.interaction.draw(np.unique(index[inside], axis=0), positive=positive)

    def _here(self, voxels: np.ndarray) -> np.ndarray:
        """Return those of voxels (N, 3) that lie in the slice of a flat window; for another one, all."""
        axis = self.window.flat_axis
        return voxels if axis is None else voxels[voxels[:, axis] == self.window.centre[axis]]


@dataclass(eq=False)
class WindowedNetwork:
    """A network of clicks that follows prompts in a window, which it moves and makes larger.

    A window across an ``axis`` (k, j, i) is flat, a part of one slice; ``None``: for a network that sees volumes.

    Attributes
    ----------
    network, volume, edge_mm, radius, self_loop
        See :class:`~medseg.correction.engine.NetworkTool`.
    size
        Voxels of the window along the axes that the network sees: three, or the two of a slice.
    """

    network: ClickNetwork
    volume: Volume
    size: tuple[int, ...]
    edge_mm: float | None
    radius: float
    self_loop: bool
    _look: Look | None = field(default=None, init=False)
    _state: NetworkState | None = field(default=None, init=False)

    @property
    def spacing(self) -> np.ndarray:
        """(3,) float64, of the volume, (k, j, i), mm."""
        return np.asarray(self.volume.geometry.spacing[::-1])

    @property
    def state(self) -> NetworkState | None:
        """See :class:`~medseg.correction.session.Tool`."""
        return self._state

    def restore(self, state: NetworkState | None) -> None:
        """See :class:`~medseg.correction.session.Tool`; the features of another window are computed when needed."""
        self._state = state
        if self._look is not None and state is not None and state.window is self._look.window:
            self._look.interaction.resume(state.last)
        else:
            self._look = None

    def follow(
        self, mask: np.ndarray, marks: Sequence[Mark], voxels: np.ndarray, axis: int | None = None
    ) -> tuple[Window, Tensor]:
        """Return the window for the last mark, and the probabilities (1, \\*size) in it with all marks that lie there.

        The mask is the segment (k, j, i), bool; voxels (N, 3) are those of the last mark, all or those in one slice.
        """
        is_frame, state = marks[-1].is_frame, self._state
        if state is not None and _is_in_slice(state.window, voxels, axis):
            begun_here = state.begun_here
        else:
            begun_here = _box_in(mask, voxels, axis) is None
        look = self._placed(mask, marks, voxels, axis, begun_here=begun_here)
        found = self._answered(look, marks, begun_here=begun_here)
        while self.edge_mm is None and not is_frame and _is_full(found) and self._has_more(look.window):
            edge = self.edge_of(look.window) * _GROWTH
            look = self._opened(mask, self.window(look.window.centre, edge, axis))
            found = self._answered(look, marks, begun_here=begun_here)
        return look.window, found

    def look(self, window: Window, before: Tensor | None = None) -> Look:
        """Return a look through a window; ``before`` is the segment in its voxels, from 0 to 1, ``None``: nothing."""
        start = None
        if before is not None and bool((before > 0.5).any()):
            start = before.reshape(1, 1, *self.size)
        device = next(self.network.parameters()).device
        image = normalised(window.read_image(self.volume.array)).reshape(1, 1, *self.size).to(device)
        interaction = Interaction(self.network, image, start=start, radius=self.radius, self_loop=self.self_loop)
        return Look(window, interaction, start is None)

    # --- the window

    def window(self, centre: np.ndarray, edge_mm: float, axis: int | None) -> Window:
        """Return the window around a place (3,), (k, j, i); a flat one lies in the slice of the place."""
        size = list(self.size)
        if axis is not None:
            size.insert(axis, 1)
        return Window.around(centre, edge_mm, self.spacing, size)

    def edge_of(self, window: Window) -> float:
        """Return the edge of a window in mm."""
        return float((np.diag(window.steps) * self.spacing).max()) * max(window.size)

    def roomy_edge(self, box: Region, axis: int | None) -> float:
        """Return the edge in mm of the window for a segment in a box."""
        return min(max(_ROOM * self._longest_mm(box.shape, axis), LEAST_EDGE_MM), MOST_EDGE_MM)

    def _longest_mm(self, counts: Sequence[int] | np.ndarray, axis: int | None) -> float:
        return float(_in_plane(np.multiply(counts, self.spacing), axis).max())

    def _placed(
        self, mask: np.ndarray, marks: Sequence[Mark], voxels: np.ndarray, axis: int | None, *, begun_here: bool
    ) -> Look:
        """Return the look at voxels (N, 3): the last one while they lie in its inner part, else a new one."""
        centre, longest = (voxels.min(0) + voxels.max(0)) / 2, self._longest_mm(np.ptp(voxels, axis=0) + 1, axis)
        if marks[-1].is_frame:
            return self._opened(mask, self.window(centre, max(_FRAME_ROOM * longest, LEAST_EDGE_MM), axis))
        wider = self._wider(mask, marks, voxels, axis) if begun_here and self.edge_mm is None else None
        if wider is not None:
            return self._opened(mask, wider)
        if self._state is not None and _stays(self._state.window, voxels, axis):
            if self._look is None:
                self._look = dataclasses.replace(self.look(self._state.window), from_nothing=self._state.from_nothing)
                self._look.interaction.resume(self._state.last)
            return self._look
        # A long scribble lies in its region, whatever was chosen.
        edge = max(self.edge_mm or self._usual_edge(mask, voxels, axis), _ROOM * longest)
        return self._opened(mask, self.window(centre, edge, axis))

    def _wider(self, mask: np.ndarray, marks: Sequence[Mark], voxels: np.ndarray, axis: int | None) -> Window | None:
        """Return the window for a segment that turns out to be larger: its last mark is positive, and beside it."""
        box = _box_in(mask, voxels, axis)
        if box is None or self._state is None or not marks[-1].positive or mask[tuple(voxels.T)].any():
            return None
        low, high = np.minimum(box.start, voxels.min(0)), np.maximum(np.subtract(box.stop, 1), voxels.max(0))
        edge = _SPREAD * self._longest_mm(high - low + 1, axis)
        if not _WIDER * self.edge_of(self._state.window) < edge <= _WIDER * MOST_EDGE_MM:
            return None
        centre = (low + high) / 2
        if axis is not None:
            centre[axis] = voxels[0, axis]
        return self.window(centre, min(edge, MOST_EDGE_MM), axis)

    def _usual_edge(self, mask: np.ndarray, voxels: np.ndarray, axis: int | None) -> float:
        box = _box_in(mask, voxels, axis)
        return EDGE_MM if box is None else self.roomy_edge(box, axis)

    def _has_more(self, window: Window) -> bool:
        """Return whether a larger window shows more of the volume, or of the slice."""
        edge = self.edge_of(window)
        return edge * _GROWTH <= MOST_EDGE_MM and edge <= self._longest_mm(self.volume.shape, window.flat_axis)

    # --- the network

    def _opened(self, mask: np.ndarray, window: Window) -> Look:
        """Begin anew in a window, from the segment as it is there."""
        self._look, self._state = self.look(window, window.read_mask(mask)), None
        return self._look

    def _answered(self, look: Look, marks: Sequence[Mark], *, begun_here: bool) -> Tensor:
        look.interaction.forget_prompts()
        for mark in marks:
            look.show(mark)
        logits = look.interaction.answer()
        self._state = NetworkState(look.window, logits, look.from_nothing, begun_here)
        return torch.sigmoid(logits)[0]


def is_inner(window: Window, voxels: np.ndarray) -> bool:
    """Return whether all voxels (N, 3), (k, j, i) of the scan, lie in the inner part of a window."""
    size = np.asarray(window.size)
    away = np.abs(window.index_of(voxels) - (size - 1) / 2)
    return bool((away <= _INNER * size / 2).all())


def repaired(mask: np.ndarray, window: Window, found: Tensor, region: Region) -> np.ndarray:
    """Return what a segment (k, j, i) becomes in a region, bool, by probabilities (1, \\*size) in a window."""
    after = window.put_back(found.reshape(1, *window.size), region) > 0.5
    # The window is coarser than the segment: what looks the same in it keeps its voxels.
    before = window.put_back(window.read_mask(mask), region) > 0.5
    return np.where(after == before, mask[region.slices], after)


def _is_in_slice(window: Window, voxels: np.ndarray, axis: int | None) -> bool:
    """Return whether voxels (N, 3) lie in the slice of a flat window; for another one, whether none is asked for."""
    return window.flat_axis == axis and (axis is None or window.centre[axis] == voxels[0, axis])


def _stays(window: Window, voxels: np.ndarray, axis: int | None) -> bool:
    return _is_in_slice(window, voxels, axis) and is_inner(window, voxels)


def _box_in(mask: np.ndarray, voxels: np.ndarray, axis: int | None) -> Region | None:
    """Return the bounding box of a segment; of one in the slice of voxels (N, 3), as if the slice were the first."""
    return bounding_box(mask if axis is None else mask.take([voxels[0, axis]], axis))


def _in_plane(values: Sequence[int] | np.ndarray, axis: int | None) -> np.ndarray:
    """Return values (..., 3) without those across a slice; ``None``: all."""
    return np.asarray(values) if axis is None else np.delete(values, axis, -1)


def _is_full(found: Tensor) -> bool:
    inner = found[0][(slice(_TOUCHING, -_TOUCHING),) * (found.ndim - 1)]
    return bool((found > 0.5).sum() > (inner > 0.5).sum())
