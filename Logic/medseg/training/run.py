"""What a run of any task is asked for, and how it tells how far it is and ends."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.training.export import place_package
from medseg.training.recording import Recorder
from medseg.training.report import REPORT, draw
from medseg.training.results import TrainingResult

if TYPE_CHECKING:
    from pathlib import Path

    import lightning

    from medseg.progress import Progress
    from medseg.training.fitting import Hardware
    from medseg.training.report import Report
    from medseg.training.run_files import RunFiles


@dataclass(frozen=True)
class Run:
    """What the steps of a run share.

    Attributes
    ----------
    recipe_path, data, output, resume, export
        As :func:`medseg.training.run_training` takes them.
    files, progress
        Where the run tells how it goes, and whom.
    started
        ``time.monotonic()`` when it began.
    """

    recipe_path: Path
    data: Path | None
    output: Path
    resume: bool
    export: Path | None
    hardware: Hardware
    files: RunFiles
    progress: Progress
    started: float

    def record(self, trainer: lightning.Trainer, report: Report, progress: Progress, **facts: Any) -> None:
        """Let a trainer tell how far it is, beginning with ``facts``, and draw the report anew."""
        recipe, labels = report.recipe, report.labels
        recorder = Recorder(self.files, progress, recipe, labels, report=lambda: draw(report, self.files), facts=facts)
        trainer.callbacks.insert(0, recorder)

    def finish(self, report: Report, package: Path, usage: str, **found: Any) -> TrainingResult:
        """Draw the report, put the package where it was asked for, and return what the run has made.

        Parameters
        ----------
        usage
            The command that runs the package, ``{model}`` standing for where it lies.
        found
            What :class:`~medseg.training.results.TrainingResult` takes besides.
        """
        self.progress.update(0.99, "Drawing the report")
        report.package = package
        drawn = draw(report, self.files)
        exported = None if self.export is None else place_package(package, self.export)
        self.files.update(package=package.name, exported=None if exported is None else str(exported))
        self.progress.update(1.0, "Done")
        return TrainingResult(
            package,
            seconds=time.monotonic() - self.started,
            report=self.output / REPORT if drawn else None,
            exported=exported,
            usage=usage.format(model=exported or package),
            **found,
        )
