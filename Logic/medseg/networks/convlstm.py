"""A convolutional LSTM across the slices of a stack, in both directions: the rival of attention between slices.

Sources: X. Shi et al., "Convolutional LSTM Network: A Machine Learning Approach for Precipitation Nowcasting"
(NeurIPS 2015), equation 3, for the cell; J. Chen et al., "Combining Fully Convolutional and Recurrent Neural Networks
for 3D Biomedical Image Segmentation" (NeurIPS 2016) for running it through the slices of a volume in both directions
and joining what both have seen. The TSFMUNet poster compares with an "LSTMUNet" that it does not describe.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_FORGET_BIAS = 1.0
"""At the start the cell keeps what it holds, as is usual for LSTMs; not given in the papers."""


class ConvLSTM(nn.Module):
    """A convolutional LSTM that walks through the slices once, from the first to the last.

    With ``*`` a convolution, ``.`` a product of elements and ``s`` the logistic function, for slice ``t``::

        i_t = s(W_xi * x_t + W_hi * h_(t-1) + b_i)          what is let in
        f_t = s(W_xf * x_t + W_hf * h_(t-1) + b_f)          what is kept
        o_t = s(W_xo * x_t + W_ho * h_(t-1) + b_o)          what is shown
        g_t = tanh(W_xg * x_t + W_hg * h_(t-1) + b_g)
        c_t = f_t . c_(t-1) + i_t . g_t
        h_t = o_t . tanh(c_t)

    and zeros before the first slice. The terms ``W_c . c`` of Shi et al. (peepholes) are left out: their weights are as
    large as the maps and would tie the network to one image size (our choice).

    Parameters
    ----------
    channels
        Of the maps that come in.
    hidden
        Of the maps that go out.
    kernel
        Odd width of the convolutions.
    """

    def __init__(self, channels: int, hidden: int, *, kernel: int = 3) -> None:
        super().__init__()
        if hidden < 1 or kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"hidden ({hidden}) must be at least 1 and kernel ({kernel}) odd")
        self.hidden = hidden
        # Gates in the order i, f, o, g.
        self.from_input = nn.Conv2d(channels, 4 * hidden, kernel, padding=kernel // 2)
        self.from_state = nn.Conv2d(hidden, 4 * hidden, kernel, padding=kernel // 2, bias=False)
        assert self.from_input.bias is not None
        with torch.no_grad():
            self.from_input.bias.zero_()
            self.from_input.bias[hidden : 2 * hidden] = _FORGET_BIAS

    def forward(self, features: Tensor) -> Tensor:
        """Return ``h`` of every slice, (B, S, hidden, h, w), for ``features`` (B, S, C, h, w)."""
        batch, slices = features.shape[:2]
        inputs = self.from_input(features.flatten(0, 1)).unflatten(0, (batch, slices))
        shown: list[Tensor] = []
        cell = torch.zeros_like(inputs[:, 0, : self.hidden])
        for index in range(slices):
            gates = inputs[:, index] if not shown else inputs[:, index] + self.from_state(shown[-1])
            let_in, keep, show, new = gates.chunk(4, dim=1)
            cell = torch.sigmoid(keep) * cell + torch.sigmoid(let_in) * torch.tanh(new)
            shown.append(torch.sigmoid(show) * torch.tanh(cell))
        return torch.stack(shown, dim=1)


class BidirectionalConvLSTM(nn.Module):
    """Two :class:`ConvLSTM`, one from the first slice to the last and one back, whose outputs are joined.

    Each has half of the channels, so that the maps leave as wide as they came (hidden ``C / 2`` per direction).

    Raises
    ------
    ValueError
        When ``channels`` is odd.
    """

    def __init__(self, channels: int, *, kernel: int = 3) -> None:
        super().__init__()
        if channels % 2:
            raise ValueError(f"channels ({channels}) must be even: each direction gets half of them")
        self.onward = ConvLSTM(channels, channels // 2, kernel=kernel)
        self.back = ConvLSTM(channels, channels // 2, kernel=kernel)

    def forward(self, features: Tensor, positions: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return (B, S, C, h, w) for ``features`` of that shape.

        ``positions`` is what other layers between slices take; a recurrent one knows the order of the slices only.
        """
        return torch.cat([self.onward(features), self.back(features.flip(1)).flip(1)], dim=2)
