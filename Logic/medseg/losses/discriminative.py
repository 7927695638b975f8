"""Embeddings that separate instances: those of one instance near their mean, the means far from each other.

Source: B. De Brabandere, D. Neven and L. Van Gool, "Semantic instance segmentation with a discriminative loss function"
(2017), as used for ribs and vertebrae by P. Melander and M. Thanell, "Vision transformers for segmenting organs and
tissues in CT scans of arbitrary imaging ranges" (Lund University 2024:E46), section on the instance loss. Not given
there, our choice: terms that are empty are zero, the loss is taken for each group of instances on its own, and voxels
are those of the truth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence


class Margins(NamedTuple):
    """Distances and weights of the loss, as published.

    Attributes
    ----------
    pull
        ``delta_v``: a member nearer to its mean than this costs nothing.
    push
        ``delta_d``: two means further apart than twice this cost nothing.
    variance, distance, regular
        Weights of the three terms.
    """

    pull: float = 1.5
    push: float = 3.0
    variance: float = 1.5
    distance: float = 1.0
    regular: float = 1e-4


PUBLISHED = Margins()


class Terms(NamedTuple):
    """The three terms of the loss, scalars without their weights."""

    variance: Tensor
    distance: Tensor
    regular: Tensor

    def total(self, margins: Margins = PUBLISHED) -> Tensor:
        """Return the weighted sum."""
        return margins.variance * self.variance + margins.distance * self.distance + margins.regular * self.regular


def discriminative_terms(points: Tensor, instances: Tensor, margins: Margins = PUBLISHED) -> Terms:
    """Return the terms of the loss of one set of points.

    With ``C`` instances of ``N_c`` points and means ``mu_c``, and ``[x]_+ = max(x, 0)``::

        variance = 1/C       sum_c 1/N_c sum_i [||mu_c - x_i|| - delta_v]_+^2
        distance = 1/(C(C-1)) sum_{a != b}     [2 delta_d - ||mu_a - mu_b||]_+^2
        regular  = 1/C       sum_c ||mu_c||

    ``distance`` is 0 with one instance, all are 0 without a point. Memory is O(N E + C^2 E).

    Parameters
    ----------
    points
        (N, E) embeddings.
    instances
        (N,) whole numbers; points of the same number belong together.
    """
    points = points.float()
    zero = points[:0].sum()
    if len(points) == 0:
        return Terms(zero, zero, zero)
    numbers, member = torch.unique(instances, return_inverse=True)
    count = len(numbers)
    sizes = torch.bincount(member, minlength=count).to(points.dtype)
    means = points.new_zeros((count, points.shape[1])).index_add(0, member, points) / sizes[:, None]
    beyond = (torch.linalg.vector_norm(points - means[member], dim=1) - margins.pull).clamp(min=0).square()
    variance = (points.new_zeros(count).index_add(0, member, beyond) / sizes).mean()
    distance = zero
    if count > 1:
        first, second = torch.triu_indices(count, count, 1, device=points.device)
        apart = torch.linalg.vector_norm(means[first] - means[second], dim=1)
        # Each pair stands for both of its orders.
        distance = (2 * margins.push - apart).clamp(min=0).square().mean()
    return Terms(variance, distance, torch.linalg.vector_norm(means, dim=1).mean())


def discriminative_loss(
    embeddings: Tensor,
    classes: Tensor,
    instances: Tensor,
    groups: Sequence[int],
    *,
    joint: bool = False,
    margins: Margins = PUBLISHED,
) -> Tensor:
    """Return the discriminative loss of a batch, the mean over its cases; 0 for a case without an instance.

    Parameters
    ----------
    embeddings
        (B, E, I, J, K), as the network gives them: neither activated nor normalised.
    classes
        (B, I, J, K) label values.
    instances
        (B, I, J, K): 0, or a number that is unique to the instance within its case.
    groups
        The label values that have instances, such as left ribs or lumbar vertebrae. The loss is the mean over those
        that occur in the case, since the embeddings are clustered group by group; voxels of other labels do not enter.
    joint
        Take the instances of all groups as one set instead, so that the means of two groups repel each other too.

    Returns
    -------
    Tensor
        Scalar float32, connected to ``embeddings`` also where it is 0.
    """
    sets = [list(groups)] if joint else [[value] for value in groups]
    cases = []
    for embedding, label, number in zip(embeddings, classes, instances, strict=True):
        points, numbers, labels = embedding.flatten(1), number.flatten(), label.flatten()
        losses = []
        for values in sets:
            chosen = torch.isin(labels, labels.new_tensor(values)) & (numbers != 0)
            where = torch.nonzero(chosen)[:, 0]
            if len(where):
                losses.append(discriminative_terms(points[:, where].T, numbers[where], margins).total(margins))
        cases.append(torch.stack(losses).mean() if losses else 0.0 * points[:, :1].float().sum())
    return torch.stack(cases).mean()
