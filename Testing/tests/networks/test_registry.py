"""Networks come from an allow-list."""

from __future__ import annotations

import sys

import pytest
import torch

from medseg.errors import ModelError, UntrustedModelError
from medseg.networks import build_network


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "monai.networks.nets.dynunet.os",
        "medseg.networks.__builtins__",
        "medseg.networks.registry.importlib",
        "DynUNet",
        "",
        "antigravity.fly",
    ],
)
def test_a_network_from_elsewhere_is_refused_without_importing_it(target: str) -> None:
    with pytest.raises(UntrustedModelError, match="not on the list"):
        build_network(target, {})
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("target", ["monai.networks.nets.NoSuchNet", "medseg.networks.positional_encoding"])
def test_what_is_not_a_network_is_refused(target: str) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        build_network(target, {})


def test_arguments_that_do_not_fit_are_named() -> None:
    with pytest.raises(ModelError, match="cannot be built"):
        build_network("medseg.networks.TSFMUNet", {"colour": "blue"})


def test_allowed_networks_are_built() -> None:
    network = build_network("medseg.networks.TSFMUNet", {"base": 4, "depth": 1, "out_channels": 3})
    assert network(torch.zeros(1, 1, 4, 4, 2)).shape == (1, 3, 4, 4, 2)
    build_network("monai.networks.nets.BasicUNet", {"features": [4, 4, 4, 4, 4, 4]})
