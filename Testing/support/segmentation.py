"""Packages and networks whose right answer is known, for tests of the segmentation pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from medseg.labels import Code, Label, LabelTable
from medseg.labels.codes import ANATOMICAL_STRUCTURE
from medseg.models import InputSlot, ModelPackage, Postprocessing, Preprocessing, WeightsFile, Window

if TYPE_CHECKING:
    from collections.abc import Sequence


def label_table(count: int, values: Sequence[int] | None = None) -> LabelTable:
    """Return a table of ``count`` organs, values 1, 2, ... unless given."""
    numbers = values or range(1, count + 1)
    return LabelTable(
        [
            Label(value, f"organ {value}", ((37 * value) % 256, 90, 200), ANATOMICAL_STRUCTURE, _ORGAN)
            for value in numbers
        ]
    )


_ORGAN = Code("SCT", "113343008", "Organ")


def package_of(
    *,
    classes: int = 2,
    window: tuple[int, int, int] = (16, 16, 16),
    overlap: float = 0.25,
    orientation: str = "RAS",
    spacing: tuple[float | None, float | None, float | None] = (None, None, None),
    **changes: Any,
) -> ModelPackage:
    """Return a package without files, for networks that are handed to the pipeline."""
    settings: dict[str, Any] = {
        "folder": Path("nowhere"),
        "name": "test-model",
        "title": "A test model",
        "description": "",
        "version": "1.2.3",
        "license": "Apache-2.0",
        "verb": "segment",
        "inputs": (InputSlot("image", "", "", 2),),
        "labels": label_table(max(classes - 1, 1)),
        "output_channels": classes,
        "network_target": "monai.networks.nets.UNet",
        "network_arguments": {},
        "preprocessing": Preprocessing(orientation, spacing),
        "window": Window(window, overlap),
        "weights": WeightsFile(Path("nowhere.pt"), "ab" * 32, 1),
        "postprocessing": Postprocessing(),
        **changes,
    }
    return ModelPackage(**settings)


class Threshold(nn.Module):
    """Class 1 where the first channel is above a threshold; the score is the distance to it."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        above = image[:, :1] - self.threshold
        return torch.cat([-above, above], dim=1)


class Levels(nn.Module):
    """Class n where the image is nearest to ``n * step``: linear scores, so interpolating them is exact on a ramp."""

    def __init__(self, classes: int, step: float) -> None:
        super().__init__()
        self.classes = classes
        self.step = step

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        level = torch.arange(self.classes).view(1, -1, 1, 1, 1) * self.step
        return level * image[:, :1] - level**2 / 2


def random_network(classes: int, *, channels: int = 1, seed: int = 0) -> nn.Module:
    """Return a small convolution with fixed random weights, whose scores have no structure to hide behind."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Conv3d(channels, classes, 3, padding=1)
