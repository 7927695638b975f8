"""A correction as its caller sees it: a segment, the prompts since, and one job for every change of them.

The caller keeps the prompts and the worker may forget everything: each request says it all, and costs only what is new.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medseg.backend.verbs_correction import NO_MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.backend.client import WorkerClient
    from medseg.backend.encoding_correction import Corrected
    from medseg.backend.job import Job
    from medseg.backend.prepared import PreparedVolume
    from medseg.correction.prompts import Prompt

Box = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Followed:
    """A prompt that is in the segment, and the voxels (first, last + 1, (k, j, i)) that it may have changed."""

    prompt: Prompt
    box: Box


@dataclass(eq=False)
class CorrectionSession:
    """One segment of one volume under correction.

    Parameters
    ----------
    client
        Of the worker.
    volume
        Of one channel.
    segment
        On the volume's grid, above 0 in the segment, as it is before the first prompt; ``None``: nothing.
    allowed
        On the volume's grid, above 0 where voxels may be changed; ``None``: everywhere.
    model
        Name or folder of a model that follows clicks; ``None``: the default.
    options
        Of :class:`medseg.correction.pipeline.CorrectionOptions`.
    """

    client: WorkerClient
    volume: PreparedVolume
    segment: PreparedVolume | None = None
    allowed: PreparedVolume | None = None
    model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    followed: list[Followed] = field(default_factory=list)

    @property
    def prompts(self) -> list[Prompt]:
        """What the caller's segment holds already."""
        return [one.prompt for one in self.followed]

    def submit(self, prompts: Sequence[Prompt]) -> Job:
        """Ask what these prompts, instead of those followed so far, make of the segment; returns at once.

        The job's result, a :class:`~medseg.backend.encoding_correction.Corrected`, is to be written over the caller's
        segment and told to :meth:`accept`.
        """
        named = {"volume": self.volume, "segment": self.segment, "allowed": self.allowed}
        given = {name: volume for name, volume in named.items() if volume is not None}
        same = self._same(prompts)
        request = {
            "inputs": list(given),
            "prompts": [prompt.to_dict() for prompt in prompts],
            "since": same,
            "include": _around([one.box for one in self.followed[same:]]),
            "options": dict(self.options),
        }
        return self.client.submit("correct", self.model or NO_MODEL, list(given.values()), request)

    def accept(self, result: Corrected, prompts: Sequence[Prompt]) -> None:
        """Note that the caller's segment holds these prompts now."""
        self.followed = [Followed(prompt, box) for prompt, box in zip(prompts, result.boxes, strict=True)]

    def _same(self, prompts: Sequence[Prompt]) -> int:
        """Return how many prompts, from the first on, are as they were."""
        pairs = zip(self.followed, prompts, strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0].prompt == pair[1], pairs))


def _around(boxes: Sequence[Box]) -> list[list[int]] | None:
    if not boxes:
        return None
    low = [min(start[axis] for start, _ in boxes) for axis in range(3)]
    return [low, [max(stop[axis] for _, stop in boxes) for axis in range(3)]]
