"""Thick copies of volume nodes, to draw on, and what came of drawing on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from medseg.mrml.display import copy_window
from medseg.mrml.hierarchy import place_beside
from medseg.mrml.labelmaps import label_values
from medseg.mrml.volumes import node_name, volume_from_node, volume_to_node
from medseg.training.thin_thick import thick_copy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.training.thin_thick import SliceAgreement, SliceAxis
    from medseg.volumes import Geometry, Volume

Plane = Literal["axial", "sagittal", "coronal"]
"""What a radiologist calls the plane of slices."""

THIN_ROLE = "MedSegThinVolume"
"""Node reference from a thick copy to the volume that it was made of."""

_TERMINOLOGY_TAG = "TerminologyEntry"

_AXES: tuple[SliceAxis, ...] = ("i", "j", "k")

_PLANES: dict[str, Plane] = {
    "S": "axial",
    "I": "axial",
    "R": "sagittal",
    "L": "sagittal",
    "A": "coronal",
    "P": "coronal",
}
"""The plane of slices by the letter of the direction across them."""

_SAME_PIXELS = 1.02
"""Planes whose pixels are as square as those of the best within this factor are as good (our choice)."""


def slice_axis(geometry: Geometry, plane: Plane | Literal["auto"] = "auto") -> SliceAxis:
    """Return the index axis across the slices of a plane.

    "auto" is the plane that the volume was scanned in. Scanners make square pixels, whatever lies between two slices,
    so it is the axis across the squarest ones; where several are as square, it is k, across the slices as scanners
    store them. So the slices of a sagittal series stay sagittal, also when a file has them along i.
    """
    if plane != "auto":
        return _AXES[[_PLANES[letter] for letter in geometry.orientation].index(plane)]
    stretch = [_stretch(geometry, axis) for axis in range(3)]
    best = min(stretch)
    return "k" if stretch[2] <= best * _SAME_PIXELS else _AXES[stretch.index(best)]


def slice_plane(geometry: Geometry, axis: SliceAxis) -> Plane:
    """Return the plane that the slices along an index axis lie in; of an oblique volume the nearest."""
    return _PLANES[geometry.orientation[_AXES.index(axis)]]


def make_thick_copy(scene: Any, volume_node: Any, thickness_mm: float, axis: SliceAxis = "k") -> Any:
    """Add a copy of a volume with thick slices, means of neighbouring ones, to draw on.

    It lies exactly where the volume lies (the first slice in the middle of the slices that it stands for), under the
    same transform, beside it in the subject hierarchy and with its window and level. The thickness is a whole number of
    slices, and the name says it: ``"CT thick 5 mm"``.

    Parameters
    ----------
    scene
        The ``vtkMRMLScene``.
    volume_node
        The ``vtkMRMLScalarVolumeNode`` with thin slices; it is not changed.
    thickness_mm
        Rounded to whole slices.
    axis
        The index axis across the slices.

    Returns
    -------
    vtkMRMLScalarVolumeNode
        float32.

    Raises
    ------
    InputError
        When the node is no volume, or the thickness makes no thicker slice or more than the volume has.
    """
    thick = thick_copy(volume_from_node(volume_node, copy=False), thickness_mm=thickness_mm, axis=axis)
    return add_thick_copy(scene, thick, volume_node, axis)


def add_thick_copy(scene: Any, thick: Volume, volume_node: Any, axis: SliceAxis = "k") -> Any:
    """Add the thick copy of a volume (:func:`medseg.training.thin_thick.thick_copy`), computed in whatever thread.

    Returns
    -------
    vtkMRMLScalarVolumeNode
        As :func:`make_thick_copy` has it, with a reference :data:`THIN_ROLE` to the volume.
    """
    thickness = thick.geometry.spacing[_AXES.index(axis)]
    node = volume_to_node(thick, scene, name=f"{node_name(volume_node)} thick {thickness:.3g} mm")
    node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    copy_window(volume_node, node)
    place_beside(node, volume_node)
    node.SetNodeReferenceID(THIN_ROLE, volume_node.GetID())
    return node


def add_drawing(thick_node: Any) -> Any:
    """Add an empty segmentation to draw on a thick copy, in its frame and beside it.

    Returns
    -------
    vtkMRMLSegmentationNode
    """
    scene = thick_node.GetScene()
    name = scene.GenerateUniqueName(f"{node_name(thick_node)} drawn")
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(thick_node)
    node.SetAndObserveTransformNodeID(thick_node.GetTransformNodeID())
    place_beside(node, thick_node)
    return node


def drawn_labels(segmentation_node: Any) -> list[dict[str, Any]]:
    """Return what the verb ``transfer`` is to know of the segments, as its option ``labels``.

    One dictionary a segment, with the values of :func:`~medseg.mrml.labelmaps.label_values`: "value", "name", "color"
    (0 to 255) and "terminology" (the segment's tag, as Slicer writes it).

    Raises
    ------
    InputError
        When ``segmentation_node`` is not a segmentation.
    """
    import vtk

    labels = []
    for identifier, value in label_values(segmentation_node).items():
        segment = segmentation_node.GetSegmentation().GetSegment(identifier)
        entry = vtk.reference("")
        labels.append(
            {
                "value": value,
                "name": segment.GetName() or "",
                "color": [round(255 * part) for part in segment.GetColor()],
                "terminology": str(entry) if segment.GetTag(_TERMINOLOGY_TAG, entry) else "",
            }
        )
    return labels


def agreement_to_table(
    rows: Sequence[SliceAgreement], names: Mapping[int, str], scene: Any, name: str, *, volume_node: Any = None
) -> Any:
    """Write how a thin segmentation agrees with what was drawn into a table node, a row for each slice and segment.

    Parameters
    ----------
    rows
        See :class:`~medseg.training.thin_thick.SliceAgreement`; slices are counted from 0.
    names
        Of the segments, by label value.
    volume_node
        The table is put beside it in the subject hierarchy.

    Returns
    -------
    vtkMRMLTableNode
    """
    import vtk

    columns = (
        ("Thick slice", vtk.vtkIntArray, "thick_slice", "Index of the slice that was drawn on, from 0"),
        ("Segment", vtk.vtkStringArray, "", "Name of the structure"),
        ("First thin slice", vtk.vtkIntArray, "first_thin", "Index of the first slice that it covers, from 0"),
        ("Last thin slice", vtk.vtkIntArray, "last_thin", "Index of the last slice that it covers"),
        ("Drawn voxels", vtk.vtkIdTypeArray, "drawn_voxels", "Voxels of the structure on the thick slice"),
        ("Mean difference", vtk.vtkDoubleArray, "mean_difference", "Of the mean thin mask and the drawn mask"),
        ("Dice", vtk.vtkDoubleArray, "dice", "Of the mean thin mask and the drawn mask"),
    )
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", scene.GenerateUniqueName(name))
    modified = node.StartModify()
    try:
        for title, array_class, field, description in columns:
            array = array_class()
            array.SetName(title)
            for row in rows:
                array.InsertNextValue(getattr(row, field) if field else names.get(row.value, f"Label {row.value}"))
            node.AddColumn(array)
            node.SetColumnDescription(title, description)
        node.SetUseColumnTitleAsColumnHeader(True)
        node.SetLocked(True)
    finally:
        node.EndModify(modified)
    place_beside(node, volume_node)
    return node


def _stretch(geometry: Geometry, axis: int) -> float:
    """Return how much longer than broad the pixels of the slices along an axis are, from 1 on."""
    sides = [step for index, step in enumerate(geometry.spacing) if index != axis]
    return max(sides) / min(sides)
