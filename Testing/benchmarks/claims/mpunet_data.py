"""What the claim of MPU-Net is tried on: phantoms whose labels hang on a distant cue, and real hippocampi."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.models import Normalize
from medseg.volumes import read_labelmap, read_volume

NOISE = 0.2
CUE = (slice(3, 9), slice(2, 6), slice(2, 6))
"""Where the cue lies: a cube of 6 x 4 x 4 voxels near the first end of the long axis."""

NEAR, FAR = (30.0, 80.0), (156.0, 186.0)
"""Where the middles of the blobs lie along the long axis."""

SHAPE = (192, 8, 8)


@dataclass(frozen=True)
class Scene:
    """An image (I, J, K) with blobs that are of class 1 when its cue is dark and of class 2 when it is bright.

    ``image`` is float32, ``classes`` uint8.
    """

    image: np.ndarray
    classes: np.ndarray

    def part(self, reach: tuple[float, float]) -> tuple[slice, ...]:
        """Return where the blobs lie whose middles are in ``reach``: no other blob reaches there."""
        return (slice(int(reach[0]) - 4, int(reach[1]) + 5),)


def draw_pair(rng: np.random.Generator) -> tuple[Scene, Scene]:
    """Return two scenes that differ in their cue only, so that nothing but the cue tells one from the other.

    Blobs in FAR are at least 145 voxels behind the cue, further than the convolutions of an MPU-Net reach (129 voxels,
    measured with positive weights in double precision).
    """
    grid = np.indices(SHAPE).astype(np.float64)
    image = rng.normal(0, NOISE, SHAPE).astype(np.float32)
    blobs = np.zeros(SHAPE, bool)
    for low, high in (NEAR, NEAR, FAR, FAR):
        while True:
            middle, radius = rng.uniform([low, 2, 2], [high, 6, 6]), rng.uniform(2, 3.2)
            blob = ((grid - middle[:, None, None, None]) ** 2).sum(0) <= radius**2
            if not (blob & blobs).any():
                break
        blobs |= blob
    image[blobs] += 1
    scenes = []
    for label, contrast in ((1, -2.0), (2, 2.0)):
        shown = image.copy()
        shown[CUE] += contrast
        scenes.append(Scene(shown, (blobs * label).astype(np.uint8)))
    return scenes[0], scenes[1]


def read_hippocampi(folder: Path, limit: int | None = None) -> list[Scene]:
    """Return the hippocampi in ``folder``, ordered by name: mean 0 and standard deviation 1, classes 0 to 2."""
    cases = []
    paths = sorted(path for path in folder.glob("hippocampus_*.nii.gz") if "_label" not in path.name)
    for path in paths[:limit]:
        label = path.with_name(path.name.replace(".nii.gz", "_label.nii.gz"))
        image = Normalize().apply(read_volume(path).array)
        cases.append(Scene(_ijk(image, np.float32), _ijk(read_labelmap(label).array, np.uint8)))
    return cases


def _ijk(array: np.ndarray, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(2, 1, 0), dtype=dtype)


def random_patch(case: Scene, size: tuple[int, int, int], rng: np.random.Generator) -> Scene:
    """Return a part of a case at a random place; where the case is smaller, it lies in zeros at a random place."""
    image, classes = np.zeros(size, np.float32), np.zeros(size, np.uint8)
    here, there = [], []
    for want, have in zip(size, case.image.shape, strict=True):
        start = int(rng.integers(min(have - want, 0), max(have - want, 0) + 1))
        there.append(slice(max(start, 0), min(start + want, have)))
        here.append(slice(there[-1].start - start, there[-1].stop - start))
    image[tuple(here)] = case.image[tuple(there)]
    classes[tuple(here)] = case.classes[tuple(there)]
    return Scene(image, classes)
