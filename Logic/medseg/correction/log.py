"""The log of a correction: what it takes to go on later, to undo by other means, and to take single prompts back.

Plain data and numpy, no torch: the panel holds it, and it is saved with the scene as text.
"""

from __future__ import annotations

import base64
import itertools
import json
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.correction.prompts import Prompt
from medseg.correction.region import Region
from medseg.errors import MedSegError

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMAT = 1


@dataclass(frozen=True)
class LoggedPrompt:
    """A prompt that was followed.

    Attributes
    ----------
    region
        Outside of it the prompt changed nothing.
    digest
        Of the segment after it, :func:`digest_of`.
    """

    prompt: Prompt
    region: Region
    digest: int


def digest_of(mask: np.ndarray) -> int:
    """Return a number that tells masks (k, j, i), bool or uint8 of 0 and 1, from each other (CRC-32)."""
    return zlib.crc32(np.packbits(mask).data)


@dataclass(eq=False)
class CorrectionLog:
    """The prompts that were followed since a segment was what it was.

    Attributes
    ----------
    start
        (k, j, i) bool, the segment before the first prompt.
    entries
        In order. Those behind the present state are kept, so that it may be reached again (redo).
    """

    start: np.ndarray
    entries: list[LoggedPrompt] = field(default_factory=list)
    _start_digest: int | None = None

    @property
    def start_digest(self) -> int:
        """The digest of the segment before the first prompt."""
        if self._start_digest is None:
            self._start_digest = digest_of(self.start)
        return self._start_digest

    def position_of(self, digest: int, *, near: int | None = None) -> int | None:
        """Return after how many prompts the segment was what a digest says; ``None``: it never was.

        Of several, it is the one that is nearest to ``near``, the earlier one of two; without ``near`` the last.
        """
        digests = [self.start_digest, *(entry.digest for entry in self.entries)]
        found = [position for position, one in enumerate(digests) if one == digest]
        if not found:
            return None
        return found[-1] if near is None else min(found, key=lambda position: abs(position - near))

    def prompts(self, position: int) -> list[Prompt]:
        """Return the first ``position`` prompts."""
        return [entry.prompt for entry in self.entries[:position]]

    def record(self, prompts: Sequence[Prompt], regions: Sequence[Region], digest: int) -> None:
        """Note that the segment is now what these prompts make of it.

        Entries whose prompts are the same, from the first on, keep their digests. When more than one is new (a prompt
        before the last was deleted or moved), the states between are not known: they cannot be recognised.
        """
        same = sum(
            1
            for _ in itertools.takewhile(
                lambda pair: pair[0].prompt == pair[1], zip(self.entries, prompts, strict=False)
            )
        )
        new = zip(prompts[same:], regions[same:], strict=True)
        self.entries = [*self.entries[:same], *(LoggedPrompt(prompt, region, -1) for prompt, region in new)]
        if same < len(prompts):
            last = self.entries[-1]
            self.entries[-1] = LoggedPrompt(last.prompt, last.region, digest)

    # --- as text

    def to_text(self, **about: Any) -> str:
        """Return JSON; ``about`` is kept with it. Of the start, it has the voxels that may have changed since."""
        region = _around([entry.region for entry in self.entries])
        return json.dumps(
            {
                "format": FORMAT,
                "about": about,
                "start_digest": self.start_digest,
                "region": None if region is None else [list(region.start), list(region.stop)],
                "start": "" if region is None else _packed(self.start[region.slices]),
                "prompts": [
                    {
                        **entry.prompt.to_dict(),
                        "region": [list(entry.region.start), list(entry.region.stop)],
                        "digest": entry.digest,
                    }
                    for entry in self.entries
                ],
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_text(cls, text: str, mask: np.ndarray) -> tuple[CorrectionLog, dict[str, Any]] | None:
        """Return the log that :meth:`to_text` gave and what was kept with it.

        Parameters
        ----------
        mask
            (k, j, i) bool, the segment as it is now.

        Returns
        -------
        tuple or None
            ``None`` when the text is no log, or not of this segment.
        """
        try:
            data = json.loads(text)
            if data["format"] != FORMAT:
                return None
            start = np.array(mask, bool)
            if data["region"] is not None:
                region = _region(data["region"])
                start[region.slices] = _unpacked(data["start"], region)
            entries = [
                LoggedPrompt(
                    Prompt.from_dict(
                        {**{key: entry[key] for key in ("type", "ras", "positive")}, "plane": entry.get("plane")}
                    ),
                    _region(entry["region"]),
                    int(entry["digest"]),
                )
                for entry in data["prompts"]
            ]
            log = cls(start, entries)
            if log.start_digest != data["start_digest"] or log.position_of(digest_of(mask)) is None:
                return None
            return log, dict(data["about"])
        except (ValueError, KeyError, TypeError, IndexError, MedSegError, zlib.error):
            return None


def _around(regions: Sequence[Region]) -> Region | None:
    around: Region | None = None
    for region in regions:
        around = region.joined(around)
    return around


def _packed(part: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(np.packbits(part).tobytes(), 6)).decode("ascii")


def _unpacked(text: str, region: Region) -> np.ndarray:
    count = int(np.prod(region.shape))
    # No more than the region has: a text of a few bytes may stand for gigabytes.
    raw = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), (count + 7) // 8)
    return np.unpackbits(np.frombuffer(raw, np.uint8), count=count).reshape(region.shape).astype(bool)


def _region(given: Any) -> Region:
    start, stop = ([int(index) for index in corner] for corner in given)
    return Region((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
