"""Losses for cases in which not every class is annotated.

Source: P. Melander and M. Thanell, "Vision transformers for segmenting organs and tissues in CT scans of arbitrary
imaging ranges" (Lund University 2024:E46), section on the semantic loss: soft Dice with squared terms, whose classes
without annotation are multiplied by zero. Merging the unannotated classes with the background is not in the paper; it
follows Shi et al., "Marginal loss and exclusion loss for partially supervised multi-organ segmentation" (Medical Image
Analysis 2021).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

BackgroundRule = Literal["as_labelled", "merged", "excluded"]
"""What is done with the background, in which the unannotated structures of a case lie.

as_labelled
    The paper's: background like any other class, so a hit on an unannotated structure counts as a wrong background.
merged
    The probabilities of the unannotated classes are added to the background's.
excluded
    The background is no class of the loss.
"""


def missing_label_dice(
    probabilities: Tensor,
    classes: Tensor,
    annotated: Tensor,
    *,
    alpha: float = 0.0,
    beta: float = 1e-5,
    background: BackgroundRule = "as_labelled",
) -> Tensor:
    """Return the mean soft Dice loss over the classes of a case, zero for those that are not annotated in it.

    ``SD_j = 1 - (2 sum_i p_i g_i + alpha) / (sum_i p_i^2 + sum_i g_i^2 + beta)``; an unannotated ``SD_j`` is multiplied
    by zero before the mean, so the divisor stays the number of classes. A class that is annotated but does not occur
    gives the constant 1 and no gradient, because ``alpha`` is 0 (with a positive one, rare classes were never found).

    Parameters
    ----------
    probabilities
        (B, n_classes, I, J, K), summing to 1 over the classes.
    classes
        (B, I, J, K) class indices.
    annotated
        (B, n_classes) bool: which classes are annotated in which case.
    alpha, beta, background
        As above; see :data:`BackgroundRule`.

    Returns
    -------
    Tensor
        Scalar, the mean over the batch.
    """
    probabilities = probabilities.float()
    count = probabilities.shape[1]
    if background == "merged":
        hidden = ~annotated
        unseen = (probabilities * hidden[(...,) + (None,) * (probabilities.ndim - 2)]).sum(1)
        probabilities = torch.cat([probabilities[:, :1] + unseen[:, None], probabilities[:, 1:]], 1)
    # Sums by class, not a one-hot array: that takes as much memory as the probabilities, eight bytes a number.
    index = classes.long()
    own = probabilities.gather(1, index[:, None]).flatten(1)
    nothing = probabilities.new_zeros(probabilities.shape[:2])
    overlap = nothing.scatter_add(1, index.flatten(1), own)
    voxels = nothing.scatter_add(1, index.flatten(1), torch.ones_like(own))
    size = probabilities.flatten(2).square().sum(2) + voxels
    loss = 1 - (2 * overlap + alpha) / (size + beta)
    loss = loss * annotated
    if background == "excluded":
        loss, count = loss[:, 1:], count - 1
    return loss.sum(1).mean() / count


def marginal_cross_entropy(scores: Tensor, classes: Tensor, annotated: Tensor) -> Tensor:
    """Return the cross-entropy in which a background voxel may as well be of any unannotated class.

    ``-log(p_0 + sum of the unannotated p_j)`` where the label says background, ``-log p_class`` elsewhere, mean over
    the voxels; with every class annotated this is the ordinary cross-entropy. The background is always annotated.

    Parameters
    ----------
    scores
        (B, n_classes, I, J, K) logits.
    classes, annotated
        As for :func:`missing_label_dice`.
    """
    logs = F.log_softmax(scores.float(), 1)
    merged = ~annotated
    merged[:, 0] = True
    masked = logs.masked_fill(~merged[(...,) + (None,) * (scores.ndim - 2)], -torch.inf)
    rest = torch.logsumexp(masked, 1)
    index = classes.long()[:, None]
    own = logs.gather(1, index)[:, 0]
    return -torch.where(index[:, 0] == 0, rest, own).mean()
