"""How well a moved image fits a fixed one, as losses: local correlation, mutual information, self-similarity.

Sources: local correlation as in B. Avants et al., "Symmetric diffeomorphic image registration with cross-correlation"
(Medical Image Analysis 2008), squared as J. Chen et al. (MLMI 2023, "Deformable cross-attention transformer for medical
image registration") and T. Mok et al. (MLMI 2023, "Deformable medical image registration under distribution shifts with
neural instance optimization") use it; mutual information after C. Studholme et al., "An overlap invariant entropy
measure of 3D medical image alignment" (Pattern Recognition 1999) with the Parzen windows of D. Mattes et al. (IEEE TMI
2003); MIND-SSC after M. Heinrich et al., "Towards realtime multimodal fusion for image-guided interventions using
self-similarities" (MICCAI 2013).

Images are (B, 1, I, J, K), on one grid; all is computed in float32, float64 images in float64, also under autocast.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 2**16
"""Voxels whose Parzen weights are held at a time: 8 MB for 32 bins in float32."""


def local_ncc(fixed: Tensor, moved: Tensor, window: int = 9, mask: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Return minus the mean squared local correlation of two images: -1 for a linear relation, 0 for none.

    ``cross^2 / (var_fixed var_moved + eps)`` at every voxel, from the means over a box. The square makes it blind to
    the sign, so that it also serves T1 to T2. A voxel in a flat region gives 0, because of ``eps``.

    Not given in the papers, our choices: means and not sums over the box (the two put ``eps`` at different scales by
    ``window**6``), and a box that leaves the image is cut off at the border, not filled with zeros, so that a linear
    relation holds there too.

    Parameters
    ----------
    fixed, moved
        (B, 1, I, J, K), intensities about 0 to 1, to which ``eps`` is set.
    window
        Edge of the box in voxels, odd: 9 (Chen et al.) or 7 (Mok et al.).
    mask
        (B or 1, 1, I, J, K) bool or weights from 0 to 1: where the mean is taken. The boxes may reach out of it. The
        mean is taken in each case first; a case with an empty mask counts as 0.

    Returns
    -------
    Tensor
        Scalar.

    Raises
    ------
    ValueError
        When the shapes differ or are not of five axes, or the window is not odd and positive.
    """
    cross, product = _local_moments(fixed, moved, window)
    return -_mean_inside(cross * cross / (product + eps), mask)


def local_correlation(fixed: Tensor, moved: Tensor, window: int = 9, eps: float = 1e-5) -> Tensor:
    """Return the local correlation of two images at every voxel, with its sign.

    Its square is what :func:`local_ncc` averages.

    Returns
    -------
    Tensor
        (B, 1, I, J, K), -1 to 1, near 0 in flat regions.

    Raises
    ------
    ValueError
        As :func:`local_ncc` does.
    """
    cross, product = _local_moments(fixed, moved, window)
    return cross / (product + eps).sqrt()


def _local_moments(fixed: Tensor, moved: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Return the covariance and the product of the variances in the box around every voxel."""
    fixed, moved = _pair(fixed, moved)
    if window < 1 or window % 2 == 0:
        raise ValueError(f"the window is an odd number of voxels, not {window}")
    # The variance is a difference of squares. Nearer to zero, less of it is lost to rounding; nothing else changes.
    fixed = fixed - fixed.detach().mean((1, 2, 3, 4), keepdim=True)
    moved = moved - moved.detach().mean((1, 2, 3, 4), keepdim=True)
    mean_fixed, mean_moved = _box_mean(fixed, window), _box_mean(moved, window)
    variance_fixed = (_box_mean(fixed * fixed, window) - mean_fixed * mean_fixed).clamp(min=0)
    variance_moved = (_box_mean(moved * moved, window) - mean_moved * mean_moved).clamp(min=0)
    cross = _box_mean(fixed * moved, window) - mean_fixed * mean_moved
    return cross, variance_fixed * variance_moved


def normalised_mutual_information(fixed: Tensor, moved: Tensor, bins: int = 32, mask: Tensor | None = None) -> Tensor:
    """Return minus ``(H(fixed) + H(moved)) / H(fixed, moved)``, the mean over the cases: -2 at best, -1 at worst.

    The joint histogram is estimated with cubic B-spline windows for both images, four bins wide, so that it can be
    differentiated with respect to both. The windows blur it: two equal images of evenly spread intensities reach about
    -1.5 with 32 bins, not -2. The range of each image is split evenly into bins, which makes the value independent of
    a linear change of either.

    Memory is O(voxels): the weights of all voxels in all bins are never held, they are computed anew for the gradient.

    Parameters
    ----------
    fixed, moved
        (B, 1, I, J, K), any intensities.
    bins
        Bins of each image, at least 4, of which one at either end only takes up the width of the window.
    mask
        (B or 1, 1, I, J, K) bool or weights from 0 to 1; voxels of weight 0 do not enter, neither in the range. A case
        with an empty mask counts as 0.

    Returns
    -------
    Tensor
        Scalar.

    Raises
    ------
    ValueError
        When the shapes differ or are not of five axes, or there are fewer than 4 bins.
    """
    fixed, moved = _pair(fixed, moved)
    if bins < 4:
        raise ValueError(f"a joint histogram has at least 4 bins, not {bins}")
    masks = [None] * len(fixed) if mask is None else list(mask.expand_as(fixed))
    terms = []
    for one, other, inside in zip(fixed.flatten(1), moved.flatten(1), masks, strict=True):
        weights = torch.ones_like(one) if inside is None else inside.flatten().to(one.dtype)
        if inside is not None:
            chosen = weights > 0
            one, other, weights = one[chosen], other[chosen], weights[chosen]  # noqa: PLW2901
        if not len(weights):
            terms.append(other.sum())
            continue
        with torch.autocast(device_type=fixed.device.type, enabled=False):
            joint = _joint_histogram(one, other, weights, bins)
        terms.append((_entropy(joint.sum(1)) + _entropy(joint.sum(0))) / _entropy(joint))
    return -torch.stack(terms).mean()


def mind_ssc(image: Tensor, radius: int = 2, dilation: int = 2) -> Tensor:
    """Return the self-similarity context of every voxel: how alike the patches around it are, whatever their contrast.

    The six neighbours at distance ``dilation`` along the axes form twelve pairs that do not face each other (distance
    ``sqrt(2) dilation``). A channel is ``exp(-(D - min D) / V)``, with ``D`` the mean squared difference of the two
    patches of a pair and ``V`` the mean of ``D - min D`` over the pairs. So a channel is from 0 to 1, at least one is 1
    at every voxel, and an affine change of the intensities changes nothing, inversion included.

    Not given in the paper, our choices: the least ``D`` is taken off before ``V``; ``V`` is kept within a thousandth
    and a thousand times its mean over the case (else noise in flat regions weighs as much as anatomy); the image goes
    on beyond its border with its last value, patches are cut off there; and the order of the channels: pairs of (-I,
    +I, -J, +J, -K, +K) in lexical order.

    Parameters
    ----------
    image
        (B, 1, I, J, K), any intensities.
    radius
        Of the patches in voxels; a patch is a cube of ``2 radius + 1``.
    dilation
        Distance of the neighbours in voxels.

    Returns
    -------
    Tensor
        (B, 12, I, J, K), float32, or float64 where the image is.

    Raises
    ------
    ValueError
        When the image has not five axes and one channel, ``radius`` is negative or ``dilation`` not positive.
    """
    if image.ndim != 5 or image.shape[1] != 1:
        raise ValueError(f"the image is (B, 1, I, J, K), not {tuple(image.shape)}")
    if radius < 0 or dilation < 1:
        raise ValueError(f"radius {radius} and dilation {dilation} make no neighbourhood")
    image = _at_least_single(image)
    padded = F.pad(image, [dilation] * 6, mode="replicate")
    neighbours = []
    for axis, sign in itertools.product(range(3), (-1, 1)):
        starts = [dilation + sign * dilation * (axis == other) for other in range(3)]
        shifted = padded
        for other, start in enumerate(starts):
            shifted = shifted.narrow(2 + other, start, image.shape[2 + other])
        neighbours.append(shifted)
    # Neighbours 2a and 2a + 1 lie on the same axis and face each other.
    pairs = [(a, b) for a, b in itertools.combinations(range(6), 2) if a // 2 != b // 2]
    distance = torch.cat([_box_mean((neighbours[a] - neighbours[b]).square(), 2 * radius + 1) for a, b in pairs], 1)
    distance = distance - distance.amin(1, keepdim=True)
    variance = distance.mean(1, keepdim=True)
    usual = variance.detach().mean((1, 2, 3, 4), keepdim=True)
    usual = torch.where(usual > 0, usual, 1.0)
    return torch.exp(-distance / variance.clamp(min=1e-3 * usual, max=1e3 * usual))


def mind_ssc_loss(
    fixed: Tensor, moved: Tensor, radius: int = 2, dilation: int = 2, mask: Tensor | None = None
) -> Tensor:
    """Return the mean squared difference of the :func:`mind_ssc` of two images, over channels and voxels; 0 at best.

    Parameters
    ----------
    fixed, moved
        (B, 1, I, J, K), of any modalities and intensities.
    radius, dilation
        As for :func:`mind_ssc`.
    mask
        As for :func:`local_ncc`.

    Raises
    ------
    ValueError
        When the shapes differ, or as :func:`mind_ssc` does.
    """
    fixed, moved = _pair(fixed, moved)
    difference = mind_ssc(fixed, radius, dilation) - mind_ssc(moved, radius, dilation)
    return _mean_inside(difference.square().mean(1, keepdim=True), mask)


def _pair(fixed: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
    if fixed.shape != moved.shape or fixed.ndim != 5:
        raise ValueError(
            f"both images are (B, 1, I, J, K) of one shape, not {tuple(fixed.shape)} and {tuple(moved.shape)}"
        )
    return _at_least_single(fixed), _at_least_single(moved)


def _at_least_single(image: Tensor) -> Tensor:
    return image if image.dtype == torch.float64 else image.float()


def _box_mean(image: Tensor, window: int) -> Tensor:
    """Mean over a cube of ``window`` voxels, of those of its voxels that lie in the image; axis by axis."""
    # The band matrix is seven times as fast as pooling on a CPU. Elsewhere products of matrices may be set to TF32 for
    # the sake of the network, which is not enough for a variance.
    mean_along = _band_mean if image.device.type == "cpu" else _pooled_mean
    for axis in (2, 3, 4):
        image = mean_along(image, window // 2, axis)
    return image


def _band_mean(image: Tensor, reach: int, axis: int) -> Tensor:
    places = torch.arange(image.shape[axis], device=image.device)
    near = ((places[:, None] - places).abs() <= reach).to(image.dtype)
    with torch.autocast(device_type=image.device.type, enabled=False):
        return (image.movedim(axis, -1) @ (near / near.sum(0))).movedim(-1, axis)


def _pooled_mean(image: Tensor, reach: int, axis: int) -> Tensor:
    # Padded by hand, since the pooling's own padding takes no axis that is shorter than the window.
    pads = [reach * (axis == padded) for padded in (4, 4, 3, 3, 2, 2)]
    kernel = [2 * reach + 1 if axis == summed else 1 for summed in (2, 3, 4)]
    ones = image.new_ones([image.shape[axis] if axis == filled else 1 for filled in range(5)])
    return F.avg_pool3d(F.pad(image, pads), kernel, 1) / F.avg_pool3d(F.pad(ones, pads), kernel, 1)


def _mean_inside(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of a map (B, 1, I, J, K) under the weights of a mask in each case, then over the cases."""
    if mask is None:
        return values.mean()
    weights = mask.to(values.dtype).expand_as(values).flatten(1)
    whole = weights.sum(1)
    return ((values.flatten(1) * weights).sum(1) / torch.where(whole > 0, whole, 1.0)).mean()


def _joint_histogram(fixed: Tensor, moved: Tensor, weights: Tensor, bins: int) -> Tensor:
    """Return the (bins, bins) probabilities of pairs of intensities (N,), the first index that of the fixed image."""
    one, other = _in_bins(fixed, bins), _in_bins(moved, bins)
    parts = [
        checkpoint(_weights_of_pairs, *part, bins, use_reentrant=False, preserve_rng_state=False)
        for part in zip(one.split(CHUNK), other.split(CHUNK), weights.split(CHUNK), strict=True)
    ]
    return torch.stack(parts).sum(0) / weights.sum()


def _in_bins(values: Tensor, bins: int) -> Tensor:
    """Return positions from 1 to ``bins - 2``, where a window two bins to either side keeps all of its weight."""
    low, high = values.detach().aminmax()
    width = torch.where(high > low, high - low, 1.0)
    return 1 + (values - low) * ((bins - 3) / width)


def _weights_of_pairs(one: Tensor, other: Tensor, weights: Tensor, bins: int) -> Tensor:
    return (_windows(one, bins) * weights[:, None]).T @ _windows(other, bins)


def _windows(positions: Tensor, bins: int) -> Tensor:
    """Return the cubic B-spline weights (N, bins) of positions (N,) from 1 to ``bins - 2``; each row sums to 1."""
    first = positions.detach().floor().long().clamp(max=bins - 3) - 1
    near = first[:, None] + torch.arange(4, device=positions.device)
    distance = (positions[:, None] - near).abs()
    outer, inner = (2 - distance).clamp(min=0), (1 - distance).clamp(min=0)
    weights = (outer * outer * outer - 4 * inner * inner * inner) / 6
    # Four bins a voxel are computed, the others are zero.
    return weights.new_zeros((len(positions), bins)).scatter(1, near, weights)


def _entropy(probabilities: Tensor) -> Tensor:
    # The floor keeps the gradient of an empty bin finite: with an infinite one, 0 times it is not a number.
    return -(probabilities * probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()).sum()
