"""The page on a run, ``report.html``: one file that shows everything without a network."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medseg.files import atomic_path
from medseg.training.evaluation import case_scores, result_path
from medseg.training.run_files import read_progress, read_state

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.labels import LabelTable
    from medseg.training.checks import CaseFacts
    from medseg.training.evaluation import CaseResult
    from medseg.training.pairs import Pair
    from medseg.training.run_files import RunFiles
    from medseg.training.tasks import AnyRecipe

_LOG = logging.getLogger(__name__)

REPORT = "report.html"
RESULT_FOLDER = "validation"
"""Where the results of the cases kept aside lie, in the output folder."""

_WORST_CASES = 4


@dataclass(frozen=True)
class ReportTable:
    """A table of a report; the last row is a mean, and the first ``texts`` columns are not numbers."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1


@dataclass
class Report:
    """Writes the page; what is not known yet is left out.

    Attributes
    ----------
    started
        ``time.monotonic()`` when the run began.
    tolerance_mm
        Of the surface Dice in ``results``.
    facts, results, pairs, package
        The cases of the run; figures of the cases kept aside and their files; the finished package.
    tables
        Further tables.
    """

    output: Path
    recipe: AnyRecipe
    labels: LabelTable
    started: float
    tolerance_mm: float = 2.0
    facts: Sequence[CaseFacts] = ()
    results: Sequence[CaseResult] = ()
    pairs: Sequence[Pair] = ()
    package: Path | None = None
    tables: Sequence[ReportTable] = ()
    _pictures: list[tuple[str, bytes]] = field(default_factory=list)

    def write(self) -> bool:
        """Write the page, whole or not at all; ``False`` when it cannot be drawn or written, which ends no run."""
        try:
            from medseg.preview import check_preview

            check_preview()
            from medseg.training.report.page import page

            if self.results and not self._pictures:
                self._pictures = self._worst_cases()
            text = page(
                self,
                progress=read_progress(self.output),
                state=read_state(self.output),
                seconds=time.monotonic() - self.started,
                pictures=self._pictures,
            )
            with atomic_path(self.output / REPORT) as path:
                path.write_text(text, encoding="utf-8")
        except Exception as error:  # noqa: BLE001 - whatever it is, hours of training are worth more than a page
            _not_drawn("report", error)
            return False
        return True

    def _worst_cases(self) -> list[tuple[str, bytes]]:
        from medseg.training.recipe import Recipe
        from medseg.training.report.pictures import case_picture

        assert isinstance(self.recipe, Recipe)  # what has cases is a segmentation
        files = {pair.case: pair for pair in self.pairs}
        folder = self.output / RESULT_FOLDER
        found = []
        for case, score in list(case_scores(self.results).items())[:_WORST_CASES]:
            picture = case_picture(files[case], result_path(folder, case), self.recipe, self.labels)
            found.append((f"{case}: mean Dice {score:.3f}", picture))
        return found


def draw(report: Report, files: RunFiles) -> bool:
    """Write the page and tell in the run's files that it is there."""
    drawn = report.write()
    if drawn:
        files.update(report=REPORT)
    return drawn


def draw_picture(
    output: Path, pairs: Sequence[Pair], labels: LabelTable, results: Sequence[CaseResult], modality: str
) -> Path | None:
    """Draw the result of the case with the middle score as the picture of the package; ``None`` when that failed."""
    cases = list(case_scores(results))
    case = cases[len(cases) // 2]
    pair = next(pair for pair in pairs if pair.case == case)
    path = output / "preview.png"
    try:
        from medseg.training.report.pictures import package_picture

        package_picture(pair, result_path(output / RESULT_FOLDER, case), labels, modality, path)
    except Exception as error:  # noqa: BLE001 - the package can do without it
        _not_drawn("picture of the package", error)
        return None
    return path


def _not_drawn(what: str, error: Exception) -> None:
    _LOG.warning("The %s was not drawn (%s): %s", what, type(error).__name__, " ".join(str(error).split()))
