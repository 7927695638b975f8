"""PE-MED: its equations with plain attention, its parts on and off, in 2D and 3D."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from medseg.networks import PEMED, build_network
from medseg.networks.mix_transformer import ReducedAttention, to_map, to_tokens
from medseg.networks.pe_med import AnswerMemory, PromptAttention, PromptImageAttention

TINY = {"channels": (8, 8, 16, 16), "depths": (1, 1, 1, 1), "heads": (1, 1, 2, 2), "head_channels": 16}
PARTS = [(inner, outer) for inner in (True, False) for outer in (True, False)]


def plain_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return torch.softmax(queries @ keys.transpose(1, 2) / math.sqrt(queries.shape[-1]), -1) @ values


def without_projections(attention: ReducedAttention) -> None:
    """Make queries, keys, values and results what comes in."""
    with torch.no_grad():
        for layer in (attention.query, attention.key_value, attention.out):
            width = layer.in_features
            layer.weight.copy_(torch.eye(width).repeat(layer.out_features // width, 1))
            layer.bias.zero_()


def some_prompts(size: tuple[int, ...], batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """A positive and a negative click, and an answer."""
    positive, negative = torch.zeros(2, batch, 1, *size).unbind(0)
    positive[(..., *(slice(2, 6) for _ in size))] = 1
    negative[(..., *(slice(-6, -2) for _ in size))] = 1
    return positive, negative, torch.rand(batch, 1, *size)


@pytest.fixture(autouse=True)
def the_same_numbers() -> None:
    torch.manual_seed(0)


def test_the_prompts_look_at_each_other_as_printed() -> None:
    part = PromptAttention(2, 8, reduction=1, short_cuts=False)
    for attention in (part.to_positive, part.to_negative, part.within, part.from_positive, part.from_negative):
        without_projections(attention)
    prompts = torch.rand(2, 3, 32, 32)
    positive, negative = part.positive(prompts[:, [0, 2]])[0], part.negative(prompts[:, [1, 2]])[0]
    everything = part.everything(prompts)[0]
    of_positive = plain_attention(negative, positive, positive)
    of_negative = plain_attention(positive, negative, negative)
    of_everything = plain_attention(everything, everything, everything)
    expected = plain_attention(of_positive, of_everything, of_everything)
    expected = expected + plain_attention(of_negative, of_everything, of_everything)
    torch.testing.assert_close(part(prompts), expected)


def a_lone_click(size: tuple[int, ...]) -> Tensor:
    """Prompts (1, 3, \\*size) of one positive click, as before the first answer."""
    prompts = torch.zeros(1, 3, *size)
    prompts[(0, 0, *(slice(18, 23) for _ in size))] = 1
    return prompts


@pytest.mark.parametrize("size", [(64, 64), (48, 48, 48)])
def test_a_lone_click_tells_where_it_is_only_with_the_short_cuts(size: tuple[int, ...]) -> None:
    place, far = (tuple(index for _ in size) for index in (5, 9))

    def spread(*, short_cuts: bool) -> float:
        part = PromptAttention(len(size), 8, reduction=2, short_cuts=short_cuts)
        with torch.no_grad():
            told = to_map(part(a_lone_click(size)), tuple(extent // 4 for extent in size))[0]
        return float((told[(slice(None), *place)] - told[(slice(None), *far)]).abs().max())

    assert spread(short_cuts=False) < 1e-6, "as printed, the prompts are the same everywhere"
    assert spread(short_cuts=True) > 1e-2


def test_image_and_prompts_look_at_each_other_as_printed() -> None:
    part = PromptImageAttention(2, 8, reduction=1)
    without_projections(part.to_prompts)
    without_projections(part.to_image)
    features, prompts = torch.rand(2, 2, 64, 8).unbind(0)
    expected = features + part.norm_prompts(plain_attention(features, prompts, prompts))
    expected = expected + prompts + part.norm_image(plain_attention(prompts, features, features))
    torch.testing.assert_close(part(features, prompts, (8, 8)), expected, rtol=1e-4, atol=1e-4)


def test_reduced_keys_are_the_normalised_strided_convolution() -> None:
    attention = ReducedAttention(2, 4, reduction=2)
    queries, context = torch.rand(1, 3, 4), torch.rand(1, 16, 4)
    coarse = attention.norm(to_tokens(attention.reduce(to_map(context, (4, 4)))))
    key, value = attention.key_value(coarse).chunk(2, -1)
    expected = attention.out(plain_attention(attention.query(queries), key, value))
    torch.testing.assert_close(attention(queries, context, (4, 4)), expected)


def test_heads_share_the_channels() -> None:
    attention = ReducedAttention(2, 4, heads=2)
    tokens = torch.rand(1, 9, 4)
    query, (key, value) = attention.query(tokens), attention.key_value(tokens).chunk(2, -1)
    halves = [plain_attention(query[..., part], key[..., part], value[..., part]) for part in (slice(2), slice(2, 4))]
    torch.testing.assert_close(attention(tokens, tokens, (3, 3)), attention.out(torch.cat(halves, -1)))


def test_the_memory_adds_the_sigmoid_of_a_perceptron() -> None:
    network = PEMED(**TINY).eval()
    image, prompts, last = torch.rand(1, 1, 32, 32), some_prompts((32, 32), 1), torch.randn(1, 1, 32, 32)
    without, with_memory = network(image, *prompts), network(image, *prompts, last)
    first, _, second = network.memory.theta
    inner = nn.functional.gelu(torch.einsum("oi,bixy->boxy", first.weight[..., 0, 0], last) + first.bias[:, None, None])
    outer = torch.einsum("oi,bixy->boxy", second.weight[..., 0, 0], inner) + second.bias[:, None, None]
    torch.testing.assert_close(with_memory, without + torch.sigmoid(outer))


def test_a_fresh_memory_adds_next_to_nothing() -> None:
    memory = AnswerMemory(2)
    memory.start_silent()
    with torch.no_grad():
        assert memory(3 * torch.randn(1, 1, 16, 16)).max() < 0.05


@pytest.mark.parametrize(("inner", "outer"), PARTS)
@pytest.mark.parametrize("size", [(64, 32), (32, 32, 64)])
def test_clicks_enter_whichever_parts_are_on(inner: bool, outer: bool, size: tuple[int, ...]) -> None:
    network = PEMED(dims=len(size), inner_attention=inner, outer_attention=outer, head_norm="group", **TINY).eval()
    image = torch.rand(2, 1, *size)
    positive, negative, previous = some_prompts(size)
    logits = network(image, positive, negative, previous)
    assert logits.shape == (2, 1, *size)
    assert logits.dtype == torch.float32
    for others in ((negative, positive, previous), (positive, negative, 1 - previous)):
        assert not torch.allclose(network(image, *others), logits)


@pytest.mark.parametrize(("inner", "outer"), PARTS)
def test_every_weight_learns(inner: bool, outer: bool) -> None:
    network = PEMED(inner_attention=inner, outer_attention=outer, **TINY)
    last = torch.randn(2, 1, 32, 32)
    network(torch.rand(2, 1, 32, 32), *some_prompts((32, 32)), last).square().mean().backward()
    idle = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    # Softmax does not change when all keys are moved alike.
    assert all(name.endswith("key_value.bias") for name in idle), idle


def test_features_of_the_image_are_computed_once_for_all_clicks() -> None:
    network = PEMED(**TINY).eval()
    image = torch.rand(1, 1, 64, 64)
    features = network.image_features(image)
    for prompts in (some_prompts((64, 64), 1), some_prompts((64, 64), 1)):
        torch.testing.assert_close(network.refine(features, *prompts), network(image, *prompts))


def test_sizes_that_the_stages_cannot_halve_are_refused() -> None:
    network = PEMED(**TINY)
    with pytest.raises(ValueError, match="multiples of 32"):
        network(torch.rand(1, 1, 40, 64), *some_prompts((40, 64), 1))
    with pytest.raises(ValueError, match="2 sizes"):
        network(torch.rand(1, 1, 32, 32, 32), *some_prompts((32, 32, 32), 1))


@pytest.mark.parametrize("size", [(64, 32), (32, 32, 64)])
def test_the_decoder_of_detail_sees_single_voxels(size: tuple[int, ...]) -> None:
    network = PEMED(dims=len(size), head_norm="group", detail_channels=4, **TINY).eval()
    image, prompts = torch.rand(1, 1, *size), some_prompts(size, 1)
    plain = network(image, *prompts)
    assert plain.shape == (1, 1, *size)
    # What is enlarged from a fourth of the size is linear along any four voxels between two centres.
    row = plain[(0, 0, *(16,) * (len(size) - 1))][18:22]
    assert not torch.allclose(row.diff(), row.diff()[:1].expand(3), atol=1e-6)
    plain.square().mean().backward()
    idle = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert all(name.endswith("key_value.bias") or name.startswith("memory") for name in idle), idle


def test_a_package_may_ask_for_it() -> None:
    network = build_network("medseg.networks.PEMED", {"dims": 3, **TINY})
    assert isinstance(network, PEMED)


def test_the_encoder_has_as_many_weights_as_mit_b0() -> None:
    network = PEMED(3)
    encoder = sum(weight.numel() for part in (network.embeddings, network.stages) for weight in part.parameters())
    assert encoder == 3_319_392
