"""A network of clicks at work on one segment of one volume, prompt by prompt.

What is ours and not of a paper: the window goes where the prompt is, grows while the answer fills it, and stays while
prompts lie in its inner part, so that features and previous answers stay too. Imports torch: for the computing process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from medseg.correction.intensity import normalised
from medseg.correction.interaction import Interaction
from medseg.correction.region import Mark, Region, merged
from medseg.correction.window import Window
from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.correction.prompts import Prompt
    from medseg.networks import PEMED
    from medseg.volumes import Volume

SIZE = (64, 64, 64)
EDGE_MM, LEAST_EDGE_MM, MOST_EDGE_MM = 64.0, 32.0, 192.0
"""Of the window from nothing, and its bounds."""
RADIUS = 2.0
"""Of the ball around a click, in voxels of the window."""

_ROOM, _GROWTH = 1.5, 1.5
"""The window of an existing segment is so many times as long as it; a full one grows by so much."""
_INNER = 0.7
"""Part of a window's edge, about its middle, in which further prompts keep it."""
_TOUCHING = 2
"""Voxels of the window at its border; an answer that reaches them fills it."""


@dataclass(frozen=True, eq=False)
class Corrected:
    """A segment after a prompt.

    Attributes
    ----------
    mask
        (k, j, i) bool.
    region
        Outside of it nothing changed.
    """

    mask: np.ndarray
    region: Region


class Corrector:
    """Corrects one segment of a volume; keeps warm what the next prompt needs too.

    Parameters
    ----------
    network
        A network of clicks in 3D, in eval mode, on the device that it is to run on.
    volume
        Of one channel.
    mask
        (k, j, i) bool, the segment as it is; all ``False`` to begin from nothing.
    allowed
        (k, j, i) bool, where voxels may be changed; ``None``: everywhere.
    edge_mm
        Edge of the window; ``None`` chooses by the segment, and lets it grow while the answer fills it.
    size, radius
        As the network was trained: voxels of the window, and of the ball around a click.

    Raises
    ------
    InputError
        When mask or allowed voxels do not have the volume's shape.
    """

    def __init__(
        self,
        network: PEMED,
        volume: Volume,
        mask: np.ndarray,
        *,
        allowed: np.ndarray | None = None,
        edge_mm: float | None = None,
        size: Sequence[int] = SIZE,
        radius: float = RADIUS,
    ) -> None:
        for array in (mask, allowed):
            if array is not None and array.shape != volume.shape:
                raise InputError(
                    "The segment lies on another grid than the volume.",
                    advice="Resample it to the volume, or choose the volume that it was drawn on.",
                )
        self._network, self._volume, self._size, self._radius = network, volume, tuple(size), radius
        self._allowed, self._edge_mm = allowed, edge_mm
        self._mask = np.array(mask, bool)
        self._spacing = np.asarray(volume.geometry.spacing[::-1])
        self._marks: list[Mark] = []
        self._window: Window | None = None
        self._talk: Interaction | None = None

    @property
    def mask(self) -> np.ndarray:
        """The segment, (k, j, i) bool."""
        return self._mask

    def add(self, prompt: Prompt) -> Corrected:
        """Correct the segment by a further prompt.

        Raises
        ------
        InputError
            When the prompt lies outside of the volume; nothing has changed.
        """
        voxels = prompt.voxels(self._volume.geometry)
        # Before anything else: it refuses what marks nothing.
        Region.around(voxels, self._volume.geometry, 0.0)
        self._marks.append(Mark(voxels, prompt.positive))
        if not self._stays(voxels):
            self._move_to(voxels)
        window, proposal = self._answered()
        while self._edge_mm is None and self._is_full(proposal) and self._grow():
            window, proposal = self._answered()
        region = window.region(self._volume.shape)
        found = window.put_back(proposal, region) > 0.5
        # The window is coarser than the segment: what looks the same in it keeps its voxels.
        looked = window.put_back(window.read_mask(self._mask), region) > 0.5
        found = np.where(found == looked, self._mask[region.slices], found)
        self._mask = merged(self._mask, found, region, self._marks, self._allowed)
        return Corrected(self._mask, region)

    # --- the window

    def _stays(self, voxels: np.ndarray) -> bool:
        if self._window is None:
            return False
        away = np.abs(self._window.index_of(voxels) - (np.asarray(self._size) - 1) / 2)
        return bool((away <= _INNER * np.asarray(self._size) / 2).all())

    def _move_to(self, voxels: np.ndarray) -> None:
        extent = float(((np.ptp(voxels, axis=0) + 1) * self._spacing).max())
        edge = self._edge_mm or max(self._usual_edge(), _ROOM * extent)
        self._open(Window.around(voxels.mean(0), edge, self._spacing, self._size))

    def _usual_edge(self) -> float:
        places = np.argwhere(self._mask) if self._mask.any() else np.empty((0, 3))
        if not len(places):
            return EDGE_MM
        extent = float(((np.ptp(places, axis=0) + 1) * self._spacing).max())
        return min(max(_ROOM * extent, LEAST_EDGE_MM), MOST_EDGE_MM)

    def _grow(self) -> bool:
        """Look at more of the volume; return whether there is more to see."""
        assert self._window is not None
        edge = float((np.diag(self._window.steps) * self._spacing).max()) * max(self._size)
        if edge * _GROWTH > MOST_EDGE_MM or edge > max(self._volume.geometry.extent_mm):
            return False
        self._open(Window.around(self._window.centre, edge * _GROWTH, self._spacing, self._size))
        return True

    def _open(self, window: Window) -> None:
        """Begin anew in a window, from the segment as it is there and with all prompts that lie in it."""
        device = next(self._network.parameters()).device
        image = normalised(window.read_image(self._volume.array)).to(device)[None]
        before = window.read_mask(self._mask).to(device)[None]
        start = before if bool((before > 0.5).any()) else None
        self._window = window
        self._talk = Interaction(self._network, image, start=start, radius=self._radius)
        for mark in self._marks[:-1]:
            self._show(mark)

    # --- the network

    def _show(self, mark: Mark) -> None:
        assert self._window is not None
        assert self._talk is not None
        index = np.floor(self._window.index_of(mark.voxels) + 0.5).astype(np.int64)
        inside = ((index >= 0) & (index < self._size)).all(1)
        self._talk.draw(np.unique(index[inside], axis=0), positive=mark.positive)

    def _answered(self) -> tuple[Window, torch.Tensor]:
        """Return the window and the probabilities (1, \\*size) after the last prompt."""
        assert self._window is not None
        assert self._talk is not None
        self._show(self._marks[-1])
        return self._window, torch.sigmoid(self._talk.answer())[0]

    def _is_full(self, found: torch.Tensor) -> bool:
        inner = found[0, _TOUCHING:-_TOUCHING, _TOUCHING:-_TOUCHING, _TOUCHING:-_TOUCHING]
        return bool((found > 0.5).sum() > (inner > 0.5).sum())
