"""Pairs whose right answer is known: a real volume, moved by a transform that was drawn.

The *fixed* volume is the one that is made, by resampling a real volume V with the transform: it shows at x what V shows
at ``warp(x)``. So the transform from fixed to moving is the drawn one itself, and no inverse, with its error, is
needed. The made volume is a little smoother than V; both get noise of their own afterwards.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from benchmarks.registration.appearance import as_ct, as_mr
from benchmarks.registration.pair import Pair
from medseg.metrics.deformation import jacobian_determinant
from medseg.registration import DisplacementField, SpatialTransform
from medseg.volumes import Geometry

if TYPE_CHECKING:
    from medseg.volumes import Volume

Kind = Literal["CT", "MR"]

MEAN_MM = 4.0
DEGREES, SHIFT_MM, STRETCH = 4.0, 5.0, 0.03
POINTS = 20_000
"""At most so many voxels of a body are measured."""
_WAVES, _SHORTEST_MM, _LONGEST_MM = 16, 60.0, 160.0
_GRID_MM = 3.0
_LEAST_JACOBIAN = 0.25
_TRIES = 20
_AIR_HU = -300.0
_LOOKS = {"CT": as_ct, "MR": as_mr}


def known_warp(geometry: Geometry, points: np.ndarray, seed: int, *, mean_mm: float = MEAN_MM) -> SpatialTransform:
    """Return a smooth random warp and then a small affine change about the middle of a grid, RAS mm.

    The warp is a sum of plane waves of 60 to 160 mm, drawn again until no voxel shrinks below a quarter of its volume.

    Parameters
    ----------
    geometry
        The grid of the volume that is to be warped; not sheared.
    points
        (N, 3) RAS mm, within the grid: what the warp moves by ``mean_mm`` on average.
    seed
        The same seed gives the same transform.

    Raises
    ------
    ValueError
        When so strong a warp would fold.
    """
    rng = np.random.default_rng(seed)
    affine = _small_affine(rng, np.asarray(geometry.center_ras))
    grid = geometry.with_spacing((_GRID_MM,) * 3).padded((2, 2, 2), (2, 2, 2))
    places = _voxels(grid)
    for _ in range(_TRIES):
        field = DisplacementField(_waves(rng, places), grid)
        mean = float(np.linalg.norm(SpatialTransform((field,)).apply(points) - points, axis=1).mean())
        field = DisplacementField(field.vectors * (mean_mm / mean), grid)
        if jacobian_determinant(field.to_voxels()).min() > _LEAST_JACOBIAN:
            return SpatialTransform((field, affine))
    raise ValueError(f"no warp of {mean_mm:g} mm was found that keeps a quarter of every voxel")


def warped_pair(
    source: Volume,
    seed: int,
    *,
    moving: Volume | None = None,
    alignment: SpatialTransform | None = None,
    kinds: tuple[Kind, Kind] = ("MR", "MR"),
) -> Pair:
    """Return a pair whose fixed volume is ``source`` after a known warp.

    Parameters
    ----------
    source
        A real volume.
    moving
        What it is registered to; ``None``: ``source`` as it is.
    alignment
        From points of ``source`` to the points of ``moving`` that show the same; ``None``: the same points.
    kinds
        How noise is added to the fixed and to the moving volume, and what is body in the fixed one.
    """
    rng = np.random.default_rng(seed + 1)
    inside = body(source, kinds[0])
    warp = known_warp(source.geometry, _some(inside, rng), seed)
    shown = warp.resample(source, source.geometry, "bspline", fill=float(source.array.min()))
    # Cubic splines overshoot at edges.
    shown = shown.with_array(np.clip(shown.array, source.array.min(), source.array.max()))
    points = _some(warp.resample(inside, source.geometry, "nearest"), rng)
    target = moving if moving is not None else source
    there = warp.then(alignment or SpatialTransform()).apply(points)
    index = target.geometry.ras_to_ijk_points(there)
    seen = ((index >= 0) & (index <= np.asarray(target.geometry.size) - 1)).all(1)
    return Pair(
        fixed=_LOOKS[kinds[0]](shown, rng),
        moving=_LOOKS[kinds[1]](target, rng),
        fixed_points=points[seen],
        moving_points=there[seen],
    )


def other_contrast(volume: Volume) -> Volume:
    """Return the volume as a made-up contrast: brightness through a curve that rises and falls, float32."""
    high = float(np.percentile(volume.array, 99.5))
    curve = np.interp(volume.array / high, [0, 0.1, 0.3, 0.5, 0.7, 0.85, 1], [0, 0.1, 0.95, 0.6, 0.75, 0.35, 0.2])
    return volume.with_array((high * curve).astype(np.float32))


def body(volume: Volume, kind: Kind) -> Volume:
    """Return where the patient is, uint8: the largest piece above -300 HU, or above Otsu's threshold, filled.

    That threshold is taken of the logarithm, so that dark tissue counts.
    """
    import SimpleITK as sitk

    image = volume.with_array(volume.array.astype(np.float32)).to_sitk()
    bright = image > _AIR_HU if kind == "CT" else sitk.OtsuThreshold(sitk.Log(sitk.Maximum(image, 0.0) + 1.0), 0, 1)
    pieces = sitk.RelabelComponent(sitk.ConnectedComponent(bright))
    filled = sitk.BinaryFillhole(sitk.BinaryMorphologicalClosing(pieces == 1, [2, 2, 1]))
    return volume.with_array(sitk.GetArrayFromImage(filled).astype(np.uint8))


def _small_affine(rng: np.random.Generator, centre: np.ndarray) -> np.ndarray:
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    angle = math.radians(DEGREES) * rng.uniform(0.5, 1)
    across = np.cross(np.eye(3), axis)
    turn = np.eye(3) + math.sin(angle) * across + (1 - math.cos(angle)) * across @ across
    shift = rng.normal(size=3)
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag(1 + rng.uniform(-STRETCH, STRETCH, 3))
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + SHIFT_MM * shift / np.linalg.norm(shift)
    return matrix


def _waves(rng: np.random.Generator, places: np.ndarray) -> np.ndarray:
    """Return the sum of some waves at places (k, j, i, 3); of no particular height."""
    total = np.zeros(places.shape)
    for _ in range(_WAVES):
        course, height = rng.normal(size=3), rng.normal(size=3)
        course *= 2 * np.pi / (rng.uniform(_SHORTEST_MM, _LONGEST_MM) * np.linalg.norm(course))
        total += np.sin(places @ course + rng.uniform(0, 2 * np.pi))[..., None] * height
    return total


def _voxels(geometry: Geometry) -> np.ndarray:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij")[::-1], axis=-1)
    return geometry.ijk_to_ras_points(index.astype(np.float64))


def _some(mask: Volume, rng: np.random.Generator) -> np.ndarray:
    """Return RAS points (N, 3) of voxels that the mask marks."""
    marked = np.argwhere(mask.array > 0)
    if len(marked) > POINTS:
        marked = marked[rng.choice(len(marked), POINTS, replace=False)]
    return mask.geometry.ijk_to_ras_points(marked[:, ::-1].astype(np.float64))
