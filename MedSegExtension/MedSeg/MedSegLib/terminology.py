"""Slicer's terminologies learn the codes of the installed models, so that its selectors offer them by name."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import slicer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medseg.labels import Label


def loadTerminology(labels: Iterable[Label]) -> None:
    """Load ``labels`` as the terminology context that the segments of a result name, in place of an earlier one."""
    from medseg.labels.terminology import write_terminology

    labels = list(labels)
    if not labels:
        return
    with tempfile.TemporaryDirectory(prefix="MedSeg-") as folder:
        path = Path(folder) / "SegmentationCategoryTypeModifier-MedSeg.term.json"
        write_terminology(labels, path)
        slicer.modules.terminologies.logic().LoadTerminologyFromFile(str(path))
