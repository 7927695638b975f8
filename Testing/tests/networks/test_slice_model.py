"""The slice model: published size, shapes at every stage, the equations of its layers, the order of its axes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from medseg.errors import ModelError
from medseg.networks import SliceModel, build_network
from medseg.networks.slice_model import SliceAttention

TINY: dict[str, Any] = {
    "out_channels": 4, "slices": 6, "plane": 16, "stem_width": 3, "width": 8, "attention_heads": 2, "mlp_width": 12,
    "taps": [1, 2], "decoder_width": 5, "shallow_width": 3, "final_width": 4,
}  # fmt: skip


def size_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def published(**changes: Any) -> SliceModel:
    """The network without memory for its weights: shapes and counts only."""
    with torch.device("meta"):
        return SliceModel(**changes)


def shapes_of(network: nn.Module, image: torch.Tensor) -> dict[str, tuple[int, ...]]:
    """The shape of what every module gives (of the first of a tuple)."""
    found: dict[str, tuple[int, ...]] = {}
    for name, module in network.named_modules():

        def note(_module: nn.Module, _inputs: Any, output: Any, name: str = name) -> None:
            found[name] = tuple(output.shape if isinstance(output, torch.Tensor) else output[0].shape)

        module.register_forward_hook(note)
    network(image)
    return found


def test_the_published_network_has_the_parameters_of_its_description() -> None:
    network = published(embedding_channels=16)
    assert size_of(network.stem) == 60_480
    assert size_of(network.embedding) == 22_021_120
    assert network.positions.numel() == 65_536
    assert {size_of(layer) for layer in network.layers} == {6_301_696}
    assert size_of(network.layers) == 75_620_352
    assert size_of(network.semantic) == 30_990_637
    assert size_of(network.instance) == 30_988_852
    assert size_of(network) == 159_746_977
    assert size_of(published()) == 128_758_125


def test_the_published_network_has_the_shapes_of_its_description() -> None:
    network = published(embedding_channels=16)
    with torch.device("meta"):
        shapes = shapes_of(network, torch.empty(1, 1, 128, 128, 64))
    # Slices, rows, columns.
    assert shapes["stem"] == (1, 21, 64, 32, 32)
    assert shapes["embedding"] == (1, 1024, 64, 1, 1)
    assert shapes["layers.11"] == (1, 64, 1024)
    assert [shapes[f"semantic.blocks.{number}"] for number in range(7)] == [
        (1, 170, 64, 2 << number, 2 << number) for number in range(7)
    ]
    assert shapes["semantic.shallow"] == (1, 42, 64, 128, 128)
    assert shapes["semantic.final"] == (1, 84, 64, 128, 128)
    assert shapes["semantic.head"] == (1, 37, 64, 128, 128)
    assert shapes["instance.head"] == (1, 16, 64, 128, 128)
    inputs = [block[0][0].in_channels for block in network.semantic.blocks]
    assert inputs == [4096, 171, 171, 171, 171, 171, 171]
    assert network.semantic.final[0][0].in_channels == 212


def test_the_projection_saves_most_of_the_first_convolution() -> None:
    # 4096 -> 170 with 27 weights each becomes 1 weight each, then 170 -> 170 with 27.
    saved = 4096 * 170 * 26 - 170 * 170 * 27 - 170
    assert size_of(published()) - size_of(published(projection=True)) == saved


def test_results_have_the_axes_of_the_image() -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 1, 16, 16, 6)
    scores = SliceModel(**TINY).eval()(image)
    assert scores.shape == (2, 4, 16, 16, 6)
    both = SliceModel(**TINY, embedding_channels=7).eval()(image)
    assert [tuple(output.shape) for output in both] == [(2, 4, 16, 16, 6), (2, 7, 16, 16, 6)]


def test_slices_lie_along_k_and_are_never_pooled() -> None:
    torch.manual_seed(0)
    network = SliceModel(**TINY).eval()
    shapes = shapes_of(network, torch.randn(1, 1, 16, 16, 6))
    assert shapes["stem"] == (1, 3, 6, 4, 4)
    assert shapes["embedding"] == (1, 8, 6, 1, 1)
    seen: list[torch.Tensor] = []
    network.semantic.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    image = torch.randn(1, 1, 16, 16, 6)
    network(image)
    # Slice k, row j, column i.
    assert torch.equal(seen[0][0, 0, 4, 3, 7], image[0, 0, 7, 3, 4])


def test_each_block_but_the_first_sees_the_image_averaged_to_its_size() -> None:
    torch.manual_seed(0)
    network = SliceModel(**TINY).eval()
    seen: list[torch.Tensor] = []
    for block in network.semantic.blocks:
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.randn(1, 1, 16, 16, 6)
    network(image)
    assert [maps.shape[-1] for maps in seen] == [1, 2, 4, 8]
    assert seen[0].shape[1] == 16
    for maps in seen[1:]:
        factor = 16 // maps.shape[-1]
        blocks = image[0, 0].reshape(16 // factor, factor, 16 // factor, factor, 6).mean((1, 3))
        torch.testing.assert_close(maps[0, -1], blocks.permute(2, 1, 0))


def test_the_decoders_get_the_tokens_after_each_tapped_layer() -> None:
    torch.manual_seed(0)
    network = SliceModel(**{**TINY, "taps": [2, 3]}).eval()
    tokens: dict[int, torch.Tensor] = {}
    for number, layer in enumerate(network.layers, start=1):
        layer.register_forward_hook(lambda _m, _i, output, number=number: tokens.update({number: output}))
    seen: list[torch.Tensor] = []
    network.semantic.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.randn(1, 1, 16, 16, 6))
    expected = torch.cat([tokens[2], tokens[3]], 2)
    assert len(network.layers) == 3
    assert torch.equal(seen[0][..., 0, 0].transpose(1, 2), expected)


@pytest.mark.parametrize("pre_norm", [True, False])
def test_a_layer_is_the_transformer_encoder_layer_of_pytorch(pre_norm: bool) -> None:
    torch.manual_seed(0)
    ours = SliceAttention(12, heads=3, hidden=20, pre_norm=pre_norm).eval()
    theirs = nn.TransformerEncoderLayer(12, 3, 20, activation=F.gelu, norm_first=pre_norm, batch_first=True).eval()
    theirs.self_attn.in_proj_weight.data = ours.qkv.weight.data
    theirs.self_attn.in_proj_bias.data = ours.qkv.bias.data
    for name, module in (
        ("self_attn.out_proj", ours.out), ("norm1", ours.norm1), ("norm2", ours.norm2),
        ("linear1", ours.mlp[0]), ("linear2", ours.mlp[3]),
    ):  # fmt: skip
        theirs.get_submodule(name).load_state_dict(module.state_dict())
    tokens = torch.randn(2, 5, 12)
    torch.testing.assert_close(ours(tokens), theirs(tokens))


def test_without_positions_the_transformer_does_not_know_the_order_of_slices() -> None:
    torch.manual_seed(0)
    network = SliceModel(**TINY).eval()
    tokens = torch.randn(1, 6, 8)
    order = torch.tensor([3, 0, 5, 1, 4, 2])

    def run(tokens: torch.Tensor) -> torch.Tensor:
        for layer in network.layers:
            tokens = layer(tokens)
        return tokens

    torch.testing.assert_close(run(tokens[:, order]), run(tokens)[:, order])
    turned = run((tokens + network.positions)[:, order]) - run(tokens[:, order] + network.positions)
    assert turned.abs().max() > 1e-4


def test_dropout_is_in_the_transformer_only() -> None:
    network = SliceModel(**TINY, dropout=0.35)
    drops = {name: module.p for name, module in network.named_modules() if isinstance(module, nn.Dropout)}
    assert set(drops.values()) == {0.35}
    assert len(drops) == 3 * 2
    assert all(name.startswith("layers.") for name in drops)


def test_layer_normalisation_is_over_channels_and_voxels_of_a_case() -> None:
    torch.manual_seed(0)
    maps = 3 + 5 * torch.randn(2, 3, 6, 16, 16)
    normalised = SliceModel(**TINY).stem[0][1](maps)
    torch.testing.assert_close(normalised.mean((1, 2, 3, 4)), torch.zeros(2), atol=1e-5, rtol=0)
    assert normalised.mean((2, 3, 4)).abs().max() > 1e-3
    normalised = SliceModel(**TINY, norm="instance").stem[0][1](maps)
    torch.testing.assert_close(normalised.mean((2, 3, 4)), torch.zeros(2, 3), atol=1e-5, rtol=0)
    with torch.device("meta"):
        assert size_of(SliceModel(norm="instance")) == 128_758_125


def test_another_number_of_slices_needs_leave() -> None:
    torch.manual_seed(0)
    strict, free = SliceModel(**TINY), SliceModel(**TINY, interpolate_positions=True)
    free.load_state_dict(strict.state_dict())
    image = torch.randn(1, 1, 16, 16, 6)
    assert torch.equal(strict.eval()(image), free.eval()(image))
    assert free(torch.randn(1, 1, 16, 16, 11)).shape == (1, 4, 16, 16, 11)
    ramp = torch.linspace(0, 10, 6)[None, :, None].expand(1, 6, 8)
    free.positions.data = ramp.clone()
    torch.testing.assert_close(free._positions(11)[0, :, 3], torch.linspace(0, 10, 11))
    with pytest.raises(ValueError, match="made for 6 slices, not 11"):
        strict(torch.randn(1, 1, 16, 16, 11))
    with pytest.raises(ValueError, match="must have 16 x 16 voxels"):
        free(torch.randn(1, 1, 16, 8, 6))


@pytest.mark.parametrize("options", [{}, {"projection": True, "norm": "instance", "pre_norm": False}])
def test_every_weight_is_trained_through_two_heads(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = SliceModel(**TINY, embedding_channels=3, **options)
    scores, embeddings = network(torch.randn(1, 1, 16, 16, 6))
    (scores.square().mean() + embeddings.square().mean()).backward()
    idle = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert idle == []


def test_the_two_decoders_share_nothing() -> None:
    torch.manual_seed(0)
    network = SliceModel(**TINY, embedding_channels=4)
    scores, _ = network(torch.randn(1, 1, 16, 16, 6))
    scores.sum().backward()
    assert all(parameter.grad is None for parameter in network.instance.parameters())
    assert all(parameter.grad is not None for parameter in network.semantic.parameters())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"plane": 24}, "power of 2"),
        ({"stem_poolings": 3}, "stem_poolings"),
        ({"taps": [2, 1]}, "taps must be rising"),
        ({"taps": []}, "taps must be rising"),
        ({"attention_heads": 3}, "must divide width"),
        ({"norm": "batch"}, "norm must be"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        build_network("medseg.networks.SliceModel", {**TINY, **arguments})
