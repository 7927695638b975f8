"""What a user draws with the mouse in a slice view becomes a prompt: no VTK, no Qt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.correction.prompts import PromptKind

Pixel = tuple[int, int]

STILL_PIXELS = 4
"""A press that moves no farther than this is a click."""
STEP_PIXELS = 2
"""A stroke keeps a place when it is this far from the last one."""

POINTING, BOX, LASSO = "pointing", "box", "lasso"
SHAPES = (POINTING, BOX, LASSO)
"""What a drag draws: a scribble (a click a point), a box, or the edge of an area."""


@dataclass
class Stroke:
    """One press, what follows it, and the release.

    Attributes
    ----------
    shape
        One of :data:`SHAPES`.
    positive
        Whether what is drawn belongs to the segment.
    places
        In pixels of the view, from its lower left corner; of a box, the two corners.
    """

    shape: str
    positive: bool
    places: list[Pixel] = field(default_factory=list)

    def move(self, place: Pixel) -> None:
        """Go on to a place."""
        if self.shape == BOX:
            self.places = [*self.places[:1], place]
        elif not self.places or _distance(self.places[-1], place) >= STEP_PIXELS:
            self.places.append(place)

    @property
    def kind(self) -> PromptKind | None:
        """What it is as a prompt; ``None`` when it is too small to be one."""
        is_still = all(_distance(self.places[0], place) <= STILL_PIXELS for place in self.places)
        if self.shape == POINTING:
            return "point" if is_still else "scribble"
        if is_still:
            return None
        if self.shape == BOX:
            return "box"
        return "lasso" if len(self.places) > 2 else None

    @property
    def outline(self) -> list[Pixel]:
        """The line that shows it while it is drawn."""
        if self.shape == BOX and len(self.places) == 2:
            (left, low), (right, high) = self.places
            return [(left, low), (right, low), (right, high), (left, high), (left, low)]
        if self.shape == LASSO:
            return [*self.places, self.places[0]]
        return self.places

    def corners(self) -> Sequence[Pixel]:
        """The places of the prompt."""
        return self.places[:1] if self.kind == "point" else self.places


def _distance(one: Pixel, other: Pixel) -> float:
    return max(abs(one[0] - other[0]), abs(one[1] - other[1]))
