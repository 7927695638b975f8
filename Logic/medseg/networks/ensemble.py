"""Several networks as one: their scores averaged, over mirrored copies of the input too, in two dimensions or three."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


class Ensemble(nn.Module):
    """The mean of what networks say of an input and of its mirror images, turned back.

    Parameters
    ----------
    networks
        Modules that take (B, C, I, J, K) and give (B, classes, I, J, K), or (B, C, J, K) when ``flat``.
    mirror_axes
        Axes of the network's own input, 0 for the first after the channels: every combination of them is mirrored, so
        n axes cost 2 ** n runs of each network.
    flat
        The networks are two-dimensional: windows must be one voxel long along I, and only J and K are shown.

    Raises
    ------
    ValueError
        When there is no network or an axis is not one of the input.
    """

    def __init__(self, networks: Sequence[nn.Module], *, mirror_axes: Sequence[int] = (), flat: bool = False) -> None:
        super().__init__()
        if not networks or not set(mirror_axes) <= set(range(2 if flat else 3)):
            raise ValueError("an ensemble needs a network, and mirror axes that its input has")
        self.networks = nn.ModuleList(networks)
        self.flat = flat
        axes = sorted(set(mirror_axes))
        self.mirrored = [
            [axis + 2 for axis in some]
            for count in range(len(axes) + 1)
            for some in itertools.combinations(axes, count)
        ]

    def forward(self, windows: Tensor) -> Tensor:
        """Return the mean scores (B, classes, I, J, K) of ``windows`` (B, C, I, J, K)."""
        image = windows[:, :, 0] if self.flat else windows
        total: Tensor | None = None
        for network in self.networks:
            for axes in self.mirrored:
                scores = network(torch.flip(image, axes) if axes else image)
                scores = torch.flip(scores, axes) if axes else scores
                total = scores if total is None else total.add_(scores)
        assert total is not None
        runs = len(self.networks) * len(self.mirrored)
        mean = total.div_(runs) if runs > 1 else total
        return mean[:, :, None] if self.flat else mean
