"""A run that tells in its files how it goes and how it ends."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

from medseg.errors import Cancelled, MedSegError, RecipeError, TrainingError
from medseg.progress import Progress
from medseg.training.run_files import RunFiles, read_state

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from medseg.training.fitting import Hardware

_HIDDEN = ".medseg-"
"""How the names of folders begin in which files are written before they are put in their place."""


@contextlib.contextmanager
def told(output: Path, hardware: Hardware, progress: Progress) -> Iterator[tuple[RunFiles, Progress]]:
    """Make the output folder, and tell in its files how the run goes and how it ends, whichever way."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecipeError(
            f"The output folder {output} cannot be made: {error.strerror}.", advice="Choose another with --output."
        ) from error
    other = read_state(output)
    if hardware.is_first and other is not None and other.alive:
        raise TrainingError(
            f"A run is going on in {output} (process {other.pid} on {other.host}).",
            advice="Wait for it, stop it, or choose another output folder; one that was killed counts as ended after"
            " two minutes.",
        )
    if hardware.is_first:
        for leftover in output.glob(f"{_HIDDEN}*"):  # what a killed run was writing
            shutil.rmtree(leftover, ignore_errors=True)
    files = RunFiles(output, writes=hardware.is_first)
    files.start()

    def report(fraction: float, text: str) -> None:
        files.update(fraction=fraction, message=text)
        progress.update(fraction, text)

    def cancelled() -> bool:
        progress.check()
        return files.stop_requested()

    try:
        yield files, Progress(report, cancelled)
    except (Cancelled, KeyboardInterrupt, SystemExit):
        # When a helping process fails, Lightning ends this one: the failure has been written by the other.
        ended = read_state(output)
        if ended is None or ended.state != "failed":
            files.end("cancelled", "The run was stopped; the same command goes on with it.")
        raise
    except MedSegError as error:
        files.fail(error.message, error.advice)
        raise
    except Exception as error:
        files.fail(f"The run failed in a way that it should not have ({type(error).__name__}: {error}).")
        raise
    files.end("finished", "Done")
