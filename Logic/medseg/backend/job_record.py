"""A job as the service keeps it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medseg.errors import MedSegError

MAXIMUM_LOG_LINES = 2000
MAXIMUM_LINE = 2000
MAXIMUM_FIGURES = 20_000


@dataclass(eq=False)
class JobRecord:
    """A job: what was asked, and how far it is. Not thread-safe: the service's lock guards it.

    ``figures`` are pairs of a name and a number that changes with the job, such as a loss, in the order in which they
    came; ``None`` stands for what is not a number. ``revision`` grows with every change, so that a client can wait for
    something new. ``details`` (a traceback, the last words of a process) is for the report that the user may copy, not
    for the panel.
    """

    id: str
    verb: str
    model: str
    options: dict[str, Any]
    volumes: list[str]
    state: str = "queued"
    progress: float = 0.0
    text: str = "Waiting for its turn…"
    revision: int = 0
    log: list[str] = field(default_factory=list)
    error: MedSegError | None = None
    details: str = ""
    figures: list[tuple[str, float | None]] = field(default_factory=list)
    cancel_time: float | None = None
    finish_early: bool = False
    sent: bool = False
    created: float = field(default_factory=time.monotonic)
    _phase: str = ""

    def report(self, fraction: float | None, text: str) -> None:
        """Take a progress report; a text that differs in more than its numbers is a new phase and is logged."""
        if fraction is not None:
            self.progress = min(max(fraction, 0.0), 1.0)
        if text:
            self.text = text[:MAXIMUM_LINE]
            phase = re.sub(r"\d+", "#", self.text)
            if phase != self._phase:
                self._phase = phase
                self.add_line(self.text)
        self.revision += 1

    def add_line(self, line: str) -> None:
        """Add a line to the log, with the seconds since the job was sent."""
        if len(self.log) < MAXIMUM_LOG_LINES:
            self.log.append(f"{time.monotonic() - self.created:7.1f} s  {line[:MAXIMUM_LINE]}")
        self.revision += 1

    def add_figures(self, figures: Iterable[tuple[str, float | None]]) -> None:
        """Append figures; those beyond :data:`MAXIMUM_FIGURES` are dropped."""
        self.figures.extend((name, value) for name, value in figures)
        del self.figures[MAXIMUM_FIGURES:]
        self.revision += 1

    def finish(self, state: str, error: MedSegError | None, details: str) -> None:
        """Set a final state."""
        self.state = state
        self.error = error
        self.details = details[-20_000:]
        if state == "done":
            self.progress = 1.0
        self.text = {"done": "Done.", "cancelled": "Cancelled."}.get(state, str(error))
        self.add_line(self.text)

    def to_dict(self, since: int = 0, figures_since: int = 0) -> dict[str, Any]:
        """Return the job as JSON values, with its log from line ``since`` on, its figures from ``figures_since`` on."""
        since, figures_since = max(since, 0), max(figures_since, 0)
        return {
            "job": self.id,
            "state": self.state,
            "progress": self.progress,
            "text": self.text,
            "revision": self.revision,
            "log": self.log[since:],
            "log_length": len(self.log),
            "figures": self.figures[figures_since:],
            "figures_length": len(self.figures),
            "error": self.error.to_dict() if self.error is not None else None,
            "details": self.details,
        }
