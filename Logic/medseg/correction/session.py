"""One segment under correction: prompts are followed one by one, and can be taken back one by one.

Not of a paper. Whatever tool proposes, what becomes of the segment is decided here: nothing changes outside of the
region, what was pointed at is as it was said, and voxels that must not change do not.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from medseg.correction.region import Mark, Region, merged
from medseg.errors import InputError
from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.correction.prompts import Prompt
    from medseg.volumes import Volume


class Tool(Protocol):
    """What makes proposals: a network that follows clicks, or a classical helper.

    A tool whose prompts mark places to work at, and do not say what belongs to the segment, has an attribute
    ``marks_bind`` that is ``False``: then the marked voxels become what it proposes.
    """

    @property
    def state(self) -> Any:
        """What it remembers of its proposals, never changed afterwards; small, since one is kept for each prompt."""

    def restore(self, state: Any) -> None:
        """Be again as it was when :attr:`state` was this; ``None``: as when it was made."""

    def propose(self, mask: np.ndarray, marks: Sequence[Mark]) -> tuple[Region, np.ndarray]:
        """Return where the segment may change after the last mark, and what it is to be there.

        Parameters
        ----------
        mask
            (k, j, i) bool, the segment; not to be changed.
        marks
            Of all prompts, at least one, each of at least one voxel.

        Returns
        -------
        tuple
            The region, and a bool array of its shape.
        """


KEPT_STATES = 32
"""So many prompts back the tool is exactly as it was; before that it begins anew from the segment, which is exact."""


@dataclass(eq=False)
class _Step:
    """A prompt that was followed, and what it takes to take it back."""

    prompt: Prompt
    region: Region
    before: bytes
    state: Any

    @classmethod
    def of(cls, prompt: Prompt, region: Region, before: np.ndarray, state: Any) -> _Step:
        """Return the step from what was in the region, bool; a mask takes a hundredth of its voxels when packed."""
        return cls(prompt, region, zlib.compress(np.packbits(before).tobytes(), 1), state)

    def part(self) -> np.ndarray:
        """Return what was in the region."""
        bits = np.frombuffer(zlib.decompress(self.before), np.uint8)
        return np.unpackbits(bits, count=int(np.prod(self.region.shape))).reshape(self.region.shape).astype(bool)


class Corrector:
    """Corrects one segment of a volume.

    Parameters
    ----------
    tool
        Made for this volume.
    volume
        Of one channel.
    mask
        (k, j, i) bool, the segment as it is; all ``False`` to begin from nothing.
    allowed
        (k, j, i) bool, where voxels may be changed; ``None``: everywhere.

    Raises
    ------
    InputError
        When mask or allowed voxels do not have the volume's shape.
    """

    def __init__(self, tool: Tool, volume: Volume, mask: np.ndarray, *, allowed: np.ndarray | None = None) -> None:
        for array in (mask, allowed):
            if array is not None and array.shape != volume.shape:
                raise InputError(
                    "The segment lies on another grid than the volume.",
                    advice="Resample it to the volume, or choose the volume that it was drawn on.",
                )
        self._tool, self._geometry, self._allowed = tool, volume.geometry, allowed
        self._mask = np.array(mask, bool)
        self._marks: list[Mark] = []
        self._steps: list[_Step] = []

    @property
    def mask(self) -> np.ndarray:
        """The segment, (k, j, i) bool; it changes with the next prompt."""
        return self._mask

    @property
    def tool(self) -> Tool:
        """What follows the prompts."""
        return self._tool

    @property
    def prompts(self) -> list[Prompt]:
        """What was followed, in order."""
        return [step.prompt for step in self._steps]

    @property
    def regions(self) -> list[Region]:
        """For each prompt, outside of which box it changed nothing."""
        return [step.region for step in self._steps]

    def add(self, prompt: Prompt) -> Region:
        """Correct the segment by a further prompt; return the region outside of which nothing changed.

        Raises
        ------
        InputError
            When the prompt lies outside of the volume or only where nothing may be changed, or the tool cannot follow
            it; then nothing has changed.
        """
        voxels = prompt.voxels(self._geometry)
        # It refuses what marks nothing.
        Region.around(voxels, self._geometry, 0.0)
        is_frame = prompt.kind == "box" and prompt.positive
        mark = Mark(voxels, prompt.positive, is_frame=is_frame, plane=prompt.plane)
        self._check_allowed(mark)
        state, marks = self._tool.state, [*self._marks, mark]
        try:
            region, found = self._tool.propose(self._mask, marks)
        except BaseException:
            self._tool.restore(state)
            raise
        region, found = self._with_mark(region, found, mark)
        before = self._mask[region.slices]
        # Most tools need not say it.
        said = marks if getattr(self._tool, "marks_bind", True) else ()
        after = merged(self._mask, found, region, said, self._allowed)
        self._steps.append(_Step.of(prompt, region, before, state))
        if len(self._steps) > KEPT_STATES:
            self._steps[-KEPT_STATES - 1].state = None
        self._marks = marks
        self._mask[region.slices] = after
        return region

    def _with_mark(self, region: Region, found: np.ndarray, mark: Mark) -> tuple[Region, np.ndarray]:
        """Return a region that holds all of a mark, and the proposal in it: elsewhere the segment as it is."""
        whole = Region.around(mark.voxels, self._geometry, 0.0).joined(region)
        if mark.is_frame or whole == region:
            return region, found
        wider = self._mask[whole.slices].copy()
        offset = np.subtract(region.start, whole.start)
        wider[tuple(slice(int(low), int(low) + n) for low, n in zip(offset, region.shape, strict=True))] = found
        return whole, wider

    def _check_allowed(self, mark: Mark) -> None:
        if self._allowed is not None and not self._allowed[tuple(mark.voxels.T)].any():
            raise InputError(
                "A prompt lies where nothing may be changed: in another segment, or outside of the editable area.",
                advice="Allow it to overwrite other segments, or choose another segment or area.",
            )

    def undo(self) -> Region:
        """Take the last prompt back: segment and tool are as they were; return the region that may have changed.

        Raises
        ------
        IndexError
            When there is none.
        """
        step = self._steps.pop()
        self._marks = self._marks[:-1]
        self._mask[step.region.slices] = step.part()
        self._tool.restore(step.state)
        return step.region

    def follow(self, prompts: Sequence[Prompt], progress: Progress = NO_PROGRESS) -> Region | None:
        """Make the segment what these prompts, in this order, make of it; return the region that may have changed.

        What the prompts have in common with those followed so far, from the first on, is not done again.

        Raises
        ------
        InputError, Cancelled
            As :meth:`add`, or when it is cancelled; the prompts before that one have been followed.
        """
        same, region = 0, None
        for done, wanted in zip(self._steps, prompts, strict=False):
            if done.prompt != wanted:
                break
            same += 1
        while len(self._steps) > same:
            region = self.undo().joined(region)
        for number, prompt in enumerate(prompts[same:], start=same):
            progress.update(number / len(prompts), f"Prompt {number + 1} of {len(prompts)}")
            region = self.add(prompt).joined(region)
        return region
