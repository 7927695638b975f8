"""A network of clicks at work on one segment of one volume, prompt by prompt.

How its window goes with the prompts: :mod:`medseg.correction.windowed_network`. Imports torch: for the computing
process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.correction.windowed_network import EDGE_MM, WindowedNetwork, repaired
from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from medseg.correction.region import Mark, Region
    from medseg.correction.windowed_network import NetworkState
    from medseg.networks import ClickNetwork
    from medseg.volumes import Volume

__all__ = ["EDGE_MM", "RADIUS", "SIZE", "NetworkTool"]

SIZE = (64, 64, 64)
RADIUS = 2.0
"""Of the ball around a click, in voxels of the window."""


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
        self._network = WindowedNetwork(network, volume, tuple(size), edge_mm, radius, self_loop)

    @property
    def state(self) -> NetworkState | None:
        """See :class:`~medseg.correction.session.Tool`."""
        return self._network.state

    def restore(self, state: NetworkState | None) -> None:
        """See :class:`~medseg.correction.session.Tool`."""
        self._network.restore(state)

    def propose(self, mask: np.ndarray, marks: Sequence[Mark]) -> tuple[Region, np.ndarray]:
        """See :class:`~medseg.correction.session.Tool`.

        A box is the region, but for the direction in which it is flat: there it is the window's.
        """
        mark = marks[-1]
        window, found = self._network.follow(mask, marks, mark.voxels)
        region = window.region(self._network.volume.shape)
        if mark.is_frame:
            region = region.framed(mark)
        return region, repaired(mask, window, found, region)
