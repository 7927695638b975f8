"""The networks of nnU-Net and the ensemble that they make."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from torch import nn

from medseg.models.nnunet.work import work_per_voxel
from medseg.networks import Ensemble, PlainConvUNet, build_network
from support.nnunet import as_nnunet_names

STAGES = {
    "features": [4, 6, 8],
    "blocks": [1, 2, 2],
    "decoder_convs": [2, 1],
    "bias": True,
    "norm": "InstanceNorm",
    "norm_arguments": {"eps": 1e-5, "affine": True},
    "activation": "LeakyReLU",
    "activation_arguments": {"inplace": True},
}


def arguments(dims: int) -> dict[str, Any]:
    return {
        "spatial_dims": dims,
        "in_channels": 2,
        "out_channels": 3,
        "kernel_sizes": [[1, 3, 3][-dims:], [3] * dims, [3] * dims],
        "strides": [[1] * dims, [1, 2, 2][-dims:], [2] * dims],
        **STAGES,
    }


@pytest.mark.parametrize("name", ["PlainConvUNet", "ResidualEncoderUNet"])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_network_equals_that_of_nnunets_own_package(name: str, dims: int) -> None:
    if importlib.util.find_spec("dynamic_network_architectures") is None:
        pytest.skip("dynamic-network-architectures is not installed")
    from dynamic_network_architectures.architectures import unet

    given = arguments(dims)
    blocks = "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage"
    theirs = getattr(unet, name)(
        2,
        3,
        given["features"],
        getattr(nn, f"Conv{dims}d"),
        given["kernel_sizes"],
        given["strides"],
        num_classes=3,
        n_conv_per_stage_decoder=given["decoder_convs"],
        conv_bias=True,
        norm_op=getattr(nn, f"InstanceNorm{dims}d"),
        norm_op_kwargs=given["norm_arguments"],
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        **{blocks: given["blocks"]},
    ).eval()
    ours = build_network(f"medseg.networks.{name}", given).eval()
    names = as_nnunet_names(ours.state_dict())
    assert {key for key in theirs.state_dict() if not key.startswith("decoder.seg_layers.0.")} == set(names)
    ours.load_state_dict({key: theirs.state_dict()[key] for key in ours.state_dict()})
    image = torch.randn(1, 2, *[16] * dims)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["PlainConvUNet", "ResidualEncoderUNet"])
def test_the_work_that_is_told_is_the_work_that_is_done(name: str) -> None:
    given = arguments(3)
    network = build_network(f"medseg.networks.{name}", given).eval()
    done = 0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal done
        # A transposed convolution with its stride as its kernel uses each weight once for a voxel of its input.
        up = isinstance(layer, nn.ConvTranspose3d)
        done += layer.weight.numel() * (inputs[0] if up else output)[0, 0].numel()

    for layer in network.modules():
        if isinstance(layer, (nn.Conv3d, nn.ConvTranspose3d)):
            layer.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 2, 8, 8, 8))
    projections = 0 if name == "PlainConvUNet" else 0.05
    assert work_per_voxel(name, given) * 512 == pytest.approx(done, rel=projections or 1e-9)


def test_an_ensemble_is_the_mean_over_networks_and_mirror_images() -> None:
    networks = [nn.Conv3d(1, 2, 3, padding=1), nn.Conv3d(1, 2, 3, padding=1)]
    image = torch.randn(1, 1, 5, 6, 7)
    with torch.no_grad():
        found = Ensemble(networks, mirror_axes=(0, 2))(image)
        turns = [[], [2], [4], [2, 4]]
        each = [
            network(image.flip(turn)).flip(turn) if turn else network(image) for network in networks for turn in turns
        ]
    torch.testing.assert_close(found, torch.stack(each).mean(0), rtol=1e-5, atol=1e-6)


def test_a_flat_ensemble_takes_slices_as_windows() -> None:
    network = nn.Conv2d(1, 2, 3, padding=1)
    image = torch.randn(2, 1, 1, 6, 7)
    with torch.no_grad():
        torch.testing.assert_close(Ensemble([network], flat=True)(image), network(image[:, :, 0])[:, :, None])


def test_wrong_stages_or_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="one entry a stage"):
        PlainConvUNet(**{**arguments(3), "blocks": [1]})
    with pytest.raises(ValueError, match="mirror axes"):
        Ensemble([nn.Identity()], mirror_axes=(2,), flat=True)
