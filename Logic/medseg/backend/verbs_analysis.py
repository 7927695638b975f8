"""The verbs of *Analyse* that need no model: one segment into its instances, and two sets of instances compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.backend.encoding import Parcel, encode_result
from medseg.errors import InputError

if TYPE_CHECKING:
    from medseg.backend.verbs import Task

NO_MODEL = "instances"
"""What a request names where other verbs have a model."""


@dataclass(frozen=True)
class SplitRequest:
    """The options of the verb ``split_instances``.

    Attributes
    ----------
    value
        The label value of the segment in the label map.
    name, terminology
        The segment's name, and its tag ``TerminologyEntry`` as Slicer writes it; its instances get both.
    method, connectivity, neck_mm, minimum_mm3, keep_ends
        As :class:`medseg.analysis.SplitOptions`.
    """

    value: int = 1
    name: str = "Segment"
    terminology: str = ""
    method: str = "components"
    connectivity: int = 6
    neck_mm: float = 3.0
    minimum_mm3: float = 0.0
    keep_ends: bool = True


def split_instances_verb(task: Task) -> Parcel:
    """Split a segment (:func:`medseg.segmentation.splitting.split_segment`).

    The volumes are the label map and, when intensities are to be measured, the image on the same grid.

    Raises
    ------
    InputError
        When there is no label map, or it is not one, or an option cannot be used.
    """
    from medseg.analysis import SplitOptions
    from medseg.backend.verbs import make_options
    from medseg.segmentation.seg_nrrd_labels import plain_label, with_terminology
    from medseg.segmentation.splitting import split_segment

    request = make_options(SplitRequest, task.options)
    if len(task.volumes) not in (1, 2) or task.volumes[0].array.dtype.kind not in "bui":
        raise InputError(
            "Splitting a segment takes a label map of whole numbers, and perhaps its image.",
            advice="Give the label map first.",
        )
    options = make_options(
        SplitOptions,
        {name: getattr(request, name) for name in ("method", "connectivity", "neck_mm", "minimum_mm3", "keep_ends")},
    )
    label = with_terminology(plain_label(request.value, request.name), request.terminology)
    labelmap, *image = task.volumes
    return encode_result(
        split_segment(labelmap, label, options, image=image[0] if image else None, progress=task.progress)
    )


@dataclass(frozen=True)
class CompareRequest:
    """The options of the verb ``compare_instances``.

    ``groups``: for each group (left ribs, ...) the label values of its instances in the first and in the second label
    map, such as ``{"Left rib": [[3, 4], [1, 2]]}``; without it all values are one group.
    """

    groups: dict[str, Any] | None = None


def compare_instances_verb(task: Task) -> Parcel:
    """Compare two label maps of instances (:func:`medseg.segmentation.agreement.instance_agreement`).

    The volumes are the instances to judge and the true ones.

    Raises
    ------
    InputError
        When there are not two label maps, or the groups are no groups.
    GeometryError
        When they do not lie on one grid.
    """
    from medseg.backend.verbs import make_options
    from medseg.segmentation.agreement import instance_agreement

    request = make_options(CompareRequest, task.options)
    if len(task.volumes) != 2 or any(volume.array.dtype.kind not in "bui" for volume in task.volumes):
        raise InputError(
            "Instances are compared in two label maps of whole numbers.", advice="Give those to judge, then the truth."
        )
    predicted, true = task.volumes
    return encode_result(instance_agreement(predicted, true, _groups(request.groups), progress=task.progress))


def _groups(given: Any) -> dict[str, tuple[list[int], list[int]]] | None:
    """Return the groups of a request after checking that they are some."""
    if given is None:
        return None
    groups = {str(name): sides for name, sides in given.items()} if isinstance(given, dict) else {}
    if not groups or not all(_are_values(sides) for sides in groups.values()):
        raise InputError(
            "The groups of instances are not names with the label values of both sides.",
            advice='Give them like {"Left rib": [[3, 4], [1, 2]]}.',
        )
    return {name: (sides[0], sides[1]) for name, sides in groups.items()}


def _are_values(sides: Any) -> bool:
    """Say whether this is two lists of label values."""
    if not isinstance(sides, list | tuple) or len(sides) != 2 or not all(isinstance(side, list) for side in sides):
        return False
    return all(type(value) is int and 0 < value <= 65535 for side in sides for value in side)
