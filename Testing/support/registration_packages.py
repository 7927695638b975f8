"""Small packages that register, with weights that nobody has trained but that move something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from medseg.labels import Label, LabelTable
from medseg.labels.codes import ANATOMICAL_STRUCTURE
from medseg.models import InputSlot, Registration, Window, registration_preprocessing, write_package
from medseg.networks import RegistrationNetwork, build_network

LAPIRN = ("medseg.networks.ConditionalLapIRN", {"start_channels": 1})
VOXELMORPH = (
    "medseg.networks.VoxelMorph",
    {"channels": [2, 2, 2, 2], "unet_out_channels": 2, "final_conv_channels": [2]},
)


def a_moving_network(target: str, arguments: dict[str, Any], seed: int = 0) -> RegistrationNetwork:
    """Return a network whose field is not zero, though it was never trained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_network(target, arguments)
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim == 5 and parameter.shape[0] == 3:
                    parameter.normal_(std=0.2)
    assert isinstance(network, RegistrationNetwork)
    return network.eval()


def write_registering_package(
    folder: Path,
    which: tuple[str, dict[str, Any]] = LAPIRN,
    *,
    spacing: float = 8.0,
    orientation: str = "RAS",
    network: RegistrationNetwork | None = None,
    **options: Any,
) -> Path:
    """Write a package that registers and return its folder; ``options`` are those of ``write_package``."""
    target, arguments = which
    network = network or a_moving_network(target, arguments)
    settings: dict[str, Any] = {
        "name": "any-register",
        "title": "Anything",
        "description": "Registers anything, badly.",
        "version": "1.2.3",
        "license": "Apache-2.0",
        "inputs": [InputSlot("Fixed volume"), InputSlot("Moving volume")],
        "labels": LabelTable([Label(1, "Shapes", (9, 9, 9), ANATOMICAL_STRUCTURE, ANATOMICAL_STRUCTURE)]),
        "network_target": target,
        "network_arguments": arguments,
        "preprocessing": registration_preprocessing(orientation, (spacing,) * 3),
        "window": Window((32, 32, 32)),
        "state_dict": network.state_dict(),
        "registration": Registration(
            domain="anything", multiple=network.multiple, conditional=network.conditional, synthetic=True
        ),
        **options,
    }
    return write_package(folder, **settings).folder


def write_small_lapirn(folder: Path) -> Path:
    """Write the package "small-lapirn", version 1.2.3, for a smoothness of 0.7; it moves heads for no reason."""
    return write_registering_package(
        folder,
        name="small-lapirn",
        title="Small LapIRN",
        registration=Registration("heads of a test", multiple=8, conditional=True, smoothness=0.7),
    )
