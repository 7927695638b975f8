"""What every face writes about a segment: its ID, its tags, and whether there is one at all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from medseg.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from medseg.labels import Label
    from medseg.segmentation.results import SegmentationResult

LABEL_VALUE_TAG = "MedSeg.LabelValue"
"""The segment tag with the value in the model's label table (Slicer may renumber its own label values)."""

MODEL_TAG = "MedSeg.Model"
MODEL_VERSION_TAG = "MedSeg.ModelVersion"
WEIGHTS_TAG = "MedSeg.WeightsSHA256"
VERSION_TAG = "MedSeg.Version"
EDITED_TAG = "MedSeg.EditedFrom"
"""The segment tag with the DICOM name of the algorithm that drew a segment before it was corrected."""

_TYPE_TAG, _NAME_TAG = "DICOM.SegmentAlgorithmType", "DICOM.SegmentAlgorithmName"

_LONGEST_ALGORITHM_NAME = 64  # DICOM: Segment Algorithm Name (0062,0009) is of VR LO


def segment_ids(labels: Iterable[Label]) -> dict[int, str]:
    """Return readable and stable segment IDs by label value: ``{1: "Left_atrium"}``.

    Letters, digits, ``-`` and ``_`` of ASCII only: IDs end up in XML, NRRD headers and file names. Where two names come
    out the same, the later one gets its value appended.
    """
    identifiers: dict[int, str] = {}
    for label in labels:
        identifier = re.sub(r"[^A-Za-z0-9_-]+", "_", label.name).strip("_") or f"Segment_{label.value}"
        while identifier in identifiers.values():
            identifier = f"{identifier}_{label.value}"
        identifiers[label.value] = identifier
    return identifiers


def found_labels(result: SegmentationResult) -> list[Label]:
    """Return the labels that have at least one voxel, in the order of the table.

    Only these become segments: an empty one would be listed as if something had been found, and Slicer's DICOM SEG
    export refuses a segmentation that has only empty segments. The statistics list every label.
    """
    voxels = {entry.value: entry.voxels for entry in result.statistics}
    if all(label.value in voxels for label in result.labels):
        return [label for label in result.labels if voxels[label.value] > 0]
    present: set[int] = set()
    for plane in result.labelmap.array:  # plane by plane, since unique sorts a copy
        present.update(np.unique(plane).tolist())
    return [label for label in result.labels if label.value in present]


def origin_tags(model: Mapping[str, str]) -> dict[str, str]:
    """Return which model of which version with which weights, and which MedSeg, made a result.

    ``model`` is :attr:`SegmentationResult.model`. Set on the node and on each segment: so a segment stays traceable in
    a file and after a copy into another segmentation.
    """
    return {
        MODEL_TAG: _tag_text(model.get("name", "")),
        MODEL_VERSION_TAG: _tag_text(model.get("version", "")),
        WEIGHTS_TAG: _tag_text(model.get("weights_sha256", "")),
        VERSION_TAG: VERSION,
    }


def segment_tags(label: Label, model: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that make a segment exportable as DICOM SEG and traceable to the model that drew it."""
    return {
        "TerminologyEntry": label.terminology_entry(),
        _TYPE_TAG: "AUTOMATIC",
        _NAME_TAG: algorithm_name(model),
        LABEL_VALUE_TAG: str(label.value),
        **origin_tags(model),
    }


def edited_tags(tags: Mapping[str, str], model: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a segment that was corrected with a model or a tool: semi-automatic, by it.

    What drew the segment before, if that was a program, stays in a tag of its own.
    """
    found = dict(tags)
    if found.get(_TYPE_TAG) == "AUTOMATIC" and found.get(_NAME_TAG):
        found[EDITED_TAG] = found[_NAME_TAG]
    return {**found, _TYPE_TAG: "SEMIAUTOMATIC", _NAME_TAG: algorithm_name(model), **origin_tags(model)}


def algorithm_name(model: Mapping[str, str]) -> str:
    """Return DICOM's Segment Algorithm Name: ``"MedSeg left-atrium-mr 1.0.0"``, at most 64 characters.

    A long model name is cut, the version never.
    """
    version = f" {model.get('version', '')}".rstrip()
    room = max(_LONGEST_ALGORITHM_NAME - len("MedSeg ") - len(version), 0)
    return _tag_text(f"MedSeg {model.get('name', '')[:room].rstrip()}{version}")[:_LONGEST_ALGORITHM_NAME]


def _tag_text(text: str) -> str:
    """Return ``text`` without what ends a tag in Slicer's file (``|``) or is forbidden in DICOM's VR LO."""
    return "".join("_" if mark in "|\\" or not mark.isprintable() else mark for mark in text)
