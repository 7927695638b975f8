"""The displacement field of a transform node as the verb ``smooth_transform`` takes it, and its answer as a node."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import InputError
from medseg.mrml.transforms import TransformReading, read_transform_node, transform_to_node
from medseg.mrml.volumes import node_name
from medseg.registration import DisplacementField, SpatialTransform
from medseg.volumes import Volume

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.backend.encoding_registration import Registered


@dataclass(frozen=True)
class FieldOfNode:
    """The one field of a transform node; nothing here touches the node.

    Attributes
    ----------
    reading
        All of the node's transform.
    """

    reading: TransformReading

    @functools.cached_property
    def transform(self) -> SpatialTransform:
        """All of the node's transform; a field that is kept the other way round takes a while the first time."""
        return self.reading.transform()

    @property
    def place(self) -> int:
        """Of the field among the stages of the transform, in which neighbouring matrices are one."""
        fields = (isinstance(stage, DisplacementField) for stage in self.transform.stages)
        return next(index for index, is_field in enumerate(fields) if is_field)

    @property
    def volumes(self) -> tuple[Callable[[], Volume], ...]:
        """Functions that give the displacements along R, A and S in mm, (k, j, i) float32; for any thread."""
        return tuple(functools.partial(self._along, axis) for axis in range(3))

    def _along(self, axis: int) -> Volume:
        field = self.transform.stages[self.place]
        assert isinstance(field, DisplacementField)
        return Volume(np.ascontiguousarray(field.vectors[..., axis]), field.geometry)

    def with_field(self, transform: SpatialTransform) -> SpatialTransform:
        """Return the whole transform with another one in the place of the field."""
        stages = self.transform.stages
        return SpatialTransform((*stages[: self.place], *transform.stages, *stages[self.place + 1 :]))


def field_of_node(node: Any) -> FieldOfNode:
    """Return the field of a transform node.

    Raises
    ------
    InputError
        When it is no transform, or does not have exactly one displacement field.
    GeometryError
        When the field lies on a grid that MedSeg does not use.
    """
    reading = read_transform_node(node)
    count = sum(isinstance(part, DisplacementField) for part, _ in reading.parts)
    if count != 1:
        what = f"{count} displacement fields" if count else "no displacement field"
        raise InputError(
            f"The transform '{node_name(node)}' has {what}.",
            advice="Choose a grid transform, or one of a registration.",
        )
    return FieldOfNode(reading)


def smoothed_to_node(result: Registered, source: FieldOfNode, source_node: Any, scene: Any) -> Any:
    """Write the smoothed field into a new transform node in the place of the one that it was smoothed from.

    Returns
    -------
    vtkMRMLTransformNode
        With the volumes and under the transform of ``source_node``.
    """
    roles = source_node.GetFixedNodeReferenceRole(), source_node.GetMovingNodeReferenceRole()
    fixed_node, moving_node = (source_node.GetNodeReference(role) for role in roles)
    node = transform_to_node(
        source.with_field(result.transform),
        scene,
        f"{node_name(source_node)} smoothed",
        fixed_node=fixed_node,
        moving_node=moving_node,
        method=result.method,
    )
    node.SetAndObserveTransformNodeID(source_node.GetTransformNodeID())
    return node
