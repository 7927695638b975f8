"""Thin slices from thick labels: the projection and the three requirements, with hand-computed numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medseg.losses.thin_thick import (
    FeatureTap,
    SliceProjection,
    ThinThickLoss,
    dice_and_entropy,
    feature_difference,
)
from medseg.networks import ConvFreeTransformer


def certain(classes: torch.Tensor, count: int = 2) -> torch.Tensor:
    """Return logits whose softmax is, in single precision, exactly the one-hot code of ``classes`` (B, I, J, K)."""
    return nn.functional.one_hot(classes, count).movedim(-1, 1) * 200.0


def some_thick_classes(slices: int = 4, count: int = 3) -> torch.Tensor:
    return torch.randint(0, count, (2, 5, 6, slices), generator=torch.Generator().manual_seed(0))


def test_thick_slices_of_a_ramp_are_exact() -> None:
    ramp = torch.arange(12.0).expand(1, 1, 2, 2, 12)
    assert SliceProjection(3)(ramp)[0, 0, 0, 0].tolist() == [1, 4, 7, 10]
    assert SliceProjection(4)(ramp)[0, 0, 0, 0].tolist() == [1.5, 5.5, 9.5]


def test_slices_that_fill_no_group_are_left_out() -> None:
    assert SliceProjection(3)(torch.arange(11.0)).tolist() == [1, 4, 7]


@settings(max_examples=25, deadline=None)
@given(ratio=st.integers(1, 5), groups=st.integers(1, 4), axis=st.integers(-3, 2), seed=st.integers(0, 99))
def test_it_is_the_shrinking_by_bins_of_itk(ratio: int, groups: int, axis: int, seed: int) -> None:
    shape = [3, 4, 5]
    shape[axis] = ratio * groups
    array = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    factors = [1, 1, 1]
    factors[axis] = ratio
    expected = sitk.GetArrayFromImage(sitk.BinShrink(sitk.GetImageFromArray(array), factors[::-1]))
    np.testing.assert_allclose(SliceProjection(ratio)(torch.from_numpy(array), axis).numpy(), expected, atol=1e-5)


def test_an_overlapping_box_gives_a_slice_at_its_edge_its_share() -> None:
    weights = SliceProjection(3, thickness=4.0).weights(9)
    expected = torch.tensor([0, 0, 0.5, 1, 1, 1, 0.5, 0, 0]) / 4
    torch.testing.assert_close(weights[1], expected)
    # At the end of the stack what lies outside is left out.
    torch.testing.assert_close(weights[0], torch.tensor([1, 1, 1, 0.5, 0, 0, 0, 0, 0]) / 3.5)


def test_a_gap_leaves_out_the_ends_of_a_group() -> None:
    weights = SliceProjection(4, thickness=2.0).weights(8)
    torch.testing.assert_close(weights[1], torch.tensor([0, 0, 0, 0, 0, 0.5, 0.5, 0]))


def test_a_gaussian_profile_has_half_its_height_at_half_its_width() -> None:
    weights = SliceProjection(5, thickness=4.0, profile="gaussian").weights(25)[2]
    assert weights.argmax() == 12
    assert (weights[14] / weights[12]).item() == pytest.approx(0.5, abs=1e-6)
    assert (weights[16] / weights[12]).item() == pytest.approx(1 / 16, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    ratio=st.integers(1, 6),
    slices=st.integers(6, 20),
    thickness=st.none() | st.floats(0.5, 12.0),
    profile=st.sampled_from(["box", "gaussian"]),
)
def test_a_constant_stack_stays_constant_under_every_profile(
    ratio: int, slices: int, thickness: float | None, profile: str
) -> None:
    projection = SliceProjection(ratio, thickness, profile)
    found = projection(torch.full((2, slices), 7.0))
    assert found.shape == (2, slices // ratio)
    torch.testing.assert_close(found, torch.full_like(found, 7.0))


def test_the_general_way_of_averaging_agrees_with_the_quick_one() -> None:
    values = torch.randn(2, 3, 4, 11)
    weights = SliceProjection(3).weights(11)
    torch.testing.assert_close(values @ weights.T, SliceProjection(3)(values))


@pytest.mark.parametrize(("ratio", "thickness"), [(0, None), (3, 0.0), (3, -1.0)])
def test_a_projection_that_makes_no_sense_is_refused(ratio: int, thickness: float | None) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        SliceProjection(ratio, thickness)


def test_fewer_slices_than_a_group_are_refused() -> None:
    with pytest.raises(ValueError, match="2 thin slices do not make a thick one of 3"):
        SliceProjection(3)(torch.zeros(2))


def test_dice_and_entropy_of_two_voxels_by_hand() -> None:
    probabilities = torch.tensor([[[0.2, 0.6], [0.8, 0.4]]])[..., None, None]  # (1, 2 classes, 2, 1, 1)
    classes = torch.tensor([[1, 0]])[..., None, None]
    entropy = -(math.log(0.8) + math.log(0.6)) / 2
    dice = 2 * 0.8 / (1.2 + 1)
    assert dice_and_entropy(probabilities, classes).item() == pytest.approx(1 - dice + entropy, abs=1e-5)


def test_the_second_requirement_looks_at_the_mean_over_the_group() -> None:
    # One voxel column of two thin slices with p(foreground) = 0.9 and 0.3: the mean is 0.6, the label is 1.
    scores = torch.tensor([[0.0, 0.0], [math.log(9), math.log(3 / 7)]])[None, :, None, None, :]
    parts = ThinThickLoss(2, weights=(0, 1, 0))(scores, None, torch.ones(1, 1, 1, 1, dtype=torch.uint8))
    expected = -math.log(0.6) + 1 - 2 * 0.6 / (0.6 + 1)
    assert parts["loss"].item() == pytest.approx(expected, abs=1e-5)
    assert parts["thin"].item() == pytest.approx(expected, abs=1e-5)
    assert "thick" not in parts


def test_the_parts_are_added_with_their_weights() -> None:
    classes, features = some_thick_classes(), torch.randn(2, 7, 5, 6, 12)
    thin, thick = torch.randn(2, 3, 5, 6, 12), torch.randn(2, 3, 5, 6, 4)
    loss = ThinThickLoss(3, weights=(2.0, 3.0, 0.5), ramp=0.5)
    parts = loss(thin, thick, classes, thin_features=features, thick_features=torch.zeros(2, 7, 5, 6, 4), done=0.25)
    expected = 2 * parts["thick"] + 3 * parts["thin"] + 0.5 * 0.5 * parts["features"]
    assert parts["loss"].item() == pytest.approx(expected.item(), abs=1e-6)
    assert parts["thick"].item() == pytest.approx(dice_and_entropy(thick.softmax(1), classes).item(), abs=1e-6)


def test_the_third_weight_rises_over_the_ramp() -> None:
    loss = ThinThickLoss(3, ramp=0.2)
    assert [loss.rise(done) for done in (0.0, 0.1, 0.2, 0.9)] == pytest.approx([0, 0.5, 1, 1])
    assert ThinThickLoss(3, ramp=0.0).rise(0.0) == 1


def test_features_that_average_to_the_thick_ones_cost_nothing() -> None:
    thin = torch.randn(1, 4, 3, 3, 10)
    assert feature_difference(thin, SliceProjection(5)(thin), 5).item() == pytest.approx(0, abs=1e-12)
    assert feature_difference(torch.ones(1, 2, 4), torch.full((1, 2, 2), 3.0), 2).item() == pytest.approx(4)


def test_features_in_another_ratio_are_refused() -> None:
    with pytest.raises(ValueError, match="not in the ratio 5"):
        feature_difference(torch.zeros(1, 4, 10), torch.zeros(1, 4, 3), 5)


@settings(max_examples=20, deadline=None)
@given(ratio=st.integers(1, 5), axis=st.sampled_from([-3, -2, -1, 2]), seed=st.integers(0, 99))
def test_perfect_predictions_that_do_not_change_within_a_group_cost_nothing(ratio: int, axis: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, 3, (1, 3, 4, 2), generator=generator)
    place = axis if axis < 0 else axis - 1
    thin = classes.repeat_interleave(ratio, place)
    features = torch.randn(1, 2, 3, 4, 2, generator=generator)
    parts = ThinThickLoss(ratio, axis=axis)(
        certain(thin, 3),
        certain(classes, 3),
        classes,
        thin_features=features.repeat_interleave(ratio, axis),
        thick_features=features,
    )
    assert parts["loss"].item() == pytest.approx(0, abs=1e-6)


def test_the_second_requirement_cannot_tell_steps_from_the_truth_and_even_prefers_them() -> None:
    """The known weakness: the staircase costs nothing, an oblique surface as it is costs something."""
    oblique = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]]).T[None, :, None, :]  # (1, 4, 1, 3 thin slices)
    thick = (oblique.float().mean(-1, keepdim=True) > 0.5).long()
    loss = ThinThickLoss(3, weights=(0, 1, 0))
    steps = loss(certain(thick.repeat_interleave(3, -1)), None, thick)["loss"].item()
    truth = loss(certain(oblique), None, thick)["loss"].item()
    assert steps == pytest.approx(0, abs=1e-6)
    assert truth > 0.1


def test_a_requirement_without_weight_is_left_out() -> None:
    classes = some_thick_classes()
    parts = ThinThickLoss(3, weights=(1, 0, 0))(None, torch.randn(2, 3, 5, 6, 4), classes)
    assert set(parts) == {"loss", "thick"}


def test_the_loss_reaches_every_parameter_of_any_network() -> None:
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 3, 1))
    image, classes = torch.randn(2, 1, 5, 6, 12), some_thick_classes()
    with FeatureTap(network, "1") as tap:
        thin, thin_features = network(image), tap.take()
        thick, thick_features = network(SliceProjection(3)(image)), tap.take()
    parts = ThinThickLoss(3)(thin, thick, classes, thin_features=thin_features, thick_features=thick_features)
    parts["loss"].backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_the_transformer_without_convolutions_takes_part_with_its_tokens() -> None:
    network = ConvFreeTransformer(block=6, width=8, heads=2, layers=1, feed_forward=8).train()
    image, classes = torch.randn(1, 1, 8, 6, 12), torch.randint(0, 2, (1, 8, 6, 4))
    with FeatureTap(network, "features") as tap:
        thin, thin_features = network(image), tap.take()
        thick, thick_features = network(SliceProjection(3)(image)), tap.take()
    assert thin_features.shape == (1, 8, 4, 3, 6)
    assert thick_features.shape == (1, 8, 4, 3, 2)
    parts = ThinThickLoss(3)(thin, thick, classes, thin_features=thin_features, thick_features=thick_features)
    parts["loss"].backward()
    assert network.embedding.weight.grad.abs().sum() > 0


def test_a_tap_needs_a_part_that_exists_and_a_pass() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 1))
    with pytest.raises(ValueError, match="no part 'middle'; it has 0"):
        FeatureTap(network, "middle")
    with FeatureTap(network, "0") as tap, pytest.raises(RuntimeError, match="has not been run"):
        tap.take()


def test_a_tap_leaves_nothing_behind() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 1))
    with FeatureTap(network, "0"):
        pass
    assert not network[0]._forward_hooks


@pytest.mark.parametrize("wrong", [{"weights": (1, -1, 0)}, {"ramp": 1.5}])
def test_weights_and_ramps_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="must"):
        ThinThickLoss(3, **wrong)
