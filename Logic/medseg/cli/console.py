"""Where text goes: results to standard output, progress and remarks to standard error."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from medseg.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

_STEPS = 1000
_PREPARATION = 0.05  # fraction of a job before the network starts


def remarks() -> Console:
    """Return the console for remarks, progress and errors, made anew because tests exchange ``sys.stderr``."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def results() -> Console:
    """Return the console for results."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


class Bar:
    """One line that shows the job in hand; nothing where ``console`` is not a terminal, so that logs stay readable."""

    def __init__(self, console: Console, total: int = 1) -> None:
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            # Standard output stays where it is, which may be a file or a pipe; `aside` keeps the two apart.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bars.add_task("", total=_STEPS)
        self._total = total
        self._started = 0

    def __enter__(self) -> Bar:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def start(self, name: str) -> Progress:
        """Begin the next of ``total`` jobs and return its progress."""
        self._started += 1
        title = f"{self._started}/{self._total} {name}" if self._total > 1 else name
        self._bars.reset(self._task, total=_STEPS, description=title)

        def report(fraction: float, text: str) -> None:
            description = f"{title}: {text}" if text else title
            done = round(fraction * _STEPS)
            if fraction < _PREPARATION:
                # Starts the clock again: imports and reading say nothing about the time that the network takes.
                self._bars.reset(self._task, total=_STEPS, completed=done, description=description)
            else:
                self._bars.update(self._task, completed=done, description=description)

        return Progress(report)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Take the line away while the block prints."""
        self._bars.stop()
        try:
            yield
        finally:
            self._bars.start()
