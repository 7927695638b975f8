"""The voxel grid of a volume: how many voxels, and where each lies in the patient.

Axis conventions of the whole project: arrays are C-order (k, j, i); indices and spacings in geometry are (i, j, k);
world coordinates are RAS in mm (right, anterior and superior are positive). DICOM and ITK speak LPS: only the methods
named after it do.
"""

from __future__ import annotations

import dataclasses
import itertools
import operator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import GeometryError

if TYPE_CHECKING:
    from collections.abc import Sequence

Triple = tuple[int, int, int]

# Letters of the negative and the positive direction of each world axis.
_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))
_WORLD_AXIS = {
    letter: (axis, sign) for axis, pair in enumerate(_LETTERS) for sign, letter in zip((-1, 1), pair, strict=True)
}
_LPS = np.diag([-1.0, -1.0, 1.0])

_SHEAR_TOLERANCE = 1e-3  # cosine between axes; a stack of 300 mm then drifts by less than a voxel of 0.3 mm
_NO_COSINE = 1e-12  # a micrometre at the far end of a grid of a thousand kilometres
_FLAT_TOLERANCE = 1e-4  # determinant of the unit axes below which they do not span space
_SPACING_LIMITS = (1e-6, 1e6)  # mm: beyond, single precision and ITK lose their footing


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Geometry:
    """A grid of voxels in the patient, immutable.

    Parameters
    ----------
    shape
        Number of voxels along (k, j, i), each at least 1.
    ijk_to_ras
        4x4 matrix that takes the index (i, j, k, 1) of a voxel's centre to RAS mm. Copied as read-only float64. It may
        be oblique, anisotropic, left-handed or sheared, but not singular.

    Raises
    ------
    GeometryError
        When the shape is not three positive whole numbers, or the matrix is not 4x4, not finite, not affine, singular,
        or has a spacing outside 1e-6 to 1e6 mm.

    Notes
    -----
    :meth:`reoriented`, :meth:`cropped` and :meth:`padded` remember the matrix that they started from and the integer
    map between the indices, so going back gives the first matrix to the last bit.
    """

    shape: Triple
    ijk_to_ras: np.ndarray
    _lattice: tuple[np.ndarray, np.ndarray] | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _checked_shape(self.shape))
        object.__setattr__(self, "ijk_to_ras", _checked_matrix(self.ijk_to_ras))
        # dataclasses.replace with another matrix hands on a lattice that is not this grid's.
        if self._lattice is not None and not np.array_equal(self._lattice[0] @ self._lattice[1], self.ijk_to_ras):
            object.__setattr__(self, "_lattice", None)

    @classmethod
    def from_spacing(
        cls,
        shape: Sequence[int],
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        origin: Sequence[float] = (0.0, 0.0, 0.0),
        orientation: str = "RAS",
    ) -> Geometry:
        """Return an axis-aligned grid: spacing (i, j, k) in mm, origin = RAS mm of voxel (0, 0, 0), axis letters.

        Raises
        ------
        GeometryError
            When the letters are no orientation or the numbers make no grid.
        """
        matrix = np.eye(4)
        matrix[:3, :3] = 0.0
        for axis, (world, sign) in enumerate(_parsed(orientation)):
            matrix[world, axis] = sign * spacing[axis]
        matrix[:3, 3] = origin
        return cls(_triple(shape), matrix)

    @classmethod
    def from_lps(
        cls,
        shape: Sequence[int],
        spacing: Sequence[float],
        origin_lps: Sequence[float],
        direction_lps_rows: Sequence[float] | np.ndarray,
    ) -> Geometry:
        """Return a grid from the numbers of ITK, SimpleITK or DICOM.

        Parameters
        ----------
        shape
            (k, j, i).
        spacing
            (i, j, k) in mm.
        origin_lps
            LPS mm of voxel (0, 0, 0).
        direction_lps_rows
            9 numbers or 3x3, row by row; its columns are the directions of i, j, k in LPS.
        """
        direction = np.asarray(direction_lps_rows, dtype=np.float64).reshape(3, 3)
        matrix = np.eye(4)
        matrix[:3, :3] = _LPS @ direction * np.asarray(spacing, dtype=np.float64)
        matrix[:3, 3] = _LPS @ np.asarray(origin_lps, dtype=np.float64)
        return cls(_triple(shape), matrix)

    def to_lps(self) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
        """Return (spacing i, j, k in mm; origin in LPS mm; 9 direction cosines row by row in LPS) as ITK takes them.

        A sheared grid gives directions that are not at right angles.
        """
        origin = _LPS @ self.ijk_to_ras[:3, 3] + 0.0
        direction = _LPS @ self.direction
        # Cosines of the size of rounding errors make ITK's inversion of the matrix fail and complain.
        direction = np.where(np.abs(direction) < _NO_COSINE, 0.0, direction)
        return self.spacing, tuple(origin.tolist()), tuple(direction.ravel().tolist())

    @property
    def size(self) -> Triple:
        """Number of voxels along (i, j, k)."""
        return self.shape[2], self.shape[1], self.shape[0]

    @cached_property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between neighbouring voxel centres along (i, j, k)."""
        i, j, k = np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0).tolist()
        return i, j, k

    @cached_property
    def direction(self) -> np.ndarray:
        """3x3 float64; its columns are the unit vectors of i, j, k in RAS. Read-only."""
        return _frozen(self.ijk_to_ras[:3, :3] / np.asarray(self.spacing))

    @property
    def origin(self) -> tuple[float, float, float]:
        """RAS mm of the centre of voxel (0, 0, 0)."""
        x, y, z = self.ijk_to_ras[:3, 3].tolist()
        return x, y, z

    @cached_property
    def ras_to_ijk(self) -> np.ndarray:
        """The inverse of ``ijk_to_ras``, 4x4 float64, read-only."""
        inverse = np.eye(4)
        # Through the unit axes: inverting them is well conditioned also when the spacings differ by orders.
        inverse[:3, :3] = np.linalg.inv(self.direction) / np.asarray(self.spacing)[:, None]
        inverse[:3, 3] = -inverse[:3, :3] @ self.ijk_to_ras[:3, 3]
        return _frozen(inverse)

    @cached_property
    def orientation(self) -> str:
        """Three letters: the direction that the indices i, j, k grow towards, such as "RAS" or "LPS".

        Of an oblique grid, the nearest such letters in the sense of nibabel and MONAI: the axes are made orthogonal by
        the polar decomposition, then each, the clearest first, takes the world axis that it is nearest to.
        """
        if self._lattice is None:
            return "".join(_LETTERS[world][sign > 0] for world, sign in _nearest_axes(self.direction))
        # Turned by whole axes: an axis keeps its letter, also where two letters are equally near.
        start, steps = self._lattice
        nearest = _nearest_axes(start[:3, :3] / np.linalg.norm(start[:3, :3], axis=0))
        letters = ""
        for column in steps[:3, :3].T:
            old = int(np.flatnonzero(column)[0])
            world, sign = nearest[old]
            letters += _LETTERS[world][sign * int(column[old]) > 0]
        return letters

    @cached_property
    def is_left_handed(self) -> bool:
        """True when the axes i, j, k form a left-handed system in the patient."""
        return bool(np.linalg.det(self.direction) < 0)

    @cached_property
    def is_sheared(self) -> bool:
        """True when two axes are not at right angles (cosine above 1e-3, our choice)."""
        cosines = self.direction.T @ self.direction
        return bool(np.abs(cosines - np.diag(np.diag(cosines))).max() > _SHEAR_TOLERANCE)

    @cached_property
    def voxel_volume_mm3(self) -> float:
        """The volume of one voxel in mm³."""
        return abs(float(np.linalg.det(self.direction))) * float(np.prod(self.spacing))

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Length in mm along (i, j, k) from outer face to outer face."""
        i, j, k = (count * step for count, step in zip(self.size, self.spacing, strict=True))
        return i, j, k

    @property
    def center_ras(self) -> tuple[float, float, float]:
        """RAS mm of the middle of the grid."""
        x, y, z = self.ijk_to_ras_points((np.asarray(self.size) - 1.0) / 2.0).tolist()
        return x, y, z

    def ijk_to_ras_points(self, points: np.ndarray | Sequence[Any]) -> np.ndarray:
        """Return RAS mm, float64 (N, 3) or (3,), of voxel indices (i, j, k) of the same shape."""
        return _transformed(self.ijk_to_ras, points)

    def ras_to_ijk_points(self, points: np.ndarray | Sequence[Any]) -> np.ndarray:
        """Return voxel indices (i, j, k), float64 (N, 3) or (3,), of RAS points in mm of the same shape."""
        return _transformed(self.ras_to_ijk, points)

    def axis_changes(self, orientation: str) -> tuple[Triple, tuple[bool, bool, bool]]:
        """Return what turns this grid to ``orientation``: for each new axis its old axis, and whether it is flipped.

        Both in the order i, j, k.

        Raises
        ------
        GeometryError
            When ``orientation`` is not three letters, one of each pair R/L, A/P, S/I.
        """
        old = {world: (axis, sign) for axis, (world, sign) in enumerate(_parsed(self.orientation))}
        steps = [(old[world][0], old[world][1] != sign) for world, sign in _parsed(orientation)]
        (a, flip_a), (b, flip_b), (c, flip_c) = steps
        return (a, b, c), (flip_a, flip_b, flip_c)

    def reoriented(self, orientation: str) -> Geometry:
        """Return the grid of the same voxels with axes permuted and flipped to ``orientation``; nothing is resampled.

        Raises
        ------
        GeometryError
            When ``orientation`` is not three letters, one of each pair R/L, A/P, S/I.
        """
        axes, flips = self.axis_changes(orientation)
        change = np.zeros((4, 4), dtype=np.int64)
        change[3, 3] = 1
        for new, (old, flip) in enumerate(zip(axes, flips, strict=True)):
            change[old, new] = -1 if flip else 1
            change[old, 3] = self.size[old] - 1 if flip else 0
        size = [self.size[old] for old in axes]
        return self._moved((size[2], size[1], size[0]), change)

    def cropped(self, start_kji: Sequence[int], stop_kji: Sequence[int]) -> Geometry:
        """Return the grid of the voxels ``start <= index < stop``, both (k, j, i).

        Raises
        ------
        GeometryError
            When the box is empty or reaches beyond the grid.
        """
        start, stop = _triple(start_kji), _triple(stop_kji)
        if not all(0 <= low < high <= count for low, high, count in zip(start, stop, self.shape, strict=True)):
            raise GeometryError(
                f"The box from {start} to {stop} (k, j, i) does not lie inside a grid of {self.shape} voxels.",
                advice="Choose a box inside the volume that holds at least one voxel.",
            )
        shape = (stop[0] - start[0], stop[1] - start[1], stop[2] - start[2])
        return self._moved(shape, _shift(start))

    def padded(self, before_kji: Sequence[int], after_kji: Sequence[int]) -> Geometry:
        """Return the grid with voxels added ``before`` the first and ``after`` the last, both (k, j, i).

        Raises
        ------
        GeometryError
            When a number is negative.
        """
        before, after = _triple(before_kji), _triple(after_kji)
        if min(before + after) < 0:
            raise GeometryError(
                f"A grid cannot be padded by {before} and {after} voxels.", advice="Crop it to make it smaller."
            )
        shape = [count + low + high for count, low, high in zip(self.shape, before, after, strict=True)]
        return self._moved((shape[0], shape[1], shape[2]), _shift((-before[0], -before[1], -before[2])))

    def with_spacing(self, spacing_ijk: Sequence[float]) -> Geometry:
        """Return a grid over the same field of view with voxels of ``spacing_ijk`` mm along the same axes.

        Each axis has round(extent / spacing) voxels, at least one, around the same centre: the outer faces move by at
        most half a new voxel.

        Raises
        ------
        GeometryError
            When a spacing is not a positive number.
        """
        steps = np.asarray(spacing_ijk, dtype=np.float64)
        if steps.shape != (3,) or not (np.isfinite(steps).all() and (steps > 0).all()):
            raise GeometryError(
                f"{tuple(spacing_ijk)} is no voxel spacing.", advice="Give three positive numbers in mm (i, j, k)."
            )
        size = np.maximum(1, np.floor(np.asarray(self.extent_mm) / steps + 0.5)).astype(np.int64)
        matrix = np.eye(4)
        matrix[:3, :3] = self.direction * steps
        matrix[:3, 3] = np.asarray(self.center_ras) - matrix[:3, :3] @ ((size - 1) / 2.0)
        return Geometry((int(size[2]), int(size[1]), int(size[0])), matrix)

    def offset_of(self, other: Geometry, tolerance_voxels: float = 1e-3) -> Triple | None:
        """Return the index (k, j, i) here of ``other``'s first voxel, or None when it is not a grid of the same voxels.

        The index may be negative: ``other`` need not lie inside this grid.
        """
        between = self.ras_to_ijk @ other.ijk_to_ras
        offset = np.rint(between[:3, 3])
        drift = np.abs(between[:3, :3] - np.eye(3)) @ np.asarray(other.size)
        if drift.max() > tolerance_voxels or np.abs(between[:3, 3] - offset).max() > tolerance_voxels:
            return None
        return int(offset[2]), int(offset[1]), int(offset[0])

    def corners_ras(self) -> np.ndarray:
        """Return the centres of the 8 corner voxels, float64 (8, 3), RAS mm."""
        last = np.asarray(self.size, dtype=np.float64) - 1.0
        return self.ijk_to_ras_points(np.array(list(itertools.product((0.0, 1.0), repeat=3))) * last)

    def is_close(self, other: Geometry, tolerance_mm: float = 1e-3) -> bool:
        """Return whether both have the same shape and no voxel lies more than ``tolerance_mm`` apart."""
        if self.shape != other.shape:
            return False
        # Affine maps differ most at a corner, so 8 points stand for all.
        return bool(np.linalg.norm(self.corners_ras() - other.corners_ras(), axis=1).max() <= tolerance_mm)

    def _moved(self, shape: Triple, change: np.ndarray) -> Geometry:
        """Return the grid of ``shape`` whose index x is this grid's index ``change @ x`` (integers)."""
        start, steps = self._lattice or (self.ijk_to_ras, np.eye(4, dtype=np.int64))
        steps = steps @ change
        return Geometry(shape, start @ steps, _lattice=(start, steps))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Geometry):
            return NotImplemented
        return self.shape == other.shape and np.array_equal(self.ijk_to_ras, other.ijk_to_ras)

    def __hash__(self) -> int:
        return hash((self.shape, tuple(self.ijk_to_ras.ravel().tolist())))

    def __reduce__(self) -> tuple[Any, ...]:
        return Geometry, (self.shape, np.array(self.ijk_to_ras))

    def __repr__(self) -> str:
        spacing = " x ".join(f"{step:.4g}" for step in self.spacing)
        origin = ", ".join(f"{value:.6g}" for value in self.origin)
        flags = "".join([", left-handed" * self.is_left_handed, ", sheared" * self.is_sheared])
        return (
            f"Geometry({' x '.join(map(str, self.size))} voxels (i, j, k) of {spacing} mm, {self.orientation}, "
            f"origin ({origin}) RAS mm{flags})"
        )


def _checked_shape(shape: Any) -> Triple:
    triple = _triple(shape)
    if min(triple) < 1:
        raise GeometryError(
            f"A volume of {' x '.join(map(str, triple))} voxels is empty.",
            advice="Choose a volume with at least one voxel along each axis.",
        )
    return triple


def _triple(values: Any) -> Triple:
    try:
        k, j, i = (operator.index(value) for value in values)
    except (TypeError, ValueError) as error:
        raise GeometryError(
            f"{values!r} is not three whole numbers (k, j, i).", advice="A volume has exactly three axes."
        ) from error
    return k, j, i


def _checked_matrix(matrix: Any) -> np.ndarray:
    try:
        checked = np.array(matrix, dtype=np.float64) + 0.0  # -0.0 becomes 0.0, so equal grids have equal hashes
    except (TypeError, ValueError) as error:
        raise GeometryError("The IJK-to-RAS matrix does not hold numbers.", advice=_MATRIX_ADVICE) from error
    if checked.shape != (4, 4):
        raise GeometryError(f"The IJK-to-RAS matrix has the shape {checked.shape}, not 4x4.", advice=_MATRIX_ADVICE)
    if not np.isfinite(checked).all():
        raise GeometryError("The IJK-to-RAS matrix holds values that are not finite numbers.", advice=_MATRIX_ADVICE)
    if not np.allclose(checked[3], (0, 0, 0, 1), rtol=0, atol=1e-9):
        raise GeometryError("The last row of the IJK-to-RAS matrix is not (0, 0, 0, 1).", advice=_MATRIX_ADVICE)
    with np.errstate(over="ignore", under="ignore"):
        spacing = np.linalg.norm(checked[:3, :3], axis=0)
    if spacing.min() == 0:
        raise GeometryError("The IJK-to-RAS matrix is singular: a voxel has no thickness.", advice=_MATRIX_ADVICE)
    if not (spacing.min() >= _SPACING_LIMITS[0] and spacing.max() <= _SPACING_LIMITS[1]):
        steps = " x ".join(f"{step:.4g}" for step in spacing)
        raise GeometryError(f"The voxel spacing of {steps} mm makes no sense.", advice=_MATRIX_ADVICE)
    if abs(np.linalg.det(checked[:3, :3] / spacing)) < _FLAT_TOLERANCE:
        raise GeometryError(
            "The IJK-to-RAS matrix is singular: its axes lie in one plane, so it does not span a volume.",
            advice=_MATRIX_ADVICE,
        )
    checked[3] = (0, 0, 0, 1)
    return _frozen(checked)


_MATRIX_ADVICE = "Load the volume again from its original files, or correct its spacing and directions."


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def _parsed(orientation: str) -> list[tuple[int, int]]:
    """Return (world axis, sign) for each letter."""
    letters = orientation.upper() if isinstance(orientation, str) else ""
    found = [_WORLD_AXIS[letter] for letter in letters if letter in _WORLD_AXIS]
    if len(letters) != 3 or sorted(world for world, _ in found) != [0, 1, 2]:
        raise GeometryError(
            f"{orientation!r} is no orientation.",
            advice="Give three letters, one of each pair R/L, A/P and S/I, such as RAS or LPS.",
        )
    return found


def _nearest_axes(direction: np.ndarray) -> list[tuple[int, int]]:
    """Return for each column of ``direction`` its world axis and sign, each world axis once."""
    left, _, right = np.linalg.svd(direction)
    cosines = left @ right
    found = [(0, 1)] * 3
    free = cosines.copy()
    for axis in np.argsort(-np.abs(cosines).max(axis=0), kind="stable").tolist():
        world = int(np.argmax(np.abs(free[:, axis])))
        found[axis] = (world, 1 if cosines[world, axis] >= 0 else -1)
        free[world] = 0.0
    return found


def _shift(offset_kji: Triple) -> np.ndarray:
    change = np.eye(4, dtype=np.int64)
    change[:3, 3] = offset_kji[::-1]
    return change


def _transformed(matrix: np.ndarray, points: Any) -> np.ndarray:
    points = np.asarray(points, dtype=np.float64)
    return points @ matrix[:3, :3].T + matrix[:3, 3]
