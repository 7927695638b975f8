"""The displacement field of a transform node as the verb ``smooth_transform`` takes it, and its answer as a node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import InputError
from medseg.mrml.transforms import transform_from_node, transform_to_node
from medseg.mrml.volumes import node_name
from medseg.registration import DisplacementField, SpatialTransform
from medseg.volumes import Volume

if TYPE_CHECKING:
    from medseg.backend.encoding_registration import Registered


@dataclass(frozen=True)
class FieldOfNode:
    """The one field of a transform node; nothing here touches the node.

    Attributes
    ----------
    transform
        All of the node's transform.
    place
        Of the field among its stages.
    """

    transform: SpatialTransform
    place: int

    @property
    def volumes(self) -> tuple[Volume, Volume, Volume]:
        """The displacements along R, A and S in mm, (k, j, i) float32."""
        field = self.transform.stages[self.place]
        assert isinstance(field, DisplacementField)
        right, anterior, superior = (
            Volume(np.ascontiguousarray(field.vectors[..., axis]), field.geometry) for axis in range(3)
        )
        return right, anterior, superior

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
    transform = transform_from_node(node)
    places = [index for index, stage in enumerate(transform.stages) if isinstance(stage, DisplacementField)]
    if len(places) != 1:
        what = "no displacement field" if not places else f"{len(places)} displacement fields"
        raise InputError(
            f"The transform '{node_name(node)}' has {what}.",
            advice="Choose a grid transform, or one of a registration.",
        )
    return FieldOfNode(transform, places[0])


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
