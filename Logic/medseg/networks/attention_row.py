"""What a network tells about where it looks from one voxel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AttentionRow:
    """The weights with which one voxel looks at all parts of an image, on a grid that may be coarser than the image.

    Attributes
    ----------
    weights
        (I', J', K'), float32, sum 1.
    step
        Voxels of the image from one weight to the next, along I, J, K.
    first
        Where the first weight lies: its voxel index (i, j, k) in the image, which may lie between voxels.
    """

    weights: Tensor
    step: tuple[float, float, float]
    first: tuple[float, float, float]


@runtime_checkable
class LooksAround(Protocol):
    """A network that can tell where it looks from a voxel."""

    def attention_row(self, image: Tensor, voxel: tuple[int, int, int]) -> AttentionRow:
        """Return where the network looks from ``voxel`` (i, j, k) of ``image`` (1, C, I, J, K)."""
        ...
