"""Transforms between the space of a fixed and that of a moving volume, and their way to SimpleITK.

A transform takes points of the fixed volume to the points of the moving one that show the same anatomy, in RAS mm. That
is the direction in which volumes are resampled, and the one of ITK's transform files (there in LPS mm) and of a Slicer
transform node "from parent".
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import GeometryError, InputError
from medseg.volumes import Geometry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medseg.volumes import Volume
    from medseg.volumes.volume import Interpolation

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SLAB = 8
"""Slices of a grid whose points are held at a time."""


@dataclasses.dataclass(frozen=True, eq=False)
class DisplacementField:
    """A displacement for each voxel of a grid: the point x goes to x + u(x).

    Attributes
    ----------
    vectors
        (k, j, i, 3) float32, RAS mm; in between linear, nothing outside the grid (as ITK does).
    geometry
        The grid, not sheared: transform files cannot hold that.

    Raises
    ------
    GeometryError
        When the vectors do not fit the grid or are not finite, or the grid is sheared.
    """

    vectors: np.ndarray
    geometry: Geometry

    def __post_init__(self) -> None:
        vectors = np.ascontiguousarray(self.vectors, dtype=np.float32)
        if vectors.shape != (*self.geometry.shape, 3):
            raise GeometryError(
                f"A field of the shape {vectors.shape} does not fit a grid of {self.geometry.shape} voxels (k, j, i).",
                advice="Give three numbers (R, A, S in mm) for each voxel.",
            )
        if not np.isfinite(vectors).all():
            raise GeometryError("A displacement is not a finite number.", advice="Register again with more smoothness.")
        if self.geometry.is_sheared:
            raise GeometryError(
                "A displacement field cannot lie on a sheared grid.",
                advice="Resample the volume to a right-angled grid.",
            )
        object.__setattr__(self, "vectors", vectors)

    @classmethod
    def from_voxels(cls, displacement: np.ndarray, geometry: Geometry) -> DisplacementField:
        """Return the field of a network: (3, I, J, K) in voxels of ``geometry``, channels along I, J, K."""
        matrix = geometry.ijk_to_ras[:3, :3]
        return cls(np.einsum("ra,aijk->kjir", matrix, np.asarray(displacement, np.float64)), geometry)

    def to_voxels(self) -> np.ndarray:
        """Return (3, I, J, K) float32 in voxels of the grid, channels along I, J, K."""
        matrix = self.geometry.ras_to_ijk[:3, :3]
        return np.ascontiguousarray(np.einsum("ar,kjir->aijk", matrix, self.vectors), dtype=np.float32)

    def to_sitk(self) -> Any:
        """Return a ``SimpleITK.DisplacementFieldTransform`` with its own copy of the vectors, LPS mm."""
        import SimpleITK as sitk

        spacing, origin, direction = self.geometry.to_lps()
        image: Any = sitk.GetImageFromArray(self.vectors.astype(np.float64) * [-1.0, -1.0, 1.0], isVector=True)
        image.SetSpacing(spacing)
        image.SetOrigin(origin)
        image.SetDirection(direction)
        return sitk.DisplacementFieldTransform(image)


Stage = np.ndarray | DisplacementField
"""One step of a transform: a 4x4 matrix (RAS mm to RAS mm) or a field."""


@dataclasses.dataclass(frozen=True, eq=False)
class SpatialTransform:
    """Stages applied one after the other, the first one first; without any, the identity.

    Raises
    ------
    GeometryError
        When a matrix is not 4x4, affine, finite and invertible.
    """

    stages: tuple[Stage, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "stages", tuple(s if isinstance(s, DisplacementField) else _checked(s) for s in self.stages)
        )

    @property
    def is_linear(self) -> bool:
        """Whether there is no field in it."""
        return not any(isinstance(stage, DisplacementField) for stage in self.stages)

    @property
    def matrix(self) -> np.ndarray:
        """The linear part, all matrices together as if there were no field, 4x4."""
        matrix = np.eye(4)
        for stage in self.stages:
            if not isinstance(stage, DisplacementField):
                matrix = stage @ matrix
        return matrix

    def then(self, other: SpatialTransform) -> SpatialTransform:
        """Return this transform followed by ``other``; neighbouring matrices become one."""
        stages: list[Stage] = []
        for stage in (*self.stages, *other.stages):
            if stages and not isinstance(stage, DisplacementField) and not isinstance(stages[-1], DisplacementField):
                stages[-1] = stage @ stages[-1]
            else:
                stages.append(stage)
        return SpatialTransform(tuple(stages))

    def apply(self, points: np.ndarray | Sequence[Any]) -> np.ndarray:
        """Return where points (..., 3) in RAS mm go, float64."""
        moved = np.asarray(points, dtype=np.float64)
        for stage in self.stages:
            moved = _displaced(stage, moved) if isinstance(stage, DisplacementField) else _moved(stage, moved)
        return moved

    def resample(
        self, moving: Volume, target: Geometry, interpolation: Interpolation = "linear", fill: float = 0.0
    ) -> Volume:
        """Return ``moving`` as it looks on a grid in the space of the fixed volume.

        Parameters
        ----------
        interpolation
            As for :meth:`medseg.volumes.Volume.resample`; "nearest" for label maps.
        fill
            The value where the moving volume does not reach.
        """
        from medseg.volumes.resampling import resample

        return resample(moving, target, interpolation, fill, transform=self.to_sitk())

    def coverage(self, moving: Volume, target: Geometry) -> np.ndarray:
        """Return for each voxel (k, j, i) of a grid in the space of the fixed volume whether ``moving`` reaches it."""
        everywhere = moving.with_array(np.ones(moving.shape, np.uint8))
        return np.asarray(self.resample(everywhere, target, "nearest").array > 0)

    def on_grid(self, geometry: Geometry) -> DisplacementField:
        """Return the whole transform as one field on ``geometry``; between its voxels that is an approximation."""
        vectors = np.empty((*geometry.shape, 3), np.float32)
        for part, points in points_of(geometry):
            vectors[part] = self.apply(points) - points
        return DisplacementField(vectors, geometry)

    def inverse(
        self, geometry: Geometry, *, iterations: int = 60, tolerance_mm: float = 1e-3
    ) -> tuple[SpatialTransform, float]:
        """Return the transform from the moving volume's space to the fixed one's, and its error.

        That of a field is found by iteration (:mod:`medseg.registration.inversion`), which settles where it does not
        fold and stretches less than four times.

        Parameters
        ----------
        geometry
            A grid in the space of the moving volume, at whose voxels the error is taken.

        Returns
        -------
        SpatialTransform, float
            The inverse, and the largest distance in mm between a voxel of ``geometry`` and where inverse and
            transform take it, of those that the fields reach.
        """
        from medseg.registration.inversion import inverted

        stages: list[Stage] = []
        for stage in reversed(self.stages):
            if isinstance(stage, DisplacementField):
                stages.append(inverted(stage, iterations, tolerance_mm))
            else:
                stages.append(np.linalg.inv(stage))
        inverse = SpatialTransform(tuple(stages))
        return inverse, self._error_of(inverse, geometry)

    def _error_of(self, inverse: SpatialTransform, geometry: Geometry) -> float:
        worst = 0.0
        grids = [stage.geometry for stage in self.stages if isinstance(stage, DisplacementField)]
        for _, points in points_of(geometry):
            back = inverse.apply(points)
            inside = np.ones(back.shape[:-1], bool)
            for grid in grids:
                index = grid.ras_to_ijk_points(back)
                inside &= ((index >= 1) & (index <= np.asarray(grid.size) - 2)).all(-1)
            if inside.any():
                worst = max(worst, float(np.linalg.norm(self.apply(back[inside]) - points[inside], axis=-1).max()))
        return worst

    def to_sitk(self) -> Any:
        """Return a SimpleITK transform, LPS mm: one stage as itself, several as a composite, none as an identity."""
        import SimpleITK as sitk

        found = [s.to_sitk() if isinstance(s, DisplacementField) else _affine(s) for s in self.stages]
        if len(found) == 1:
            return found[0]
        # SimpleITK applies what was added last first.
        return sitk.CompositeTransform(found[::-1]) if found else _affine(np.eye(4))

    @classmethod
    def from_sitk(cls, transform: Any) -> SpatialTransform:
        """Return a transform of SimpleITK: linear ones, displacement fields, and composites of these.

        Raises
        ------
        InputError
            When it is of another kind.
        """
        import SimpleITK as sitk

        transform = transform.Downcast()
        if isinstance(transform, sitk.CompositeTransform):
            parts = [transform.GetNthTransform(n) for n in range(transform.GetNumberOfTransforms())]
            stages: list[Stage] = []
            for part in reversed(parts):
                stages.extend(cls.from_sitk(part).stages)
            return cls(tuple(stages))
        if isinstance(transform, sitk.DisplacementFieldTransform):
            return cls((_field_of(transform.GetDisplacementField()),))
        if not transform.IsLinear():
            raise InputError(
                f"A transform of the kind {transform.GetName()} is neither linear nor a displacement field.",
                advice="Save it as a displacement field, or give the linear part alone.",
            )
        origin = np.asarray(transform.TransformPoint((0.0, 0.0, 0.0)))
        columns = [np.asarray(transform.TransformPoint(axis)) - origin for axis in np.eye(3).tolist()]
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = np.stack(columns, axis=1), origin
        return cls((_LPS @ matrix @ _LPS,))


def _affine(matrix: np.ndarray) -> Any:
    import SimpleITK as sitk

    lps = _LPS @ matrix @ _LPS
    transform: Any = sitk.AffineTransform(3)
    transform.SetMatrix(lps[:3, :3].ravel().tolist())
    transform.SetTranslation(lps[:3, 3].tolist())
    return transform


def _field_of(image: Any) -> DisplacementField:
    import SimpleITK as sitk

    geometry = Geometry.from_lps(image.GetSize()[::-1], image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return DisplacementField(sitk.GetArrayFromImage(image) * [-1.0, -1.0, 1.0], geometry)


def _checked(matrix: Any) -> np.ndarray:
    found = np.array(matrix, dtype=np.float64)
    if found.shape != (4, 4) or not np.isfinite(found).all() or not np.allclose(found[3], [0, 0, 0, 1]):
        raise GeometryError("A linear transform is not a finite affine 4x4 matrix.", advice="Give one in mm, RAS.")
    if abs(np.linalg.det(found[:3, :3])) < 1e-9:
        raise GeometryError("A linear transform flattens space.", advice="Give one that can be inverted.")
    found.flags.writeable = False
    return found


def _moved(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _displaced(field: DisplacementField, points: np.ndarray) -> np.ndarray:
    return points + interpolated(field.vectors, field.geometry.ras_to_ijk_points(points))


def interpolated(vectors: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return vectors (k, j, i, 3) at places (..., 3) in voxels (i, j, k): linear in between, 0 outside.

    Up to half a voxel beyond the outermost centres they count as these, as in ITK.
    """
    size = np.asarray(vectors.shape[2::-1])
    flat = index.reshape(-1, 3)
    inside = ((flat >= -0.5) & (flat < size - 0.5)).all(1)
    found = np.zeros(flat.shape)
    place = np.clip(flat[inside], 0, size - 1)
    low = np.minimum(np.floor(place).astype(np.int64), np.maximum(size - 2, 0))
    share = place - low
    total = np.zeros(place.shape)
    for corner in np.ndindex(2, 2, 2):
        at = np.minimum(low + corner, size - 1)
        weight = np.where(corner, share, 1 - share).prod(1)
        total += weight[:, None] * vectors[at[:, 2], at[:, 1], at[:, 0]]
    found[inside] = total
    return found.reshape(index.shape)


def points_of(geometry: Geometry) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield slabs of slices and the RAS points (k, j, i, 3) of their voxels."""
    slices, rows, columns = geometry.shape
    for start in range(0, slices, _SLAB):
        part = slice(start, min(start + _SLAB, slices))
        k, j, i = np.meshgrid(np.arange(part.start, part.stop), np.arange(rows), np.arange(columns), indexing="ij")
        yield part, geometry.ijk_to_ras_points(np.stack([i, j, k], axis=-1).astype(np.float64))
