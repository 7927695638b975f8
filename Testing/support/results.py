"""Results of a segmentation that tests write, read and compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.labels import Code, Label, LabelTable
from medseg.segmentation.results import SegmentationResult
from medseg.segmentation.statistics import measure_segments
from medseg.volumes import Volume

if TYPE_CHECKING:
    import numpy as np

STRUCTURE = Code("SCT", "123037004", "Anatomical Structure")
LABELS = LabelTable(
    (
        Label(1, "Left atrium", (220, 80, 80), STRUCTURE, Code("SCT", "82471001", "Left atrium")),
        Label(
            3,
            "Kidney, left",
            (10, 200, 30),
            STRUCTURE,
            Code("SCT", "64033007", "Kidney"),
            type_modifier=Code("SCT", "7771000", "Left"),
            region=Code("SCT", "80891009", "Heart"),
        ),
        Label(200, "Aorta", (0, 0, 255), STRUCTURE, Code("SCT", "15825003", "Aorta")),
    )
)
MODEL = {"name": "left-atrium-mr", "version": "1.0.0", "weights_sha256": "ab" * 32}


def result_on(image: Volume, array: np.ndarray, labels: LabelTable = LABELS, **changes: Any) -> SegmentationResult:
    """Return a result with labels ``array`` on the grid of ``image``."""
    labelmap = Volume(array, image.geometry, name=image.name)
    result = SegmentationResult(labelmap, labels, measure_segments(labelmap, image, labels), model=dict(MODEL))
    for name, value in changes.items():
        setattr(result, name, value)
    return result
