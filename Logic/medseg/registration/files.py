"""Transforms in files that ITK's tools and 3D Slicer read: .h5, .tfm, .txt, .mat, and fields as images.

Files hold LPS mm and take points of the fixed volume to points of the moving one, as ITK's resampling wants it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError, ReadError, WriteError
from medseg.files import atomic_path
from medseg.registration.transform import SpatialTransform

if TYPE_CHECKING:
    from medseg.volumes import Geometry

TRANSFORMS = (".h5", ".tfm", ".txt", ".mat")
FIELDS = (".nrrd", ".nii.gz", ".mha")


def ending_of(path: str | Path) -> str:
    """Return which of :data:`TRANSFORMS` and :data:`FIELDS` a file name ends in.

    Raises
    ------
    InputError
        When it is none of them.
    """
    name = Path(path).name.lower()
    for ending in (*TRANSFORMS, *FIELDS):
        if name.endswith(ending):
            return ending
    raise InputError(
        f"{Path(path).name} does not end as a transform does.",
        advice=f"Use one of {', '.join((*TRANSFORMS, *FIELDS))}; .h5 holds every transform.",
    )


def write_transform(transform: SpatialTransform, path: str | Path, *, grid: Geometry | None = None) -> None:
    """Write a transform.

    Parameters
    ----------
    path
        ".h5" and ".tfm" (text, large for fields) keep the stages; ".txt" and ".mat" take linear ones only; the endings
        of :data:`FIELDS` make one displacement field of everything.
    grid
        Where that field lies, usually the fixed volume's grid; without it, that of the transform's last field.

    Raises
    ------
    InputError
        When the ending is unknown or cannot hold this transform.
    WriteError
        When the file cannot be written; what stood there before is untouched.
    """
    import SimpleITK as sitk

    path, ending = Path(path), ending_of(path)
    if ending in (".txt", ".mat") and not transform.is_linear:
        raise InputError(f"A {ending} file holds linear transforms only.", advice="Write .h5 instead.")
    stored: Any
    if ending in FIELDS:
        field = transform.on_grid(grid or _grid_of(transform))
        stored = sitk.Cast(field.to_sitk().GetDisplacementField(), sitk.sitkVectorFloat32)
    else:
        stored = transform.to_sitk()
    with atomic_path(path) as temporary:
        try:
            if ending in FIELDS:
                sitk.WriteImage(stored, str(temporary), True)
            else:
                sitk.WriteTransform(stored, str(temporary))
        except RuntimeError as error:
            raise WriteError(
                f"{path} could not be written.", advice="Is the disk full? Choose another folder."
            ) from error


def read_transform(path: str | Path) -> SpatialTransform:
    """Read a transform, or a displacement field in an image file.

    Raises
    ------
    ReadError
        When there is no such file, or it is none that ITK reads.
    InputError
        When it is of a kind that MedSeg does not use.
    """
    import SimpleITK as sitk

    path, ending = Path(path), ending_of(path)
    if not path.is_file():
        raise ReadError(f"There is no file {path}.", advice="Check the name of the transform.")
    try:
        if ending in FIELDS:
            image = sitk.ReadImage(str(path), sitk.sitkVectorFloat64)
            if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 3:
                raise ReadError(
                    f"{path} is not a displacement field.", advice="A field has three numbers (L, P, S in mm) a voxel."
                )
            return SpatialTransform.from_sitk(sitk.DisplacementFieldTransform(image))
        return SpatialTransform.from_sitk(sitk.ReadTransform(str(path)))
    except RuntimeError as error:
        raise ReadError(
            f"{path} cannot be read as a transform.", advice="Save it again from the program that made it, as .h5."
        ) from error


def _grid_of(transform: SpatialTransform) -> Geometry:
    grids = [stage.geometry for stage in transform.stages if hasattr(stage, "geometry")]
    if not grids:
        raise InputError(
            "A linear transform has no grid to make a displacement field on.", advice="Write .h5 or .tfm instead."
        )
    return grids[-1]
