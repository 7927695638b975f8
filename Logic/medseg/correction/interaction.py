"""Images, the clicks on them and the last answer: what goes on from click to click.

Source: A. Chang et al., PE-MED (MLMI 2023): the Self-Loop, and how each answer enters the next one. Imports torch: for
the computing process only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from medseg.correction.clicks import RADIUS_VOXELS, Click, click_maps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.networks import ClickNetwork


class Interaction:
    """A batch of images, each with its clicks so far and the last answer.

    Parameters
    ----------
    network
        In eval mode.
    images
        (B, channels, \\*size), as the network takes them.
    start
        (B, 1, \\*size), probabilities of a segmentation that is to be repaired; ``None``: from nothing.
    radius
        Of the disks around clicks, in voxels.
    self_loop
        Whether the first answer from nothing enters a second pass, which is then the first that is given.
    """

    def __init__(
        self,
        network: ClickNetwork,
        images: Tensor,
        *,
        start: Tensor | None = None,
        radius: float | Sequence[float] = RADIUS_VOXELS,
        self_loop: bool = True,
    ) -> None:
        self._network, self._radius = network, radius
        self._needs_loop = self_loop and start is None
        self._previous = torch.zeros_like(images[:, :1]) if start is None else start.to(images)
        self._last: Tensor | None = None
        self._maps = torch.zeros((len(images), 2, *images.shape[2:]), device=images.device, dtype=images.dtype)
        with torch.no_grad():
            self._features = network.image_features(images)

    def add(self, clicks: Sequence[Click | None]) -> None:
        """Add a click to each image; ``None``: no click there."""
        for maps, click in zip(self._maps, clicks, strict=True):
            if click is not None:
                drawn = click_maps([click], tuple(maps.shape[1:]), self._radius)
                maps.copy_(torch.maximum(maps, torch.from_numpy(drawn).to(maps)))

    def draw(self, voxels: np.ndarray, *, positive: bool) -> None:
        """Add voxels (N, axes) to the clicks of the only image: those of a scribble, a lasso or a box too."""
        clicks = [Click(tuple(place), positive) for place in voxels.tolist()]
        drawn = click_maps(clicks, tuple(self._maps.shape[2:]), self._radius)
        self._maps[0] = torch.maximum(self._maps[0], torch.from_numpy(drawn).to(self._maps))

    def forget_prompts(self) -> None:
        """Remove all clicks; the last answer stays."""
        self._maps.zero_()

    def resume(self, last: Tensor) -> None:
        """Go on from the logits (B, 1, \\*size) of an earlier answer."""
        self._needs_loop = False
        self._previous, self._last = torch.sigmoid(last).to(self._previous), last

    @property
    def prompts(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """What a pass takes beside the image: positive and negative clicks, previous probabilities, last logits."""
        return self._maps[:, :1], self._maps[:, 1:], self._previous, self._last

    def warm_up(self) -> None:
        """Do the first pass of the Self-Loop, where there is to be one; :meth:`answer` does it by itself."""
        if self._needs_loop:
            self._pass()

    def answer(self) -> Tensor:
        """Return the logits (B, 1, \\*size) after the clicks so far."""
        self.warm_up()
        return self._pass()

    def _pass(self) -> Tensor:
        with torch.no_grad():
            logits = self._network.refine(self._features, *self.prompts)
        self.resume(logits)
        return logits


def masks_of(logits: Tensor) -> list[np.ndarray]:
    """Return for each image of logits (B, 1, \\*size) what belongs to the structure, bool (\\*size)."""
    return [np.asarray(one[0].cpu() > 0) for one in logits]
