"""Transforms between two volumes as transform nodes, and back.

A :class:`~medseg.registration.SpatialTransform` takes points of the fixed volume to points of the moving one. That is
the direction "from parent" of the node that the moving volume is put under: Slicer asks it, for each point of the
view, where in the moving volume to look. Nodes and transforms are both in RAS mm, so nothing is turned around.

One node holds the whole transform: a matrix as a linear transform node, one field as a grid transform node, and a field
followed by a matrix as a general transform node (class ``vtkMRMLTransformNode``), which is also what Slicer makes of
such a file. A grid node in a chain above a linear node would give the same points, but a user would have to save, copy
and harden two nodes, in the right order.

Outside its grid Slicer continues a field with the nearest displacement, ITK and MedSeg end it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import GeometryError, InputError
from medseg.mrml.hierarchy import place_beside
from medseg.mrml.images import matrix_from_vtk, matrix_to_vtk
from medseg.mrml.volumes import node_name
from medseg.registration import DisplacementField, SpatialTransform
from medseg.segmentation.segments import VERSION_TAG, origin_tags
from medseg.version import VERSION
from medseg.volumes import Geometry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

METHOD_ATTRIBUTE = "MedSeg.Method"
"""The node attribute that says how MedSeg made a transform; its model and version are in those of all results."""

LINEAR_CLASS, GRID_CLASS, GENERAL_CLASS = (
    "vtkMRMLLinearTransformNode",
    "vtkMRMLGridTransformNode",
    "vtkMRMLTransformNode",
)

_INVERSE_TOLERANCE_MM = 1e-3
"""How exactly Slicer inverts a field, which it does for points and models; its own default is 0.01 mm."""

_GRID_LINES = 16
"""Lines of the grid over the slices along the longest side of the volume (our choice)."""


def transform_to_node(
    transform: SpatialTransform,
    scene: Any,
    name: str,
    *,
    node: Any = None,
    fixed_node: Any = None,
    moving_node: Any = None,
    method: str = "",
    model: Mapping[str, str] | None = None,
) -> Any:
    """Write a transform into a transform node, so that the moving volume under it lies on the fixed one.

    Parameters
    ----------
    transform
        From points of the fixed volume to points of the moving one, each in the frame of its own node (RAS mm, without
        the transforms above it).
    scene
        The ``vtkMRMLScene``.
    name
        Of a new node, made unique.
    node
        A transform node of ``scene`` to overwrite; see :func:`check_output`. Its name and what is under it stay.
    fixed_node, moving_node
        The volumes: the node goes under the transform of the fixed one, which is where its points are, is put beside
        the moving one in the subject hierarchy, and refers to both as the registration modules of Slicer do.
    method, model
        How it was made; ``model`` as :attr:`medseg.segmentation.SegmentationResult.model`.

    Returns
    -------
    vtkMRMLTransformNode
        Of the class that fits the transform.

    Raises
    ------
    InputError
        When ``node`` cannot take it.
    """
    if node is not None:
        check_output(node, scene, linear=transform.is_linear, fixed_node=fixed_node)
    # Before anything is touched: there may not be memory for the copy of a large field.
    deformation = None if transform.is_linear else _to_vtk(transform.stages)
    if node is None:
        node = scene.AddNewNodeByClass(_class_for(transform), scene.GenerateUniqueName(name))
    else:
        scene.SaveStateForUndo()
    modified = node.StartModify()
    try:
        if not node.IsLinear():
            node.SetAndObserveTransformFromParent(None)  # otherwise it does not take a matrix
        if deformation is None:
            node.SetMatrixTransformFromParent(matrix_to_vtk(transform.matrix))
        else:
            node.SetAndObserveTransformFromParent(deformation)
        node.SetAttribute(METHOD_ATTRIBUTE, method)
        for attribute, text in (origin_tags(model) if model else {VERSION_TAG: VERSION}).items():
            node.SetAttribute(attribute, text)
        for role, volume_node in (
            (node.GetFixedNodeReferenceRole(), fixed_node),
            (node.GetMovingNodeReferenceRole(), moving_node),
        ):
            node.SetNodeReferenceID(role, None if volume_node is None else volume_node.GetID())
        if fixed_node is not None:
            node.SetAndObserveTransformNodeID(fixed_node.GetTransformNodeID())
    finally:
        node.EndModify(modified)
    place_beside(node, moving_node)
    return node


def check_output(node: Any, scene: Any, *, linear: bool, fixed_node: Any = None) -> None:
    """Raise an error when a transform node cannot be overwritten with a registration.

    Raises
    ------
    InputError
        When it is not a transform of ``scene``, of a class that holds something else, or above the fixed volume, which
        would move along with its own registration.
    """
    name = "" if node is None else node_name(node)
    if node is None or not node.IsA(GENERAL_CLASS) or node.GetScene() is not scene:
        raise InputError(f"'{name}' is not a transform of this scene.", advice="Choose another or a new one.")
    if node.GetClassName() not in ((LINEAR_CLASS, GENERAL_CLASS) if linear else (GENERAL_CLASS,)):
        what = "a linear transform" if linear else "a deformation"
        raise InputError(f"The transform '{name}' is of a kind that cannot hold {what}.", advice="Choose a new one.")
    above = None if fixed_node is None else fixed_node.GetParentTransformNode()
    while above is not None:
        if above is node:
            raise InputError(
                f"The fixed volume is under the transform '{name}', which would move it.", advice="Choose a new one."
            )
        above = above.GetParentTransformNode()


@dataclass(frozen=True)
class TransformReading:
    """What was read of a transform node on the main thread; :meth:`transform` may run in any.

    Attributes
    ----------
    parts
        4x4 matrices and fields in the order in which points pass them, and whether Slicer keeps each the other way
        round.
    """

    parts: tuple[tuple[np.ndarray | DisplacementField, bool], ...]

    def transform(self) -> SpatialTransform:
        """Return the transform; a field that is to be inverted takes a while, up to minutes for a large one."""
        transform = SpatialTransform()
        for part, is_inverted in self.parts:
            found = SpatialTransform((part,))
            if is_inverted and isinstance(part, DisplacementField):
                found, _ = found.inverse(part.geometry)
            transform = transform.then(found)
        return transform


def transform_from_node(node: Any) -> SpatialTransform:
    """Return the transform from the parent of a transform node to it, without the transforms above it.

    A field that Slicer keeps the other way round (as that of a node that was inverted) is inverted on its own grid, as
    :meth:`~medseg.registration.SpatialTransform.inverse` does it, which takes too long for the main thread.

    Raises
    ------
    MedSegError
        As :func:`read_transform_node`.
    """
    return read_transform_node(node).transform()


def read_transform_node(node: Any) -> TransformReading:
    """Read the matrices and fields of a transform node, without the transforms above it.

    Raises
    ------
    InputError
        When the node is no transform, or there is something else in it than matrices and displacement fields.
    GeometryError
        When a field lies on a grid that MedSeg does not use.
    """
    if node is None or not node.IsA(GENERAL_CLASS):
        what = "No transform is chosen." if node is None else f"'{node_name(node)}' is not a transform."
        raise InputError(what, advice="Choose a transform.")
    import slicer
    import vtk

    parts = vtk.vtkCollection()
    slicer.vtkMRMLTransformNode.FlattenGeneralTransform(parts, node.GetTransformFromParent())
    found: list[tuple[np.ndarray | DisplacementField, bool]] = []
    for index in range(parts.GetNumberOfItems()):
        part = parts.GetItemAsObject(index)
        if part.IsA("vtkHomogeneousTransform"):
            found.append((matrix_from_vtk(part.GetMatrix()), False))
        elif part.IsA("vtkOrientedGridTransform"):
            found.append((_field_of(part, node), bool(part.GetInverseFlag())))
        else:
            raise InputError(
                f"The transform '{node_name(node)}' is neither linear nor a displacement field.",
                advice="Convert it to a grid transform in the Transforms module.",
            )
    return TransformReading(tuple(found))


def matrix_between(volume_node: Any, transform_node: Any) -> np.ndarray:
    """Return the 4x4 matrix from points in the frame of a volume to points in the frame under a transform node.

    That is how two volumes lie to each other in the scene, when ``transform_node`` is that of the other (``None``: it
    is under none).

    Raises
    ------
    InputError
        When a transform between them is not linear.
    """
    import slicer
    import vtk

    above, below = volume_node.GetParentTransformNode(), transform_node
    # Asked for a matrix that there is not, MRML would write warnings into the user's log.
    first, second = (below, above) if above is None else (above, below)
    if first is not second and not first.IsTransformToNodeLinear(second):
        raise InputError(
            "A registration can begin with a linear transform only, and there is a deformation between the volumes.",
            advice="Harden it in the Transforms module, or begin with the centres of the volumes.",
        )
    matrix = vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(above, below, matrix)
    return matrix_from_vtk(matrix)


def show_grid(node: Any, fixed_node: Any) -> Any:
    """Draw a transform as a warped grid over the slices that show the fixed volume; return its display node."""
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    bounds = [0.0] * 6
    fixed_node.GetRASBounds(bounds)
    spacing = max(max(high - low for low, high in zip(bounds[::2], bounds[1::2], strict=True)) / _GRID_LINES, 1.0)
    modified = display.StartModify()
    try:
        display.SetVisualizationMode(display.VIS_MODE_GRID)
        display.SetGridSpacingMm(spacing)
        display.SetGridResolutionMm(spacing / 3)
        display.SetGridShowNonWarped(False)
        display.SetAndObserveRegionNode(fixed_node)
        display.SetVisibility(True)
        display.SetVisibility2D(True)
        display.SetVisibility3D(False)
    finally:
        display.EndModify(modified)
    return display


def _class_for(transform: SpatialTransform) -> str:
    if transform.is_linear:
        return LINEAR_CLASS
    return GRID_CLASS if len(transform.stages) == 1 else GENERAL_CLASS


def _to_vtk(stages: Sequence[Any]) -> Any:
    """Return a VTK transform with these stages, from points of the fixed volume to points of the moving one."""
    import vtk

    found = [_grid(stage) if isinstance(stage, DisplacementField) else _linear(stage) for stage in stages]
    if len(found) == 1:
        return found[0]
    general = vtk.vtkGeneralTransform()
    general.PostMultiply()
    for one in found:
        general.Concatenate(one)
    return general


def _linear(matrix: np.ndarray) -> Any:
    import vtk

    transform = vtk.vtkTransform()
    transform.SetMatrix(matrix_to_vtk(matrix))
    return transform


def _grid(field: DisplacementField) -> Any:
    import slicer
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    geometry = field.geometry
    image = vtk.vtkImageData()
    image.SetDimensions(*geometry.size)
    image.SetSpacing(*geometry.spacing)
    image.SetOrigin(*geometry.ijk_to_ras[:3, 3])
    image.GetPointData().SetScalars(numpy_to_vtk(field.vectors.reshape(-1, 3), deep=True))
    direction = np.eye(4)
    direction[:3, :3] = geometry.direction
    grid = slicer.vtkOrientedGridTransform()
    grid.SetDisplacementGridData(image)
    grid.SetGridDirectionMatrix(matrix_to_vtk(direction))
    grid.SetInterpolationModeToLinear()
    grid.SetInverseTolerance(_INVERSE_TOLERANCE_MM)
    return grid


def _field_of(grid: Any, node: Any) -> DisplacementField:
    from vtk.util.numpy_support import vtk_to_numpy

    image = grid.GetDisplacementGrid()
    scalars = None if image is None else image.GetPointData().GetScalars()
    if scalars is None or scalars.GetNumberOfComponents() != 3 or min(image.GetDimensions()) < 1:
        raise InputError(f"The transform '{node_name(node)}' has no displacements.", advice="Choose another one.")
    direction = grid.GetGridDirectionMatrix()
    axes = np.eye(3) if direction is None else matrix_from_vtk(direction)[:3, :3]
    matrix = np.eye(4)
    matrix[:3, :3] = axes * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin() + matrix[:3, :3] @ np.array(image.GetExtent()[::2], np.float64)
    shape = image.GetDimensions()[::-1]
    vectors = vtk_to_numpy(scalars).reshape(*shape, 3)
    try:
        return DisplacementField(
            vectors * grid.GetDisplacementScale() + grid.GetDisplacementShift(), Geometry(shape, matrix)
        )
    except GeometryError as error:
        raise GeometryError(
            f"The transform '{node_name(node)}' cannot be used: {error.message}", advice=error.advice
        ) from error
