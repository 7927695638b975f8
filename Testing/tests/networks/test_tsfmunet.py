"""TSFMUNet: the equations of the poster with hand-computed numbers, and what the design promises."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medseg.networks import InterSliceTransformer, TSFMUNet, UNet3D, build_network, positional_encoding


def a_small_network(**options: object) -> TSFMUNet:
    torch.manual_seed(0)
    return TSFMUNet(base=4, depth=2, heads=2, **options).eval()


RIVALS = ["attention", "location", "convlstm", "none", "3d", "3d pooled"]


def a_rival(name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    arguments = {
        "attention": {},
        "location": {"attention": "location"},
        "convlstm": {"inter_slice": "convlstm"},
        "none": {"inter_slice": "none"},
        "3d": {},
        "3d pooled": {"pool_slices_from": 1},
    }[name]
    target = "medseg.networks.UNet3D" if name.startswith("3d") else "medseg.networks.TSFMUNet"
    extra = {} if name.startswith("3d") else {"heads": 2}
    return build_network(target, {"base": 4, "depth": 2, **extra, **arguments, **options}).eval()


def a_stack(slices: int = 5, size: int = 16) -> torch.Tensor:
    return torch.randn(1, 1, size, size, slices, generator=torch.Generator().manual_seed(1))


def a_layer_whose_projections_change_nothing(**options: object) -> InterSliceTransformer:
    layer = InterSliceTransformer(2, heads=1, use_positions=False, **options)
    for projection in (layer.query, layer.key, layer.value):
        nn.init.zeros_(projection.bias)
        with torch.no_grad():
            projection.weight.copy_(torch.eye(2)[:, :, None, None])
    return layer


def test_the_encoding_of_the_poster_has_the_exponent_of_the_odd_channel_itself() -> None:
    encoding = positional_encoding(torch.tensor([0.0, 1.0]), 4, style="poster")
    expected = [math.sin(1), math.cos(1 / 10), math.sin(1 / 100), math.cos(1 / 1000)]
    assert encoding[1].tolist() == pytest.approx(expected, abs=1e-6)
    assert encoding[1, :3].tolist() == pytest.approx([0.8415, 0.9950, 0.0100], abs=1e-4)
    assert encoding[0].tolist() == pytest.approx([0, 1, 0, 1])


def test_the_encoding_of_vaswani_pairs_sine_and_cosine() -> None:
    encoding = positional_encoding(torch.tensor([1.0]), 4, style="vaswani")
    assert encoding[0].tolist() == pytest.approx([math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)], abs=1e-6)


def test_attention_in_slice_mode_is_the_softmax_of_scaled_dot_products() -> None:
    layer = a_layer_whose_projections_change_nothing()
    # Two slices whose pooled tokens are (1, 0) and (0, 2): the scores are the dot products over sqrt(2).
    features = torch.zeros(1, 2, 2, 1, 2)
    features[0, 0, 0] = 1.0
    features[0, 1, 1] = torch.tensor([1.0, 3.0])
    weights = layer.attention(features)[0, 0]
    first = math.exp(1 / math.sqrt(2)) / (math.exp(1 / math.sqrt(2)) + 1)
    second = math.exp(4 / math.sqrt(2)) / (math.exp(4 / math.sqrt(2)) + 1)
    assert weights[0, 0].item() == pytest.approx(first, abs=1e-6)
    assert weights[1, 1].item() == pytest.approx(second, abs=1e-6)


def test_flattened_tokens_compare_whole_maps_and_scale_with_their_size() -> None:
    layer = a_layer_whose_projections_change_nothing(tokens="flattened")
    # Maps of 1 x 2 positions and 2 channels: d_k = 4. Slice 0 is (1, 1 | 0, 0), slice 1 is (1, -1 | 0, 2).
    features = torch.zeros(1, 2, 2, 1, 2)
    features[0, 0, 0] = 1.0
    features[0, 1, 0] = torch.tensor([1.0, -1.0])
    features[0, 1, 1] = torch.tensor([0.0, 2.0])
    weights = layer.attention(features)[0, 0]
    # Dot products: 2 with itself and 0 with the other for slice 0; 6 with itself for slice 1; over sqrt(4).
    assert weights[0, 0].item() == pytest.approx(math.exp(1) / (math.exp(1) + 1), abs=1e-6)
    assert weights[1, 1].item() == pytest.approx(math.exp(3) / (math.exp(3) + 1), abs=1e-6)
    # The means of both channels cannot tell that the first channel of slice 1 changes its sign.
    pooled = a_layer_whose_projections_change_nothing(tokens="pooled").attention(features)[0, 0]
    assert pooled[0, 0].item() == pytest.approx(math.exp(1 / math.sqrt(2)) / (math.exp(1 / math.sqrt(2)) + 1), abs=1e-6)


def test_attention_in_location_mode_compares_the_slices_at_each_position_alone() -> None:
    layer = a_layer_whose_projections_change_nothing(mode="location")
    # At the first position the slices are (1, 0) and (0, 1); at the second (2, 0) and (1, 0).
    features = torch.zeros(1, 2, 2, 1, 2)
    features[0, :, :, 0, 0] = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    features[0, :, :, 0, 1] = torch.tensor([[2.0, 0.0], [1.0, 0.0]])
    weights = layer.attention(features)[0, 0, :, 0]
    one, two = math.exp(1 / math.sqrt(2)), math.exp(2 / math.sqrt(2))
    assert weights[0, 0, 0].item() == pytest.approx(one / (one + 1), abs=1e-6)
    assert weights[1, 0, 0].item() == pytest.approx(two**2 / (two**2 + two), abs=1e-6)
    assert weights[1, 1, 1].item() == pytest.approx(one / (two + one), abs=1e-6)


def test_the_encoding_is_as_wide_as_the_model_whatever_the_number_of_heads() -> None:
    torch.manual_seed(0)
    layer = InterSliceTransformer(8, heads=4)
    nn.init.zeros_(layer.query.weight)
    nn.init.zeros_(layer.query.bias)
    with torch.no_grad():
        layer.query.bias[7] = math.sqrt(2)  # head 3 asks for its second channel, which is channel 7 of the key
        layer.key.weight.copy_(torch.eye(8)[:, :, None, None])
        layer.key.bias.zero_()
    weights = layer.attention(torch.zeros(1, 3, 8, 1, 1))
    # Keys are the encoding: cos(j / 10000**(7/8)) in channel 7. All other heads ask for nothing.
    scores = [math.exp(math.cos(j / 10000 ** (7 / 8))) for j in range(3)]
    assert weights[0, 3, 0].tolist() == pytest.approx([score / sum(scores) for score in scores], abs=1e-6)
    torch.testing.assert_close(weights[0, :3], torch.full((3, 3, 3), 1 / 3))


@pytest.mark.parametrize("encode_values", [False, True])
def test_values_are_the_maps_themselves_unless_they_are_asked_to_carry_the_position(encode_values: bool) -> None:
    layer = InterSliceTransformer(2, heads=1, encode_values=encode_values)
    for last in (layer.mlp[2], layer.query):  # no query: every slice gets the mean of the values
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    for projection in (layer.value, layer.out):
        nn.init.zeros_(projection.bias)
        with torch.no_grad():
            projection.weight.copy_(torch.eye(2)[:, :, None, None])
    mixed = layer(torch.zeros(1, 2, 2, 1, 1))[0, 0, :, 0, 0]
    # Channel 0 is sin(j), channel 1 cos(j / 100), the mean over j = 0 and 1.
    expected = [math.sin(1) / 2, (1 + math.cos(0.01)) / 2] if encode_values else [0.0, 0.0]
    assert mixed.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("mode", ["slice", "location"])
def test_the_mixed_maps_are_the_weighted_sum_of_the_maps_of_the_stack(mode: str) -> None:
    layer = InterSliceTransformer(4, heads=2, mode=mode)
    nn.init.zeros_(layer.mlp[2].weight)
    nn.init.zeros_(layer.mlp[2].bias)
    features = torch.randn(2, 3, 4, 5, 6)
    weights = layer.attention(features)
    values = layer.value(features.flatten(0, 1)).reshape(2, 3, 4, 5, 6)
    mixed = torch.zeros_like(values)
    for batch in range(2):
        for s in range(3):
            for t in range(3):
                for channel in range(4):
                    head = channel // 2
                    weight = weights[batch, head, s, t] if mode == "slice" else weights[batch, :, :, head, s, t]
                    mixed[batch, s, channel] += weight * values[batch, t, channel]
    expected = features + layer.out(mixed.flatten(0, 1)).reshape(features.shape)
    torch.testing.assert_close(layer(features), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", ["slice", "location"])
@pytest.mark.parametrize("tokens", ["pooled", "flattened"])
@pytest.mark.parametrize("radius", [None, 0, 1])
def test_every_row_of_attention_sums_to_one(mode: str, tokens: str, radius: int | None) -> None:
    layer = InterSliceTransformer(4, heads=2, mode=mode, tokens=tokens, radius=radius)
    weights = layer.attention(torch.randn(2, 6, 4, 3, 5))
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


def test_a_radius_keeps_far_slices_out() -> None:
    weights = InterSliceTransformer(4, radius=1).attention(torch.randn(1, 6, 4, 3, 3))
    far = (torch.arange(6)[:, None] - torch.arange(6)[None]).abs() > 1
    assert weights[0, :, far].abs().max() == 0
    assert weights[0, :, ~far].min() > 0


def test_a_layer_with_zero_outputs_leaves_the_2d_unet_bit_for_bit() -> None:
    network, plain = a_small_network(levels=[1]), a_small_network(inter_slice="none")
    for layer in (network.inter_slice, network.skip_layers["1"]):
        for last in (layer.out, layer.mlp[2]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
    assert torch.equal(network(a_stack()), plain(a_stack()))


@pytest.mark.parametrize("attention", ["slice", "location"])
def test_without_positions_permuted_slices_give_permuted_scores(attention: str) -> None:
    order = torch.tensor([3, 0, 4, 1, 2])
    without = a_small_network(attention=attention, use_positions=False)
    torch.testing.assert_close(without(a_stack()[..., order]), without(a_stack())[..., order], atol=1e-5, rtol=1e-4)
    with_positions = a_small_network(attention=attention)
    assert not torch.allclose(with_positions(a_stack()[..., order]), with_positions(a_stack())[..., order], atol=1e-4)


def test_the_2d_unet_treats_each_slice_alone_and_attention_does_not() -> None:
    changed = a_stack().clone()
    changed[..., 4] += 1 + torch.randn(16, 16, generator=torch.Generator().manual_seed(2))
    plain, network = a_small_network(inter_slice="none"), a_small_network()
    assert torch.equal(plain(changed)[..., 0], plain(a_stack())[..., 0])
    assert not torch.equal(network(changed)[..., 0], network(a_stack())[..., 0])


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(RIVALS), st.integers(1, 9), st.integers(1, 21), st.integers(1, 21))
def test_any_stack_gives_scores_of_its_own_size(rival: str, slices: int, height: int, width: int) -> None:
    scores = a_rival(rival)(torch.randn(1, 1, height, width, slices))
    assert scores.shape == (1, 2, height, width, slices)
    assert torch.isfinite(scores).all()


@pytest.mark.parametrize("axis", [-3, -2, -1])
@pytest.mark.parametrize("rival", RIVALS)
def test_the_slice_axis_may_be_any(rival: str, axis: int) -> None:
    image = torch.randn(1, 1, 8, 8, 8)
    expected = a_rival(rival, slice_axis=-1)(image.movedim(axis, -1)).movedim(-1, axis)
    torch.testing.assert_close(a_rival(rival, slice_axis=axis)(image), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("rival", RIVALS)
def test_a_far_slice_informs_a_slice_in_every_network_but_the_2d_unet(rival: str) -> None:
    changed = a_stack().clone()
    changed[..., 4] += 1 + torch.randn(16, 16, generator=torch.Generator().manual_seed(2))
    network = a_rival(rival)
    assert torch.equal(network(changed)[..., 0], network(a_stack())[..., 0]) == (rival == "none")


def weights_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_networks_have_the_weights_that_a_hand_count_gives() -> None:
    # base 4, depth 2, one channel in, two classes. A unit from a to b channels: a*b*9 + 2*b (norm), then b*b*9 + 2*b.
    def units(a: int, b: int, kernel: int) -> int:
        return a * b * kernel + b * b * kernel + 4 * b

    def unet(kernel: int, up: int) -> int:
        down = units(1, 4, kernel) + units(4, 8, kernel) + units(8, 16, kernel)
        rise = (16 * 8 * up + 8) + units(16, 8, kernel) + (8 * 4 * up + 4) + units(8, 4, kernel)
        return down + rise + (4 * 2 + 2)

    assert weights_of(a_rival("none")) == unet(9, 4)
    assert weights_of(a_rival("3d")) == unet(27, 4)
    # Only the second pooling, and with it the first transposed convolution (16 to 8), reaches across slices.
    assert weights_of(a_rival("3d pooled")) == unet(27, 4) + 16 * 8 * 4
    # Four 1x1 convolutions of C = 16, a normalisation, an MLP 16 - 32 - 16.
    attention = 4 * (16 * 16 + 16) + 2 * 16 + (16 * 32 + 32) + (32 * 16 + 16)
    assert weights_of(a_rival("attention")) == unet(9, 4) + attention
    assert weights_of(a_rival("location")) == unet(9, 4) + attention
    # Two directions of hidden size 8: 32 gates from 16 channels with a bias, and from 8 channels without.
    assert weights_of(a_rival("convlstm")) == unet(9, 4) + 2 * (16 * 32 * 9 + 32 + 8 * 32 * 9)


def test_the_rivals_draw_the_same_initial_weights_where_they_are_the_same() -> None:
    plain = a_rival("none").state_dict()
    for rival in ("attention", "convlstm"):
        other = a_rival(rival).state_dict()
        assert all(torch.equal(other[name], weight) for name, weight in plain.items())


def test_a_3d_network_pools_slices_from_the_asked_level_on() -> None:
    assert UNet3D(base=4, depth=3).strides == [(2, 2, 1)] * 3
    assert UNet3D(base=4, depth=3, pool_slices_from=2).strides == [(2, 2, 1), (2, 2, 1), (2, 2, 2)]
    assert UNet3D(base=4, depth=3, pool_slices_from=0).strides == [(2, 2, 2)] * 3


@pytest.mark.parametrize("wrong", [{"pool_slices_from": 2}, {"pool_slices_from": -1}, {"depth": 0}, {"slice_axis": 2}])
def test_a_wrong_option_of_the_3d_network_is_named(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        UNet3D(**{"base": 4, "depth": 2, **wrong})


@pytest.mark.parametrize("rival", ["none", "convlstm"])
def test_a_network_without_attention_has_no_matrix(rival: str) -> None:
    with pytest.raises(ValueError, match="no attention"):
        a_rival(rival).attention_matrix(a_stack())


def test_spacing_changes_the_positions_only_when_the_network_is_aware_of_it() -> None:
    aware, blind = a_small_network(spacing_aware=True, reference_spacing=2.0), a_small_network()
    blind.slice_spacing = 5.0
    assert torch.equal(blind(a_stack()), a_small_network()(a_stack()))
    aware.slice_spacing = 2.0
    same = aware(a_stack())
    assert torch.equal(same, blind(a_stack()))
    aware.slice_spacing = 5.0
    assert not torch.equal(aware(a_stack()), same)


def test_each_stack_of_a_batch_may_have_its_own_spacing() -> None:
    network = a_small_network(spacing_aware=True, reference_spacing=1.0)
    both = torch.cat([a_stack(), a_stack()])
    network.slice_spacing = torch.tensor([1.0, 4.0])
    scores = network(both)
    for index, spacing in enumerate((1.0, 4.0)):
        network.slice_spacing = spacing
        torch.testing.assert_close(scores[index : index + 1], network(a_stack()), atol=1e-5, rtol=1e-4)


def test_the_attention_matrix_says_which_slice_informed_which() -> None:
    for attention in ("slice", "location"):
        matrix = a_small_network(attention=attention).attention_matrix(a_stack())
        assert matrix.shape == (1, 5, 5)
        torch.testing.assert_close(matrix.sum(-1), torch.ones(1, 5))


def test_every_weight_gets_a_gradient() -> None:
    network = TSFMUNet(base=4, depth=2, levels=[0, 1], attention="location")
    network(torch.randn(2, 1, 8, 8, 3)).square().sum().backward()
    for name, parameter in network.named_parameters():
        # A constant added to every key cancels in the softmax: its gradient is zero by construction.
        assert parameter.grad is not None, name
        assert "key.bias" in name or parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    "wrong",
    [
        {"heads": 3},
        {"attention": "global"},
        {"tokens": "mean"},
        {"pe_style": "learned"},
        {"radius": -1},
        {"levels": [2]},
        {"slice_axis": 0},
        {"inter_slice": "lstm"},
        {"reference_spacing": 0.0},
        {"depth": 0},
    ],
)
def test_a_wrong_option_is_named(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"."):
        TSFMUNet(**{"base": 4, "depth": 2, **wrong})
