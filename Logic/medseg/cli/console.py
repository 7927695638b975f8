"""Where text goes: results to standard output, progress and remarks to standard error."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from medseg.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console


def remarks() -> Console:
    """Return the console for remarks, progress and errors, made anew because tests exchange ``sys.stderr``."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def results() -> Console:
    """Return the console for results."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


@contextlib.contextmanager
def progress_bar(console: Console, total: int = 1) -> Iterator[Callable[[str], Progress]]:
    """Show a bar; yield a function that starts the next of ``total`` jobs and returns its progress.

    Nothing is drawn where ``console`` is not a terminal, so that logs stay readable.
    """
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    with Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bars:
        task = bars.add_task("", total=1.0)
        started = 0

        def start(name: str) -> Progress:
            nonlocal started
            started += 1
            title = f"{started}/{total} {name}" if total > 1 else name
            bars.reset(task, total=1.0, description=title)

            def report(fraction: float, text: str) -> None:
                bars.update(task, completed=fraction, description=f"{title}: {text}" if text else title)

            return Progress(report)

        yield start
