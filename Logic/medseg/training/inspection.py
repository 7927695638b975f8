"""``medseg train --check``: everything that comes before the first step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.progress import NO_PROGRESS, Progress
from medseg.training.sampled_run import Samples
from medseg.training.summary import LABEL_HEAD, data_rows, label_rows
from medseg.training.tasks import read_any_recipe, task_for

if TYPE_CHECKING:
    from medseg.labels import LabelTable
    from medseg.training.checks import CaseFacts


@dataclass(frozen=True)
class CheckedData:
    """Data that a recipe can be trained on."""

    facts: tuple[CaseFacts, ...]
    labels: LabelTable

    def rows(self) -> list[tuple[str, str]]:
        """Return what there is, each with a text."""
        return data_rows(self.facts)

    def label_table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return the head and the rows of a table with a line for each label."""
        return LABEL_HEAD, label_rows(self.facts, self.labels)


Checked = CheckedData | Samples
"""What a recipe of any task can be trained on."""


def check(recipe_path: Path, data: Path | None, *, progress: Progress = NO_PROGRESS) -> Checked:
    """See :func:`medseg.training.check_data`."""
    recipe_path = Path(recipe_path)
    return task_for(read_any_recipe(recipe_path)).check(recipe_path, data, progress)
