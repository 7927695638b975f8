"""Which tool follows the prompts, when the user leaves the choice to us: it is measured where the first one lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.correction.classical import intensity_limits, split_at
from medseg.correction.growing import has_random_walker
from medseg.correction.seeds import REGION_MM, View, connected

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medseg.correction.region import Mark, Region
    from medseg.correction.session import Tool
    from medseg.volumes import Volume

BIMODAL = 0.9
"""From this share of the variance on, two levels explain a region: normal intensities have 0.64, even ones 0.75."""
MOST_LEAKED = 0.1
"""A structure that takes more of the outermost voxels of the region does not end in it."""


def bimodality(view: View) -> float:
    """Return the share of the variance of a region's intensities that lies between dark and bright (Otsu), 0 to 1."""
    split, values = split_at(view), view.image[view.is_known].astype(np.float64)
    if split is None:
        return 0.0
    bright = values > split
    share = float(bright.mean())
    if share in {0.0, 1.0}:
        return 0.0
    apart = float(values[bright].mean() - values[~bright].mean())
    return share * (1 - share) * apart**2 / float(values.var())


def is_for_threshold(view: View, *, positive: bool) -> bool:
    """Return whether a threshold finds what the last mark points at: two levels explain the region, and it ends there.

    It is for 90 % of the variance, and at most 10 % of the outermost voxels.
    """
    if bimodality(view) < BIMODAL:
        return False
    low, high = intensity_limits(view, positive=positive)
    inside = (view.image >= low) & (view.image <= high) & view.is_known
    found, shell = connected(inside, view.own(positive=positive)[-1]), view.shell
    return bool(found.any()) and float(found[shell].mean()) <= MOST_LEAKED


class AutomaticTool:
    """Follows prompts by the tool that suits the first of them (a :class:`~medseg.correction.session.Tool`).

    The tool stays for all further prompts, since a network goes on from its own last answer: a threshold where
    :func:`is_for_threshold` says so; else the network, when there is one; else a random walker; else, where its package
    is missing, fast marching.

    Parameters
    ----------
    volume
        Of one channel.
    make
        Makes the tool of a kind; called once for each kind that is needed.
    has_network
        Whether it can make a "network".
    region_mm
        Edge of the box that is looked at.
    """

    def __init__(
        self, volume: Volume, make: Callable[[Any], Tool], *, has_network: bool, region_mm: float | None = None
    ) -> None:
        self._volume, self._make, self._edge_mm = volume, make, region_mm or REGION_MM
        self._otherwise = "network" if has_network else "random-walker" if has_random_walker() else "fast-marching"
        self._tools: dict[str, Tool] = {}
        self._used: str | None = None

    @property
    def used(self) -> str | None:
        """The kind of tool that was chosen; ``None`` before the first prompt."""
        return self._used

    @property
    def state(self) -> tuple[str, Any] | None:
        """See :class:`~medseg.correction.session.Tool`: the kind of tool, and what that remembers."""
        return None if self._used is None else (self._used, self._tools[self._used].state)

    def restore(self, state: tuple[str, Any] | None) -> None:
        """See :class:`~medseg.correction.session.Tool`."""
        if state is None:
            # What they begin with; all tools forget by it.
            for tool in self._tools.values():
                tool.restore(None)
            self._used = None
        else:
            self._used = state[0]
            self._tools[self._used].restore(state[1])

    def propose(self, mask: np.ndarray, marks: Sequence[Mark]) -> tuple[Region, np.ndarray]:
        """See :class:`~medseg.correction.session.Tool`."""
        kind = self._used or self._chosen(marks)
        if kind not in self._tools:
            self._tools[kind] = self._make(kind)
        self._used = kind
        return self._tools[kind].propose(mask, marks)

    def _chosen(self, marks: Sequence[Mark]) -> str:
        view = View.of(self._volume, marks, self._edge_mm)
        return "threshold" if is_for_threshold(view, positive=marks[-1].positive) else self._otherwise
