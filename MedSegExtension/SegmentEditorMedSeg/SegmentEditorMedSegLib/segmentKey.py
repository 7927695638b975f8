"""What tells whether a segment, its volume and the editor's settings are as they were; cheap, and compared as a whole.

Neither the editor's undo nor a setting tells an effect that it has changed something.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from medseg.mrml.images import image_geometry
from medseg.mrml.points import points_in_frame, points_in_world

_CORNERS_MM = np.array([[0.0, 0, 0], [100, 0, 0], [0, 100, 0], [0, 0, 100]])
"""Where these come to lie tells one placement of a volume from another."""


def keyOf(effect: Any, segmentationNode: Any, segmentID: str, keepOthers: bool) -> tuple[Any, ...]:
    """Return what must be as it was: segmentation, segment and volume (the first three), all segments, settings."""
    editor, segmentation = effect.parameterSetNode(), segmentationNode.GetSegmentation()
    display = segmentationNode.GetDisplayNode() if _dependsOnVisibility(editor, keepOthers) else None
    layers = []
    for other in segmentation.GetSegmentIDs():
        labels = segmentation.GetSegment(other).GetRepresentation("Binary labelmap")
        layers.append(
            (
                other,
                "" if labels is None else labels.GetAddressAsString("vtkObject"),
                0 if labels is None else labels.GetMTime(),
                display is None or bool(display.GetSegmentVisibility(other)),
            )
        )
    return (
        segmentationNode.GetID(),
        segmentID,
        _volumeKey(effect, editor.GetSourceVolumeNode(), segmentationNode),
        tuple(layers),
        editor.GetMaskMode(),
        editor.GetMaskSegmentID() or "",
        bool(editor.GetSourceVolumeIntensityMask()) and tuple(editor.GetSourceVolumeIntensityMaskRange()),
        keepOthers,
    )


def isEditableByItself(editor: Any) -> bool:
    """Return whether the segment itself is a part of the editable area, which then changes with every answer."""
    kinds = slicer.vtkMRMLSegmentationNode
    if editor.GetMaskMode() == kinds.EditAllowedInsideSingleSegment:
        return bool(editor.GetMaskSegmentID() == editor.GetSelectedSegmentID())
    return editor.GetMaskMode() in (kinds.EditAllowedInsideAllSegments, kinds.EditAllowedInsideVisibleSegments)


def _volumeKey(effect: Any, volume: Any, segmentationNode: Any) -> tuple[Any, ...] | None:
    """Return what must be as it was for a prompt to be answered from the same voxels at the same place."""
    reference = effect.referenceGeometryImage()
    if volume is None or reference is None:
        return None
    image, geometry = volume.GetImageData(), image_geometry(reference)
    seen = points_in_frame(points_in_world(_CORNERS_MM, volume), segmentationNode)
    return (
        volume.GetID(),
        0 if image is None else image.GetMTime(),
        geometry.shape,
        tuple(np.round(geometry.ijk_to_ras, 6).ravel().tolist()),
        tuple(np.round(seen, 4).ravel().tolist()),
    )


def _dependsOnVisibility(editor: Any, keepOthers: bool) -> bool:
    kinds = slicer.vtkMRMLSegmentationNode
    overwrites = not keepOthers and editor.GetOverwriteMode() == editor.OverwriteVisibleSegments
    visible = (kinds.EditAllowedInsideVisibleSegments, kinds.EditAllowedOutsideVisibleSegments)
    return overwrites or editor.GetMaskMode() in visible
