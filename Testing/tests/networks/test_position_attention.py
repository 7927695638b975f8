"""Position attention and the attention gate: equations with hand-computed numbers, and memory that stays small."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from medseg.networks.attention_gate import AttentionGate
from medseg.networks.position_attention import MANY_TOKENS, PositionAttention, attend


class LargestTensor(TorchDispatchMode):
    """Notes the largest tensor that any operation makes, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for item in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(item, Tensor):
                self.elements = max(self.elements, item.numel())
        return result


def with_the_whole_matrix(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.softmax(query @ key.transpose(1, 2), dim=-1) @ value


def tokens(count: int, channels: int, inner: int, batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    query, key, value = (torch.randn(batch, count, width, generator=generator) for width in (inner, inner, channels))
    return query.requires_grad_(), key.requires_grad_(), value.requires_grad_()


def a_layer(channels: int = 16, **options: Any) -> PositionAttention:
    torch.manual_seed(3)
    layer = PositionAttention(channels, **options)
    nn.init.ones_(layer.gamma)
    return layer


def test_two_voxels_look_at_each_other_as_computed_by_hand() -> None:
    query, key = torch.tensor([[[1.0], [0.0]]]), torch.tensor([[[2.0], [1.0]]])
    value = torch.tensor([[[10.0, 0.0], [0.0, 10.0]]])
    # The first sees the products 2 and 1, the second 0 and 0; nothing is divided by a square root.
    share = math.exp(2) / (math.exp(2) + math.exp(1))
    expected = torch.tensor([[[10 * share, 10 * (1 - share)], [5.0, 5.0]]])
    for rows in (None, 1):
        torch.testing.assert_close(attend(query, key, value, rows=rows), expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 3), st.integers(1, 50), st.integers(1, 2))
def test_some_rows_at_a_time_give_what_the_whole_matrix_gives(
    count: int, channels: int, inner: int, rows: int, batch: int
) -> None:
    query, key, value = tokens(count, channels, inner, batch)
    expected = with_the_whole_matrix(query, key, value)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    wanted = torch.autograd.grad((expected * weights).sum(), (query, key, value))
    found = attend(query, key, value, rows=rows)
    gradients = torch.autograd.grad((found * weights).sum(), (query, key, value))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients, wanted, atol=1e-5, rtol=1e-4)


def test_no_operation_makes_a_table_of_all_pairs() -> None:
    features = torch.randn(1, 16, 8, 8, 8, requires_grad=True)
    pairs, values = 512 * 512, 512 * 16
    layer = a_layer()
    with LargestTensor() as seen:
        layer(features).square().sum().backward()
    assert seen.elements <= values
    assert features.grad is not None
    with LargestTensor() as seen, torch.no_grad():
        layer(features)
    assert seen.elements <= values
    query, key, value = tokens(512, 16, 2)
    with LargestTensor() as seen:
        with_the_whole_matrix(query, key, value).sum().backward()
    assert seen.elements == pairs


def test_nothing_of_the_size_of_all_pairs_is_kept_for_the_backward_pass() -> None:
    query, key, value = tokens(512, 16, 2)
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // 4
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        attend(query, key, value).sum()
    assert sum(kept.values()) < 512 * 512 / 4


def test_the_layer_begins_as_the_identity() -> None:
    features = torch.randn(2, 16, 3, 4, 5)
    assert torch.equal(PositionAttention(16)(features), features)


def test_without_a_preference_every_voxel_gets_the_mean_of_all_values() -> None:
    layer = a_layer()
    for projection in (layer.query, layer.key):
        nn.init.zeros_(projection.weight)
        nn.init.zeros_(projection.bias)
    with torch.no_grad():
        layer.gamma.fill_(0.7)
    features = torch.randn(1, 16, 3, 4, 5)
    mean = layer.value(features).mean((2, 3, 4), keepdim=True)
    torch.testing.assert_close(layer(features), features + 0.7 * mean, atol=1e-5, rtol=1e-5)


def test_voxels_in_another_order_give_the_result_in_that_order() -> None:
    layer, features = a_layer(rows=5), torch.randn(1, 16, 3, 4, 5)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))

    def shuffled(maps: Tensor) -> Tensor:
        return maps.flatten(2)[:, :, order].reshape(maps.shape)

    torch.testing.assert_close(layer(shuffled(features)), shuffled(layer(features)), atol=1e-5, rtol=1e-5)


def test_the_result_is_made_of_the_rows_that_are_shown() -> None:
    layer, features = a_layer(), torch.randn(1, 16, 2, 3, 4)
    values = layer.value(features)
    row = layer.row(features, (1, 2, 0))
    assert row.shape == (1, 2, 3, 4)
    assert row.sum().item() == pytest.approx(1.0)
    gathered = (row[:, None] * values).sum((2, 3, 4))
    torch.testing.assert_close(layer(features)[:, :, 1, 2, 0], features[:, :, 1, 2, 0] + gathered, atol=1e-5, rtol=1e-5)


def test_large_products_do_not_overflow_in_half_precision() -> None:
    # 20 products of 300 x 300 sum up to 1.8 million: beyond the 65,504 of float16.
    query, key, value = (part.detach().to(torch.float16) for part in tokens(20, 8, 8))
    found = attend(query * 300, key * 300, value)
    assert found.dtype == torch.float16
    assert torch.isfinite(found).all()


def test_many_voxels_on_a_cpu_are_remarked_once(caplog: pytest.LogCaptureFixture) -> None:
    layer = PositionAttention(1, rows=64).eval()
    features = torch.zeros(1, 1, 1, 1, MANY_TOKENS + 1)
    with caplog.at_level(logging.WARNING, "medseg"), torch.no_grad():
        layer(features[..., :-1])
        assert not caplog.records
        layer(features)
        layer(features)
    assert len(caplog.records) == 1
    assert f"{MANY_TOKENS + 1} positions" in caplog.text


def test_every_weight_of_the_attention_gets_a_gradient() -> None:
    layer = a_layer(rows=7)
    layer(torch.randn(1, 16, 3, 3, 3)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        # A constant added to every key cancels in the softmax.
        assert name == "key.bias" or parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("wrong", [{"channels": 0}, {"channels": 4, "reduction": 0}, {"channels": 4, "rows": 0}])
def test_a_layer_of_nothing_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        PositionAttention(**wrong)


def a_gate_of_one_channel() -> AttentionGate:
    gate = AttentionGate(1, 1, 1, norm=lambda _channels: nn.Identity())
    with torch.no_grad():
        for part, weight, bias in ((gate.of_features, 2.0, 0.0), (gate.of_gating, 1.0, -1.0), (gate.psi, 3.0, 0.5)):
            part[0].weight.fill_(weight)
            part[0].bias.fill_(bias)
    return gate


def test_a_gate_of_one_channel_is_as_computed_by_hand() -> None:
    features = torch.tensor([0.5, -2.0]).reshape(1, 1, 2, 1, 1)
    gating = torch.tensor([1.5, 0.0]).reshape(1, 1, 2, 1, 1)
    # relu(2 * 0.5 + 1.5 - 1) = 1.5, psi 3 * 1.5 + 0.5 = 5; relu(-4 - 1) = 0, psi 0.5
    coefficients = [1 / (1 + math.exp(-5)), 1 / (1 + math.exp(-0.5))]
    gate = a_gate_of_one_channel()
    assert gate.coefficients(features, gating).flatten().tolist() == pytest.approx(coefficients)
    expected = [0.5 * coefficients[0], -2.0 * coefficients[1]]
    assert gate(features, gating).flatten().tolist() == pytest.approx(expected)


def test_a_coarser_guide_is_brought_to_the_size_of_the_features() -> None:
    gate = a_gate_of_one_channel()
    coefficients = gate.coefficients(torch.zeros(1, 1, 4, 6, 8), torch.full((1, 1, 2, 3, 4), 2.0))
    assert coefficients.shape == (1, 1, 4, 6, 8)
    torch.testing.assert_close(coefficients, torch.full_like(coefficients, 1 / (1 + math.exp(-3.5))))
