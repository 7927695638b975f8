"""What the real editor only writes to its log is kept here, so that the test fails that provoked it."""

from __future__ import annotations

from typing import Any

import vtk

from ..pythonqt import signals


class EffectError(RuntimeError):
    """The real application would have logged an error or a warning, and gone on."""


def complain(text: str) -> None:
    """Keep what went wrong among the exceptions that left slots: ``app.takeSlotErrors()`` gives it."""
    signals.report(EffectError(text))


# Without Qt's plugins of the subject hierarchy nodes have no items there; the logic goes on without them.
HARMLESS = ("Subject hierarchy items not found",)


def watch_errors(thing: Any) -> None:
    """Keep the errors that a VTK object would print."""

    @vtk.calldata_type(vtk.VTK_STRING)
    def keep(_caller: Any, _event: str, text: str) -> None:
        if not any(harmless in text for harmless in HARMLESS):
            complain(text.strip())

    thing.AddObserver("ErrorEvent", keep)
