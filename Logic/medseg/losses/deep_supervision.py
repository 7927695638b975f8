"""One loss at several resolutions of a network's decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


class DeepSupervisionLoss(nn.Module):
    """Apply a loss to every output of a deeply supervised network; weights halve with each level and sum to 1.

    Networks of MONAI's DynUNet kind stack their outputs, all brought to full resolution, along axis 1 in training:
    (B, levels, n_classes, I, J, K). A plain output (B, n_classes, I, J, K) is passed on as it is.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """Return the weighted loss of ``scores`` against class indices ``target`` (B, 1, I, J, K)."""
        if scores.ndim == target.ndim:
            return self.loss(scores, target)
        weights = [0.5**level for level in range(scores.shape[1])]
        terms = [
            weight * self.loss(level_scores, target)
            for weight, level_scores in zip(weights, scores.unbind(1), strict=True)
        ]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total / sum(weights)
