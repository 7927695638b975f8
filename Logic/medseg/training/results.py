"""What a training run has made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.training.evaluation import CaseResult, StructureFigures

RESULTS = "evaluation.csv"
"""The figures of what was kept aside, in the output folder."""


@dataclass(frozen=True)
class TrainingResult:
    """What a run has made.

    Attributes
    ----------
    package
        Folder of the exported model package.
    cases
        The figures of every case that was not trained on, at the full resolution of its image.
    seconds
        Time of this call (a resumed run counts from its last start).
    structures
        The figures of each structure over these cases.
    report
        The page on the run; ``None`` where it could not be drawn.
    exported
        Where the package was also put, as asked for.
    remarks
        What else was found, whole sentences.
    usage
        The command that runs the package; "" where there is none.
    """

    package: Path
    cases: tuple[CaseResult, ...]
    seconds: float
    structures: tuple[StructureFigures, ...] = ()
    report: Path | None = None
    exported: Path | None = None
    remarks: tuple[str, ...] = ()
    usage: str = ""
