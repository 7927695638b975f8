"""What a network gets in a step: a batch, and the spacing of its slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from medseg.training.objectives import Batch
    from medseg.training.recipe import Recipe


def noise_batch(recipe: Recipe, classes: int, device: str | torch.device) -> Batch:
    """Return a batch as the recipe makes them, of noise without any structure."""
    size, count = recipe.window.size, recipe.optimisation.batch_size
    spacing = [step or 1.0 for step in recipe.preprocessing.spacing]
    return {
        "image": torch.randn(count, len(recipe.package.slots), *size, device=device),
        "classes": torch.zeros(count, *size, dtype=torch.uint8, device=device),
        "annotated": torch.ones(count, classes, dtype=torch.bool, device=device),
        "instances": torch.zeros(count, *size, dtype=torch.int16, device=device),
        "spacing": torch.tensor([spacing] * count, device=device),
    }


def tell_spacing(network: nn.Module, spacing: Tensor) -> None:
    """Tell a network that asks for it how far apart the slices of each stack of the batch are (mm)."""
    if hasattr(network, "slice_spacing"):
        network.slice_spacing = spacing[:, int(network.slice_axis)]
