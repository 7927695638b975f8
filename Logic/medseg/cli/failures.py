"""What the user sees when a command fails, is interrupted or meets a defect of MedSeg."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import signal
import sys
import tempfile
import threading
import traceback
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from medseg.errors import Cancelled, MedSegError
from medseg.files import user_folder
from medseg.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

# Some versions of typer hold a copy of click, others depend on it; this finds the base of usage errors in both.
_UsageError: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if issubclass(kind, Exception) and kind.__name__ == "ClickException"
)
_DEBUG = "--debug"


class CarefulGroup(TyperGroup):
    """A group of commands whose errors are sentences: exit code 1, 2 for a wrong command line, 130 when interrupted."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take ``--debug`` from anywhere on the line, so that it can be added at the end of a failed command."""
        options = args[: args.index("--")] if "--" in args else args
        if _DEBUG in options:
            ctx.meta[_DEBUG] = True
            args = [option for option in options if option != _DEBUG] + args[len(options) :]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command and turn what it raises into a sentence and an exit code."""
        try:
            with _INTERRUPTION.watched():
                return super().invoke(ctx)
        except (typer.Exit, typer.Abort, _UsageError):
            raise
        except (Cancelled, KeyboardInterrupt, SystemExit) as error:
            # Lightning answers an interruption with SystemExit.
            if isinstance(error, SystemExit) and not _INTERRUPTION.arrived:
                raise
            typer.echo("Cancelled.", err=True)
            raise typer.Exit(128 + _INTERRUPTION.signal) from error
        except MedSegError as error:
            if ctx.meta.get(_DEBUG):
                traceback.print_exc()
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader of a pipe went away, which typer ends quietly
            if ctx.meta.get(_DEBUG):
                traceback.print_exc()
            typer.echo(unexpected(error), err=True)
            raise typer.Exit(1) from error


def unexpected(error: BaseException) -> str:
    """Write a report of a defect and return the sentence that says so and where the report lies."""
    kind = f"{type(error).__name__}: {error}".strip().rstrip(".:")
    sentence = f"MedSeg failed in a way that it should not have ({kind.splitlines()[0]})."
    where = _write_report(error)
    if where is None:
        return f"{sentence} Run the command again with --debug to see the details."
    return f"{sentence} The report for the developers was written to {where}."


def _write_report(error: BaseException) -> Path | None:
    now = datetime.now(timezone.utc)
    lines = [
        f"MedSeg {VERSION}, {now:%Y-%m-%d %H:%M:%S} UTC",
        f"Python {platform.python_version()} on {platform.platform()}",
        # Arguments may be names of patients' files; the report stays on this machine, and its reader is told.
        f"Command line (check it for names of patients before you send it): {sys.argv}",
        "",
        *traceback.format_exception(error),
    ]
    for folder in (user_folder() / "reports", Path(tempfile.gettempdir())):
        path = folder / f"medseg-{now:%Y%m%d-%H%M%S}-{os.getpid()}.txt"
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines), encoding="utf-8")
            return path
    return None


class _Interruption:
    """Ctrl-C and the polite kill of batch systems, which wait while a file is being written."""

    def __init__(self) -> None:
        self.signal = int(signal.SIGINT)
        self.arrived = False
        self._shields = 0
        self._pending = False

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Handle the signals while the block runs."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.signal, self.arrived, self._pending = int(signal.SIGINT), False, False
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def postponed(self) -> Iterator[None]:
        """Let the block finish before an interruption takes effect."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
        if self._pending and not self._shields:
            raise KeyboardInterrupt

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.signal, self.arrived = number, True
        if self._shields:
            self._pending = True
            return
        raise KeyboardInterrupt


_INTERRUPTION = _Interruption()
interruption_postponed = _INTERRUPTION.postponed
