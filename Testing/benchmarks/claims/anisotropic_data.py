"""Volumes with slices at chosen distances: phantoms whose slices alone are ambiguous, and real left atria.

The phantoms follow the claim "spacing robustness" of TSFMUNet: nodules (spheres, label 1) and vessels (tubes along z,
label 0) that look the same in every single slice, so that only neighbouring slices tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SMALLEST_DISC_MM = 1.0
"""Discs of a smaller radius are not drawn, of spheres and tubes alike."""

_NOISE = 0.25
_GAP_MM = 1.0


@dataclass(frozen=True)
class Stack:
    """Slices with their labels: image (I, J, K) float32, classes (I, J, K) uint8, spacing in mm along I, J, K."""

    image: np.ndarray
    classes: np.ndarray
    spacing: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """A phantom before it is cut into slices.

    ``spheres`` are rows (x, y, z, radius) and ``tubes`` rows (x, y, radius), all in mm; the plane is ``width`` mm wide
    in both directions, and z runs from 0 to ``height``.
    """

    width: float
    height: float
    spheres: np.ndarray
    tubes: np.ndarray


def draw_scene(rng: np.random.Generator, *, width: float = 64.0, discs: float = 3.5) -> Scene:
    """Return a scene of 40 to 100 mm height with about ``discs`` tubes, and as many spheres, in each slice.

    Spheres have diameters of 4 to 12 mm. The radius of a tube is that of a slice through a random sphere, chosen with
    the probability that a slice meets it, so that discs of spheres and of tubes have radii of the same distribution.
    """
    height = float(rng.uniform(40, 100))
    tubes: list[tuple[float, float, float]] = []
    for _ in range(max(round(discs + rng.uniform(-1, 1)), 1)):
        radius = _radius_of_a_slice(rng)
        place = _free_place(rng, width, radius, height, [], tubes)
        if place is not None:
            tubes.append((place[0], place[1], radius))
    spheres: list[tuple[float, float, float, float]] = []
    for _ in range(round(len(tubes) * height / 8.0)):  # 8 mm is the mean diameter
        radius = float(rng.uniform(2, 6))
        place = _free_place(rng, width, radius, height, spheres, tubes)
        if place is not None:
            spheres.append((*place, radius))
    return Scene(width, height, np.array(spheres).reshape(-1, 4), np.array(tubes).reshape(-1, 3))


def cut(scene: Scene, slice_spacing: float, rng: np.random.Generator) -> Stack:
    """Return the slices of ``scene`` at 1 mm in the plane and ``slice_spacing`` mm through it.

    Slices are thin: what lies between two of them is not seen, so that a disc looks alike at any slice spacing. Discs
    have the value 1 and edges one pixel wide, the rest 0; noise has the standard deviation 0.25.
    """
    pixels, slices = round(scene.width), max(int(scene.height / slice_spacing), 1)
    heights = (np.arange(slices) + 0.5) * slice_spacing
    grid = np.arange(pixels) + 0.5
    image = np.zeros((pixels, pixels, slices), np.float32)
    classes = np.zeros(image.shape, np.uint8)

    def draw(x: float, y: float, radius: float, where: int | slice, label: int) -> None:
        distance = np.hypot(grid[:, None] - x, grid[None, :] - y)
        disc = np.clip(radius - distance + 0.5, 0, 1).astype(np.float32)
        shape = (*disc.shape, *([1] if isinstance(where, slice) else []))
        image[..., where] = np.maximum(image[..., where], disc.reshape(shape))
        if label:
            classes[..., where][disc >= 0.5] = label

    for x, y, radius in scene.tubes:
        draw(x, y, radius, slice(None), 0)
    for x, y, z, radius in scene.spheres:
        for index in np.flatnonzero(np.abs(heights - z) < radius):
            section = math.sqrt(radius**2 - (heights[index] - z) ** 2)
            if section >= SMALLEST_DISC_MM:
                draw(x, y, section, int(index), 1)
    image += rng.normal(0, _NOISE, image.shape).astype(np.float32)
    return Stack(image, classes, (1.0, 1.0, slice_spacing))


def _radius_of_a_slice(rng: np.random.Generator) -> float:
    while True:
        radius = rng.uniform(2, 6)
        if rng.uniform(0, 6) > radius:  # a slice meets a sphere with a probability proportional to its diameter
            continue
        section = radius * math.sqrt(1 - rng.uniform(-1, 1) ** 2)
        if section >= SMALLEST_DISC_MM:
            return float(section)


def _free_place(
    rng: np.random.Generator,
    width: float,
    radius: float,
    height: float,
    spheres: Sequence[tuple[float, float, float, float]],
    tubes: Sequence[tuple[float, float, float]],
) -> tuple[float, float, float] | None:
    """Return a place for a sphere of that radius, clear of everything, or ``None`` when none was found."""
    for _ in range(50):
        x, y = rng.uniform(radius, width - radius, 2)
        z = rng.uniform(0, height)
        free = all(math.hypot(x - a, y - b) > radius + r + _GAP_MM for a, b, r in tubes) and all(
            math.dist((x, y, z), (a, b, c)) > radius + r + _GAP_MM for a, b, c, r in spheres
        )
        if free:
            return float(x), float(y), float(z)
    return None


IN_PLANE_BLOCK = 3
ATRIUM_PLANE = (80, 56)
"""Pixels along I and J that every left atrium is padded or cropped to; multiples of 8 for three poolings."""


@dataclass(frozen=True)
class Atrium:
    """A real case at 1.875 mm in the plane and its own slice spacing: image and class fractions (I, J, K), mm."""

    name: str
    image: np.ndarray
    fraction: np.ndarray
    spacing: tuple[float, float, float]


def read_atria(folder: Path, limit: int | None = None) -> list[Atrium]:
    """Return the left-atrium cases of ``folder``, sorted by name; at most ``limit``.

    Voxels are averaged in blocks of 3 x 3 in the plane (0.625 to 1.875 mm), intensities brought to mean 0 and standard
    deviation 1 over the case, the plane padded with zeros or cropped about its middle to 80 x 56.
    """
    from medseg.volumes import read_labelmap, read_volume

    atria = []
    for path in sorted(folder.glob("la_[0-9][0-9][0-9].nii.gz"))[:limit]:
        volume = read_volume(path)
        labels = read_labelmap(path.with_name(path.name.replace(".nii.gz", "_label.nii.gz")))
        image = volume.array_ijk.astype(np.float32)
        image = _blocks(_blocks((image - image.mean()) / image.std(), 0, IN_PLANE_BLOCK), 1, IN_PLANE_BLOCK)
        fraction = _blocks(_blocks((labels.array_ijk > 0).astype(np.float32), 0, IN_PLANE_BLOCK), 1, IN_PLANE_BLOCK)
        i, j, k = volume.geometry.spacing
        spacing = (i * IN_PLANE_BLOCK, j * IN_PLANE_BLOCK, k)
        atria.append(Atrium(path.name.split(".")[0], _placed(image), _placed(fraction), spacing))
    return atria


def thicken(atrium: Atrium, factor: int) -> Stack:
    """Return ``atrium`` with ``factor`` slices averaged into one; a voxel is atrium where at least half of it was.

    Slices at the end that make no whole block are left out.
    """
    image, fraction = (_blocks(part, 2, factor) for part in (atrium.image, atrium.fraction))
    i, j, k = atrium.spacing
    return Stack(np.ascontiguousarray(image), (fraction >= 0.5).astype(np.uint8), (i, j, k * factor))


def _blocks(array: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Return the means of blocks of ``size`` voxels along ``axis``; voxels that make no whole block are left out."""
    count = array.shape[axis] // size
    whole = np.take(array, np.arange(count * size), axis)
    return whole.reshape(*array.shape[:axis], count, size, *array.shape[axis + 1 :]).mean(axis + 1)


def _placed(array: np.ndarray) -> np.ndarray:
    for axis, wanted in enumerate(ATRIUM_PLANE):
        over = array.shape[axis] - wanted
        if over > 0:
            array = np.take(array, np.arange(over // 2, over // 2 + wanted), axis)
        elif over < 0:
            before = -over // 2
            array = np.pad(array, [(before, -over - before) if a == axis else (0, 0) for a in range(3)])
    return array
