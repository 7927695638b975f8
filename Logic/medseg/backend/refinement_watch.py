"""Ears for a refinement: every loss is passed on, a cancel stops it at once, and a finish once there is a best to keep.

What optimises on a pair asks its objective for the loss at every step. So the objective is where a job that runs can
say how far it is, and hear what the user wants. Imports torch: for the computing process only.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from medseg.backend.verbs_registration import LOSS
from medseg.errors import Cancelled
from medseg.progress import Progress
from medseg.registration.instance import Objective

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from medseg.backend.verbs import Task
    from medseg.registration.working_grid import WorkingPair


class AbandonedError(Exception):
    """The user cancelled during a refinement, which would keep its best if it were told so with ``Cancelled``."""


class RefinementWatch:
    """Stands between a task and what refines for it."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._losses = 0
        self._pair: WorkingPair | None = None

    def progress(self, start: float, end: float) -> Progress:
        """Return the progress for a registration, a part of the task's.

        While nothing is refined yet it stops as usual; from then on a cancel is an :class:`AbandonedError`.
        """
        part = self._task.progress.part(start, end)

        def report(fraction: float, text: str) -> None:
            try:
                part.update(fraction, text)
            except Cancelled as error:
                if self._losses:
                    raise AbandonedError from error
                raise

        return Progress(report, lambda: not self._losses and self._is_cancelled())

    def objective(self, objective: Objective) -> Objective:
        """Return an objective with the same losses that tells and listens."""
        fields = {item.name: getattr(objective, item.name) for item in dataclasses.fields(Objective)}
        return _Watched(**fields, hear=self._hear)

    def _hear(self, loss: float, pair: WorkingPair) -> None:
        """Take the loss of a step; between those of two grids, which are not comparable, a NaN is told.

        Raises
        ------
        AbandonedError
            When the user cancelled.
        Cancelled
            When the user asked to finish, and the loss of an earlier step was kept.
        """
        if self._is_cancelled():
            raise AbandonedError
        if self._losses and self._task.finishing():
            raise Cancelled
        self._losses += 1
        if self._pair is not None and pair is not self._pair:
            self._task.tell(LOSS, math.nan)
        self._pair = pair
        self._task.tell(LOSS, loss)

    def _is_cancelled(self) -> bool:
        try:
            self._task.progress.check()
        except Cancelled:
            return True
        return False


@dataclasses.dataclass(frozen=True)
class _Watched(Objective):
    hear: Callable[[float, WorkingPair], None] = lambda _loss, _pair: None

    def on(self, pair: WorkingPair) -> Callable[[Tensor], Tensor]:
        inner = super().on(pair)

        def loss(displacement: Tensor) -> Tensor:
            value = inner(displacement)
            self.hear(value.item(), pair)
            return value

        return loss
