"""A model package whose network can tell where it looks; its weights are drawn, not trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.labels import LabelTable
from medseg.models import InputSlot, Preprocessing, Window, write_package
from support.packages import LABELS, training_step

if TYPE_CHECKING:
    from pathlib import Path


def write_attending_package(
    folder: Path,
    *,
    spacing: tuple[float | None, float | None, float | None] = (None, None, None),
    position_attention: bool = True,
) -> Path:
    """Write a small MPU-Net with windows of 32 cubed to ``folder`` and return it."""
    import torch

    from medseg.networks import MPUNet

    arguments: dict[str, Any] = {"widths": [2, 4, 4, 8, 8, 8], "position_attention": position_attention}
    with torch.random.fork_rng():
        torch.manual_seed(11)
        network = MPUNet(**arguments)
    if network.attention is not None:
        # Sharper than fresh weights are, so that rows of different points differ.
        for part in (network.attention.query, network.attention.key):
            part.weight.data *= 6
    return write_package(
        folder,
        name=folder.name,
        title="Looks around",
        description="Finds nothing in particular.",
        version="0.1.0",
        license="Apache-2.0",
        inputs=[InputSlot("image", "MR", minimum_slices=8)],
        labels=LabelTable(LABELS[:1]),
        network_target="medseg.networks.MPUNet",
        network_arguments=arguments,
        preprocessing=Preprocessing("RAS", spacing, (training_step(),)),
        window=Window((32, 32, 32), 0.5),
        state_dict=network.state_dict(),
    ).folder
