"""Work on the library of models that takes a while: in a thread, with a bar, the remaining time and a Cancel button."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from medseg.errors import Cancelled
from MedSegLib.background import BackgroundTask, Poller
from MedSegLib.modelCard import durationText

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.progress import Progress
    from MedSegLib.jobSection import StatusLine

LEAST_SECONDS, LEAST_FRACTION = 2.0, 0.02
"""No remaining time is said before this much has passed and is done."""


class LibraryTask:
    """Runs one function at a time beside the user interface, and shows how far it is.

    The function gets a :class:`medseg.progress.Progress`; it touches neither Qt nor MRML.
    """

    def __init__(self, poller: Poller, status: StatusLine, progressBar: Any, cancelButton: Any) -> None:
        self._poller = poller
        self._status = status
        self._bar = progressBar
        self._cancelButton = cancelButton
        self._isCancelled = threading.Event()
        self._isRunning = False
        self._fraction, self._text = 0.0, ""
        self._startTime = 0.0
        cancelButton.connect("clicked(bool)", self.onCancelButton)
        self._showWidgets()

    @property
    def isRunning(self) -> bool:
        return self._isRunning

    def start(self, function: Callable[[Progress], Any], onDone: Callable[[Any, Exception | None], None]) -> None:
        """Run ``function``; its value or error arrives on the main thread. ``onDone`` is not told of a cancellation."""
        from medseg.progress import Progress

        self._isCancelled = threading.Event()
        self._isRunning = True
        self._fraction, self._text = 0.0, ""
        self._startTime = time.monotonic()
        progress = Progress(self._report, self._isCancelled.is_set)

        def finished(value: Any, error: Exception | None) -> None:
            self._isRunning = False
            self._poller.remove(self._show)
            self._showWidgets()
            if isinstance(error, Cancelled):
                self._status.finish(_("Cancelled."))
            else:
                onDone(value, error)

        self._showWidgets()
        self._poller.add(self._show)
        BackgroundTask(self._poller, lambda: function(progress), finished)

    def onCancelButton(self, _checked: bool = False) -> None:
        """Stop at the next opportunity, which comes within a second."""
        self._isCancelled.set()
        self._cancelButton.enabled = False
        self._status.say(_("Cancelling…"))

    def shutDown(self) -> None:
        """Stop, and show nothing any more."""
        self._isCancelled.set()
        self._poller.remove(self._show)

    def _report(self, fraction: float, text: str) -> None:
        # Called in the thread; the main thread looks at it when it has time.
        self._fraction, self._text = fraction, text

    def _show(self) -> None:
        if self._isCancelled.is_set():
            return
        fraction, passed = self._fraction, time.monotonic() - self._startTime
        self._bar.value = round(100 * fraction)
        if passed > LEAST_SECONDS and fraction > LEAST_FRACTION:
            left = durationText(passed * (1 - fraction) / fraction)
            self._bar.format = _("%p%, about {duration} left").format(duration=left)
        else:
            self._bar.format = "%p%"
        if self._text:
            self._status.say(self._text)

    def _showWidgets(self) -> None:
        self._bar.setVisible(self._isRunning)
        self._bar.value = 0
        self._bar.format = "%p%"
        self._cancelButton.setVisible(self._isRunning)
        self._cancelButton.enabled = self._isRunning
