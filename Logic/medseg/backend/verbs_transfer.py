"""The verb that brings labels from a thick copy of a volume to its thin slices, by training on this one case."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from medseg.backend.encoding import Parcel, encode_result
from medseg.errors import InputError

if TYPE_CHECKING:
    from medseg.backend.verbs import Task
    from medseg.labels import Label

NO_MODEL = "thin-from-thick"
"""What a request names where other verbs have a model."""


@dataclass(frozen=True)
class TransferRequest:
    """The options of the verb ``transfer``.

    Attributes
    ----------
    labels
        What is known of the segments, a dictionary for each: "value", "name", "color" (0 to 255) and "terminology" (the
        tag ``TerminologyEntry`` as Slicer writes it); :func:`medseg.mrml.drawn_labels` makes it. Values that are not
        listed are called after their number.
    method, keep_drawing, interpolation, steps, seconds, weights, margin_mm, seed, device
        As :class:`medseg.training.thin_thick.TransferOptions`.
    """

    labels: tuple[dict[str, Any], ...] = ()
    method: str = "guided"
    keep_drawing: bool | None = None
    interpolation: str = "cubic"
    steps: int = 400
    seconds: float = 180.0
    weights: tuple[float, float, float] = (1.0, 1.0, 0.1)
    margin_mm: float = 15.0
    seed: int = 0
    device: str = "auto"


def transfer_verb(task: Task) -> Parcel:
    """Transfer labels (:func:`medseg.training.thin_thick.transfer`); the volumes are the thin image, the thick labels.

    Raises
    ------
    InputError
        When there are other volumes than these, or an option cannot be used.
    """
    from medseg.backend.verbs import make_options
    from medseg.labels import LabelTable
    from medseg.segmentation.seg_nrrd_labels import plain_label
    from medseg.training.thin_thick import TransferOptions, transfer
    from medseg.training.thin_thick.result import as_segmentation

    request = make_options(TransferRequest, task.options)
    if len(task.volumes) != 2:
        raise InputError(
            "Transferring labels takes two volumes: the image with thin slices and the labels on its thick copy.",
            advice="Give both, the image first.",
        )
    names = [field.name for field in fields(TransferOptions)]
    options = make_options(TransferOptions, {name: getattr(request, name) for name in names})
    known = {label.value: label for label in map(label_from_dict, request.labels)}
    thin, thick_labels = task.volumes
    result = transfer(thin, thick_labels, options, progress=task.progress)
    table = LabelTable([known.get(value) or plain_label(value) for value in result.values])
    return encode_result(as_segmentation(result, table, thin, progress=task.progress))


def label_from_dict(given: object) -> Label:
    """Return the label of a segment from its dictionary (:attr:`TransferRequest.labels`).

    Raises
    ------
    InputError
        When it has no value.
    """
    from medseg.labels import Label
    from medseg.segmentation.seg_nrrd_labels import plain_label, with_terminology

    if not isinstance(given, dict) or type(given.get("value")) is not int:
        raise InputError("A label of the request has no value.", advice="Give value, name, color and terminology.")
    label = plain_label(given["value"], str(given.get("name", "")))
    color = given.get("color")
    if isinstance(color, (list, tuple)) and len(color) == 3 and all(type(part) is int for part in color):
        label = Label(label.value, label.name, (color[0], color[1], color[2]), label.category, label.type)
    return with_terminology(label, str(given.get("terminology", "")))
