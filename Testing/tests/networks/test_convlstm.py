"""The convolutional LSTM between slices: the cell by hand, and what the two directions promise."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from medseg.networks.convlstm import BidirectionalConvLSTM, ConvLSTM


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def a_stack(slices: int = 5, channels: int = 4) -> torch.Tensor:
    return torch.randn(2, slices, channels, 6, 7, generator=torch.Generator().manual_seed(0))


def test_two_slices_of_one_pixel_give_what_the_equations_give_by_hand() -> None:
    layer = ConvLSTM(1, 1, kernel=1)
    # Gates in the order let in, keep, show, new.
    from_input, bias, from_state = (0.5, -1.0, 2.0, 1.5), (0.1, 0.2, -0.3, 0.0), (0.4, 0.6, -0.8, 1.0)
    with torch.no_grad():
        layer.from_input.weight.copy_(torch.tensor(from_input)[:, None, None, None])
        layer.from_input.bias.copy_(torch.tensor(bias))
        layer.from_state.weight.copy_(torch.tensor(from_state)[:, None, None, None])
    shown = layer(torch.tensor([1.0, -2.0]).reshape(1, 2, 1, 1, 1)).flatten().tolist()
    # First slice, x = 1, h = c = 0: i = s(0.6), o = s(1.7), g = tanh(1.5).
    cell = logistic(0.6) * math.tanh(1.5)
    first = logistic(1.7) * math.tanh(cell)
    assert first == pytest.approx(0.4446, abs=1e-4)
    # Second slice, x = -2.
    i, f = logistic(-1.0 + 0.1 + 0.4 * first), logistic(2.0 + 0.2 + 0.6 * first)
    o, g = logistic(-4.0 - 0.3 - 0.8 * first), math.tanh(-3.0 + first)
    second = o * math.tanh(f * cell + i * g)
    assert shown == pytest.approx([first, second], abs=1e-6)


def test_a_kernel_of_three_sees_the_neighbouring_pixels_of_both_maps() -> None:
    layer = ConvLSTM(1, 1, kernel=3)
    for weights in (layer.from_input.weight, layer.from_state.weight):
        nn.init.ones_(weights)
    stack = torch.zeros(1, 2, 1, 5, 5)
    stack[0, 0, 0, 0, 0] = 1.0
    shown = layer(stack)
    assert shown[0, 0, 0, 1, 1] > 0.1
    assert shown[0, 0, 0, 2, 2] == 0  # no gate lets anything in there: g = tanh(0)
    assert shown[0, 1, 0, 2, 2] > 0.01  # reached through the state
    assert shown[0, 1, 0, 3, 3] == 0


def test_at_the_start_a_cell_keeps_what_it_holds() -> None:
    bias = ConvLSTM(3, 2).from_input.bias.tolist()
    assert bias == [0, 0, 1, 1, 0, 0, 0, 0]


def test_one_direction_knows_no_later_slice_and_two_know_all() -> None:
    changed = a_stack().clone()
    changed[:, 3] += 1
    layer = ConvLSTM(4, 3)
    torch.testing.assert_close(layer(changed)[:, :3], layer(a_stack())[:, :3], atol=0, rtol=0)
    assert not torch.allclose(layer(changed)[:, 4], layer(a_stack())[:, 4])
    both = BidirectionalConvLSTM(4)
    for index in range(5):
        assert not torch.allclose(both(changed)[:, index], both(a_stack())[:, index])


def test_reversed_slices_through_exchanged_directions_give_the_reversed_maps() -> None:
    layer, exchanged = BidirectionalConvLSTM(4), BidirectionalConvLSTM(4)
    exchanged.onward.load_state_dict(layer.back.state_dict())
    exchanged.back.load_state_dict(layer.onward.state_dict())
    onward, back = layer(a_stack()).chunk(2, dim=2)
    mirrored = exchanged(a_stack().flip(1)).flip(1)
    torch.testing.assert_close(mirrored, torch.cat([back, onward], dim=2))


def test_the_stacks_of_a_batch_do_not_meet() -> None:
    layer = BidirectionalConvLSTM(4)
    torch.testing.assert_close(layer(a_stack())[1:], layer(a_stack()[1:]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("slices", [1, 2, 9])
def test_any_number_of_slices_keeps_its_shape(slices: int) -> None:
    stack = a_stack(slices)
    shown = BidirectionalConvLSTM(4)(stack)
    assert shown.shape == stack.shape
    assert shown.abs().max() < 1  # a product of a logistic function and a hyperbolic tangent


def test_every_weight_gets_a_gradient() -> None:
    layer = BidirectionalConvLSTM(4)
    layer(a_stack()).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("wrong", [{"hidden": 0}, {"hidden": 2, "kernel": 2}])
def test_a_wrong_size_is_named(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"hidden|kernel"):
        ConvLSTM(4, **wrong)


def test_an_odd_number_of_channels_has_no_half() -> None:
    with pytest.raises(ValueError, match="even"):
        BidirectionalConvLSTM(5)
