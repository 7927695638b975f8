"""What the verb *Register* leaves in the scene: a transform, and the volumes and segmentations that were asked for."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.errors import GeometryError
from medseg.mrml.display import color_node, copy_window
from medseg.mrml.hierarchy import place_beside
from medseg.mrml.overlays import KIND_ATTRIBUTE
from medseg.mrml.segmentations import segmentation_to_node
from medseg.mrml.transforms import METHOD_ATTRIBUTE, check_output, transform_to_node
from medseg.mrml.volumes import geometry_from_node, node_name, volume_to_node
from medseg.segmentation import SegmentationResult
from medseg.segmentation.segments import VERSION_TAG, origin_tags
from medseg.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.backend.encoding_registration import Registered
    from medseg.labels import LabelTable
    from medseg.mrml.registration_inputs import RegistrationInputs, RegistrationNodes
    from medseg.volumes import Volume

FIGURES_ATTRIBUTE = "MedSeg.Figures"
"""The attribute of a transform node with the figures of its registration, as JSON."""

JACOBIAN_COLORS = ("DivergingBlueRed", "ColdToHotRainbow", "Rainbow")
"""Colour tables for the Jacobian, the preferred one first; which there are depends on the application."""

_GRID_TOLERANCE_MM = 1e-3


@dataclass
class RegistrationOutputs:
    """The nodes of a result; ``None`` for what was not asked for."""

    transform: Any
    inverse: Any = None
    warped: Any = None
    segmentation: Any = None
    jacobian: Any = None
    checkerboard: Any = None
    difference: Any = None


def write_registration(
    result: Registered, nodes: RegistrationNodes, inputs: RegistrationInputs, scene: Any, *, transform_node: Any = None
) -> RegistrationOutputs:
    """Write a result: all of it, or nothing.

    The volumes and the segmentation lie on the fixed volume's grid, under its transform and beside it in the subject
    hierarchy.

    Parameters
    ----------
    result
        What the worker gave.
    nodes, inputs
        What was registered, and what was read of it.
    scene
        The ``vtkMRMLScene``.
    transform_node
        A transform node of ``scene`` to overwrite; by default a new one is made.

    Raises
    ------
    InputError
        When ``transform_node`` cannot take the transform.
    GeometryError
        When a volume was changed after it was read: the result would lie in the wrong place.
    """
    for volume_node, geometry in ((nodes.fixed, inputs.fixed_geometry), (nodes.moving, inputs.moving_geometry)):
        if not geometry_from_node(volume_node).is_close(geometry, _GRID_TOLERANCE_MM):
            raise GeometryError(
                f"The volume '{node_name(volume_node)}' has another voxel grid than when it was registered.",
                advice="It was cropped, moved or hardened in the meantime: register it again.",
            )
    if transform_node is not None:
        check_output(transform_node, scene, linear=result.transform.is_linear, fixed_node=nodes.fixed)
    return _Writer(result, nodes, inputs, scene).write(transform_node)


def put_under_transform(nodes: RegistrationNodes, transform_node: Any) -> None:
    """Put the moving volume under a transform, and with it what lies on it: its mask, segmentation and landmarks.

    These are read where they appear (:func:`~medseg.mrml.registration_inputs.registration_inputs`). Left behind they
    would no longer lie on the volume, neither for the eye nor for the next registration. What was under another
    transform than the volume, or lies on the fixed one too, stays where it is.
    """
    before = nodes.moving.GetTransformNodeID()
    of_fixed = [nodes.fixed_mask, nodes.fixed_segmentation, nodes.fixed_points]
    for node in (nodes.moving_mask, nodes.moving_segmentation, nodes.moving_points):
        if node is not None and node.GetTransformNodeID() == before and not any(node is one for one in of_fixed):
            node.SetAndObserveTransformNodeID(transform_node.GetID())
    nodes.moving.SetAndObserveTransformNodeID(transform_node.GetID())


class _Writer:
    def __init__(self, result: Registered, nodes: RegistrationNodes, inputs: RegistrationInputs, scene: Any) -> None:
        self._result = result
        self._nodes = nodes
        self._inputs = inputs
        self._scene = scene
        self._fixed, self._moving = node_name(nodes.fixed), node_name(nodes.moving)

    def write(self, transform_node: Any) -> RegistrationOutputs:
        volumes = self._result.volumes
        # The segmentation comes first: it is the only one that may still be refused.
        labels = self._inputs.labels
        segmentation = (
            None if labels is None or "labels" not in volumes else self._segmentation(volumes["labels"], labels)
        )
        pictures = {
            name: self._volume(name, volumes[name], title, show)
            for name, title, show in (
                ("warped", f"{self._moving} warped to {self._fixed}", self._as_moving),
                ("jacobian", f"Jacobian of {self._moving} to {self._fixed}", self._as_jacobian),
                ("checkerboard", f"Checkerboard of {self._fixed} and {self._moving}", _from_0_to_1),
                ("difference", f"{self._moving} minus {self._fixed}", _around_0),
            )
            if name in volumes
        }
        inverse = None
        if self._result.inverse is not None:
            inverse = transform_to_node(
                self._result.inverse,
                self._scene,
                f"{self._fixed} to {self._moving}",
                fixed_node=self._nodes.moving,
                moving_node=self._nodes.fixed,
                method=f"inverse of {self._result.method}",
                model=self._result.model,
            )
        transform = transform_to_node(
            self._result.transform,
            self._scene,
            f"{self._moving} to {self._fixed}",
            node=transform_node,
            fixed_node=self._nodes.fixed,
            moving_node=self._nodes.moving,
            method=self._result.method,
            model=self._result.model,
        )
        transform.SetAttribute(FIGURES_ATTRIBUTE, json.dumps(self._result.figures))
        return RegistrationOutputs(transform, inverse, segmentation=segmentation, **pictures)

    def _volume(self, kind: str, volume: Volume, name: str, show: Callable[[Any], None]) -> Any:
        if kind != "warped":
            volume = dataclasses.replace(volume, modality="")  # no longer in the unit of what it was computed from
        node = volume_to_node(volume, self._scene, name=name)
        node.SetAttribute(KIND_ATTRIBUTE, kind)
        node.SetAttribute(METHOD_ATTRIBUTE, self._result.method)
        tags = origin_tags(self._result.model) if self._result.model else {VERSION_TAG: VERSION}
        for attribute, text in tags.items():
            node.SetAttribute(attribute, text)
        node.SetAndObserveTransformNodeID(self._nodes.fixed.GetTransformNodeID())
        place_beside(node, self._nodes.fixed)
        show(node)
        return node

    def _segmentation(self, labelmap: Volume, labels: LabelTable) -> Any:
        model = self._result.model or {"name": self._result.method, "version": VERSION}
        result = SegmentationResult(labelmap, labels, model=model)
        name = f"{node_name(self._nodes.moving_segmentation)} warped to {self._fixed}"
        node = segmentation_to_node(result, self._nodes.fixed, self._scene, name=name)
        segmentation = node.GetSegmentation()
        for identifier in segmentation.GetSegmentIDs():
            # Whoever drew the segments, the computer has moved them.
            segmentation.GetSegment(identifier).SetTag("DICOM.SegmentAlgorithmType", "SEMIAUTOMATIC")
        return node

    def _as_moving(self, node: Any) -> None:
        copy_window(self._nodes.moving, node)

    def _as_jacobian(self, node: Any) -> None:
        display = node.GetDisplayNode()
        color = color_node(self._scene, JACOBIAN_COLORS)
        if color is not None:
            display.SetAndObserveColorNodeID(color.GetID())
        _window(node, 0.0, 2.0)


def _from_0_to_1(node: Any) -> None:
    _window(node, 0.0, 1.0)


def _around_0(node: Any) -> None:
    _window(node, -1.0, 1.0)


def _window(node: Any, low: float, high: float) -> None:
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(low, high)
