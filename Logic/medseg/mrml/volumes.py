"""Volume nodes to volumes and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg.errors import GeometryError, InputError
from medseg.mrml.images import allocate_image, dtype_for_vtk, image_array, matrix_from_vtk, matrix_to_vtk
from medseg.volumes import Geometry, Volume

_REFUSED = (
    (
        "vtkMRMLLabelMapVolumeNode",
        "a label map, not an image",
        "Choose the CT or MR image that it was drawn on, or convert it in the Volumes module if it is an image.",
    ),
    (
        "vtkMRMLDiffusionWeightedVolumeNode",
        "a diffusion-weighted volume with many images in one",
        "Extract one of its images (such as the baseline) as a scalar volume and choose that.",
    ),
    (
        "vtkMRMLDiffusionTensorVolumeNode",
        "a tensor volume",
        "Compute a scalar volume from it (such as the fractional anisotropy) and choose that.",
    ),
    (
        "vtkMRMLTensorVolumeNode",
        "a vector or colour volume",
        "Convert it to a scalar volume (module Vector to Scalar Volume) and choose that.",
    ),
    (
        "vtkMRMLMultiVolumeNode",
        "a multivolume with several frames",
        "Export one frame as a scalar volume and choose that.",
    ),
    (
        "vtkMRMLSequenceNode",
        "a sequence",
        "Choose the volume that the sequence browser shows for it (its proxy volume).",
    ),
)

# The codes that 3D Slicer's DICOM import gives to a volume's voxel values (DICOM PS3.16 CID 7180 and UCUM).
_CT_QUANTITY = ("DCM", "112031", "Attenuation Coefficient")
_CT_UNIT = ("UCUM", "[hnsf'U]", "Hounsfield unit")
_MR_QUANTITY = ("DCM", "110852", "MR signal intensity")
_MR_UNIT = ("UCUM", "1", "no units")
_CODES = {"CT": (_CT_QUANTITY, _CT_UNIT), "MR": (_MR_QUANTITY, _MR_UNIT)}


def node_name(node: Any) -> str:
    """Return the name of a node for a sentence."""
    return node.GetName() or node.GetID() or "without a name"


def check_volume_node(node: Any) -> None:
    """Raise an error when ``node`` is not a scalar volume node with voxels.

    Raises
    ------
    InputError
        When ``node`` is missing, of another kind (label map, vector, tensor, diffusion-weighted, multivolume,
        sequence, model, ...), or has no image, no voxels or several values per voxel.
    """
    if node is None:
        raise InputError("No volume is chosen.", advice="Choose a CT or MR volume.")
    name = node_name(node)
    for kind, what, advice in _REFUSED:
        if node.IsA(kind):
            raise InputError(f"'{name}' is {what}.", advice=advice)
    if not node.IsA("vtkMRMLScalarVolumeNode"):
        kind = node.GetNodeTagName() if node.IsA("vtkMRMLNode") else node.GetClassName()
        raise InputError(f"'{name}' is not a volume (it is a {kind}).", advice="Choose a CT or MR volume.")
    image = node.GetImageData()
    if image is None or min(image.GetDimensions()) < 1 or image.GetPointData().GetScalars() is None:
        raise InputError(f"The volume '{name}' has no voxels.", advice="Load it again or choose another volume.")
    values = image.GetPointData().GetScalars().GetNumberOfComponents()
    if values != 1:
        raise InputError(
            f"The volume '{name}' has {values} values per voxel, not one: it is a colour image or a series of images.",
            advice="Extract one scalar volume from it and choose that.",
        )


def geometry_from_node(node: Any) -> Geometry:
    """Return the voxel grid of a volume node, without any transform that the node is under.

    Raises
    ------
    InputError
        See :func:`check_volume_node`.
    GeometryError
        When the node's IJK-to-RAS matrix is singular or not finite.
    """
    import vtk

    check_volume_node(node)
    image = node.GetImageData()
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    ijk_to_ras = matrix_from_vtk(matrix)
    # MRML's IJK are VTK's structured coordinates: an image whose extent does not start at 0 starts elsewhere in RAS.
    ijk_to_ras[:3, 3] += ijk_to_ras[:3, :3] @ np.array(image.GetExtent()[::2], dtype=np.float64)
    columns, rows, slices = image.GetDimensions()
    try:
        return Geometry((slices, rows, columns), ijk_to_ras)
    except GeometryError as error:
        raise GeometryError(
            f"The volume '{node_name(node)}' has a voxel grid that cannot be used: {error.message}",
            advice="Check its spacing and directions in the Volumes module, or load it again from its original files.",
        ) from error


def volume_from_node(node: Any, *, copy: bool = True) -> Volume:
    """Return the voxels, grid, name and modality of a volume node.

    The grid is the node's own IJK-to-RAS matrix (mm). A transform above the node, linear or not, is not applied: what
    is computed from the volume goes under the same transform and so lands in the same place.

    Parameters
    ----------
    node
        A ``vtkMRMLScalarVolumeNode``, in a scene or not.
    copy
        With false, the array (k, j, i) is a view of the node's voxels: cheap, but it changes when the node is edited
        in place. The memory stays valid also after the node is deleted. With true, the array is one copy.

    Returns
    -------
    Volume
        Voxels in the node's dtype. ``modality`` is that of :func:`modality_of`, ``""`` when unknown.

    Raises
    ------
    InputError
        See :func:`check_volume_node`; also for one bit per voxel.
    GeometryError
        When the node's matrix is singular or not finite.
    """
    geometry = geometry_from_node(node)
    array = image_array(node.GetImageData())
    return Volume(array.copy() if copy else array, geometry, name=node.GetName() or "", modality=modality_of(node))


def modality_of(node: Any) -> str:
    """Return the DICOM modality of a volume node (``"CT"``, ``"MR"``, ``"PT"``, ...), ``""`` when the scene has none.

    The subject hierarchy knows the modality of a DICOM series; the quantity and unit of the voxel values, which 3D
    Slicer's DICOM import sets and which travel with a saved scene, tell CT and MR. The headers behind the attribute
    ``DICOM.instanceUIDs`` are in the application's DICOM database, which this layer does not touch.
    """
    import slicer

    scene = node.GetScene()
    # GetSubjectHierarchyNode would add a node to a scene that has none; reading must not write.
    if scene is not None and scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode") is not None:
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        item = hierarchy.GetItemByDataNode(node)
        if item != hierarchy.GetInvalidItemID():
            attribute = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
            modality = hierarchy.GetItemAttribute(item, attribute)
            if modality:
                return str(modality).strip().upper()
    quantity, unit = node.GetVoxelValueQuantity(), node.GetVoxelValueUnits()
    for modality, (its_quantity, its_unit) in _CODES.items():
        if _is_code(quantity, its_quantity) or (modality == "CT" and _is_code(unit, its_unit)):
            return modality
    return ""


def _is_code(entry: Any, code: tuple[str, str, str]) -> bool:
    return entry is not None and (entry.GetCodingSchemeDesignator(), entry.GetCodeValue()) == code[:2]


def volume_to_node(volume: Volume, scene: Any, name: str | None = None, node: Any = None) -> Any:
    """Write a volume into a scalar volume node.

    Parameters
    ----------
    volume
        Voxels (k, j, i) and grid. The dtype is kept but for bool (becomes uint8) and float16 (float32).
    scene
        The ``vtkMRMLScene`` that a new node is added to.
    name
        The name of a new node (made unique in the scene), by default the volume's; of a given node only when set.
    node
        A ``vtkMRMLScalarVolumeNode`` of ``scene`` to overwrite. Its transform, display and place stay.

    Returns
    -------
    vtkMRMLScalarVolumeNode
        With a display node, and with the quantity and unit of its voxel values when it is a CT or MR.

    Raises
    ------
    InputError
        When the array holds no real numbers, or ``node`` is of another kind or not in ``scene``.
    """
    import vtk

    dtype = dtype_for_vtk(volume.array.dtype)
    if node is not None and (not node.IsA("vtkMRMLScalarVolumeNode") or node.GetScene() is not scene):
        raise InputError(
            f"'{node_name(node)}' is not a volume of this scene.", advice="Choose another output volume or a new one."
        )
    image = vtk.vtkImageData()
    allocate_image(image, (0, 0, 0), volume.geometry.shape, dtype)[...] = volume.array
    if node is None:
        node = scene.AddNewNodeByClass(
            "vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name or volume.name or "Volume")
        )
    elif name:
        node.SetName(name)
    modified = node.StartModify()
    try:
        node.SetIJKToRASMatrix(matrix_to_vtk(volume.geometry.ijk_to_ras))
        node.SetAndObserveImageData(image)
        quantity, unit = _CODES.get(volume.modality, (None, None))
        node.SetVoxelValueQuantity(_coded_entry(quantity))
        node.SetVoxelValueUnits(_coded_entry(unit))
    finally:
        node.EndModify(modified)
    node.CreateDefaultDisplayNodes()
    return node


def _coded_entry(code: tuple[str, str, str] | None) -> Any:
    import slicer

    if code is None:
        return None
    scheme, value, meaning = code
    entry = slicer.vtkCodedEntry()
    entry.SetValueSchemeMeaning(value, scheme, meaning)
    return entry
