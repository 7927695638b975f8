"""Similarity losses against naive loops and numbers that a person can check."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medseg.losses import similarity
from medseg.losses.similarity import local_ncc, mind_ssc, mind_ssc_loss, normalised_mutual_information

LOSSES = (local_ncc, normalised_mutual_information, mind_ssc_loss)


def noise(seed: int, shape: tuple[int, ...] = (1, 1, 5, 6, 7)) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def blobs(seed: int, edge: int = 12) -> Tensor:
    """A smooth image whose intensities fill 0 to 1."""
    small = noise(seed, (1, 1, 4, 4, 4))
    image = torch.nn.functional.interpolate(small, size=(edge,) * 3, mode="trilinear", align_corners=True)
    return (image - image.min()) / (image.max() - image.min())


def a_line(*values: float) -> Tensor:
    return torch.tensor(values).reshape(1, 1, 1, 1, -1)


def naive_ncc(fixed: np.ndarray, moved: np.ndarray, reach: int, eps: float) -> float:
    values = []
    for place in np.ndindex(fixed.shape):
        box = tuple(slice(max(0, at - reach), at + reach + 1) for at in place)
        one, other = fixed[box] - fixed[box].mean(), moved[box] - moved[box].mean()
        values.append((one * other).mean() ** 2 / ((one**2).mean() * (other**2).mean() + eps))
    return float(np.mean(values))


def test_the_local_correlation_of_three_voxels_is_as_computed_by_hand() -> None:
    fixed, moved = a_line(0, 1, 0), a_line(0, 0, 1)
    # Middle: variances 2/9, covariance -1/9. First: the moved image is flat in its box. Last: two voxels that swap.
    assert local_ncc(fixed, moved, 3, eps=1e-9).item() == pytest.approx(-(0 + 1 / 4 + 1) / 3, abs=1e-6)
    middle = a_line(0, 1, 0)
    assert local_ncc(fixed, moved, 3, mask=middle.bool(), eps=1e-9).item() == pytest.approx(-1 / 4, abs=1e-6)
    weighted = local_ncc(fixed, moved, 3, mask=a_line(0, 0.5, 1), eps=1e-9)
    assert weighted.item() == pytest.approx(-(0.5 / 4 + 1) / 1.5, abs=1e-6)
    # With a term of the size of the variances: (1/81) / (4/81 + 0.1).
    assert local_ncc(fixed, moved, 3, mask=middle, eps=0.1).item() == pytest.approx(-(1 / 81) / (4 / 81 + 0.1))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99), st.sampled_from([1, 3, 5, 9]), st.sampled_from([1e-5, 1e-2]))
def test_the_local_correlation_is_that_of_a_naive_loop(seed: int, window: int, eps: float) -> None:
    fixed, moved = noise(seed), noise(seed + 100)
    expected = naive_ncc(fixed[0, 0].numpy(), moved[0, 0].numpy(), window // 2, eps)
    assert local_ncc(fixed, moved, window, eps=eps).item() == pytest.approx(-expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("window", [1, 3, 9, 21])
def test_the_means_of_other_devices_are_those_of_the_processor(window: int) -> None:
    image = noise(1, (2, 3, 8, 10, 1))
    for axis in (2, 3, 4):
        pooled = similarity._pooled_mean(image, window // 2, axis)
        torch.testing.assert_close(pooled, similarity._band_mean(image, window // 2, axis))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.floats(0.2, 5), st.booleans(), st.floats(-3, 3))
def test_linearly_related_images_correlate_wholly_whatever_the_sign(
    seed: int, slope: float, inverted: bool, offset: float
) -> None:
    fixed = noise(seed)
    moved = (-slope if inverted else slope) * fixed + offset
    assert local_ncc(fixed, moved, 5, eps=1e-12).item() == pytest.approx(-1, abs=1e-6)


def test_a_large_offset_costs_no_precision_in_single() -> None:
    fixed, moved = noise(1).float(), noise(2).float()
    plain = local_ncc(fixed, moved, 3)
    assert local_ncc(fixed + 100, moved - 50, 3).item() == pytest.approx(plain.item(), rel=1e-3)


def test_a_flat_image_correlates_with_nothing() -> None:
    assert local_ncc(noise(0), torch.ones(1, 1, 5, 6, 7)).item() == 0.0


def test_each_case_counts_the_same_and_an_empty_mask_counts_zero() -> None:
    fixed, moved = noise(1, (2, 1, 5, 6, 7)), noise(2, (2, 1, 5, 6, 7))
    mask = torch.zeros(2, 1, 5, 6, 7, dtype=torch.bool)
    mask[0, :, 2:] = True
    for loss in LOSSES:
        assert loss(fixed, moved, mask=mask[:1].expand_as(mask)) == loss(fixed, moved, mask=mask[:1])
        alone = loss(fixed[:1], moved[:1], mask=mask[:1])
        torch.testing.assert_close(loss(fixed, moved, mask=mask), alone / 2)
        free = moved.clone().requires_grad_()
        loss(fixed, free, mask=mask & False).backward()
        assert not free.grad.any()


def test_gradients_are_those_of_finite_differences() -> None:
    fixed, moved = noise(3, (1, 1, 3, 4, 3)), noise(4, (1, 1, 3, 4, 3))
    free = torch.ones_like(moved).flatten()
    # The range of the image is no variable of the mutual information: hold the voxels that make it.
    free[torch.stack([moved.argmin(), moved.argmax()])] = 0
    for loss in LOSSES:
        settings_of = {"radius": 1, "dilation": 1} if loss is mind_ssc_loss else {}

        def of_moved(change: Tensor, loss=loss, given=settings_of) -> Tensor:
            return loss(fixed, moved + change * free.reshape(moved.shape), **given)

        assert torch.autograd.gradcheck(of_moved, torch.zeros_like(moved).requires_grad_(), eps=1e-7, atol=1e-5)


def test_half_precision_and_autocast_are_computed_in_single() -> None:
    fixed, moved = noise(5).bfloat16(), noise(6).bfloat16()
    for loss in LOSSES:
        plain = loss(fixed.float(), moved.float())
        with torch.autocast("cpu", torch.bfloat16):
            found = loss(fixed, moved)
        assert found.dtype == torch.float32
        assert found.item() == pytest.approx(plain.item(), rel=1e-5)


def test_flat_images_have_a_finite_gradient() -> None:
    for loss in LOSSES:
        moved = torch.full((1, 1, 4, 4, 4), 0.3, requires_grad=True)
        loss(torch.full((1, 1, 4, 4, 4), 0.7), moved).backward()
        assert torch.isfinite(moved.grad).all(), loss.__name__


def naive_nmi(fixed: np.ndarray, moved: np.ndarray, bins: int) -> float:
    def window(distance: float) -> float:
        distance = abs(distance)
        if distance < 1:
            return 2 / 3 - distance**2 + distance**3 / 2
        return (2 - distance) ** 3 / 6 if distance < 2 else 0.0

    joint = np.zeros((bins, bins))
    places = [1 + (image - image.min()) / (image.max() - image.min()) * (bins - 3) for image in (fixed, moved)]
    for one, other in zip(*(place.ravel() for place in places), strict=True):
        for a, b in itertools.product(range(bins), repeat=2):
            joint[a, b] += window(one - a) * window(other - b)
    joint /= joint.sum()
    assert joint.min() >= 0

    def entropy(table: np.ndarray) -> float:
        return -sum(p * math.log(p) for p in table.ravel() if p > 0)

    return (entropy(joint.sum(0)) + entropy(joint.sum(1))) / entropy(joint)


@pytest.mark.parametrize("bins", [4, 7, 12])
def test_the_mutual_information_is_that_of_a_naive_histogram(bins: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed, moved = noise(1, (1, 1, 3, 4, 3)), noise(2, (1, 1, 3, 4, 3))
    expected = naive_nmi(fixed.numpy(), moved.numpy(), bins)
    assert normalised_mutual_information(fixed, moved, bins).item() == pytest.approx(-expected, rel=1e-10)
    # In pieces it is the same.
    monkeypatch.setattr(similarity, "CHUNK", 5)
    assert normalised_mutual_information(fixed, moved, bins).item() == pytest.approx(-expected, rel=1e-10)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99), st.floats(0.1, 50), st.booleans(), st.floats(-100, 100))
def test_the_mutual_information_knows_no_scale_offset_or_sign(
    seed: int, slope: float, inverted: bool, offset: float
) -> None:
    fixed, moved = blobs(seed), blobs(seed + 1)
    changed = (-slope if inverted else slope) * moved + offset
    plain = normalised_mutual_information(fixed, moved).item()
    assert normalised_mutual_information(fixed, changed).item() == pytest.approx(plain, abs=1e-6)
    assert normalised_mutual_information(changed, fixed).item() == pytest.approx(plain, abs=1e-6)


def test_a_monotone_relabelling_hardly_changes_the_mutual_information() -> None:
    image = blobs(3)
    same = normalised_mutual_information(image, image).item()
    for relabelled in (image**1.5, torch.exp(-image), torch.sin(image)):
        assert normalised_mutual_information(image, relabelled).item() == pytest.approx(same, abs=0.02)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99))
def test_no_other_image_informs_as_much_as_the_image_itself(seed: int) -> None:
    image = blobs(seed)
    same = normalised_mutual_information(image, image).item()
    assert -2 < same < -1.25
    noisy = normalised_mutual_information(image, image + 0.3 * noise(seed, image.shape)).item()
    foreign = normalised_mutual_information(image, blobs(seed + 1)).item()
    unrelated = normalised_mutual_information(image, noise(seed + 2, image.shape)).item()
    assert same < noisy < unrelated < -1
    assert same < foreign < -1


def test_evenly_spread_intensities_reach_one_and_a_half_with_32_bins() -> None:
    ramp = torch.linspace(0, 1, 4096).reshape(1, 1, 16, 16, 16)
    assert normalised_mutual_information(ramp, ramp).item() == pytest.approx(-1.48, abs=0.01)
    assert normalised_mutual_information(ramp, torch.zeros_like(ramp)).item() == pytest.approx(-1, abs=1e-5)


def test_what_lies_out_of_the_mask_does_not_enter_the_mutual_information() -> None:
    fixed, moved = noise(1, (1, 1, 4, 5, 6)), noise(2, (1, 1, 4, 5, 6))
    mask = torch.zeros(1, 1, 4, 5, 6, dtype=torch.bool)
    mask[..., 1:4] = True
    inside = normalised_mutual_information(fixed[..., 1:4], moved[..., 1:4])
    spoilt = torch.where(mask, moved, 1000.0)
    torch.testing.assert_close(normalised_mutual_information(fixed, spoilt, mask=mask), inside)


def test_the_mutual_information_holds_a_few_numbers_a_voxel_for_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed, moved = noise(1, (1, 1, 16, 16, 16)), noise(2, (1, 1, 16, 16, 16)).requires_grad_()
    monkeypatch.setattr(similarity, "CHUNK", 256)
    held: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // 8
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        normalised_mutual_information(fixed, moved, 32)
    assert sum(held.values()) < 16 * 16**3


def naive_mind(image: np.ndarray, place: tuple[int, int, int], radius: int, dilation: int) -> np.ndarray:
    def read(*at: int) -> float:
        return float(image[tuple(min(max(a, 0), n - 1) for a, n in zip(at, image.shape, strict=True))])

    steps = [tuple(sign * dilation * (axis == own) for axis in range(3)) for own in range(3) for sign in (-1, 1)]
    distances = []
    for (first, one), (second, other) in itertools.combinations(enumerate(steps), 2):
        if first // 2 == second // 2:
            continue
        squares = []
        for shift in itertools.product(range(-radius, radius + 1), repeat=3):
            at = [p + s for p, s in zip(place, shift, strict=True)]
            if all(0 <= a < n for a, n in zip(at, image.shape, strict=True)):
                ends = [[a + s for a, s in zip(at, step, strict=True)] for step in (one, other)]
                squares.append((read(*ends[0]) - read(*ends[1])) ** 2)
        distances.append(np.mean(squares))
    return np.array(distances) - min(distances)


@pytest.mark.parametrize(("radius", "dilation"), [(0, 1), (1, 1), (1, 2), (2, 2)])
def test_the_self_similarity_is_that_of_a_naive_loop(radius: int, dilation: int) -> None:
    image = noise(1)
    found = mind_ssc(image, radius, dilation)
    assert found.shape == (1, 12, 5, 6, 7)
    for place in ((2, 3, 3), (0, 0, 0), (4, 2, 6)):
        distances = naive_mind(image[0, 0].numpy(), place, radius, dilation)
        expected = np.exp(-distances / distances.mean())
        np.testing.assert_allclose(found[(0, slice(None), *place)].numpy(), expected, rtol=1e-9)


def test_the_self_similarity_of_an_edge_is_as_computed_by_hand() -> None:
    image = torch.zeros(1, 1, 5, 5, 5)
    image[:, :, 3:] = 1
    # At the last voxel of the dark side only the neighbour in +I is bright: it differs from the four of the other axes,
    # and the other eight pairs are equal. V = 4/12, so the four channels are exp(-3).
    channels = mind_ssc(image, radius=0, dilation=1)[0, :, 2, 2, 2]
    expected = torch.ones(12)
    expected[4:8] = math.exp(-3)
    torch.testing.assert_close(channels, expected)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.floats(0.01, 100), st.booleans(), st.floats(-100, 100))
def test_the_self_similarity_knows_no_contrast(seed: int, slope: float, inverted: bool, offset: float) -> None:
    image = noise(seed)
    channels = mind_ssc(image, 1, 2)
    assert (channels.amax(1) == 1).all()
    assert channels.min() >= 0
    torch.testing.assert_close(mind_ssc((-slope if inverted else slope) * image + offset, 1, 2), channels)


def test_the_self_similarity_loss_is_zero_for_another_contrast_and_grows_with_the_shift() -> None:
    image = blobs(1, 16)
    assert mind_ssc_loss(image, 5 - 3 * image).item() == pytest.approx(0, abs=1e-12)
    shifted = [mind_ssc_loss(image[:, :, 4:], image[:, :, 4 - step : 16 - step]).item() for step in (1, 2, 4)]
    assert 0 < shifted[0] < shifted[1] < shifted[2]
    moved = (image * 0.5 + 0.1 * noise(2, image.shape)).requires_grad_()
    mind_ssc_loss(image, moved).backward()
    assert moved.grad.abs().min() >= 0
    assert (moved.grad != 0).float().mean() > 0.9


def test_arguments_that_make_no_sense_are_refused() -> None:
    image = noise(0)
    for loss in LOSSES:
        with pytest.raises(ValueError, match="of one shape"):
            loss(image, image[..., 1:])
        with pytest.raises(ValueError, match="of one shape"):
            loss(image[0], image[0])
    for window in (0, 4, -3):
        with pytest.raises(ValueError, match="odd number"):
            local_ncc(image, image, window)
    with pytest.raises(ValueError, match="at least 4 bins"):
        normalised_mutual_information(image, image, 3)
    with pytest.raises(ValueError, match="no neighbourhood"):
        mind_ssc(image, 1, 0)
    with pytest.raises(ValueError, match="the image is"):
        mind_ssc(image.expand(1, 2, 5, 6, 7), 1, 1)
