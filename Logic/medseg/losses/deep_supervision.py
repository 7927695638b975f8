"""One loss at several resolutions of a network's decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def deeply_supervised(outputs: Tensor, spatial_dims: int, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Return ``loss`` of every level of a deeply supervised network; weights halve with each level and sum to 1.

    Networks of MONAI's DynUNet kind stack their outputs, all brought to full resolution, along axis 1 in training:
    (B, levels, n_classes, I, J, K). A plain output (B, n_classes, I, J, K) is passed on as it is.
    """
    if outputs.ndim == spatial_dims + 2:
        return loss(outputs)
    weights = [0.5**level for level in range(outputs.shape[1])]
    terms = [weight * loss(scores) for weight, scores in zip(weights, outputs.unbind(1), strict=True)]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total / sum(weights)
