"""A segment under correction: the editor's images as arrays, changed voxels back, and the log that stays with a scene.

Everything is on the grid of the Segment Editor's reference geometry, in the frame of the segmentation node, its
transforms undone. "Image" is a ``vtkOrientedImageData`` here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.correction.region import bounding_box
from medseg.errors import InputError
from medseg.mrml.images import allocate_image, image_array, image_geometry
from medseg.segmentation.segments import EDITED_TAG, edited_tags
from medseg.volumes import Volume

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LOG_ATTRIBUTE = "MedSeg.Correction."
_TAGS = ("DICOM.SegmentAlgorithmType", "DICOM.SegmentAlgorithmName", EDITED_TAG)


def aligned_volume(source_image: Any) -> Volume:
    """Return the source volume on the editor's grid, (k, j, i), a copy.

    Raises
    ------
    InputError
        When there is no source volume.
    """
    if source_image is None or min(source_image.GetDimensions()) < 1:
        raise InputError("There is no volume to look at.", advice="Choose the source volume in the Segment Editor.")
    return Volume(image_array(source_image).copy(), image_geometry(source_image))


def mask_of(image: Any, reference_image: Any) -> np.ndarray:
    """Return a segment on the editor's grid, (k, j, i) bool.

    Parameters
    ----------
    image
        Of one segment, on the grid of the reference, with any extent; ``None`` or without voxels: it is empty.
    reference_image
        The reference geometry.
    """
    mask = np.zeros(_shape(reference_image), bool)
    if image is None or min(image.GetDimensions()) < 1:
        return mask
    target, source = [], []
    for (first, last), (low, high) in zip(_extent_kji(image), _extent_kji(reference_image), strict=True):
        start, stop = max(first, low), min(last, high) + 1
        target.append(slice(start - low, max(stop, start) - low))
        source.append(slice(start - first, max(stop, start) - first))
    mask[tuple(target)] = image_array(image)[tuple(source)] > 0
    return mask


def editable_voxels(
    editor_node: Any, reference_image: Any, source_image: Any = None, *, keep_others: bool = True
) -> np.ndarray | None:
    """Return where the Segment Editor allows to change the selected segment, (k, j, i) bool; ``None``: everywhere.

    Parameters
    ----------
    editor_node
        The ``vtkMRMLSegmentEditorNode`` with segmentation, selected segment, editable area and intensity range.
    source_image
        The source volume on that grid, for the intensity range.
    keep_others
        Whether voxels of other segments must not be changed, whatever may be overwritten by the editor's settings.

    Raises
    ------
    InputError
        When the editor's mask cannot be made, as with an editable area of a segment that is gone.
    """
    import slicer

    kinds = slicer.vtkMRMLSegmentationNode
    by_intensity = bool(editor_node.GetSourceVolumeIntensityMask())
    modes = []
    if editor_node.GetMaskMode() != kinds.EditAllowedEverywhere or by_intensity:
        modes.append((editor_node.GetMaskMode(), by_intensity))
    if keep_others:
        modes.append((kinds.EditAllowedOutsideAllSegments, False))
    allowed: np.ndarray | None = None
    for mode, limited in modes:
        image = slicer.vtkOrientedImageData()
        made = editor_node.GetSegmentationNode().GenerateEditMask(
            image,
            mode,
            reference_image,
            editor_node.GetSelectedSegmentID() or "",
            editor_node.GetMaskSegmentID() or "",
            source_image if limited else None,
            list(editor_node.GetSourceVolumeIntensityMaskRange()) if limited else None,
        )
        if not made:
            raise InputError(
                "The editable area of the Segment Editor cannot be found.", advice="Choose another one below Masking."
            )
        found = image_array(image) == 0
        allowed = found if allowed is None else allowed & found
    return allowed


def change_images(
    before: np.ndarray, after: np.ndarray, start: Sequence[int], reference_image: Any
) -> tuple[Any | None, Any | None]:
    """Return what is to be added to a segment and what to be removed, as images no larger than need be.

    Two small changes instead of setting the whole segment: that takes a second on a CT of the whole body.

    Parameters
    ----------
    before, after
        Bool, the part of the segment, (k, j, i).
    start
        Of the part on the editor's grid, (k, j, i).

    Returns
    -------
    tuple
        ``None`` where there is nothing to change.
    """
    added = _small_image(after & ~before, start, reference_image)
    return added, _small_image(before & ~after, start, reference_image)


def mark_corrected(segment: Any, model: Mapping[str, str]) -> None:
    """Note at a ``vtkSegment`` that it is semi-automatic now, and with what it was corrected.

    Parameters
    ----------
    model
        ``name``, ``version`` and ``weights_sha256``, as far as they are known.
    """
    import vtk

    tags = {}
    for name in _TAGS:
        text = vtk.reference("")
        if segment.GetTag(name, text):
            tags[name] = str(text)
    for name, value in edited_tags(tags, model).items():
        segment.SetTag(name, value)


# --- the log


def save_log(segmentation_node: Any, segment_id: str, text: str) -> None:
    """Keep the log of a segment's correction with the scene; an empty one removes it."""
    segmentation_node.SetAttribute(_LOG_ATTRIBUTE + segment_id, text or None)


def saved_log(segmentation_node: Any, segment_id: str) -> str:
    """Return the log of a segment's correction, empty when there is none."""
    return segmentation_node.GetAttribute(_LOG_ATTRIBUTE + segment_id) or ""


def _extent_kji(image: Any) -> list[tuple[int, int]]:
    extent = image.GetExtent()
    return [(extent[4], extent[5]), (extent[2], extent[3]), (extent[0], extent[1])]


def _shape(image: Any) -> tuple[int, int, int]:
    k, j, i = (last - first + 1 for first, last in _extent_kji(image))
    return k, j, i


def _small_image(part: np.ndarray, start: Sequence[int], reference_image: Any) -> Any | None:
    import slicer
    import vtk

    box = bounding_box(part)
    if box is None:
        return None
    image, matrix = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
    reference_image.GetImageToWorldMatrix(matrix)
    image.SetImageToWorldMatrix(matrix)
    first = [low for low, _ in _extent_kji(reference_image)]
    k, j, i = (int(base + offset + own) for base, offset, own in zip(first, start, box.start, strict=True))
    allocate_image(image, (k, j, i), box.shape, np.uint8)[...] = part[box.slices]
    return image
