"""A corrected segmentation as a case to train from, and a new segment to begin with.

As with label maps there are two steps: reading is quick and belongs on the main thread, writing may be anywhere.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.correction.log import digest_of
from medseg.correction.prompts import Prompt
from medseg.errors import InputError
from medseg.labels import Label, LabelTable
from medseg.mrml.corrections import saved_log
from medseg.mrml.label_reading import LabelReading, read_labels
from medseg.mrml.masks import segment_names
from medseg.mrml.points import points_in_frame, points_in_world
from medseg.mrml.thick import add_drawing, drawn_labels
from medseg.mrml.volumes import node_name, volume_from_node
from medseg.segmentation.seg_nrrd_labels import plain_label, with_terminology
from medseg.training.collecting import AppendedCase, append_case

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.volumes import Volume

CASE_ATTRIBUTE = "MedSeg.TrainingCase"
"""Of a segmentation node that was added to a training folder: it is added again when the user asked for that."""


@dataclass(frozen=True)
class LoggedClicks:
    """The prompts of a segment in the frame of the volume, and the digests of the segment before and after each."""

    prompts: tuple[Prompt, ...]
    digests: tuple[int, ...]

    def of_state(self, digest: int) -> tuple[Prompt, ...]:
        """Return the prompts that a segment holds; all, when it was changed by other means since."""
        count = next((back for back in reversed(range(len(self.digests))) if self.digests[back] == digest), None)
        return self.prompts if count is None else self.prompts[:count]


@dataclass(frozen=True)
class CaseReading:
    """What was read of a segmentation and its volume; :meth:`append_to` may run in any thread."""

    image: Volume
    labels: LabelReading
    table: LabelTable
    clicks: dict[str, LoggedClicks]

    def append_to(self, folder: Path) -> AppendedCase:
        """Add the case to a training folder, or bring it up to date.

        Raises
        ------
        MedSegError
            As :func:`medseg.training.collecting.append_case`.
        """
        labelmap = self.labels.labelmap()
        prompts = {
            label.name: self.clicks[label.name].of_state(digest_of(labelmap.array == label.value))
            for label in self.table
            if label.name in self.clicks
        }
        return append_case(folder, self.image, labelmap, self.table, prompts)


def read_case(segmentation_node: Any, volume_node: Any) -> CaseReading:
    """Read a segmentation, the volume that it was drawn on, and what the user pointed at.

    Everything is in the frame of the volume, its transforms undone. Segments without a voxel count: they say that the
    structure is not there. Where segments overlap, the later one in the list wins.

    Raises
    ------
    InputError
        When a node cannot be used, there is no segment, or two have one name.
    """
    names = segment_names(segmentation_node)
    if not names:
        raise InputError(f"'{node_name(segmentation_node)}' has no segment.", advice="Draw one first.")
    twice = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
    if twice:
        raise InputError(
            f"Two segments are called '{twice[0]}'.", advice="Give each a name of its own: labels are told by it."
        )
    reading = read_labels(segmentation_node, volume_node)
    # The editor changes its images in place: what is written is what there is now.
    parts = tuple(dataclasses.replace(part, array=part.array.copy()) for part in reading.parts)
    clicks = {}
    for identifier, name in names.items():
        found = _clicks(saved_log(segmentation_node, identifier), segmentation_node, volume_node)
        if found is not None:
            clicks[name] = found
    return CaseReading(
        volume_from_node(volume_node, copy=False),
        dataclasses.replace(reading, parts=parts),
        LabelTable([_label(given) for given in drawn_labels(segmentation_node)]),
        clicks,
    )


def add_segment(segmentation_node: Any, name: str) -> str:
    """Add an empty segment and return its ID; without a name Slicer gives one.

    Raises
    ------
    InputError
        When there is a segment of that name.
    """
    name = name.strip()
    if name in segment_names(segmentation_node).values():
        raise InputError(
            f"There is a segment called '{name}' already.", advice="Choose it above, or give another name."
        )
    identifier = segmentation_node.GetSegmentation().AddEmptySegment("", name)
    if not identifier:
        raise InputError(
            f"No segment could be added to '{node_name(segmentation_node)}'.",
            advice="Create its binary labelmap representation in the Segmentations module.",
        )
    return str(identifier)


def add_segmentation(volume_node: Any) -> Any:
    """Add an empty segmentation of a volume, in its frame and beside it in the subject hierarchy.

    Raises
    ------
    InputError
        When the volume cannot be used.
    """
    volume_from_node(volume_node, copy=False)
    node = add_drawing(volume_node)
    node.SetName(volume_node.GetScene().GenerateUniqueName(f"{node_name(volume_node)} segmentation"))
    return node


def _label(given: dict[str, Any]) -> Label:
    label = plain_label(given["value"], given["name"])
    red, green, blue = given["color"]
    return with_terminology(dataclasses.replace(label, color=(red, green, blue)), given["terminology"])


def _clicks(text: str, segmentation_node: Any, volume_node: Any) -> LoggedClicks | None:
    """Return what a log says was pointed at; ``None`` when there is none, or one that cannot be read."""
    try:
        content = json.loads(text)
        entries = content["prompts"]
        prompts = tuple(_in_volume(entry, segmentation_node, volume_node) for entry in entries)
        digests = (int(content["start_digest"]), *(int(entry["digest"]) for entry in entries))
    except (ValueError, KeyError, TypeError, InputError):
        return None
    return LoggedClicks(prompts, digests) if prompts else None


def _in_volume(entry: dict[str, Any], segmentation_node: Any, volume_node: Any) -> Prompt:
    prompt = Prompt.from_dict({key: entry[key] for key in ("type", "ras", "positive")})
    world = points_in_world(prompt.ras, segmentation_node)
    return Prompt(prompt.kind, points_in_frame(world, volume_node), prompt.positive)
