"""The normalised focal loss, with which click-based segmentation is trained.

Source: K. Sofiiuk et al., "AdaptIS: Adaptive instance selection network" (ICCV 2019), as K. Sofiiuk et al., "Reviving
iterative training with mask guidance for interactive segmentation" (ICIP 2022) and A. Chang et al., PE-MED (MLMI 2023)
use it. The focal weights of an image are scaled to a mean of one, so that the loss does not fade as the mask becomes
better.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def normalised_focal_loss(
    logits: Tensor, truth: Tensor, *, gamma: float = 2.0, alpha: float = 0.5, eps: float = 1e-8
) -> Tensor:
    """Return ``-mean(alpha k beta log p_t)``, the mean over the voxels of each case and then over the cases.

    ``p_t`` is the probability given to what is true, ``beta = (1 - p_t)^gamma`` and ``k = N / (sum(beta) + eps)``, a
    constant for the gradient.

    Parameters
    ----------
    logits
        (B, 1, \\*size).
    truth
        (B, 1, \\*size), 0 or 1.
    gamma
        How little what is nearly right counts.
    alpha
        The same weight for both classes.

    Returns
    -------
    Tensor
        Scalar, float32.

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    if logits.shape != truth.shape:
        raise ValueError(f"logits and truth have one shape, not {tuple(logits.shape)} and {tuple(truth.shape)}")
    towards_truth = logits.float() * (2 * truth.float() - 1)
    log_probability = F.logsigmoid(towards_truth).flatten(1)
    beta = F.logsigmoid(-towards_truth).flatten(1).mul(gamma).exp()
    scale = beta.shape[1] / (beta.detach().sum(1, keepdim=True) + eps)
    return -(alpha * scale * beta * log_probability).mean()
