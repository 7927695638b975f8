"""Write a segmentation in which one segment was edited; what the file said of the others stays as it was.

IDs, tags, empty segments and keys that MedSeg does not know are handed on: a segment that another program drew, or a
model, does not become one of MedSeg's when its neighbour is corrected.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from medseg.segmentation.seg_nrrd import segment_fields, segmentation_pairs, write_layer
from medseg.segmentation.seg_nrrd_labels import header_pairs
from medseg.segmentation.segments import edited_tags, segment_ids
from medseg.volumes.folders import is_segmentation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from medseg.labels import Label
    from medseg.volumes import Volume

_KEY = re.compile(r"Segment(\d{1,5})_(\w+)")


def write_edited(
    labelmap: Volume,
    labels: Iterable[Label],
    edited: int,
    path: str | Path,
    *,
    model: Mapping[str, str],
    source: Path | None = None,
) -> None:
    """Write a ``.seg.nrrd`` whose segment of value ``edited`` is marked as semi-automatic, drawn with a model.

    Parameters
    ----------
    labelmap
        uint8 or uint16.
    labels
        The segments, empty ones too. Those in the header of ``source`` stay as they are there.
    model
        ``name``, ``version`` and ``weights_sha256`` of the model or tool.
    source
        What was edited: only a ``.seg.nrrd`` has more to say than ``labels``.

    Raises
    ------
    ReadError, WriteError
        When the source cannot be read, or the file not be written; what stood there before is untouched.
    """
    known = header_pairs(source) if source is not None and is_segmentation(source) else {}
    segments: dict[int, dict[str, str]] = {}
    others: dict[str, str] = {}
    for key, text in known.items():
        match = _KEY.fullmatch(key)
        if match:
            segments.setdefault(int(match[1]), {})[match[2]] = text
        else:
            others[key] = text
    labels = list(labels)
    by_value = {int(fields.get("LabelValue", index + 1)): fields for index, fields in sorted(segments.items())}
    identifiers = _free_ids(labels, {fields.get("ID", "") for fields in by_value.values()})
    for label in labels:
        tags = {"TerminologyEntry": label.terminology_entry()}
        made = segment_fields(label, identifiers[label.value], tags, labelmap.geometry)
        # Where its voxels lie in the file is not as it was; what it is called and what it is, is.
        of_this_file = {key: made[key] for key in ("LabelValue", "Layer", "Extent")}
        by_value[label.value] = {**by_value.get(label.value, made), **of_this_file}
    by_value[edited]["Tags"] = _edited_tags(by_value[edited].get("Tags", ""), model)
    pairs = [(f"Segment{n}_{key}", text) for n, fields in enumerate(by_value.values()) for key, text in fields.items()]
    whole = dict(segmentation_pairs(labelmap.geometry))
    offset = "Segmentation_ReferenceImageExtentOffset"
    write_layer(labelmap, [*pairs, *{**whole, **others, offset: whole[offset]}.items()], path)


def _free_ids(labels: list[Label], taken: set[str]) -> dict[int, str]:
    found = segment_ids(labels)
    for value in found:
        while found[value] in taken:
            found[value] += f"_{value}"
    return found


def _edited_tags(text: str, model: Mapping[str, str]) -> str:
    tags = edited_tags(dict(tag.split(":", 1) for tag in text.split("|") if ":" in tag), model)
    return "".join(f"{key}:{value}|" for key, value in tags.items())
