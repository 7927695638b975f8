"""How a network of clicks is trained: a simulated user talks to it, and the last answer is graded.

Source: A. Chang et al., PE-MED (MLMI 2023); not given there: how clicks are simulated, how many come before the graded
pass (0 to 3, as in K. Sofiiuk et al., ICIP 2022), and that no gradient passes through the answers before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.correction import Click, first_click, next_click
from medseg.correction.clicks import RADIUS_VOXELS
from medseg.correction.interaction import Interaction, masks_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from medseg.networks import ClickNetwork

MOST_CLICKS = 3
"""More clicks than the first before the graded pass, at most."""


def logits_after_clicks(
    network: ClickNetwork,
    images: Tensor,
    truths: Tensor,
    rng: np.random.Generator,
    *,
    starts: Tensor | None = None,
    radius: float | Sequence[float] = RADIUS_VOXELS,
    self_loop: bool = True,
    most_clicks: int = MOST_CLICKS,
) -> Tensor:
    """Return the logits of the graded pass, after a random number of clicks, with a gradient.

    The passes before it are in eval mode and have none. Without further clicks the graded pass is the second one of the
    Self-Loop, so that the warm start is trained.

    Parameters
    ----------
    network
        Is left in the mode that it is in.
    images, truths
        (B, channels, \\*size), and (B, 1, \\*size) with the structure above 0, which no case lacks.
    rng
        Draws the clicks and their number.
    starts
        (B, 1, \\*size), segmentations that are to be repaired; a case of zeros among others begins from nothing and
        without the Self-Loop.

    Raises
    ------
    ValueError
        When a structure is empty.
    """
    wanted = [np.asarray(truth[0].cpu() > 0) for truth in truths]
    mode = network.training
    network.eval()
    try:
        talk = Interaction(network, images, start=starts, radius=radius, self_loop=self_loop)
        first = [first_click(truth, rng=rng) for truth in wanted] if starts is None else _first(starts, wanted, rng)
        talk.add(first)
        talk.warm_up()
        for _ in range(rng.integers(0, most_clicks + 1)):
            given = masks_of(talk.answer())
            talk.add([next_click(mask, truth, rng=rng) for mask, truth in zip(given, wanted, strict=True)])
    finally:
        network.train(mode)
    return network(images, *talk.prompts)


def _first(starts: Tensor, wanted: Sequence[np.ndarray], rng: np.random.Generator) -> list[Click | None]:
    """Return the first click on segmentations that are to be repaired; into the structure where there is none."""
    given = [np.asarray(start[0].cpu() > 0.5) for start in starts]
    return [
        next_click(mask, truth, rng=rng) if mask.any() else first_click(truth, rng=rng)
        for mask, truth in zip(given, wanted, strict=True)
    ]


def dice_after_clicks(
    network: ClickNetwork,
    images: Tensor,
    truths: Tensor,
    clicks: int,
    *,
    radius: float | Sequence[float] = RADIUS_VOXELS,
    self_loop: bool = True,
) -> np.ndarray:
    """Return the Dice coefficient (B, clicks) after each of so many clicks into the middle of the largest error.

    Parameters are those of :func:`logits_after_clicks`; the network is put into eval mode.
    """
    from medseg.metrics import dice

    network.eval()
    wanted = [np.asarray(truth[0].cpu() > 0) for truth in truths]
    talk = Interaction(network, images, radius=radius, self_loop=self_loop)
    talk.add([first_click(truth) for truth in wanted])
    scores = np.empty((len(images), clicks))
    for number in range(clicks):
        given = masks_of(talk.answer())
        scores[:, number] = [dice(mask, truth) for mask, truth in zip(given, wanted, strict=True)]
        talk.add([next_click(mask, truth) for mask, truth in zip(given, wanted, strict=True)])
    return scores
