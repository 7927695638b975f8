"""A synthetic heart with a known left atrium, for a demonstration and for tests without patient data.

The picture imitates a late-gadolinium cardiac MR: bright blood, dark lungs, grey muscle and mediastinum, a thin dark
wall around the atrium, the shading of a surface coil and the Rician noise of a magnitude image. Every shape is an
analytic one (ellipsoids and tapering tubes of adult size, our choice); nothing is taken from a patient.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from medseg.volumes import Geometry, Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    Field = np.ndarray
    Point = tuple[float, float, float]

# Signal relative to the blood pool of the atrium, as late-gadolinium images roughly show it.
_LUNG, _MEDIASTINUM, _MUSCLE, _WALL, _LIVER, _MARROW, _CORTEX = 0.14, 0.47, 0.60, 0.40, 0.80, 0.22, 0.50
_BLOOD_LEVEL = 110.0  # stored value of the atrium's blood, in a range of 0 to 255

# Readers draw the border of the atrium a little inside the bright pool, whose edge partial volume blurs.
_RIM = 1.2

# The centre of the atrium as a fraction of the field of view (left, posterior, superior).
_CENTRE = (0.54, 0.49, 0.54)

# A point on the mitral annulus plane and the plane's normal, which points into the left ventricle.
_MITRAL_CENTRE: Point = (19.0, -11.0, -8.0)
_MITRAL_NORMAL: Point = (0.78, -0.52, -0.34)


def left_atrium_phantom(
    seed: int = 0,
    *,
    shape_mm: tuple[float, float, float] = (120.0, 90.0, 55.0),
    spacing: tuple[float, float, float] = (1.25, 1.25, 1.25),
) -> tuple[Volume, Volume]:
    """Return a synthetic cardiac MR volume and its true left atrium.

    Parameters
    ----------
    seed
        Chooses the sizes (a few per cent around an adult's), the texture, the coil shading and the noise.
    shape_mm
        Field of view in mm along left, posterior and superior.
    spacing
        Voxel size in mm along the same axes. The default makes a small volume (96 x 72 x 44 voxels).

    Returns
    -------
    image, truth
        ``image``: int16, (k, j, i), 0 to 255, modality "MR". ``truth``: uint8 on the same grid, 1 = left atrium with
        the stumps of four pulmonary veins and the appendage, cut at the mitral plane. Orientation "LPS".
    """
    rng = np.random.default_rng(seed)
    shape = tuple(max(1, round(extent / step)) for extent, step in zip(shape_mm, spacing, strict=True))[::-1]
    geometry = Geometry.from_spacing(shape, spacing, origin=(0.0, 0.0, 0.0), orientation="LPS")
    points = _grid(shape, shape_mm, spacing)
    size = 1.0 + 0.04 * rng.uniform(-1.0, 1.0)
    atrium = _atrium(points / size, rng) * size

    edge = float(max(spacing))
    signal = _surroundings(points / size, edge / size, rng)
    signal = _paint(signal, atrium - _RIM - 1.8, _WALL, edge)
    signal = _paint(signal, _left_ventricle(points / size) * size, 0.95, edge)
    signal = _paint(signal, atrium - _RIM, 1.0, 1.6 * edge)
    signal = _paint(signal, _leaflets(points / size) * size, 0.7, edge)

    signal = signal * (1.0 + 0.10 * _smooth_noise(rng, points, 3.0))
    signal = signal * np.exp(0.13 * _smooth_noise(rng, points, 70.0) - 0.0016 * points[1])
    stored = np.clip(np.rint(_BLOOD_LEVEL * _rician(rng, signal, 0.06)), 0, 255).astype(np.int16)
    image = Volume(stored, geometry, name="Synthetic cardiac MR", modality="MR")
    truth = Volume((atrium < 0).astype(np.uint8), geometry, name="Left atrium (truth)")
    return image, truth


def _grid(shape: Sequence[int], shape_mm: Sequence[float], spacing: Sequence[float]) -> Field:
    """Return the (3, k, j, i) voxel centres in mm: left, posterior and superior of the atrium's centre."""
    axes = [
        (np.arange(count) + 0.5) * step - centre * extent
        for count, step, centre, extent in zip(shape[::-1], spacing, _CENTRE, shape_mm, strict=True)
    ]
    superior, posterior, left = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
    return np.stack([left, posterior, superior]).astype(np.float32)


def _atrium(points: Field, rng: np.random.Generator) -> Field:
    """Return the signed distance (mm, negative inside) to the atrium with veins and appendage, cut at the valve."""

    def near(point: Point) -> Point:
        left, posterior, superior = rng.normal(point, 0.8)
        return float(left), float(posterior), float(superior)

    body = _blend(
        [
            _ellipsoid(points, (0.0, 1.0, 0.0), (31.0, 18.0, 17.0), turn=-0.22),
            _ellipsoid(points, (10.0, -5.0, -6.0), (17.0, 14.0, 15.0)),
        ],
        softness=1.6,
    )
    return _blend(
        [
            np.maximum(body, _plane(points, _MITRAL_CENTRE, _MITRAL_NORMAL)),
            _tube(points, near((-22.0, -1.0, 7.0)), near((-46.0, 2.0, 15.0)), 7.5, 5.5),  # right superior vein
            _tube(points, near((-22.0, 8.0, -5.0)), near((-44.0, 17.0, -8.0)), 7.5, 5.5),  # right inferior vein
            _tube(points, near((20.0, 3.0, 8.0)), near((37.0, 11.0, 20.0)), 7.5, 5.5),  # left superior vein
            _tube(points, near((22.0, 6.0, -1.0)), near((41.0, 20.0, 0.0)), 7.0, 5.0),  # left inferior vein
            _tube(points, near((23.0, -6.0, 10.0)), near((38.0, -20.0, 19.0)), 6.5, 5.0),  # appendage
        ],
        softness=1.6,
    )


def _left_ventricle(points: Field) -> Field:
    """Return the signed distance (mm) to the blood of the left ventricle, which begins at the mitral plane."""
    beyond = -_plane(points, _MITRAL_CENTRE, _MITRAL_NORMAL)
    chamber = _tube(points, (20.0, -13.0, -8.0), (56.0, -54.0, -24.0), 13.5, 26.0)
    return np.maximum(chamber, beyond)


def _leaflets(points: Field) -> Field:
    """Return the signed distance (mm) to the thin leaflets of the mitral valve."""
    around = _ellipsoid(points, _MITRAL_CENTRE, (15.0, 15.0, 15.0))
    return np.maximum(np.abs(_plane(points, _MITRAL_CENTRE, _MITRAL_NORMAL) - 1.2) - 0.7, around)


def _surroundings(points: Field, edge: float, rng: np.random.Generator) -> Field:
    """Return the relative signal of everything around the left heart; ``edge`` is the softness of borders in mm."""
    signal: Field = _LUNG * (1.0 + 0.6 * _smooth_noise(rng, points, 5.0))
    for start, end in (((-40, 10, 4), (-70, 28, 8)), ((-44, 16, -12), (-66, 36, -30)), ((44, 20, 2), (64, 34, -12))):
        signal = _paint(signal, _tube(points, start, end, 4.0, 1.5), 0.8, edge)  # vessels of the lungs

    mediastinum = _blend(
        [
            _ellipsoid(points, (6.0, -24.0, -14.0), (58.0, 36.0, 52.0)),
            _ellipsoid(points, (-4.0, -8.0, 14.0), (46.0, 34.0, 34.0)),
            _tube(points, (-6.0, 24.0, -50.0), (-6.0, 24.0, 50.0), 24.0, 24.0),
        ],
        softness=5.0,
    )
    uneven = 1.0 + 0.22 * _smooth_noise(rng, points, 6.0)
    signal = _paint(signal, mediastinum, _MEDIASTINUM * uneven, 2 * edge)
    signal = _paint(signal, _ellipsoid(points, (-58.0, -34.0, -58.0), (56.0, 50.0, 36.0)), _LIVER, 2 * edge)
    heart = _ellipsoid(points, (10.0, -32.0, -20.0), (54.0, 30.0, 36.0), turn=-0.3)
    signal = _paint(signal, heart, _MUSCLE * uneven, 2 * edge)

    signal = _paint(signal, _ellipsoid(points, (4.0, 22.0, 2.0), (7.0, 4.5, 60.0)), 0.42, edge)  # oesophagus

    for path, radius in (
        (((-29.0, -22.0, 10.0), (-32.0, -20.0, 60.0)), 8.0),  # superior vena cava
        (((4.0, -31.0, -14.0), (0.0, -34.0, 6.0), (-8.0, -33.0, 40.0)), 13.0),  # ascending aorta
        (((24.0, -48.0, 0.0), (20.0, -34.0, 20.0), (16.0, -14.0, 29.0), (26.0, 10.0, 30.0)), 10.5),  # pulmonary trunk
        (((16.0, -18.0, 28.0), (-14.0, -12.0, 27.0), (-46.0, -2.0, 24.0)), 8.0),  # right pulmonary artery
        (((9.0, 29.0, -60.0), (10.0, 29.0, 60.0)), 10.5),  # descending aorta
    ):
        distance = np.minimum.reduce([_tube(points, a, b, radius, radius) for a, b in itertools.pairwise(path)])
        signal = _paint(signal, distance - 1.6, _WALL, edge)
        signal = _paint(signal, distance, 0.98, edge)
    for chamber in (
        _ellipsoid(points, (-27.0, -27.0, -14.0), (21.0, 17.0, 28.0)),  # right atrium
        _ellipsoid(points, (4.0, -48.0, -26.0), (36.0, 21.0, 28.0), turn=-0.25),  # right ventricle
        _tube(points, (-31.0, -16.0, -60.0), (-30.0, -16.0, -10.0), 11.0, 11.0),  # inferior vena cava
    ):
        signal = _paint(signal, chamber, 0.95, edge)

    vertebra = _tube(points, (-18.0, 36.0, -60.0), (-18.0, 36.0, 60.0), 17.0, 17.0)
    disc = np.abs((points[2] + 40.0) % 26.0 - 13.0) - 11.0
    signal = _paint(signal, vertebra, _CORTEX, edge)
    return _paint(signal, np.maximum(vertebra + 1.8, disc), _MARROW * uneven, edge)


def _paint(signal: Field, distance: Field, value: float | Field, edge: float) -> Field:
    """Lay ``value`` over ``signal`` where ``distance`` is negative; the border is ``edge`` mm wide (partial volume)."""
    cover = np.clip(0.5 - distance / edge, 0.0, 1.0)
    return signal + cover * (value - signal)


def _plane(points: Field, centre: Point, normal: Point) -> Field:
    direction = np.asarray(normal, dtype=np.float32)
    direction = direction / np.linalg.norm(direction)
    return np.tensordot(direction, points - _column(centre), axes=1)


def _ellipsoid(points: Field, centre: Point, radii: Point, turn: float = 0.0) -> Field:
    """Return the first-order distance f / |grad f| to an ellipsoid turned by ``turn`` radians about superior."""
    x, y, z = points - _column(centre)
    x, y = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    a, b, c = radii
    scaled = np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)
    steepness = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2 + (z / c**2) ** 2)
    return np.where(steepness > 0, scaled * (scaled - 1.0) / np.maximum(steepness, 1e-6), -min(radii))


def _tube(points: Field, start: Point, end: Point, start_radius: float, end_radius: float) -> Field:
    """Return the distance to a round-ended tube whose radius goes from ``start_radius`` to ``end_radius``."""
    first, axis = _column(start), _column(end) - _column(start)
    along = np.clip(((points - first) * axis).sum(0) / (axis * axis).sum(), 0.0, 1.0)
    offset = points - first - along * axis
    return np.sqrt((offset * offset).sum(0)) - (start_radius + along * (end_radius - start_radius))


def _blend(distances: Sequence[Field], softness: float) -> Field:
    """Return the union of shapes with fillets of about ``softness`` mm (a soft minimum of their distances)."""
    stacked = np.stack(distances)
    lowest = stacked.min(0)
    return lowest - softness * np.log(np.exp(-(stacked - lowest) / softness).sum(0))


def _column(point: Point) -> Field:
    return np.asarray(point, dtype=np.float32).reshape(3, 1, 1, 1)


def _smooth_noise(rng: np.random.Generator, points: Field, scale_mm: float) -> Field:
    """Return noise of about unit deviation that changes over ``scale_mm``: random knots, interpolated linearly."""
    noise = None
    axes = [points[0][0, 0, :], points[1][0, :, 0], points[2][:, 0, 0]]
    knots = [int(np.ptp(axis) / scale_mm) + 2 for axis in axes]
    noise = rng.normal(size=knots[::-1])
    for numpy_axis, (axis, count) in zip((2, 1, 0), zip(axes, knots, strict=True), strict=True):
        position = np.clip((axis - axis[0]) / scale_mm, 0.0, count - 1.0)
        lower = np.minimum(position.astype(int), count - 2)
        shape = [1, 1, 1]
        shape[numpy_axis] = -1
        weight = (position - lower).reshape(shape)
        noise = np.take(noise, lower, numpy_axis) * (1 - weight) + np.take(noise, lower + 1, numpy_axis) * weight
    return noise.astype(np.float32)


def _rician(rng: np.random.Generator, signal: Field, deviation: float) -> Field:
    """Return the magnitude of ``signal`` with complex Gaussian noise of the given deviation in each channel."""
    real = signal + rng.normal(0.0, deviation, signal.shape)
    imaginary = rng.normal(0.0, deviation, signal.shape)
    return np.hypot(real, imaginary)
