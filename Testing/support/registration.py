"""A small head-like volume and known transforms of it."""

from __future__ import annotations

import math

import numpy as np

from medseg.registration import DisplacementField, SpatialTransform
from medseg.volumes import Geometry, Volume


def a_head(shape: tuple[int, int, int] = (40, 48, 44), spacing: tuple[float, float, float] = (4.0, 4.0, 4.0)) -> Volume:
    """Ellipsoids of different brightness, none of them symmetric, with a little noise: (k, j, i), float32."""
    geometry = Geometry.from_spacing(shape, spacing)
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    image = np.zeros(shape)
    rng = np.random.default_rng(7)
    image[(k / 0.8) ** 2 + (j / 0.85) ** 2 + (i / 0.7) ** 2 < 1] = 0.4
    for _ in range(14):
        place, size = rng.uniform(-0.5, 0.5, 3), rng.uniform(0.08, 0.3, 3)
        inside = sum(((x - p) / s) ** 2 for x, p, s in zip((k, j, i), place, size, strict=True)) < 1
        image[inside] = rng.uniform(0.1, 1)
    return Volume((image + rng.normal(0, 0.01, shape)).astype(np.float32), geometry)


def a_turn(degrees: float, shift: tuple[float, float, float]) -> SpatialTransform:
    """A rotation about the axis of the body and a shift, RAS mm."""
    angle = math.radians(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    matrix[:3, 3] = shift
    return SpatialTransform((matrix,))


def a_smooth_warp(geometry: Geometry, millimetres: float = 9.0) -> SpatialTransform:
    k, j, i = np.meshgrid(*(np.linspace(0, np.pi, n) for n in geometry.shape), indexing="ij")
    waves = [
        np.sin(2 * k) * np.sin(j) * np.sin(2 * i),
        np.sin(k) * np.sin(2 * j) * np.sin(i),
        np.sin(k) * np.sin(j) * np.sin(2 * i),
    ]
    return SpatialTransform((DisplacementField(millimetres * np.stack(waves, axis=-1), geometry),))


def moved(volume: Volume, transform: SpatialTransform) -> Volume:
    """Return the moving volume to which ``transform`` leads from ``volume``."""
    return transform.inverse(volume.geometry)[0].resample(volume, volume.geometry)


def inner_points(geometry: Geometry) -> np.ndarray:
    index = np.random.default_rng(0).uniform(0.3, 0.7, (200, 3)) * np.asarray(geometry.size)
    return geometry.ijk_to_ras_points(index)


def distance(found: SpatialTransform, known: SpatialTransform, geometry: Geometry) -> float:
    """Return the mean distance in mm between where two transforms take points inside the head."""
    points = inner_points(geometry)
    return float(np.linalg.norm(found.apply(points) - known.apply(points), axis=1).mean())
