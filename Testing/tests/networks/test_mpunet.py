"""MPU-Net: the published counts to the digit, and what its options promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medseg.errors import ModelError
from medseg.networks import build_network
from medseg.networks.attention_row import LooksAround
from medseg.networks.mpunet import MPUNet
from medseg.networks.published_unet import MPUNetBaseline

TINY = (2, 4, 4, 6, 8, 8)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def a_tiny_network(**options: Any) -> MPUNet:
    torch.manual_seed(0)
    network = MPUNet(**{"widths": TINY, **options}).eval()
    if network.attention is not None:
        nn.init.ones_(network.attention.gamma)
    return network


def an_image(*size: int, channels: int = 1) -> torch.Tensor:
    return torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(4))


def built_without_memory(target: type[nn.Module], **options: Any) -> nn.Module:
    with torch.device("meta"):
        return target(**options)


def test_the_parameters_are_those_that_the_paper_prints() -> None:
    assert parameters(built_without_memory(MPUNet)) == 21_507_255
    whole = built_without_memory(MPUNet, include_unused=True)
    assert parameters(whole) == 22_557_009
    assert parameters(whole.unused) == 1_049_754
    assert [parameters(part) for part in whole.unused] == [1_049_088, 660, 6]
    assert parameters(built_without_memory(MPUNetBaseline)) == 2_326_638


def test_layers_that_are_never_used_change_nothing() -> None:
    plain, whole = a_tiny_network(), a_tiny_network(include_unused=True)
    whole.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(whole(an_image(8, 8, 16)), plain(an_image(8, 8, 16)))


def test_training_gives_four_maps_of_probabilities_and_evaluation_the_last() -> None:
    network = a_tiny_network(out_channels=3, dropout=0.0)
    image = torch.cat([an_image(16, 8, 24), -an_image(16, 8, 24)])
    result = network(image)
    assert result.shape == (2, 3, 16, 8, 24)
    network.train()
    maps = network(image)
    assert isinstance(maps, tuple)
    assert len(maps) == 4
    for one in (*maps, result):
        assert one.shape == (2, 3, 16, 8, 24)
        torch.testing.assert_close(one.sum(1), torch.ones(2, 16, 8, 24))


def test_the_output_is_the_mean_of_the_four_scales() -> None:
    network = a_tiny_network()
    image = an_image(16, 16, 8)
    scales = network.scale_maps(image)
    assert len(scales) == 4
    torch.testing.assert_close(network(image), sum(scales) / 4)
    # The coarsest map is made of 2 x 2 x 1 positions, so it is smoother than the finest.
    assert scales[0].diff(dim=2).abs().mean() < scales[3].diff(dim=2).abs().mean()


def test_without_the_coarser_scales_the_finest_is_the_output_also_in_training() -> None:
    network = a_tiny_network(multiscale_output=False)
    assert parameters(network.maps) == 4 * 2 + 2
    image = an_image(8, 8, 16)
    assert torch.equal(network(image), network.scale_maps(image)[0])
    assert isinstance(network.train()(image), torch.Tensor)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 18), st.integers(1, 18), st.integers(1, 18), st.booleans())
def test_any_size_gives_probabilities_of_its_own_size(i: int, j: int, k: int, normalise: bool) -> None:
    network = a_tiny_network(normalise=normalise)
    result = network(an_image(i, j, k))
    assert result.shape == (1, 2, i, j, k)
    assert torch.isfinite(result).all()
    assert all(one.shape == (1, 2, i, j, k) for one in network.train()(an_image(i, j, k)))


def test_an_image_is_filled_up_by_repeating_its_last_voxels() -> None:
    network, image = a_tiny_network(), an_image(13, 16, 8)
    filled = torch.cat([image, image[:, :, -1:].expand(-1, -1, 3, -1, -1)], dim=2)
    torch.testing.assert_close(network(image), network(filled)[:, :, :13])


def test_all_axes_are_treated_alike() -> None:
    network, image = a_tiny_network(), an_image(8, 16, 8)
    for module in network.modules():
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
            module.weight.data = sum(
                module.weight.data.permute(0, 1, *axes) for axes in ((2, 3, 4), (3, 4, 2), (4, 2, 3))
            )
    turned = network(image.permute(0, 1, 3, 4, 2)).permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(turned, network(image), atol=1e-5, rtol=1e-4)


def test_attention_carries_a_change_further_than_convolutions_reach() -> None:
    image = torch.zeros(1, 1, 8, 8, 320)
    changed = image.clone()
    changed[..., :8] = torch.randn(8, 8, 8, generator=torch.Generator().manual_seed(0))

    def change_at_the_far_end(**options: Any) -> float:
        network = a_tiny_network(**options)
        return (network(changed) - network(image))[..., 300:].abs().max().item()

    assert change_at_the_far_end(position_attention=False) == 0.0
    assert change_at_the_far_end() > 1e-6


@pytest.mark.parametrize("gate", ["decoder", "skip", "none"])
@pytest.mark.parametrize(
    "options", [{}, {"normalise": True}, {"multiscale_block": True}, {"position_attention": False}]
)
def test_every_weight_gets_a_gradient(gate: str, options: dict[str, Any]) -> None:
    network = a_tiny_network(gate=gate, **options).train()
    image = torch.cat([an_image(48, 24, 16), an_image(48, 24, 16).flip(2) * 2])
    outputs = network(image)
    sum((one * torch.randn_like(one)).sum() for one in outputs).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        # A constant before a normalisation, or added to every key, has no effect.
        assert name.endswith("bias") or parameter.grad.abs().sum() > 0, name


def test_the_quirk_of_the_published_elu_is_there_when_asked_for() -> None:
    published, plain = a_tiny_network(elu_alpha="as_published"), a_tiny_network()
    assert [down[-1].alpha for down in published.down] == [4, 4, 6, 8, 8]
    assert [down[-1].alpha for down in plain.down] == [1] * 5
    assert parameters(published) == parameters(plain)
    default = built_without_memory(MPUNet, elu_alpha="as_published")
    assert [down[-1].alpha for down in default.down] == [32, 64, 128, 256, 512]


def test_initial_weights_follow_kaiming_for_the_slope_of_the_prelu() -> None:
    torch.manual_seed(0)
    network = MPUNet(widths=(16, 16, 16, 16, 16, 32))
    convolution = network.decoder[0][2]
    expected = (2 / ((1 + 0.25**2) * 16 * 27)) ** 0.5
    assert convolution.weight.std().item() == pytest.approx(expected, rel=0.03)
    assert not any(module.bias.any() for module in network.modules() if isinstance(module, nn.Conv3d))


@pytest.mark.parametrize(
    ("normalise", "kind", "count"),
    [(False, nn.BatchNorm3d, 19), (True, nn.InstanceNorm3d, 41), ("instance", nn.InstanceNorm3d, 41),
     ("batch", nn.BatchNorm3d, 41)],
)  # fmt: skip
def test_normalisation_is_where_it_was_asked_for(normalise: Any, kind: type[nn.Module], count: int) -> None:
    layers = [module for module in a_tiny_network(normalise=normalise).modules() if "Norm" in type(module).__name__]
    assert all(isinstance(layer, kind) for layer in layers)
    # Published: 5 shrinkings, 2 around the attention, 3 in each of 4 gates. The blocks have 2 x 5 and 3 x 4 more.
    assert len(layers) == count


def test_dropout_acts_in_training_only() -> None:
    network, image = a_tiny_network(dropout=0.5, normalise=True), an_image(8, 8, 16)
    assert torch.equal(network(image), network(image))
    network.train()
    assert not torch.equal(network(image)[3], network(image)[3])


def test_several_image_channels_are_taken() -> None:
    network = a_tiny_network(in_channels=3)
    assert network(an_image(8, 8, 16, channels=3)).shape == (1, 2, 8, 8, 16)


def test_a_row_of_attention_lies_on_a_grid_of_every_eighth_voxel() -> None:
    network = a_tiny_network()
    assert isinstance(network, LooksAround)
    row = network.attention_row(an_image(17, 16, 8), (16, 9, 0))
    assert row.weights.shape == (3, 2, 1)
    assert row.weights.sum().item() == pytest.approx(1.0)
    assert (row.step, row.first) == ((8, 8, 8), (3.5, 3.5, 3.5))


def test_the_shown_row_is_that_of_the_voxels_own_position() -> None:
    network = a_tiny_network()
    image = an_image(16, 24, 8)
    features: list[torch.Tensor] = []
    handle = network.attention.register_forward_pre_hook(lambda _module, inputs: features.append(inputs[0]))
    network(image)
    handle.remove()
    expected = network.attention.row(features[0], (1, 2, 0))[0]
    torch.testing.assert_close(network.attention_row(image, (15, 16, 7)).weights, expected)
    assert not torch.allclose(network.attention_row(image, (7, 16, 7)).weights, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "voxel", "words"),
    [({"position_attention": False}, (0, 0, 0), "without position attention"), ({}, (16, 0, 0), "outside")],
)
def test_a_row_that_is_not_there_is_refused(options: dict[str, Any], voxel: tuple[int, int, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        a_tiny_network(**options).attention_row(an_image(16, 16, 8), voxel)


@pytest.mark.parametrize(
    "wrong",
    [
        {"widths": (4, 4, 4)},
        {"widths": (1, 4, 4, 4, 4, 4)},
        {"out_channels": 1},
        {"in_channels": 0},
        {"elu_alpha": 2},
        {"gate": "everywhere"},
        {"normalise": "group"},
        {"dropout": 1.0},
    ],
)
def test_a_wrong_option_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=next(iter(wrong))):
        build_network("medseg.networks.MPUNet", {"widths": TINY, **wrong})


def test_the_published_baseline_gives_its_last_map_alone() -> None:
    torch.manual_seed(0)
    network = MPUNetBaseline(out_channels=3).eval()
    image = an_image(17, 16, 20)
    result = network(image)
    assert result.shape == (1, 3, 17, 16, 20)
    maps = network.train()(image)
    assert len(maps) == 4
    assert torch.equal(maps[3], result)
    for one in maps:
        assert one.shape == result.shape
        torch.testing.assert_close(one.sum(1), torch.ones(1, 17, 16, 20))
    with pytest.raises(ModelError, match="out_channels"):
        build_network("medseg.networks.MPUNetBaseline", {"out_channels": 1})


def test_every_weight_of_the_published_baseline_gets_a_gradient() -> None:
    torch.manual_seed(0)
    network = MPUNetBaseline()
    sum((one * torch.randn_like(one)).sum() for one in network(an_image(16, 16, 16))).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
