"""What all networks that follow clicks have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn


class ClickNetwork(nn.Module):
    """Segmentation of one structure from an image, clicks and the previous answer.

    Attributes
    ----------
    dims
        2 or 3.
    step
        Sizes of an image are multiples of this.
    """

    dims: int
    step: int

    def forward(
        self,
        image: Tensor,
        positive: Tensor,
        negative: Tensor,
        previous: Tensor,
        last_logits: Tensor | None = None,
    ) -> Tensor:
        """Return the logits (B, 1, \\*size) of the structure, float32.

        Parameters
        ----------
        image
            (B, in_channels, \\*size), sizes multiples of :attr:`step`.
        positive, negative
            (B, 1, \\*size), 1 in disks (balls) around the clicks, else 0.
        previous
            (B, 1, \\*size), the probability of the previous answer; 0 when there is none.
        last_logits
            (B, 1, \\*size) of the previous answer; ``None`` when there is none.

        Raises
        ------
        ValueError
            When a size is not a multiple of :attr:`step`.
        """
        return self.refine(self.image_features(image), positive, negative, previous, last_logits)

    @abstractmethod
    def image_features(self, image: Tensor) -> Any:
        """Return what the image alone decides, which stays the same from click to click."""

    @abstractmethod
    def refine(
        self, features: Any, positive: Tensor, negative: Tensor, previous: Tensor, last_logits: Tensor | None = None
    ) -> Tensor:
        """Return the logits for the features of an image and prompts; see :meth:`forward`."""

    def check_size(self, image: Tensor) -> None:
        """Raise ``ValueError`` when an image (B, channels, \\*size) does not fit."""
        if any(size % self.step for size in image.shape[2:]) or image.ndim != 2 + self.dims:
            raise ValueError(
                f"the {self.dims} sizes of an image are multiples of {self.step}, not {tuple(image.shape[2:])}"
            )
