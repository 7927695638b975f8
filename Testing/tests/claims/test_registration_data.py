"""What the claims on registration are tried on: what the pairs promise, and the figures of a field."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.claims.registration_data import REGIONS, A, B, Kind, Pair, draw_pair, draw_pairs, smooth_noise
from benchmarks.claims.registration_fitting import figures_of, fit_on_pairs
from medseg.losses import diffusion_energy
from medseg.metrics.deformation import folded_share
from medseg.networks import VoxelMorph
from medseg.networks.spatial import warp


def a_pair(seed: int = 0, **changes: object) -> Pair:
    return draw_pair(
        Kind(**{"shape": (24, 20, 28), "reach": (5.0, 5.0), "moving": B, **changes}), np.random.default_rng(seed)
    )


def test_the_known_displacement_brings_the_labels_together_without_a_fold():
    for seed in range(3):
        pair = a_pair(seed)
        before, after = (figures_of(pair.displacement * share, pair).dice for share in (0, 1))
        assert after > 0.83 > before + 0.05
        assert folded_share(pair.displacement) == 0


def test_it_brings_images_of_one_contrast_together_to_the_noise():
    pair = a_pair(moving=A, noise=0.0, bias=0.0)
    apart, together = (
        (warp(pair.moving, pair.displacement * share) - pair.fixed).square().mean().sqrt() for share in (0, 1)
    )
    assert together < 0.4 * apart


@pytest.mark.parametrize("reach", [1.0, 6.0])
def test_no_point_moves_further_than_the_reach_and_one_nearly_does(reach: float):
    moved = a_pair(reach=(reach, reach)).displacement.square().sum(1).sqrt()
    assert 0.8 * reach < float(moved.max()) <= reach


def test_every_region_is_there_and_has_its_intensity_in_each_contrast():
    pair = a_pair(noise=0.0, bias=0.0, shape=(32, 32, 32))
    for image, labels, contrast in ((pair.fixed, pair.fixed_labels, A), (pair.moving, pair.moving_labels, B)):
        assert image.dtype == torch.float32
        assert labels.dtype == torch.uint8
        assert labels.unique().tolist() == list(range(REGIONS + 1))
        for value, level in enumerate(contrast.levels):
            assert float(image[labels == value].median()) == pytest.approx(level, abs=0.06)


def test_noise_and_shading_are_as_asked_for_and_differ_between_the_images():
    plain, noisy, shaded = (a_pair(noise=noise, bias=bias) for noise, bias in ((0.0, 0.0), (0.05, 0.0), (0.0, 0.2)))
    inside = (plain.fixed > 0.2) & (plain.fixed < 0.8)
    assert float((noisy.fixed - plain.fixed)[inside].std()) == pytest.approx(0.05, rel=0.1)
    assert float((shaded.fixed / plain.fixed)[inside].log().std()) == pytest.approx(0.2, rel=0.4)
    common = (noisy.fixed - plain.fixed)[inside] * (noisy.moving - plain.moving)[inside]
    assert abs(float(common.mean())) < 0.1 * 0.05**2


def test_a_picture_moves_in_its_plane_only():
    pair = a_pair(shape=(32, 40, 1))
    assert pair.fixed.shape == (1, 1, 32, 40, 1)
    assert not pair.displacement[:, 2].any()
    assert pair.displacement[:, :2].abs().max() > 1


def test_the_seed_decides_on_everything_and_every_pair_is_another():
    kind = Kind((12, 12, 12), (1.0, 3.0))
    first, again = (draw_pairs(kind, 2, np.random.default_rng(4)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(value, vars(other)[name]) for name, value in vars(one).items())
    assert not torch.equal(first[0].fixed, first[1].fixed)


def test_noise_is_standardised_and_smooth():
    noise = smooth_noise(np.random.default_rng(0), (40, 40), 3.0)
    assert noise.dtype == np.float32
    assert (noise.mean(), noise.std()) == pytest.approx((0, 1), abs=1e-5)
    # Neighbours correlate by exp(-1 / (4 scale^2)).
    assert np.diff(noise, axis=0).std() == pytest.approx(np.sqrt(2 - 2 * np.exp(-1 / 36)), rel=0.2)


def test_figures_tell_a_fold_and_a_stretch():
    pair = a_pair()
    still = figures_of(torch.zeros_like(pair.displacement), pair)
    assert (still.folded, still.std_jacobian, still.std_log_jacobian) == (0, 0, 0)
    mirrored = torch.zeros_like(pair.displacement)
    mirrored[:, 0] = -2 * torch.arange(24.0)[:, None, None]
    assert figures_of(mirrored, pair).folded == 1
    half = torch.zeros_like(pair.displacement)
    half[:, 0, 12:] = torch.arange(12.0)[:, None, None]
    # J is 1 and 2 in a half each, but for the planes between them.
    assert figures_of(half, pair).std_jacobian == pytest.approx(0.5, abs=0.03)
    assert figures_of(half, pair).std_log_jacobian == pytest.approx(np.log(2) / 2, abs=0.03)


def test_rivals_with_one_seed_see_the_same_pairs_in_the_same_order():
    pairs = draw_pairs(Kind((8, 8, 8), (1.0, 1.0)), 3, np.random.default_rng(0))
    seen: list[list[torch.Tensor]] = []
    for channels in ((2, 2), (4, 4)):
        own: list[torch.Tensor] = []
        seen.append(own)

        def similarity(fixed: torch.Tensor, moved: torch.Tensor, own: list[torch.Tensor] = own) -> torch.Tensor:
            own.append(fixed)
            return (fixed - moved).square().mean()

        network = VoxelMorph(channels=channels, unet_out_channels=2, final_conv_channels=(2,))
        fit_on_pairs(network, pairs, similarity, diffusion_energy, steps=6, lr=1e-3, seed=1)
    assert all(torch.equal(one, other) for one, other in zip(*seen, strict=True))
    assert len({float((image * torch.linspace(0, 1, 512).reshape(8, 8, 8)).sum()) for image in seen[0]}) > 3
