"""Voxel grids for hypothesis: any orientation, oblique, anisotropic, left-handed, sheared."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import strategies as st

from medseg.volumes import Geometry, Volume

ALL_ORIENTATIONS = [
    "".join(letters) for pairs in itertools.permutations(("RL", "AP", "SI")) for letters in itertools.product(*pairs)
]

_number = st.floats(-1.0, 1.0, allow_nan=False)
_step = st.floats(0.2, 8.0, allow_nan=False)
_offset = st.floats(-500.0, 500.0, allow_nan=False)


def rotation(quaternion: tuple[float, float, float, float]) -> np.ndarray:
    """Return the rotation of a quaternion of any length; of a null one, the identity."""
    length = np.linalg.norm(quaternion)
    a, b, c, d = np.array(quaternion) / length if length > 1e-3 else (1.0, 0.0, 0.0, 0.0)
    return np.array(
        [
            [1 - 2 * (c * c + d * d), 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), 1 - 2 * (b * b + d * d), 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), 1 - 2 * (b * b + c * c)],
        ]
    )


@st.composite
def geometries(draw: st.DrawFn, *, sheared: bool = False, largest: int = 6) -> Geometry:
    """Grids of 1 to ``largest`` voxels along each axis, half of them left-handed."""
    shape = draw(st.tuples(*[st.integers(1, largest)] * 3))
    axes = rotation(draw(st.tuples(*[_number] * 4)))
    if draw(st.booleans()):
        axes = axes[:, ::-1]
    if sheared:
        shear = np.eye(3)
        shear[0, 2], shear[1, 2] = draw(st.floats(0.05, 0.6)), draw(st.floats(-0.6, 0.6))
        axes = axes @ shear
        axes /= np.linalg.norm(axes, axis=0)
    matrix = np.eye(4)
    matrix[:3, :3] = axes * draw(st.tuples(*[_step] * 3))
    matrix[:3, 3] = draw(st.tuples(*[_offset] * 3))
    return Geometry(shape, matrix)


def numbered(geometry: Geometry, dtype: type = np.int32) -> Volume:
    """Return a volume whose voxels have the values 0, 1, 2, ... in the order of memory."""
    return Volume(np.arange(np.prod(geometry.shape)).reshape(geometry.shape).astype(dtype), geometry)


def places(volume: Volume) -> dict[int, tuple[float, ...]]:
    """Return the RAS point (rounded to 1e-6 mm) of each value of a volume whose values are all different."""
    k, j, i = np.indices(volume.shape).reshape(3, -1)
    points = volume.geometry.ijk_to_ras_points(np.stack([i, j, k], axis=1))
    return {
        int(value): tuple(np.round(point, 6) + 0.0) for value, point in zip(volume.array.ravel(), points, strict=True)
    }


def slope(geometry: Geometry, weights: tuple[float, float, float] = (1.0, -2.0, 0.5), level: float = 3.0) -> Volume:
    """Return a volume whose value is a linear function of the RAS point: linear interpolation must give it anywhere."""
    k, j, i = np.indices(geometry.shape)
    points = geometry.ijk_to_ras_points(np.stack([i, j, k], axis=-1).reshape(-1, 3))
    values = points @ np.array(weights) + level
    return Volume(values.reshape(geometry.shape).astype(np.float32), geometry)
