"""All registration networks behind one interface; TM-DCA's encoder, decoder and heads; VoxelMorph as MONAI has it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.networks.blocks import Warp
from torch import Tensor, nn

from medseg.networks.deformable_cross_attention import CrossAttentionBlock
from medseg.networks.lapirn import ConditionalLapIRN
from medseg.networks.registration_network import RegistrationNetwork, VoxelMorph
from medseg.networks.spatial import exponential, warp
from medseg.networks.tm_dca import SMALL, TMDCA, PatchMerging

TINY: dict[str, Any] = {
    "embed": 4, "depths": (1, 2, 1), "heads": 2, "window": (2, 3, 2), "patch": 2, "offset_kernels": (3, 3, 1),
    "steps": 2, "drop_path": 0.0,
}  # fmt: skip

MAKERS: dict[str, Callable[[], RegistrationNetwork]] = {
    "LapIRN": lambda: ConditionalLapIRN(1),
    "TM-DCA, time-varying": lambda: TMDCA(**TINY),
    "TM-DCA, B-spline": lambda: TMDCA(**TINY, head="bspline"),
    "TM-DCA, self-attention": lambda: TMDCA(**TINY, attention="self"),
    "TM-DCA, patches of 4": lambda: TMDCA(**{**TINY, "patch": 4}),
    "VoxelMorph": lambda: VoxelMorph(channels=(4, 4, 4, 4), unet_out_channels=4, final_conv_channels=(4,)),
    "VoxelMorph, velocity": lambda: VoxelMorph(channels=(4, 4, 4, 4), integration_steps=4),
}

every_network = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def seeded(make: Callable[[], RegistrationNetwork]) -> RegistrationNetwork:
    torch.manual_seed(11)
    return make()


def a_pair(size: tuple[int, int, int] = (16, 16, 32), batch: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(batch)
    return tuple(torch.rand(batch, 1, *size, generator=generator) for _ in range(2))


def a_blob(*centre: float, size: tuple[int, int, int] = (16, 16, 16), width: float = 3.0) -> Tensor:
    place = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in size), indexing="ij")
    return torch.exp(-sum((x - c) ** 2 for x, c in zip(place, centre, strict=True)) / (2 * width**2))[None, None]


def lively(network: TMDCA, flow: float = 0.05) -> TMDCA:
    """Set what begins near zero to something that can be seen."""
    for name, parameter in network.named_parameters():
        if "flow.weight" in name or "offsets" in name:
            nn.init.normal_(parameter, std=flow if "flow" in name else 0.3)
    return network


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def determinants(displacement: Tensor) -> Tensor:
    """det(I + grad u) at the inner voxels, for all eight choices of a forward or backward difference an axis."""
    inner = (slice(1, -1),) * 3
    found = []
    for signs in itertools.product((1, -1), repeat=3):
        columns = [
            sign * (displacement[0].roll(-sign, axis + 1) - displacement[0])[(slice(None), *inner)]
            for axis, sign in enumerate(signs)
        ]
        jacobian = torch.stack(columns, dim=-1).movedim(0, -2) + torch.eye(3)
        found.append(torch.linalg.det(jacobian))
    return torch.stack(found)


@every_network
def test_a_network_gives_a_displacement_for_every_voxel(make: Callable[[], RegistrationNetwork]) -> None:
    network = seeded(make).eval()
    fixed, moving = a_pair(batch=2)
    displacement = network(fixed, moving)
    assert displacement.shape == (2, 3, 16, 16, 32)
    fields = network.fields(fixed, moving, 0.4)
    torch.testing.assert_close(fields.displacement, displacement)
    assert fields.velocity is None or fields.velocity.shape == displacement.shape
    assert network.conditional == isinstance(network, ConditionalLapIRN)


@every_network
def test_a_pair_that_does_not_fit_is_told_what_would(make: Callable[[], RegistrationNetwork]) -> None:
    network = seeded(make)
    with pytest.raises(ValueError, match=f"sizes must be multiples of {network.multiple}, not"):
        network(*a_pair((16, 16, 32 + network.multiple // 2)))
    fixed, moving = a_pair()
    for other in (moving[..., :16], moving.repeat(1, 2, 1, 1, 1), moving[0]):
        with pytest.raises(ValueError, match="fixed and moving must both be"):
            network(fixed, other)


@pytest.mark.parametrize(
    ("name", "rate", "steps"),
    [
        ("LapIRN", 5e-3, 12),
        ("TM-DCA, time-varying", 5e-3, 12),
        ("TM-DCA, B-spline", 1e-3, 25),
        ("VoxelMorph", 1e-2, 25),
    ],
)
def test_a_network_learns_to_point_from_the_fixed_to_the_moving(name: str, rate: float, steps: int) -> None:
    network = seeded(MAKERS[name])
    fixed, moving = a_blob(7, 8, 7), a_blob(7, 6, 9)
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = (warp(moving, network(fixed, moving, 0.5)) - fixed).square().mean()
        loss.backward()
        optimiser.step()
    before = (moving - fixed).square().mean()
    displacement = network(fixed, moving, 0.5)
    assert (warp(moving, displacement) - fixed).square().mean() < 0.5 * before
    pull = (displacement * fixed).sum((0, 2, 3, 4)) / fixed.sum()
    assert pull[1] < -0.5
    assert pull[2] > 0.5


@every_network
def test_gradients_reach_every_weight(make: Callable[[], RegistrationNetwork]) -> None:
    network = seeded(make)
    if isinstance(network, TMDCA):
        lively(network)
    fixed, moving = a_pair()
    (warp(moving, network(fixed, moving, 0.3)) - fixed).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@every_network
def test_fields_stay_in_single_precision_in_mixed_precision(make: Callable[[], RegistrationNetwork]) -> None:
    network = seeded(make)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(*a_pair()).dtype == torch.float32


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "LapIRN"])
def test_fresh_weights_hardly_move_anything(name: str) -> None:
    assert seeded(MAKERS[name]).eval()(*a_pair()).abs().max() < 1e-2


@pytest.mark.filterwarnings("ignore:monai.networks.blocks.Warp")
def test_voxelmorph_is_monais_network_with_monais_warp() -> None:
    torch.manual_seed(0)
    network = VoxelMorph().eval()
    nn.init.normal_(next(m for m in reversed(list(network.modules())) if isinstance(m, nn.Conv3d)).weight, std=1.0)
    fixed, moving = a_pair()
    displacement = network(fixed, moving)
    assert torch.equal(displacement, network.unet(torch.cat([moving, fixed], dim=1)))
    assert displacement.abs().max() > 0.5
    theirs = Warp(mode="bilinear", padding_mode="border")(moving, displacement.detach().clone())
    torch.testing.assert_close(warp(moving, displacement), theirs, atol=1e-4, rtol=0)
    assert network.multiple == 8
    assert network.fields(fixed, moving).velocity is None


def test_voxelmorphs_velocity_is_integrated() -> None:
    network = VoxelMorph(channels=(4, 4), integration_steps=5)
    assert network.multiple == 2
    found = network.fields(*a_pair())
    torch.testing.assert_close(found.displacement, exponential(found.velocity, 5))
    with pytest.raises(ValueError, match="not be negative"):
        VoxelMorph(integration_steps=-1)


def a_cross_block(channels: int, heads: int, window: tuple[int, int, int], kernel: int) -> int:
    stream = 12 * channels**2 + 10 * channels + channels * kernel**3 + 2 * heads + 3 * heads**2
    return 2 * stream + heads * math.prod(2 * w - 1 for w in window)


@pytest.mark.parametrize("head", ["tvf", "bspline"])
def test_tm_dca_has_the_parameters_of_its_layers(head: Any) -> None:
    e, h, window = 4, 2, (2, 3, 2)
    blocks = (
        a_cross_block(e, h, window, 3) + 2 * a_cross_block(2 * e, h, window, 3) + a_cross_block(4 * e, h, window, 1)
    )
    embedding = (2**3 * e + e) + 2 * e
    merging = sum(2 * 8 * c + 8 * c * 2 * c for c in (e, 2 * e))
    norms = 2 * 2 * (e + 2 * e + 4 * e)
    up0, up1 = 6 * e * 2 * e + (2 * e) ** 2, 3 * e * e + e**2
    up2, pair = (e + e // 2) * e // 2 + (e // 2) ** 2, 2 * e // 2
    decoder = 27 * (up0 + up1 + up2 + pair)
    if head == "tvf":
        fields = 2 * (27 * (pair + e * 16 + 16 * 16 + 16 * 3) + 3)
    else:
        fields = 27 * (e // 2 * 32 + 32 * 32 + 32 * 3) + 32 + 32 + 3
    assert count(TMDCA(**TINY, head=head)) == blocks + embedding + merging + norms + decoder + fields


@pytest.mark.parametrize(
    ("options", "total"),
    [
        ({}, 29_484_572),
        ({"head": "bspline"}, 28_929_051),
        ({"offsets": "concatenated"}, 283_926_780),
        (SMALL, 4_396_500),
    ],
)
def test_networks_have_the_size_of_their_description(options: dict[str, Any], total: int) -> None:
    with torch.device("meta"):
        assert count(TMDCA(**options)) == total


def test_the_encoder_halves_the_tokens_twice_and_adds_the_streams() -> None:
    torch.manual_seed(0)
    encoder = TMDCA(**{**TINY, "patch": 4}).eval().encoder
    fixed, moving = a_pair()
    features = encoder(moving, fixed)
    assert [tuple(maps.shape) for maps in features] == [(1, 4, 4, 4, 8), (1, 8, 2, 2, 4), (1, 16, 1, 1, 2)]
    for maps, (of_moving, of_fixed) in zip(features, encoder.streams(moving, fixed), strict=True):
        torch.testing.assert_close(maps, (of_moving + of_fixed).permute(0, 4, 1, 2, 3))


@pytest.mark.parametrize("offsets", ["added", "concatenated"])
def test_swapping_the_volumes_and_the_weights_swaps_the_two_streams(offsets: Any) -> None:
    torch.manual_seed(0)
    encoder = lively(TMDCA(**TINY, offsets=offsets)).eval().encoder
    fixed, moving = a_pair()
    before = encoder.streams(moving, fixed)
    for block in encoder.modules():
        if isinstance(block, CrossAttentionBlock):
            block.of_moving, block.of_fixed = block.of_fixed, block.of_moving
    for norms in encoder.norms:
        first, second = norms[0], norms[1]
        norms[0], norms[1] = second, first
    for (moving_before, fixed_before), swapped in zip(before, encoder.streams(fixed, moving), strict=True):
        torch.testing.assert_close(swapped, (fixed_before, moving_before))


def test_with_fresh_offsets_the_bent_network_is_the_straight_one() -> None:
    torch.manual_seed(0)
    bent, straight = TMDCA(**TINY).eval(), TMDCA(**TINY, attention="windowed").eval()
    unknown = straight.load_state_dict(bent.state_dict(), strict=False).unexpected_keys
    assert unknown
    assert all("offsets" in name for name in unknown)
    fixed, moving = a_pair()
    for one, other in zip(bent.encoder(moving, fixed), straight.encoder(moving, fixed), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    lively(bent)
    assert (bent.encoder(moving, fixed)[0] - straight.encoder(moving, fixed)[0]).abs().max() > 1e-2


def test_eight_neighbours_become_one_token() -> None:
    merging = PatchMerging(1)
    tokens = torch.arange(8.0).reshape(1, 2, 2, 2, 1)
    with torch.no_grad():
        merging.reduction.weight.copy_(torch.eye(2, 8))
    expected = nn.functional.layer_norm(torch.arange(8.0), [8])[:2]
    torch.testing.assert_close(merging(tokens).flatten(), expected)


def test_the_chance_of_a_dropped_path_rises_from_block_to_block() -> None:
    network = TMDCA(**{**TINY, "depths": (1, 2, 1), "drop_path": 0.3})
    rates = [block.drop_path.rate for block in network.modules() if isinstance(block, CrossAttentionBlock)]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])
    shifted = [block.shifted for block in network.modules() if isinstance(block, CrossAttentionBlock)]
    assert shifted == [False, False, True, False]


def test_each_time_step_is_composed_with_the_ones_before_and_sees_what_they_warped() -> None:
    network = TMDCA(**TINY)
    fixed, moving = a_pair((16, 16, 16))
    shift, stretch = torch.zeros(2, 1, 3, 16, 16, 16)
    shift[:, 0] = 1.0
    stretch[:, 0] = torch.arange(16.0).reshape(16, 1, 1) / 10
    seen: list[Tensor] = []

    class Step(nn.Module):
        def __init__(self, change: Tensor) -> None:
            super().__init__()
            self.change = change

        def forward(self, _features: Tensor, warped: Tensor, _fixed: Tensor) -> Tensor:
            seen.append(warped)
            return self.change

    network.head.steps = nn.ModuleList([Step(shift), Step(stretch)])
    displacement = network(fixed, moving)
    # u(x) = v(x) + u_before(x + v(x)) = x / 10 + 1; the other order would give (x + 1) / 10 + 1.
    assert displacement[0, 0, :, 3, 3].tolist() == pytest.approx([1 + i / 10 for i in range(16)], abs=1e-5)
    assert torch.equal(seen[0], moving)
    torch.testing.assert_close(seen[1][:, :, :-1], moving[:, :, 1:], atol=1e-5, rtol=0)


def test_the_b_spline_head_does_not_fold_where_its_velocity_as_a_displacement_would() -> None:
    torch.manual_seed(1)
    network = TMDCA(**TINY, head="bspline").eval()
    nn.init.normal_(network.head.flow.weight, std=0.1)
    fields = network.fields(*a_pair())
    assert fields.velocity is not None
    torch.testing.assert_close(fields.displacement, exponential(fields.velocity, 7))
    assert fields.displacement.abs().max() > 2
    assert determinants(fields.velocity).min() < 0
    assert determinants(fields.displacement).min() > 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"head": "dense"}, "head must be"),
        ({"attention": "global"}, "attention must be"),
        ({"offsets": "none"}, "offsets must be"),
        ({"steps": 0}, "steps must be"),
        ({"patch": 3}, "patch must be 2 or 4"),
        ({"depths": (1, 1)}, "depths must be three"),
        ({"offset_kernels": (3, 2, 3)}, "three odd numbers"),
        ({"embed": 5}, "embed must be even"),
        ({"embed": 6, "heads": 4}, "multiple of the heads"),
        ({"window": (2, 2)}, "window must be three"),
        ({"drop_path": 1.0}, "1 excluded"),
    ],
)
def test_arguments_that_do_not_fit_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TMDCA(**{**TINY, **wrong})
