"""From one grid to another, by SimpleITK."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import InputError

if TYPE_CHECKING:
    from medseg.volumes.geometry import Geometry
    from medseg.volumes.volume import Interpolation, Volume


def resample(
    volume: Volume,
    target: Geometry,
    interpolation: Interpolation = "linear",
    fill: float = 0.0,
    *,
    transform: Any = None,
) -> Volume:
    """Return ``volume`` on the grid ``target``.

    Any two grids: oblique, left-handed, and also sheared, because ITK's resampling goes through the inverse of the
    whole index-to-world matrix. No low-pass filter is applied when the target is coarser.

    Parameters
    ----------
    interpolation
        "linear" and "bspline" (cubic, ITK's) give float32; "nearest" keeps the type of the voxels.
    fill
        The value beyond half a voxel outside the outermost voxel centres; up to there the border value goes on.
    transform
        A SimpleITK transform (LPS mm) from points of the target to points of the volume; none: the same points.

    Raises
    ------
    InputError
        When the interpolation is unknown, or ``fill`` is no value of the voxel type with "nearest".
    """
    import SimpleITK as sitk

    methods = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor, "bspline": sitk.sitkBSpline}
    if interpolation not in methods:
        raise InputError(f"{interpolation!r} is no way to interpolate.", advice="Choose linear, nearest or bspline.")
    keep = interpolation == "nearest"
    if keep:
        volume.fitting(fill)
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(methods[interpolation])
    resampler.SetDefaultPixelValue(float(fill))
    if transform is not None:
        resampler.SetTransform(transform)
    resampler.SetSize(target.size)
    spacing, origin, direction = target.to_lps()
    resampler.SetOutputSpacing(spacing)
    resampler.SetOutputOrigin(origin)
    resampler.SetOutputDirection(direction)
    if not keep:
        resampler.SetOutputPixelType(sitk.sitkFloat32)
    result = sitk.GetArrayFromImage(resampler.Execute(sitk_image(volume)))
    if keep:
        result = result.astype(volume.array.dtype, copy=False)
    return dataclasses.replace(volume, array=result, geometry=target)


def sitk_image(volume: Volume) -> Any:
    """Return a ``SimpleITK.Image`` with a copy of the voxels, also of a sheared grid (see :meth:`Volume.to_sitk`)."""
    import SimpleITK as sitk

    array = volume.array
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    elif array.dtype == np.float16:
        array = array.astype(np.float32)
    elif array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    image = sitk.GetImageFromArray(array)
    spacing, origin, direction = volume.geometry.to_lps()
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    return image
