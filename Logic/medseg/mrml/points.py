"""Points that a user placed, in the frame of a volume."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg.errors import InputError
from medseg.mrml.volumes import node_name


def point_in_volume(markups_node: Any, volume_node: Any) -> tuple[float, float, float]:
    """Return the last point of a point list as (R, A, S) in mm in the frame of a volume, transforms undone.

    Raises
    ------
    InputError
        When the list has no point that was placed.
    """
    placed = _placed(markups_node)
    if not placed:
        raise InputError(f"'{node_name(markups_node)}' has no point.", advice="Place one in a slice view.")
    right, anterior, superior = _positions(markups_node, placed[-1:], volume_node)[0]
    return float(right), float(anterior), float(superior)


def landmarks_in_volumes(
    fixed_markups: Any, fixed_node: Any, moving_markups: Any, moving_node: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return corresponding points of two lists, each (N, 3) RAS mm in the frame of its volume, transforms undone.

    They correspond by their place in the lists; a pair of which one was not placed is left out.

    Raises
    ------
    InputError
        When the lists are not of one length, or no pair was placed.
    """
    counts = [markups.GetNumberOfControlPoints() for markups in (fixed_markups, moving_markups)]
    if counts[0] != counts[1]:
        raise InputError(
            f"There are {counts[0]} landmarks in the fixed and {counts[1]} in the moving volume.",
            advice="Place the same landmarks in both, in the same order.",
        )
    pairs = sorted({*_placed(fixed_markups)} & {*_placed(moving_markups)})
    if not pairs:
        raise InputError(
            "The lists of landmarks hold no pair.",
            advice="Place the same landmarks in both volumes, in the same order.",
        )
    return _positions(fixed_markups, pairs, fixed_node), _positions(moving_markups, pairs, moving_node)


def _placed(markups_node: Any) -> list[int]:
    return [
        index
        for index in range(markups_node.GetNumberOfControlPoints())
        if markups_node.GetNthControlPointPositionStatus(index) == markups_node.PositionDefined
    ]


def _positions(markups_node: Any, indices: list[int], volume_node: Any) -> np.ndarray:
    """Return points (N, 3) in the frame of a volume."""
    found = []
    for index in indices:
        position = [0.0, 0.0, 0.0]
        markups_node.GetNthControlPointPositionWorld(index, position)
        found.append(position)
    return points_in_frame(np.array(found), volume_node)


def points_in_frame(world: np.ndarray, node: Any) -> np.ndarray:
    """Return points (N, 3), world RAS mm, in the frame of a node, its transforms undone; also if they are warps."""
    return _transformed(world, None, node.GetParentTransformNode())


def points_in_world(points: np.ndarray, node: Any) -> np.ndarray:
    """Return points (N, 3), RAS mm in the frame of a node, in the world."""
    return _transformed(points, node.GetParentTransformNode(), None)


def _transformed(points: np.ndarray, source: Any, target: Any) -> np.ndarray:
    if source is target:
        return np.array(points, np.float64)
    import slicer
    import vtk

    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(source, target, transform)
    return np.array([transform.TransformPoint(point) for point in np.asarray(points, np.float64).tolist()])
