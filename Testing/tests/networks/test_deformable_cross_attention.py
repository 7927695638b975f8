"""The attention of TM-DCA against a straightforward one: windows, offsets, streams."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medseg.networks.deformable_cross_attention import (
    AddedOffsets,
    ConcatenatedOffsets,
    CrossAttentionBlock,
    DropPath,
    RelativeBias,
    SelfAttentionBlock,
    Windows,
    check_attention,
    sample,
)

CHANNELS, HEADS, WINDOW = 6, 2, (2, 3, 2)


class Constant(nn.Module):
    """An offset network that moves every head by the same vector of tokens, or as far as it can."""

    def __init__(self, *vector: float) -> None:
        super().__init__()
        self.vector = vector

    def forward(self, own: Tensor, _other: Tensor) -> Tensor:
        # The block makes n / 2 tanh(.) of it.
        raw = [
            math.atanh(2 * v / n) if abs(v) < math.inf else 50.0 * math.copysign(1, v)
            for v, n in zip(self.vector, own.shape[1:4], strict=True)
        ]
        return torch.tensor(raw * HEADS).reshape(1, -1, 1, 1, 1).expand(len(own), -1, *own.shape[1:4])


def a_block(**options: Any) -> CrossAttentionBlock:
    torch.manual_seed(7)
    block = CrossAttentionBlock(CHANNELS, HEADS, WINDOW, **options)
    with torch.no_grad():
        for parameter in block.parameters():
            # Large enough to see a difference, also in what begins at 0 or 1.
            parameter.add_(0.3 * torch.randn_like(parameter))
    return block.eval()


def tokens(*grid: int, batch: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(batch, *grid, CHANNELS, generator=torch.Generator().manual_seed(seed))


def plain_attention(query: Tensor, key: Tensor, value: Tensor, table: Tensor, shift: tuple[int, ...]) -> Tensor:
    """Attention of all tokens (I, J, K, C) to all tokens at once; those of other windows count for nothing."""
    grid = query.shape[:3]
    place = torch.stack(torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij"), dim=-1).reshape(-1, 3)
    window = torch.tensor(WINDOW)
    home = (place - torch.tensor(shift)).div(window, rounding_mode="floor")
    together = (home[:, None] == home[None, :]).all(-1)
    away = (place[:, None] - place[None, :] + window - 1).clamp(min=0).minimum(2 * window - 2)
    span = 2 * window - 1
    bias = table[(away[..., 0] * span[1] + away[..., 1]) * span[2] + away[..., 2]]
    width = query.shape[-1] // HEADS
    found = []
    for head in range(HEADS):
        part = slice(head * width, (head + 1) * width)
        q, k, v = (states.reshape(-1, states.shape[-1])[:, part] for states in (query, key, value))
        logits = (q @ k.T / math.sqrt(width) + bias[..., head]).masked_fill(~together, -math.inf)
        found.append(torch.softmax(logits, -1) @ v)
    return torch.cat(found, -1).reshape(*grid, -1)


def plain_block(
    block: CrossAttentionBlock, moving: Tensor, fixed: Tensor, roll: tuple[int, ...] = (0, 0, 0)
) -> tuple[Tensor, Tensor]:
    """The block without a window being cut, on one sample (I, J, K, C); the references are rolled by ``-roll``."""
    new = []
    pairs = ((block.of_moving, moving, block.of_fixed, fixed), (block.of_fixed, fixed, block.of_moving, moving))
    for base, own, reference, other in pairs:
        seen = torch.roll(reference.norm1(other), [-r for r in roll], (0, 1, 2))
        key, value = base.key_value(base.norm1(own)).split(CHANNELS, -1)
        shift = [w // 2 if block.shifted and n > w else 0 for n, w in zip(own.shape[:3], WINDOW, strict=True)]
        found = plain_attention(reference.query(seen), key, value, block.bias.table, tuple(shift))
        state = own + base.projection(found)
        new.append(state + base.perceptron(base.norm2(state)))
    return new[0], new[1]


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("grid", [(4, 6, 4), (5, 4, 2), (3, 7, 5)])
def test_without_offsets_it_is_plain_windowed_cross_attention(grid: tuple[int, int, int], *, shifted: bool) -> None:
    block = a_block(shifted=shifted)
    block.of_moving.offsets = block.of_fixed.offsets = Constant(0.0, 0.0, 0.0)
    moving, fixed = tokens(*grid, batch=2, seed=1), tokens(*grid, batch=2, seed=2)
    found = block(moving, fixed)
    for number in range(2):
        expected = plain_block(block, moving[number], fixed[number])
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one[number], other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shifted", [False, True])
def test_straight_windows_are_offsets_of_zero(*, shifted: bool) -> None:
    straight = a_block(shifted=shifted, offsets=None)
    bent = a_block(shifted=shifted, offsets="added")
    missing = bent.load_state_dict(straight.state_dict(), strict=False).missing_keys
    assert all("offsets" in name for name in missing)
    bent.of_moving.offsets = bent.of_fixed.offsets = Constant(0.0, 0.0, 0.0)
    pair = tokens(5, 6, 4, seed=1), tokens(5, 6, 4, seed=2)
    torch.testing.assert_close(bent(*pair), straight(*pair), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("vector", [(1, 0, 0), (0, -2, 1), (2, 1, -1)])
def test_a_constant_whole_offset_is_attention_with_a_rolled_reference(
    vector: tuple[int, int, int], *, shifted: bool
) -> None:
    grid = (6, 7, 6)
    block = a_block(shifted=shifted)
    block.of_moving.offsets = block.of_fixed.offsets = Constant(*vector)
    moving, fixed = tokens(*grid, seed=1), tokens(*grid, seed=2)
    found, expected = block(moving, fixed), plain_block(block, moving[0], fixed[0], vector)
    # Where the reference lies beyond the border, it is repeated here and wrapped there.
    kept = tuple(slice(max(0, -v), n - max(0, v)) for v, n in zip(vector, grid, strict=True))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one[0][kept], other[kept], atol=1e-4, rtol=1e-4)
        assert (one[0] - other).abs().max() > 1e-2


@pytest.mark.parametrize("offsets", ["added", "concatenated"])
def test_swapping_volumes_and_weights_swaps_the_streams(offsets: Any) -> None:
    block = a_block(shifted=True, offsets=offsets)
    swapped = copy.deepcopy(block)
    swapped.of_moving, swapped.of_fixed = swapped.of_fixed, swapped.of_moving
    moving, fixed = tokens(4, 6, 4, seed=1), tokens(4, 6, 4, seed=2)
    new_moving, new_fixed = block(moving, fixed)
    torch.testing.assert_close(swapped(fixed, moving), (new_fixed, new_moving))
    assert (block(fixed, moving)[0] - new_fixed).abs().max() > 1e-2


def test_the_query_comes_from_the_bent_reference_and_the_value_from_the_base() -> None:
    block = a_block()
    moving, fixed = tokens(4, 6, 4, seed=1), tokens(4, 6, 4, seed=2)
    for value in (block.of_moving.key_value, block.of_moving.projection, block.of_moving.perceptron[2]):
        for parameter in value.parameters():
            nn.init.zeros_(parameter)
    # With no value of its own the moving stream stays as it is, whatever the fixed one asks.
    new_moving, new_fixed = block(moving, fixed)
    torch.testing.assert_close(new_moving, moving)
    assert (new_fixed - fixed).abs().max() > 1e-2


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*(st.integers(1, 6) for _ in range(3))),
    st.tuples(*(st.integers(1, 4) for _ in range(3))),
    st.booleans(),
    st.integers(1, 2),
)
def test_pasting_undoes_cutting(
    grid: tuple[int, int, int], window: tuple[int, int, int], shifted: bool, batch: int
) -> None:
    states = torch.randn(batch, *grid, 2)
    windows = Windows.of(states, window, shifted=shifted)
    cut = windows.cut(states)
    number = math.prod(-(-n // w) for n, w in zip(grid, window, strict=True))
    assert cut.shape == (batch * number, math.prod(window), 2)
    assert torch.equal(windows.paste(cut), states)
    assert cut.square().sum().item() == pytest.approx(states.square().sum().item(), rel=1e-5)


def test_a_window_across_the_seam_keeps_its_ends_apart() -> None:
    states = torch.arange(4.0).reshape(1, 4, 1, 1, 1)
    windows = Windows.of(states, (2, 1, 1), shifted=True)
    assert windows.shift == (1, 0, 0)
    assert windows.cut(states)[..., 0].tolist() == [[1, 2], [3, 0]]
    apart = windows.apart(torch.device("cpu"))
    assert apart.tolist() == [[[False, False], [False, False]], [[False, True], [True, False]]]


def test_padding_is_apart_from_the_volume() -> None:
    states = torch.arange(1.0, 4.0).reshape(1, 3, 1, 1, 1)
    windows = Windows.of(states, (2, 1, 1), shifted=False)
    assert windows.cut(states)[..., 0].tolist() == [[1, 2], [3, 0]]
    assert windows.apart(torch.device("cpu"))[1].tolist() == [[False, True], [True, False]]


def test_a_grid_of_one_window_is_neither_shifted_nor_masked() -> None:
    windows = Windows.of(torch.zeros(1, 2, 3, 2, 1), WINDOW, shifted=True)
    assert windows.shift == (0, 0, 0)
    assert windows.apart(torch.device("cpu")) is None
    assert Windows.of(torch.zeros(1, 10, 12, 14, 1), (5, 6, 7), shifted=True).shift == (2, 3, 3)


def test_the_relative_bias_depends_on_the_way_from_key_to_query() -> None:
    bias = RelativeBias((2, 1, 1), 1)
    with torch.no_grad():
        bias.table.copy_(torch.tensor([[-1.0], [0.0], [5.0]]))
    windows = Windows((2, 1, 1), (2, 1, 1), (0, 0, 0))
    # Query 0, key 1: way -1, the first number. Query 1, key 0: way 1, the last.
    assert bias(windows, 1)[0, 0].tolist() == [[0.0, -1.0], [5.0, 0.0]]
    assert RelativeBias((5, 6, 7), 8).table.shape == (9 * 11 * 13, 8)


def test_every_head_moves_its_own_channels_by_its_own_offsets() -> None:
    states = torch.randn(2, 4, 5, 6, 4)
    offsets = torch.zeros(2, 2, 3, 4, 5, 6)
    offsets[:, 0, 0] = 1.0
    offsets[:, 1, 2] = -2.0
    offsets[1, 1, 2] = 0.0
    found = sample(states, offsets)
    torch.testing.assert_close(found[:, :-1, ..., :2], states[:, 1:, ..., :2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[0, ..., 2:, 2:], states[0, ..., :-2, 2:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1, ..., 2:], states[1, ..., 2:], atol=1e-5, rtol=1e-5)
    # Beyond the border stands the outermost token.
    torch.testing.assert_close(found[:, -1, ..., :2], states[:, -1, ..., :2], atol=1e-5, rtol=1e-5)


def test_offsets_reach_half_the_grid_and_no_further() -> None:
    block = a_block()
    for sign in (1, -1):
        block.of_moving.offsets = Constant(*[sign * math.inf] * 3)
        found = block.of_moving.displacement(tokens(4, 6, 10), tokens(4, 6, 10))
        assert found.shape == (1, HEADS, 3, 4, 6, 10)
        assert found[0, 1, :, 0, 0, 0].tolist() == [2.0 * sign, 3.0 * sign, 5.0 * sign]


@pytest.mark.parametrize("offsets", ["added", "concatenated"])
def test_training_starts_from_nearly_straight_windows(offsets: Any) -> None:
    torch.manual_seed(0)
    block = CrossAttentionBlock(CHANNELS, HEADS, WINDOW, offsets=offsets)
    found = block.of_moving.displacement(tokens(4, 6, 4), tokens(4, 6, 4, seed=1))
    assert 0 < found.abs().max() < 1e-3


def test_offset_networks_have_the_parameters_of_their_layers() -> None:
    def count(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    # groups of C / h channels for each of h heads: C k^3; normalisation 2 h; 3 h outputs of h inputs
    assert count(AddedOffsets(96, 8, 7)) == 96 * 343 + 2 * 8 + 3 * 64
    expected = 192 * 96 * 343 + 2 * 96 + 96 * 48 * 343 + 2 * 48 + 48 * 24
    assert count(ConcatenatedOffsets(96, 8, 7)) == expected
    with pytest.raises(ValueError, match="at least 2 heads"):
        AddedOffsets(4, 1, 3)


def test_added_offsets_cannot_tell_the_streams_apart_and_concatenated_can() -> None:
    own, other = tokens(3, 3, 3, seed=1), tokens(3, 3, 3, seed=2)
    for network, same in ((AddedOffsets(CHANNELS, 2, 3), True), (ConcatenatedOffsets(CHANNELS, 2, 3).eval(), False)):
        for parameter in network.parameters():
            nn.init.normal_(parameter)
        assert torch.allclose(network(own, other), network(other, own), atol=1e-4) == same


def test_self_attention_of_one_stream_is_cross_attention_with_itself() -> None:
    crossed = a_block(shifted=True, offsets=None)
    crossed.of_fixed.load_state_dict(crossed.of_moving.state_dict())
    alone = SelfAttentionBlock(CHANNELS, HEADS, WINDOW, shifted=True).eval()
    alone.stream.load_state_dict(crossed.of_moving.state_dict())
    alone.bias.load_state_dict(crossed.bias.state_dict())
    states = tokens(4, 7, 4)
    torch.testing.assert_close(alone(states)[0], crossed(states, states)[0])


@pytest.mark.parametrize("offsets", ["added", "concatenated"])
def test_every_weight_of_a_block_gets_a_gradient(offsets: Any) -> None:
    block = a_block(shifted=True, offsets=offsets).train()
    moving, fixed = block(tokens(5, 6, 4, batch=2, seed=1), tokens(5, 6, 4, batch=2, seed=2))
    (moving.square().sum() + fixed.pow(3).sum()).backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_dropped_paths_are_whole_samples_and_keep_the_mean() -> None:
    torch.manual_seed(0)
    layer = DropPath(0.25)
    found = layer(torch.ones(4000, 2, 3))
    assert sorted(set(found.flatten().tolist())) == pytest.approx([0.0, 4 / 3])
    assert torch.equal(found.amin((1, 2)), found.amax((1, 2)))
    assert found.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(layer.eval()(torch.ones(4)), torch.ones(4))
    with pytest.raises(ValueError, match="1 excluded"):
        DropPath(1.0)


def test_numbers_that_do_not_fit_are_told() -> None:
    assert check_attention(8, 2, [2, 3, 4]) == (2, 3, 4)
    with pytest.raises(ValueError, match="must be a multiple of the heads"):
        check_attention(8, 3, (2, 2, 2))
    with pytest.raises(ValueError, match="three numbers"):
        check_attention(8, 2, (2, 2))
