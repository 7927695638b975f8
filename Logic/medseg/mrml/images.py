"""numpy arrays and 4x4 matrices to VTK's images and matrices and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medseg.volumes import Geometry


def matrix_to_vtk(matrix: NDArray[np.float64]) -> Any:
    """Return a ``vtkMatrix4x4`` with the elements of a 4x4 array."""
    import vtk

    result = vtk.vtkMatrix4x4()
    result.DeepCopy(np.asarray(matrix, dtype=np.float64).ravel().tolist())
    return result


def matrix_from_vtk(matrix: Any) -> NDArray[np.float64]:
    """Return the elements of a ``vtkMatrix4x4`` as a 4x4 float64 array."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def image_array(image: Any) -> NDArray[Any]:
    """Return a view (k, j, i) of the voxels of a ``vtkImageData`` of one component.

    The view and the image share memory. The view holds the VTK array, so the memory stays valid for as long as the
    view lives, also when the image gets another array or is deleted.

    Raises
    ------
    InputError
        When the image has no voxels, several values per voxel, or one bit per voxel.
    """
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    size = image.GetDimensions()
    scalars = image.GetPointData().GetScalars() if min(size) > 0 else None
    if scalars is None or scalars.GetNumberOfTuples() != int(np.prod(size, dtype=np.int64)):
        raise InputError("The image has no voxels.", advice="Load it again.")
    if scalars.GetNumberOfComponents() != 1:
        raise InputError(
            f"The image has {scalars.GetNumberOfComponents()} values per voxel instead of one.",
            advice="Choose an image with one value per voxel.",
        )
    if scalars.GetDataType() == vtk.VTK_BIT:
        raise InputError("The image has one bit per voxel.", advice="Convert it to 8 bits or more per voxel.")
    array: NDArray[Any] = vtk_to_numpy(scalars).reshape(size[::-1])
    return array


def image_geometry(image: Any) -> Geometry:
    """Return the grid of a ``vtkOrientedImageData``, (k, j, i) to its world in mm; without voxels, a single voxel."""
    import vtk

    from medseg.volumes import Geometry

    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    ijk_to_ras = matrix_from_vtk(matrix)
    extent = image.GetExtent()
    ijk_to_ras[:3, 3] += ijk_to_ras[:3, :3] @ np.array(extent[::2], dtype=np.float64)
    columns, rows, slices = (max(last - first + 1, 1) for first, last in zip(extent[::2], extent[1::2], strict=True))
    return Geometry((slices, rows, columns), ijk_to_ras)


def allocate_image(
    image: Any, start_kji: tuple[int, int, int], shape: tuple[int, int, int], dtype: Any
) -> NDArray[Any]:
    """Give ``image`` uninitialised voxels of ``dtype`` and return a view (k, j, i) to fill.

    ``start_kji`` is the index of the first voxel (VTK's extent may start anywhere). VTK owns the memory.
    """
    from vtk.util.numpy_support import get_vtk_array_type

    (k, j, i), (slices, rows, columns) = start_kji, shape
    image.SetExtent(i, i + columns - 1, j, j + rows - 1, k, k + slices - 1)
    image.AllocateScalars(get_vtk_array_type(np.dtype(dtype)), 1)
    return image_array(image)


def dtype_for_vtk(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the nearest dtype that a VTK array holds: the same but for bool, float16 and foreign byte orders.

    Raises
    ------
    InputError
        When the array holds no real numbers.
    """
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind == "f":
        return np.dtype(np.float32 if dtype.itemsize <= 4 else np.float64)
    if dtype.kind in "iu":
        return dtype.newbyteorder("=")
    raise InputError(f"An image of {dtype} cannot be shown.", advice="Convert it to whole or real numbers.")
