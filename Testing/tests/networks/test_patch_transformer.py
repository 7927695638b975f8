"""The convolution-free transformer: its equations with hand-computed numbers, its tiling, its size to the digit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.modules.conv import _ConvNd

from medseg.networks import ConvFreeTransformer, build_network
from medseg.segmentation import SegmentOptions, segment
from medseg.volumes import Geometry, Volume
from support.segmentation import package_of


def a_small_network(predict: str = "centre", **options: int) -> ConvFreeTransformer:
    torch.manual_seed(0)
    sizes = {"block": 6, "patches": 3, "width": 8, "heads": 2, "layers": 2, "feed_forward": 16, "out_channels": 3}
    return ConvFreeTransformer(predict=predict, **{**sizes, **options}).eval()


def a_volume(*size: int, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 1, *size, generator=torch.Generator().manual_seed(1))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_default_network_has_the_parameters_of_the_page_to_the_digit() -> None:
    with torch.device("meta"):
        network = ConvFreeTransformer()
    assert count(network.embedding) == 512 * 1024 + 1024 == 525_312
    assert [count(layer) for layer in network.layers] == [6_301_696] * 7
    attention = count(network.layers[0].self_attn)
    norms = count(network.layers[0].norm1) + count(network.layers[0].norm2)
    assert (attention, norms) == (4 * (1024**2 + 1024), 4 * 1024)
    assert count(network.layers[0]) - attention - norms == 2 * (1024**2 + 1024)
    assert count(network.decoder) == 1_049_600
    assert count(network) == 45_686_784


def test_reading_all_tokens_makes_the_decoder_as_many_times_larger() -> None:
    one, all_tokens = a_small_network("centre"), a_small_network("flatten")
    assert one.decoder.weight.numel() * 27 == all_tokens.decoder.weight.numel()


@pytest.mark.parametrize("predict", ["centre", "flatten", "all"])
def test_there_is_no_convolution(predict: str) -> None:
    assert not [module for module in a_small_network(predict).modules() if isinstance(module, _ConvNd)]


def test_the_encoding_of_the_patch_order_is_that_of_vaswani() -> None:
    positions = a_small_network(width=4, heads=1).positions
    assert positions.shape == (27, 4)
    assert positions[0].tolist() == [0, 1, 0, 1]
    expected = [math.sin(2), math.cos(2), math.sin(0.02), math.cos(0.02)]
    assert positions[2].tolist() == pytest.approx(expected, abs=1e-6)
    assert positions[2].tolist() == pytest.approx([0.9093, -0.4161, 0.0200, 0.9998], abs=1e-4)


def test_patches_are_numbered_with_x_fastest_and_z_slowest() -> None:
    network = a_small_network(block=3, width=4, heads=1)
    with torch.no_grad():
        # Tokens become the patch's only voxel.
        network.embedding.weight.fill_(1.0)
        network.embedding.bias.zero_()
    seen: list[torch.Tensor] = []
    network.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    i, j, k = torch.meshgrid(*[torch.arange(3.0)] * 3, indexing="ij")
    network.train()(((100 * k) + (10 * j) + i)[None, None])
    tokens = (seen[0] - network.positions)[0, :, 0]
    assert tokens[:4].tolist() == pytest.approx([0, 1, 2, 10], abs=1e-4)
    assert tokens[13].item() == pytest.approx(111, abs=1e-4)
    assert tokens[-1].item() == pytest.approx(222, abs=1e-4)


def test_a_layer_is_attention_then_feed_forward_each_with_residual_and_then_layer_norm() -> None:
    network = a_small_network(layers=1, width=4, heads=2, feed_forward=5)
    layer = network.layers[0]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter))
    tokens = torch.randn(1, 27, 4)
    x = tokens[0] + network.positions
    project = layer.self_attn.in_proj_weight.split(4), layer.self_attn.in_proj_bias.split(4)
    query, key, value = (x @ weight.T + bias for weight, bias in zip(*project, strict=True))
    heads = []
    for head in (slice(0, 2), slice(2, 4)):
        scores = (query[:, head] @ key[:, head].T) / math.sqrt(2)
        weights = torch.exp(scores) / torch.exp(scores).sum(1, keepdim=True)
        heads.append(weights @ value[:, head])
    attended = torch.cat(heads, 1) @ layer.self_attn.out_proj.weight.T + layer.self_attn.out_proj.bias

    def norm(values: torch.Tensor, module: nn.LayerNorm) -> torch.Tensor:
        centred = values - values.mean(1, keepdim=True)
        return centred / torch.sqrt((centred**2).mean(1, keepdim=True) + 1e-5) * module.weight + module.bias

    x = norm(x + attended, layer.norm1)
    hidden = torch.relu(x @ layer.linear1.weight.T + layer.linear1.bias)
    expected = norm(x + hidden @ layer.linear2.weight.T + layer.linear2.bias, layer.norm2)
    torch.testing.assert_close(network.encode(tokens)[0], expected, atol=1e-4, rtol=1e-4)


def test_a_block_in_training_gives_its_centre_patch_or_all_of_it() -> None:
    blocks = a_volume(6, 6, 6, batch=4)
    for predict, size in {"centre": 2, "flatten": 2, "all": 6}.items():
        assert a_small_network(predict).train()(blocks).shape == (4, 3, size, size, size)


@pytest.mark.parametrize("predict", ["centre", "flatten", "all"])
@settings(max_examples=20, deadline=None)
@given(size=st.tuples(*[st.integers(1, 17)] * 3), batch=st.integers(1, 2))
def test_every_size_of_volume_gives_scores_of_its_own_size(predict: str, size: tuple[int, ...], batch: int) -> None:
    with torch.inference_mode():
        scores = a_small_network(predict)(a_volume(*size, batch=batch))
    assert scores.shape == (batch, 3, *size)
    assert torch.isfinite(scores).all()


@pytest.mark.parametrize("predict", ["centre", "flatten"])
def test_a_volume_is_the_centre_patches_of_its_blocks_each_voxel_once(predict: str) -> None:
    network, volume = a_small_network(predict, blocks_at_once=5), a_volume(5, 8, 6, batch=2)
    border = nn.functional.pad(volume, (2, 2, 2, 2, 2, 3), mode="reflect")
    expected, times = torch.full((2, 3, 6, 8, 6), math.nan), torch.zeros(6, 8, 6)
    network.train()
    for i in range(0, 6, 2):
        for j in range(0, 8, 2):
            for k in range(0, 6, 2):
                place = (slice(i, i + 2), slice(j, j + 2), slice(k, k + 2))
                expected[(..., *place)] = network(border[:, :, i : i + 6, j : j + 6, k : k + 6])
                times[place] += 1
    assert (times == 1).all()
    torch.testing.assert_close(network.eval()(volume), expected[:, :, :5], atol=1e-5, rtol=1e-5)


def test_overlapping_blocks_are_averaged_when_every_patch_is_predicted() -> None:
    network, volume = a_small_network("all", blocks_at_once=1), a_volume(10, 6, 6)
    network.train()
    first, second = network(volume[:, :, :6]), network(volume[:, :, 4:])
    found = network.eval()(volume)
    torch.testing.assert_close(found[:, :, :4], first[:, :, :4], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[:, :, 4:6], (first[:, :, 4:] + second[:, :, :2]) / 2, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[:, :, 6:], second[:, :, 2:], atol=1e-5, rtol=1e-5)


def test_a_volume_smaller_than_the_border_is_reflected_again_and_again() -> None:
    network = a_small_network(block=12)
    place = [0, 1, 2, 1]  # a triangular wave over the three slices
    wanted = [place[(index - 4) % 4] for index in range(12)]
    block = a_volume(3, 3, 3)
    padded = block[:, :, wanted][:, :, :, wanted][:, :, :, :, wanted]
    network.train()
    expected = network(padded)[:, :, :3, :3, :3]
    torch.testing.assert_close(network.eval()(block), expected, atol=1e-5, rtol=1e-5)


def test_the_number_of_blocks_at_once_changes_nothing_but_the_memory() -> None:
    volume = a_volume(9, 7, 8)
    many = a_small_network(blocks_at_once=1000)(volume)
    torch.testing.assert_close(a_small_network(blocks_at_once=1)(volume), many, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("predict", ["centre", "flatten", "all"])
def test_every_parameter_learns(predict: str) -> None:
    network = a_small_network(predict).train()
    network(a_volume(9, 7, 8)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())


@pytest.mark.parametrize("predict", ["centre", "flatten", "all"])
def test_output_tokens_pass_through_the_module_to_be_hooked(predict: str) -> None:
    network, seen = a_small_network(predict), []
    network.features.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    network(a_volume(12, 6, 8))
    assert seen[0].shape[:2] == (1, 8)
    assert seen[0].shape[2] >= 6


def test_it_learns_to_tell_a_bright_cube_from_the_rest() -> None:
    torch.manual_seed(0)
    network = ConvFreeTransformer(block=6, width=16, heads=2, layers=1, feed_forward=32)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    network.train()
    for _ in range(150):
        blocks = torch.rand(16, 1, 6, 6, 6).round()
        loss = nn.functional.cross_entropy(network(blocks), blocks[:, 0, 2:4, 2:4, 2:4].long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    volume = torch.rand(1, 1, 10, 10, 10).round()
    with torch.inference_mode():
        found = network.eval()(volume).argmax(1)
    assert (found == volume[:, 0]).float().mean() > 0.95


@pytest.mark.parametrize(
    "wrong",
    [
        {"block": 7},
        {"block": 8, "patches": 4},
        {"width": 9, "heads": 3},
        {"width": 8, "heads": 3},
        {"predict": "middle"},
        {"layers": 0},
    ],
)
def test_sizes_that_do_not_fit_together_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        ConvFreeTransformer(**{"block": 6, "width": 8, "heads": 2, **wrong})


def test_an_image_of_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \(B, 1, I, J, K\)"):
        a_small_network()(torch.zeros(1, 2, 8, 8, 8))


def test_a_model_package_can_ask_for_it() -> None:
    network = build_network("medseg.networks.ConvFreeTransformer", {"block": 6, "width": 8, "heads": 2, "layers": 1})
    assert isinstance(network, ConvFreeTransformer)


def test_it_runs_in_the_sliding_window_pipeline() -> None:
    network = a_small_network()
    array = np.random.default_rng(0).normal(size=(12, 10, 14)).astype(np.float32)
    volume = Volume(array, Geometry.from_spacing(array.shape))
    options = SegmentOptions(device="cpu")
    whole = segment([volume], package_of(classes=3, window=(14, 10, 12)), options, network=network)
    with torch.inference_mode():
        expected = network(torch.from_numpy(volume.array_ijk.copy())[None, None]).argmax(1)[0]
    np.testing.assert_array_equal(whole.labelmap.array_ijk, expected.numpy())
    windows = segment([volume], package_of(classes=3, window=(8, 8, 8), overlap=0.0), options, network=network)
    with torch.inference_mode():
        corner = network(torch.from_numpy(volume.array_ijk[:8, :8, :8].copy())[None, None]).argmax(1)[0]
    np.testing.assert_array_equal(windows.labelmap.array_ijk[:6, :2, :4], corner.numpy()[:6, :2, :4])
