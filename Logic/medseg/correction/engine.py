"""A network of clicks at work on one segment of one volume, prompt by prompt.

What is ours and not of a paper: the window goes where the prompt is, grows while the answer fills it, and stays while
prompts lie in its inner part, so that features and previous answers stay too. A box is a window of its own. Imports
torch: for the computing process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from medseg.correction.intensity import normalised
from medseg.correction.interaction import Interaction
from medseg.correction.region import Region, bounding_box
from medseg.correction.window import Window
from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from medseg.correction.region import Mark
    from medseg.networks import ClickNetwork
    from medseg.volumes import Volume

SIZE = (64, 64, 64)
EDGE_MM, LEAST_EDGE_MM, MOST_EDGE_MM = 64.0, 32.0, 192.0
"""Of the window from nothing, and its bounds."""
RADIUS = 2.0
"""Of the ball around a click, in voxels of the window."""

_ROOM, _GROWTH = 1.5, 1.5
"""The window of an existing segment is so many times as long as it; a full one grows by so much."""
_FRAME_ROOM = 1.2
"""The window of a box is so many times as long as it."""
_INNER = 0.7
"""Part of a window's edge, about its middle, in which further prompts keep it."""
_TOUCHING = 2
"""Voxels of the window at its border; an answer that reaches them fills it."""


@dataclass(frozen=True, eq=False)
class _State:
    """The window, the logits (1, 1, \\*size) of the last answer in it, and whether it began without a segment."""

    window: Window
    last: Tensor
    from_nothing: bool


class NetworkTool:
    """Follows prompts by a network of clicks (a :class:`~medseg.correction.session.Tool`).

    Parameters
    ----------
    network
        A network of clicks in 3D, in eval mode, on the device that it is to run on.
    volume
        Of one channel.
    edge_mm
        Edge of the window; ``None`` chooses by the segment, and lets it grow while the answer fills it.
    size, radius, self_loop
        As the network was trained: voxels of the window, of the ball around a click, and whether the first answer from
        nothing enters a second pass.

    Raises
    ------
    InputError
        When the network follows clicks in single slices.
    """

    def __init__(
        self,
        network: ClickNetwork,
        volume: Volume,
        *,
        edge_mm: float | None = None,
        size: Sequence[int] = SIZE,
        radius: float = RADIUS,
        self_loop: bool = True,
    ) -> None:
        if getattr(network, "dims", 3) != 3:
            raise InputError(
                "The model follows clicks in single slices, and this tool looks at a volume.",
                advice="Choose a model for volumes, or the tool slice.",
            )
        self._network, self._volume, self._edge_mm = network, volume, edge_mm
        self._size, self._radius, self._self_loop = tuple(size), radius, self_loop
        self._spacing = np.asarray(volume.geometry.spacing[::-1])
        self._window: Window | None = None
        self._talk: Interaction | None = None
        self._from_nothing = True
        self._state: _State | None = None

    @property
    def state(self) -> _State | None:
        """See :class:`~medseg.correction.session.Tool`."""
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
            self._from_nothing = state.from_nothing

    def propose(self, mask: np.ndarray, marks: Sequence[Mark]) -> tuple[Region, np.ndarray]:
        """See :class:`~medseg.correction.session.Tool`.

        A box is the region, but for the direction in which it is flat: there it is the window's.
        """
        mark = marks[-1]
        if mark.is_frame:
            edge = _FRAME_ROOM * self._extent_mm(mark.voxels)
            self._open(mask, mark.middle, max(edge, LEAST_EDGE_MM))
        elif not self._stays(mark.voxels):
            # A long scribble lies in its region, whatever was chosen.
            edge = max(self._edge_mm or self._usual_edge(mask), _ROOM * self._extent_mm(mark.voxels))
            self._open(mask, mark.middle, edge)
        window, proposal = self._answered(marks)
        while self._edge_mm is None and not mark.is_frame and _is_full(proposal) and self._grow(mask):
            window, proposal = self._answered(marks)
        region = window.region(self._volume.shape)
        if mark.is_frame:
            region = _within(region, mark)
        found = window.put_back(proposal, region) > 0.5
        # The window is coarser than the segment: what looks the same in it keeps its voxels.
        looked = window.put_back(window.read_mask(mask), region) > 0.5
        return region, np.where(found == looked, mask[region.slices], found)

    # --- the window

    def _extent_mm(self, voxels: np.ndarray) -> float:
        return float(((np.ptp(voxels, axis=0) + 1) * self._spacing).max())

    def _stays(self, voxels: np.ndarray) -> bool:
        if self._window is None:
            return False
        away = np.abs(self._window.index_of(voxels) - (np.asarray(self._size) - 1) / 2)
        return bool((away <= _INNER * np.asarray(self._size) / 2).all())

    def _usual_edge(self, mask: np.ndarray) -> float:
        box = bounding_box(mask)
        if box is None:
            return EDGE_MM
        return min(max(_ROOM * float(np.multiply(box.shape, self._spacing).max()), LEAST_EDGE_MM), MOST_EDGE_MM)

    def _grow(self, mask: np.ndarray) -> bool:
        """Look at more of the volume; return whether there is more to see."""
        assert self._window is not None
        edge = float((np.diag(self._window.steps) * self._spacing).max()) * max(self._size)
        if edge * _GROWTH > MOST_EDGE_MM or edge > max(self._volume.geometry.extent_mm):
            return False
        self._open(mask, self._window.centre, edge * _GROWTH)
        return True

    def _open(self, mask: np.ndarray, centre: np.ndarray, edge_mm: float) -> None:
        """Begin anew in a window, from the segment as it is there."""
        window = Window.around(centre, edge_mm, self._spacing, self._size)
        before = window.read_mask(mask)[None]
        self._window, self._state = window, None
        self._from_nothing = not bool((before > 0.5).any())
        self._talk = self._interaction(window, None if self._from_nothing else before)

    def _interaction(self, window: Window, start: Tensor | None) -> Interaction:
        device = next(self._network.parameters()).device
        image = normalised(window.read_image(self._volume.array)).to(device)[None]
        start = None if start is None else start.to(device)
        return Interaction(self._network, image, start=start, radius=self._radius, self_loop=self._self_loop)

    # --- the network

    def _answered(self, marks: Sequence[Mark]) -> tuple[Window, Tensor]:
        """Return the window and the probabilities (1, \\*size) with all marks that lie in it."""
        window = self._window
        assert window is not None
        if self._talk is None:
            assert self._state is not None
            self._talk = self._interaction(window, None)
            self._talk.resume(self._state.last)
        self._talk.forget_prompts()
        for mark in marks:
            self._show(window, self._talk, mark)
        logits = self._talk.answer()
        self._state = _State(window, logits, self._from_nothing)
        return window, torch.sigmoid(logits)[0]

    def _show(self, window: Window, talk: Interaction, mark: Mark) -> None:
        if mark.is_frame and not self._from_nothing:
            return
        # The network knows no boxes: from nothing, one stands for a click into its middle.
        voxels = mark.middle[None] if mark.is_frame else mark.voxels
        index = np.floor(window.index_of(voxels) + 0.5).astype(np.int64)
        inside = ((index >= 0) & (index < self._size)).all(1)
        talk.draw(np.unique(index[inside], axis=0), positive=mark.positive)


def _within(region: Region, mark: Mark) -> Region:
    """Return the part of a region that lies in a box, but for the directions in which the box is flat."""
    low, high = mark.voxels.min(0), mark.voxels.max(0) + 1
    flat = high - low == 1
    start, stop = np.where(flat, region.start, low), np.where(flat, region.stop, high)
    return Region((int(start[0]), int(start[1]), int(start[2])), (int(stop[0]), int(stop[1]), int(stop[2])))


def _is_full(found: Tensor) -> bool:
    inner = found[0, _TOUCHING:-_TOUCHING, _TOUCHING:-_TOUCHING, _TOUCHING:-_TOUCHING]
    return bool((found > 0.5).sum() > (inner > 0.5).sum())
