"""Conditional LapIRN: sizes, units, levels and the effect of the smoothness."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medseg.networks.lapirn import DEFAULT_SMOOTHNESS, ConditionalInstanceNorm, ConditionalLapIRN
from medseg.networks.spatial import normalised_to_voxels, resize_field, warp

SIZE = (16, 24, 16)


def a_network(**options: float) -> ConditionalLapIRN:
    torch.manual_seed(4)
    return ConditionalLapIRN(**{"start_channels": 1, **options})


def a_pair(batch: int = 1, size: tuple[int, int, int] = SIZE) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(batch)
    return tuple(torch.rand(batch, 1, *size, generator=generator) for _ in range(2))


def enlarged(field: Tensor) -> Tensor:
    return nn.functional.interpolate(field, size=[2 * n for n in field.shape[2:]], mode="trilinear", align_corners=True)


class Flow(nn.Module):
    """Stands for the last layers of a level: the same vector everywhere, channels x, y, z."""

    def __init__(self, *vector: float) -> None:
        super().__init__()
        self.vector = vector

    def forward(self, features: Tensor) -> Tensor:
        return torch.tensor(self.vector).reshape(1, 3, 1, 1, 1).expand(len(features), 3, *features.shape[2:])


@pytest.mark.parametrize(("start_channels", "total"), [(7, 1_222_068), (4, 557_040)])
def test_the_network_has_the_parameters_of_its_layers(start_channels: int, total: int) -> None:
    width = 4 * start_channels
    # encoder 27 (in C + C^2), down 27 C^2, up 8 C^2, flow 27 (2 C^2 + 3 C)
    convolutions = (27 + 27 + 8 + 54) * width**2 + 81 * width
    # five blocks: two convolutions, 1 -> 64 -> 64 -> 64 -> 64, and twice 64 -> 2 C
    blocks = 5 * (54 * width**2 + 128 + 3 * (64 * 64 + 64) + 2 * (64 * 2 * width + 2 * width))
    expected = 3 * (convolutions + blocks) + 27 * (2 + 5 + 5) * width
    assert expected == total
    assert sum(p.numel() for p in ConditionalLapIRN(start_channels).parameters()) == total


def test_conditional_instance_norm_without_style_is_instance_norm() -> None:
    torch.manual_seed(0)
    layer = ConditionalInstanceNorm(3, 5)
    features = torch.randn(2, 3, 4, 5, 6)
    # The bias starts at 0, so a style of zeros asks for gamma = beta = 0.
    torch.testing.assert_close(layer(features, torch.zeros(2, 5)), nn.InstanceNorm3d(3)(features))


def test_a_style_scales_by_one_more_than_gamma_and_adds_beta() -> None:
    layer = ConditionalInstanceNorm(2, 1)
    with torch.no_grad():
        layer.affine.weight.copy_(torch.tensor([[0.5], [-1.0], [3.0], [0.0]]))
    features = torch.randn(2, 2, 3, 3, 3)
    normal = nn.InstanceNorm3d(2)(features)
    # gamma = (1, -2) and beta = (6, 0) for a style of 2, half of it for 1
    found = layer(features, torch.tensor([[2.0], [1.0]]))
    torch.testing.assert_close(found[0, 0], 2 * normal[0, 0] + 6)
    torch.testing.assert_close(found[0, 1], -normal[0, 1])
    torch.testing.assert_close(found[1, 0], 1.5 * normal[1, 0] + 3)
    torch.testing.assert_close(found[1, 1], 0 * normal[1, 1], atol=1e-6, rtol=0)


def test_every_level_has_its_own_grid_and_its_full_field_is_the_same_at_full_size() -> None:
    network, (fixed, moving) = a_network().eval(), a_pair(2)
    for level, size in ((1, (4, 6, 4)), (2, (8, 12, 8)), (3, SIZE)):
        found = network.to_level(level, fixed, moving, 0.3)
        assert found.displacement.shape == (2, 3, *size)
        assert found.full.shape == (2, 3, *SIZE)
        torch.testing.assert_close(found.full, resize_field(found.displacement, SIZE))
        assert len(found.residuals) == level
    torch.testing.assert_close(network(fixed, moving, 0.3), found.displacement)


def test_the_field_is_the_sum_of_what_the_levels_add() -> None:
    network, (fixed, moving) = a_network().eval(), a_pair()
    found = network.to_level(3, fixed, moving, 0.4)
    first, second, third = found.residuals
    expected = normalised_to_voxels(enlarged(enlarged(first) + second) + third)
    torch.testing.assert_close(found.displacement, expected, atol=1e-5, rtol=1e-5)
    assert all(residual.abs().max() < 0.4 for residual in found.residuals)
    # A level sees what the levels before have found and does not change it.
    torch.testing.assert_close(network.to_level(2, fixed, moving, 0.4).residuals, (first, second))


def test_the_first_channel_inside_is_along_the_last_axis_outside() -> None:
    network, (fixed, moving) = a_network(), a_pair()
    for part in network.parts:
        part.flow = Flow(0.0, 0.0, 0.0)
    network.parts[0].flow = Flow(1.0, 0.0, 0.0)
    network.parts[2].flow = Flow(0.0, 0.5, 0.25)
    found = network(fixed, moving, 0.5)
    # 0.4 of half an axis each: x over 15 intervals, y over 23, z over 15
    expected = [0.25 * 0.4 * 15 / 2, 0.5 * 0.4 * 23 / 2, 0.4 * 15 / 2]
    assert found[0, :, 3, 4, 5].tolist() == pytest.approx(expected)


def test_a_level_sees_the_moving_image_as_warped_so_far() -> None:
    network, (fixed, moving) = a_network(), a_pair()
    network.parts[0].flow = Flow(0.25, -0.5, 0.75)
    seen: list[Tensor] = []
    for part in network.parts:
        part.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network.to_level(2, fixed, moving, 0.5)
    small = [
        nn.functional.interpolate(image, (8, 12, 8), mode="trilinear", align_corners=True) for image in (fixed, moving)
    ]
    vector = torch.tensor([0.1, -0.2, 0.3]).reshape(1, 3, 1, 1, 1).expand(1, 3, 8, 12, 8)
    assert seen[0].shape == (1, 2, 4, 6, 4)
    warped = warp(small[1], normalised_to_voxels(vector))
    torch.testing.assert_close(seen[1], torch.cat([warped, small[0], vector], dim=1), atol=1e-5, rtol=1e-5)


def test_a_level_starts_from_the_embedding_of_the_level_before() -> None:
    network, (fixed, moving) = a_network().eval(), a_pair()
    coarse, fine = network.parts[:2]
    noted: dict[str, Tensor] = {}
    coarse.up.register_forward_hook(lambda _, _inputs, output: noted.update(before=output))
    fine.down.register_forward_hook(lambda _, _inputs, output: noted.update(own=output))
    fine.blocks[0].register_forward_pre_hook(lambda _, inputs: noted.update(both=inputs[0]))
    network.to_level(2, fixed, moving, 0.5)
    torch.testing.assert_close(noted["both"], noted["own"] + noted["before"])


def test_gradients_of_a_level_reach_its_parameters_and_those_before_and_no_others() -> None:
    network, (fixed, moving) = a_network(), a_pair()
    for level in (1, 2, 3):
        network.zero_grad(set_to_none=True)
        warp(moving, network.to_level(level, fixed, moving, 0.7).full).sub(fixed).square().mean().backward()
        reached = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
        wanted = {id(parameter) for parameter in network.parameters_to_level(level)}
        assert reached == {name for name, parameter in network.named_parameters() if id(parameter) in wanted}
        for name, parameter in network.named_parameters():
            assert name not in reached or parameter.grad.abs().sum() > 0, name
    assert len(wanted) == len(list(network.parameters()))


def test_the_smoothness_changes_the_answer_and_is_04_when_omitted() -> None:
    network, (fixed, moving) = a_network().eval(), a_pair()
    fields = [network(fixed, moving, smoothness) for smoothness in (0.0, 1.0, None, DEFAULT_SMOOTHNESS)]
    assert (fields[0] - fields[1]).abs().max() > 1e-4
    assert torch.equal(fields[2], fields[3])
    assert DEFAULT_SMOOTHNESS == 0.4


def test_every_pair_may_have_its_own_smoothness() -> None:
    network, (fixed, moving) = a_network().eval(), a_pair(2)
    both = network(fixed, moving, torch.tensor([0.1, 0.9]))
    for number, smoothness in enumerate((0.1, 0.9)):
        alone = network(fixed[number : number + 1], moving[number : number + 1], smoothness)
        torch.testing.assert_close(both[number : number + 1], alone, atol=1e-4, rtol=1e-4)


def test_the_field_stays_in_single_precision_in_mixed_precision() -> None:
    network, (fixed, moving) = a_network(), a_pair()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(fixed, moving, 0.5).dtype == torch.float32


def test_another_number_of_levels_needs_other_sizes() -> None:
    network, (fixed, moving) = a_network(levels=2), a_pair(size=(8, 12, 4))
    assert network.multiple == 4
    assert network(fixed, moving, 0.5).shape == (1, 3, 8, 12, 4)


@pytest.mark.parametrize(
    ("size", "message"), [((16, 16, 20), "multiples of 8"), ((8, 8, 8), "at least one size must be 16")]
)
def test_a_size_that_cannot_be_halved_three_times_is_refused(size: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        a_network()(*a_pair(size=size), 0.5)


def test_what_does_not_exist_is_refused() -> None:
    network, (fixed, moving) = a_network(), a_pair()
    for smoothness in (-0.1, 1.5, float("nan"), torch.tensor([0.5, 0.5]), torch.zeros(1, 1)):
        with pytest.raises(ValueError, match="smoothness must be"):
            network(fixed, moving, smoothness)
    for level in (0, 4):
        with pytest.raises(ValueError, match="level must be 1 to 3"):
            network.parameters_to_level(level)
        with pytest.raises(ValueError, match="level must be 1 to 3"):
            network.to_level(level, fixed, moving, 0.5)
    with pytest.raises(ValueError, match="must both be"):
        network(fixed, moving[..., :8], 0.5)
    with pytest.raises(ValueError, match="at least 1"):
        ConditionalLapIRN(0)
