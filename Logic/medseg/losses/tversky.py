"""Tversky loss with cross-entropy, as MPU-Net is trained.

Source: Z. Yu and S. Han, "3D Medical Image Segmentation based on multi-scale MPU-Net" (arXiv 2307.05799), loss
function; the Tversky part after S. Salehi et al., "Tversky loss function for image segmentation using 3D fully
convolutional deep networks" (MLMI 2017). The paper gives no alpha, beta and weights; 0.3, 0.7 and 1 are what its
authors ran. It says "class-balanced" cross-entropy and prints no class weight, and there is none here.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

CrossEntropyForm = Literal["paper", "as_published"]
"""What the cross-entropy is taken of.

paper
    ``-(g log p + (1 - g) log(1 - p))`` of each class probability p (the printed ``log(1 - log p)`` is a slip).
as_published
    The same of ``sigmoid(p)``, as the authors ran it on probabilities: between 0.5 and 0.73 for every p, so that a
    perfect result of two classes still costs ``(log(1 + 1/e) + log 2) / 2 = 0.503``, and gradients are weak.
"""


def tversky_index(
    probabilities: Tensor, truth: Tensor, *, alpha: float = 0.3, beta: float = 0.7, smooth: float = 1.0
) -> Tensor:
    """Return ``TP / (TP + alpha FP + beta FN + smooth)`` of each case and class.

    With ``TP = sum p g``, ``FP = sum p (1 - g)``, ``FN = sum (1 - p) g`` over the voxels. ``smooth`` stands in the
    denominator only, so that a class that does not occur has the index 0.

    Parameters
    ----------
    probabilities, truth
        (B, n_classes, I, J, K), from 0 to 1.

    Returns
    -------
    Tensor
        (B, n_classes), float32.
    """
    probabilities, truth = probabilities.float(), truth.float()
    voxels = tuple(range(2, probabilities.ndim))
    hits = (probabilities * truth).sum(voxels)
    excess = (probabilities * (1 - truth)).sum(voxels)
    missed = ((1 - probabilities) * truth).sum(voxels)
    return hits / (hits + alpha * excess + beta * missed + smooth)


def tversky_loss(
    probabilities: Tensor,
    truth: Tensor,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 1.0,
    counted: Tensor | None = None,
) -> Tensor:
    """Return one minus the mean :func:`tversky_index` of the classes, held between 0 and 1, mean over the cases.

    Parameters
    ----------
    probabilities, truth, alpha, beta, smooth
        As for :func:`tversky_index`.
    counted
        (B, n_classes) bool: the classes of each case that count; all by default. A case without any costs nothing.
    """
    index = tversky_index(probabilities, truth, alpha=alpha, beta=beta, smooth=smooth)
    return _mean_of_counted((1 - index).clamp(0, 1), counted)


def class_cross_entropy(
    probabilities: Tensor, truth: Tensor, *, form: CrossEntropyForm = "paper", counted: Tensor | None = None
) -> Tensor:
    """Return the two-sided cross-entropy of each class map, mean over voxels, classes and cases.

    Parameters
    ----------
    probabilities, truth
        (B, n_classes, I, J, K), from 0 to 1. A logarithm below -87 counts as -87; what is not a number stays so.
    form
        See :data:`CrossEntropyForm`.
    counted
        As for :func:`tversky_loss`.
    """
    # Not F.binary_cross_entropy: it ends the program on a GPU when a probability is not a number, before anybody can
    # say so, and a mean of several maps may pass 1 by its last bit.
    probabilities, truth = probabilities.float(), truth.float()
    if form == "as_published":
        entropy = F.softplus(probabilities) - truth * probabilities
    else:
        hit, miss = _logarithm(probabilities), _logarithm(1 - probabilities)
        entropy = -(truth * hit + (1 - truth) * miss)
    return _mean_of_counted(entropy.flatten(2).mean(2), counted)


def _mean_of_counted(values: Tensor, counted: Tensor | None) -> Tensor:
    """Mean over the counted classes (B, n_classes) of each case, then over the cases."""
    if counted is None:
        return values.mean()
    weights = counted.to(values.dtype)
    return ((values * weights).sum(1) / weights.sum(1).clamp(min=1)).mean()


def _logarithm(probabilities: Tensor) -> Tensor:
    """The logarithm, from that of the smallest number to 0."""
    return torch.log(probabilities.clamp(torch.finfo(torch.float32).tiny, 1.0))
