"""Position attention: every voxel of a feature map looks at every other, without a table of all pairs in memory.

Source: Z. Yu and S. Han, "3D Medical Image Segmentation based on multi-scale MPU-Net" (arXiv 2307.05799), position
attention module; 1x1x1 convolutions of C/8 channels for queries and keys, one head, no scaling and no positional
encoding are as in the network that the authors ran (the text of the paper mentions no convolution for queries).
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

logger = logging.getLogger(__name__)

MANY_TOKENS = 8192
"""On a CPU, more positions than these are worth a remark: the time grows with their square (our choice)."""


def attend(query: Tensor, key: Tensor, value: Tensor, *, rows: int | None = None) -> Tensor:
    """Return ``softmax(query key^T) value``, computed in float32, without the N x N matrix of weights.

    Some queries are treated at a time. Their weights, ``rows`` x N numbers, are forgotten at once and computed again
    in the backward pass, so that memory grows with N C and not with N squared. Measured against
    ``scaled_dot_product_attention`` with queries and keys filled up with zeros to C channels, which does not store the
    matrix either: 0.33 against 0.42 s forward and 0.96 against 1.43 s backward for N = 6144, C = 256 on one core.

    Parameters
    ----------
    query, key
        (B, N, d). The products are not divided by ``sqrt(d)``.
    value
        (B, N, C).
    rows
        Queries at a time; C when omitted, so that no array is larger than the values themselves.

    Returns
    -------
    Tensor
        (B, N, C), of the type of ``value``.
    """
    tokens = query.shape[1]
    step = max(rows if rows is not None else value.shape[2], 1)
    # Unscaled products of a whole feature vector leave the range of half precision soon.
    query, key, values = query.float(), key.float(), value.float()
    with torch.autocast(query.device.type, enabled=False):
        if tokens <= step:
            return _attend_rows(query, key, values).to(value.dtype)
        learning = torch.is_grad_enabled() and any(part.requires_grad for part in (query, key, values))
        mixed = []
        for first in range(0, tokens, step):
            part = query[:, first : first + step]
            if learning:
                mixed.append(checkpoint(_attend_rows, part, key, values, use_reentrant=False, preserve_rng_state=False))
            else:
                mixed.append(_attend_rows(part, key, values))
        return torch.cat(mixed, dim=1).to(value.dtype)


def _attend_rows(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return attention_weights(query, key) @ value


def attention_weights(query: Tensor, key: Tensor) -> Tensor:
    """Return ``softmax(query key^T)``, float32 (B, R, N), for R queries (B, R, d) and N keys (B, N, d)."""
    return torch.softmax(query.float() @ key.float().transpose(1, 2), dim=-1)


class PositionAttention(nn.Module):
    """``gamma * sum_j s_ij V_j + x_i`` with ``s_ij = exp(q_i . k_j) / sum_j exp(q_i . k_j)`` over all voxels j.

    ``gamma`` is learned and begins at 0, so the layer begins as the identity.

    Parameters
    ----------
    channels
        C of the feature map.
    reduction
        Queries and keys have ``C / reduction`` channels, at least one; 8 in the authors' network.
    rows
        See :func:`attend`.

    Raises
    ------
    ValueError
        When a number is below 1.
    """

    def __init__(self, channels: int, *, reduction: int = 8, rows: int | None = None) -> None:
        super().__init__()
        if channels < 1 or reduction < 1 or (rows is not None and rows < 1):
            raise ValueError("channels, reduction and rows must be at least 1")
        inner = max(channels // reduction, 1)
        self.rows = rows
        self.query = nn.Conv3d(channels, inner, 1)
        self.key = nn.Conv3d(channels, inner, 1)
        self.value = nn.Conv3d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self._remarked = False

    def forward(self, features: Tensor) -> Tensor:
        """Return ``features`` (B, C, I, J, K) with what each voxel gathers from all others added."""
        self._remark(features)
        query, key, value = (_tokens(layer(features)) for layer in (self.query, self.key, self.value))
        mixed = attend(query, key, value, rows=self.rows)
        return self.gamma * mixed.transpose(1, 2).reshape(features.shape) + features

    def row(self, features: Tensor, position: tuple[int, int, int]) -> Tensor:
        """Return the weights with which the voxel at ``position`` (i, j, k) looks at all voxels.

        Parameters
        ----------
        features
            (B, C, I, J, K).

        Returns
        -------
        Tensor
            (B, I, J, K), float32; its sum over the voxels is 1.
        """
        i, j, k = position
        query = self.query(features[:, :, i : i + 1, j : j + 1, k : k + 1])
        weights = attention_weights(_tokens(query), _tokens(self.key(features)))
        return weights.reshape(features.shape[0], *features.shape[2:])

    def _remark(self, features: Tensor) -> None:
        tokens = features[0, 0].numel()
        if tokens > MANY_TOKENS and features.device.type == "cpu" and not self._remarked:
            self._remarked = True
            logger.warning(
                "The attention compares %d positions with each other, which takes long on a CPU; a smaller window, or "
                "larger voxels, make it faster.",
                tokens,
            )


def _tokens(features: Tensor) -> Tensor:
    """(B, C, I, J, K) to (B, N, C)."""
    return features.flatten(2).transpose(1, 2)
