"""The verbs of *Analyse* that need no model: one segment into its instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
