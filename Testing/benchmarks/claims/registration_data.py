"""What the claims on registration are tried on: pairs of random anatomies, painted in two contrasts, with known warps.

An anatomy is a body in a background, divided into smooth regions. The fixed image shows it warped by half a velocity
field, the moving one by the other half backwards, so that the displacement that brings them together is known: the
exponential of the whole velocity. Labels come from the warped scores of the regions and not from warped labels, so they
are exact on both grids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from medseg.networks.spatial import exponential, warp

REGIONS = 6
"""Labels 1 to this; 0 is the background."""

_PARTIAL_VOLUME = 0.6
"""Standard deviation in voxels of the blur between regions."""


@dataclass(frozen=True)
class Contrast:
    """How an anatomy looks: the intensity of each label, background first, and the weight of the regions' texture."""

    levels: tuple[float, ...]
    texture: float


A = Contrast((0.0, 0.55, 0.30, 0.85, 0.45, 0.70, 0.20), 0.06)
B = Contrast((0.0, 0.40, 0.90, 0.25, 0.65, 0.15, 0.75), -0.04)


@dataclass(frozen=True)
class Kind:
    """A kind of pairs.

    Attributes
    ----------
    shape
        (I, J, K); an axis of one voxel makes a picture of two dimensions, in which nothing moves along that axis.
    reach
        Least and most of the largest displacement of a pair, voxels.
    fixed, moving
        Contrast of each image.
    noise
        Standard deviation of the noise of every voxel.
    bias
        Standard deviation of the logarithm of a smooth shading.
    """

    shape: tuple[int, int, int]
    reach: tuple[float, float]
    fixed: Contrast = A
    moving: Contrast = A
    noise: float = 0.02
    bias: float = 0.05


@dataclass(frozen=True)
class Pair:
    """Two images of one anatomy.

    Attributes
    ----------
    fixed, moving
        (1, 1, I, J, K) float32, 0 to 1.
    fixed_labels, moving_labels
        (1, 1, I, J, K) uint8, 0 to ``REGIONS``.
    displacement
        (1, 3, I, J, K), voxels: pulls the moving image back onto the fixed one.
    """

    fixed: Tensor
    moving: Tensor
    fixed_labels: Tensor
    moving_labels: Tensor
    displacement: Tensor


def draw_pairs(kind: Kind, count: int, rng: np.random.Generator) -> list[Pair]:
    """Return ``count`` pairs, each of an anatomy of its own."""
    return [draw_pair(kind, rng) for _ in range(count)]


def draw_pair(kind: Kind, rng: np.random.Generator) -> Pair:
    """Return a pair of the kind; the generator's state decides on everything."""
    scores, texture = _anatomy(kind.shape, rng)
    velocity = _velocity(kind, rng)
    whole = torch.cat([scores, texture], dim=1)
    images, labels = [], []
    for half, contrast in ((velocity / 2, kind.fixed), (-velocity / 2, kind.moving)):
        seen = warp(whole, exponential(half))
        labels.append(seen[:, :-1].argmax(1, keepdim=True).to(torch.uint8))
        images.append(_painted(labels[-1], seen[:, -1:], contrast, kind, rng))
    return Pair(images[0], images[1], labels[0], labels[1], exponential(velocity))


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], scale: float) -> np.ndarray:
    """Return noise (*shape), float32, of mean 0 and deviation 1, smoothed by a Gaussian of ``scale`` voxels."""
    noise = ndimage.gaussian_filter(rng.normal(size=shape), scale, mode="reflect")
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


def _anatomy(shape: tuple[int, int, int], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return the scores of the labels (1, 1 + REGIONS, I, J, K), the highest of which wins, and a texture."""
    size = max(shape)
    axes = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape]
    radius = np.sqrt(sum(np.square(axis / rng.uniform(0.95, 1.15)) for axis in np.ix_(*axes)))
    regions = [smooth_noise(rng, shape, size / 9) for _ in range(REGIONS)]
    background = 12 * (radius - 1) + smooth_noise(rng, shape, size / 8) + 1.5
    scores = np.stack([background.astype(np.float32), *regions])
    return torch.from_numpy(scores)[None], torch.from_numpy(smooth_noise(rng, shape, 1.2))[None, None]


def _velocity(kind: Kind, rng: np.random.Generator) -> Tensor:
    """Return a smooth velocity (1, 3, I, J, K), voxels, along which no point travels further than the reach."""
    moving = [n > 1 for n in kind.shape]
    field = np.stack([smooth_noise(rng, kind.shape, max(kind.shape) / 6) * free for free in moving])
    largest = np.sqrt(np.square(field).sum(0)).max()
    return torch.from_numpy((field * (rng.uniform(*kind.reach) / largest)).astype(np.float32))[None]


def _painted(labels: Tensor, texture: Tensor, contrast: Contrast, kind: Kind, rng: np.random.Generator) -> Tensor:
    classes = labels[0, 0].numpy()
    image = np.asarray(contrast.levels, np.float32)[classes] + contrast.texture * texture[0, 0].numpy() * (classes > 0)
    blur = [_PARTIAL_VOLUME if n > 1 else 0 for n in kind.shape]
    image = ndimage.gaussian_filter(image, blur)
    image = image * np.exp(kind.bias * smooth_noise(rng, kind.shape, max(kind.shape) / 3))
    image = image + rng.normal(0, kind.noise, kind.shape)
    return torch.from_numpy(np.clip(image, 0, 1).astype(np.float32))[None, None]
