"""A network of clicks at work on single slices, and from slice to slice.

Source: A. Chang et al., PE-MED (MLMI 2023), which segments slices. What is ours: how it goes on to the next slice.
There the segment of the slice before is the previous answer, the clicks are those of the first slice at the same place
where that segment does not contradict them, and an area that changes by more than 30 % ends it. Imports torch: for the
computing process.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from medseg.correction.prompts import PLANES, axis_across
from medseg.correction.region import bounding_box, merged
from medseg.correction.simulation import first_click
from medseg.correction.windowed_network import WindowedNetwork, is_inner, repaired
from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from medseg.correction.prompts import Plane
    from medseg.correction.region import Mark, Region
    from medseg.correction.window import Window
    from medseg.correction.windowed_network import NetworkState
    from medseg.networks import ClickNetwork
    from medseg.volumes import Geometry, Volume

SIZE = (128, 128)
RADIUS = 3.0
"""Of the disk around a click, in pixels of the window: 5 of 224, as :data:`medseg.correction.clicks.RADIUS_VOXELS`."""
MOST_CHANGE = 0.3
"""Of the area from one slice to the next; more ends it."""

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
        self._network = WindowedNetwork(network, volume, tuple(size), edge_mm, radius, self_loop)
        self._volume, self._plane, self._reach_mm = volume, plane, reach_mm
        self._spacing = self._network.spacing

    @property
    def state(self) -> NetworkState | None:
        """See :class:`~medseg.correction.session.Tool`: that of the slice of the last prompt."""
        return self._network.state

    def restore(self, state: NetworkState | None) -> None:
        """See :class:`~medseg.correction.session.Tool`."""
        self._network.restore(state)

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
        # The window of this slice and its last answer stay.
        first = self._part(asked, *self._network.follow(mask, marks, asked.voxels_in(home), axis))
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

    def _part(self, asked: _Asked, window: Window, found: Tensor) -> _Part:
        """Return what a slice is to be by probabilities (1, \\*size)."""
        region = window.region(self._volume.shape)
        if asked.mark.is_frame:
            region = region.common(region.framed(asked.mark))
        values = repaired(asked.mask, window, found, region)
        return _Part(window, region, merged(asked.mask, values, region, asked.marks))

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
        look = self._network.look(window, local.read_mask(present.values))
        for mark in asked.marks:
            if not mark.is_frame:
                look.show(mark)
        for voxel, positive in self._clicks_at(present, axis, index, projected):
            look.draw(voxel[None], positive=positive)
        return self._part(asked, window, torch.sigmoid(look.interaction.answer())[0])

    def _following(self, asked: _Asked, present: _Part, index: int) -> Window:
        """Return the window for the next slice: it stays where it is while the segment lies in its inner part."""
        window, axis = present.window, asked.axis
        centre, edge, box = window.centre.copy(), self._network.edge_of(window), bounding_box(present.values)
        if box is not None and self._network.edge_mm is None and not asked.mark.is_frame:
            ends = np.array([box.start, np.subtract(box.stop, 1)]) + _origin(present)
            if not is_inner(window, ends):
                centre, edge = ends.mean(0), max(edge, self._network.roomy_edge(box, axis))
        centre[axis] = index
        here = asked.voxels_in(index)
        if len(here) and not asked.mark.is_frame:
            # What was pointed at in this slice is to lie in its region: between the outermost centres of the window.
            away_mm = float((np.abs(here - centre).max(0) * self._spacing).max())
            edge = max(edge, 2 * away_mm * max(self._network.size) / (min(self._network.size) - 1))
        return self._network.window(centre, edge, axis)

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
