"""A volume: voxels and the grid that they lie on."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medseg.errors import GeometryError, InputError
from medseg.volumes.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

Interpolation = Literal["linear", "nearest", "bspline"]


@dataclasses.dataclass(frozen=True, eq=False)
class Volume:
    """Voxels and their grid; every method returns a new volume.

    Parameters
    ----------
    array
        Real numbers or bool, (k, j, i). Kept as it is when it is C-contiguous in the machine's byte order (no copy),
        else copied once into that form.
    geometry
        The grid, of the same shape.
    name
        For people: what the file or series is called.
    modality
        As DICOM has it: "CT", "MR", "PT", ...; "" when unknown.
    notes
        Sentences on what a reader had to do with the data ("uneven slices were resampled ...").

    Raises
    ------
    InputError
        When the array has not three axes, other numbers of voxels than the grid, or values that are not real numbers.
    """

    array: np.ndarray
    geometry: Geometry
    name: str = ""
    modality: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        array = np.asarray(self.array)
        if array.ndim != 3:
            raise InputError(
                f"An image with {array.ndim} axes is not a volume.",
                advice="Give one value per voxel on three axes; choose one time point or channel of a series.",
            )
        if array.dtype.kind not in "biuf":
            raise InputError(
                f"Voxels of the type {array.dtype} are not real numbers.",
                advice="Convert them to whole or real numbers.",
            )
        if array.shape != self.geometry.shape:
            raise GeometryError(
                f"The image has {array.shape} voxels (k, j, i), its grid {self.geometry.shape}.",
                advice="Give a grid of the image's own shape.",
            )
        array = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
        object.__setattr__(self, "array", array)
        object.__setattr__(self, "notes", tuple(self.notes))

    @property
    def array_ijk(self) -> np.ndarray:
        """A view of the voxels in the axis order (i, j, k) of MONAI and nibabel."""
        return self.array.transpose(2, 1, 0)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along (k, j, i)."""
        return self.geometry.shape

    def with_array(self, array: np.ndarray) -> Volume:
        """Return a volume with other voxels on the same grid."""
        return dataclasses.replace(self, array=array)

    def astype(self, dtype: Any) -> Volume:
        """Return the volume with voxels of another type; the voxels are shared when it is the same."""
        return self.with_array(self.array.astype(dtype, copy=False))

    def reorient(self, orientation: str) -> Volume:
        """Return the same voxels with axes permuted and flipped to ``orientation`` ("RAS", "LPS", ...).

        Exact, and undone exactly by reorienting to the old orientation. An oblique grid stays oblique.

        Raises
        ------
        GeometryError
            When ``orientation`` is not three letters, one of each pair R/L, A/P, S/I.
        """
        axes, flips = self.geometry.axis_changes(orientation)
        turned = self.array_ijk.transpose(axes)
        turned = turned[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
        return dataclasses.replace(
            self, array=turned.transpose(2, 1, 0), geometry=self.geometry.reoriented(orientation)
        )

    def crop(self, start: Sequence[int], stop: Sequence[int]) -> Volume:
        """Return a copy of the voxels ``start <= index < stop``, both (k, j, i). Undone by :meth:`pad_to`.

        Raises
        ------
        GeometryError
            When the box is empty or reaches beyond the volume.
        """
        geometry = self.geometry.cropped(start, stop)
        box = tuple(slice(low, low + count) for low, count in zip(start, geometry.shape, strict=True))
        return dataclasses.replace(self, array=self.array[box].copy(), geometry=geometry)

    def crop_to(self, geometry: Geometry) -> Volume:
        """Return the voxels of ``geometry``, which must be a part of this grid.

        Raises
        ------
        GeometryError
            When the voxels of ``geometry`` are not all voxels of this volume.
        """
        start = self.geometry.offset_of(geometry)
        if start is None:
            raise _other_lattice("cropped")
        stop = tuple(low + count for low, count in zip(start, geometry.shape, strict=True))
        return dataclasses.replace(self.crop(start, stop), geometry=geometry)

    def pad(self, before: Sequence[int], after: Sequence[int], value: float = 0) -> Volume:
        """Return the volume with voxels of ``value`` added before the first and after the last, both (k, j, i).

        Undone by :meth:`crop_to`.

        Raises
        ------
        GeometryError
            When a number is negative.
        InputError
            When the voxel type cannot hold ``value``.
        """
        geometry = self.geometry.padded(before, after)
        array = np.full(geometry.shape, self.fitting(value), self.array.dtype)
        array[tuple(slice(low, low + count) for low, count in zip(before, self.shape, strict=True))] = self.array
        return dataclasses.replace(self, array=array, geometry=geometry)

    def pad_to(self, geometry: Geometry, value: float = 0) -> Volume:
        """Return the volume on the larger ``geometry``, whose voxels must include all of this volume's.

        Raises
        ------
        GeometryError
            When ``geometry`` lacks voxels of this volume.
        InputError
            When the voxel type cannot hold ``value``.
        """
        before = geometry.offset_of(self.geometry)
        if before is None:
            raise _other_lattice("padded")
        after = tuple(all_ - low - own for all_, low, own in zip(geometry.shape, before, self.shape, strict=True))
        return dataclasses.replace(self.pad(before, after, value), geometry=geometry)

    def resample(self, target: Geometry, interpolation: Interpolation = "linear", fill: float = 0.0) -> Volume:
        """Return the volume on another grid, whatever both are: oblique, left-handed, sheared.

        See :func:`medseg.volumes.resampling.resample`.
        """
        from medseg.volumes.resampling import resample

        return resample(self, target, interpolation, fill)

    def to_sitk(self) -> Any:
        """Return a ``SimpleITK.Image`` with a copy of the voxels (bool becomes uint8, float16 float32).

        Raises
        ------
        GeometryError
            When the grid is sheared: ITK's filters and files take directions at right angles for granted.
        """
        from medseg.volumes.resampling import sitk_image

        if self.geometry.is_sheared:
            raise GeometryError(
                "The volume's axes are not at right angles.", advice="Resample it onto a grid with right angles first."
            )
        return sitk_image(self)

    @classmethod
    def from_sitk(cls, image: Any, *, name: str = "", modality: str = "") -> Volume:
        """Return a volume with a copy of the voxels of a three-dimensional scalar ``SimpleITK.Image``.

        Raises
        ------
        InputError
            When the image has not three axes or several values per voxel.
        GeometryError
            When its grid is not finite or singular.
        """
        import SimpleITK as sitk

        if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
            raise InputError(
                f"An image with {image.GetDimension()} axes and {image.GetNumberOfComponentsPerPixel()} values per "
                "voxel is not a volume.",
                advice="Give one value per voxel on three axes; choose one time point or channel of a series.",
            )
        geometry = Geometry.from_lps(image.GetSize()[::-1], image.GetSpacing(), image.GetOrigin(), image.GetDirection())
        return cls(sitk.GetArrayFromImage(image), geometry, name=name, modality=modality)

    def fitting(self, value: float) -> Any:
        """Return ``value`` as a voxel of this volume's type.

        Raises
        ------
        InputError
            When the type cannot hold it.
        """
        dtype = self.array.dtype
        with np.errstate(all="ignore"):
            fits = np.isfinite(value) if dtype.kind in "iu" else True
            if fits and dtype.kind in "iu":
                limits = np.iinfo(dtype)
                fits = limits.min <= value <= limits.max and int(value) == value
            if fits:
                return np.asarray(value).astype(dtype)[()]
        raise InputError(
            f"{value} cannot be a voxel of the type {dtype}.",
            advice="Choose another value or convert the volume first.",
        )

    def __repr__(self) -> str:
        return f"Volume({self.name!r}, {self.array.dtype}, {self.modality or 'modality unknown'}, {self.geometry!r})"


def _other_lattice(what: str) -> GeometryError:
    return GeometryError(
        f"The volume cannot be {what} to a grid with other voxel positions.", advice="Resample it onto that grid."
    )
