"""Work that touches neither Qt nor MRML, done beside the main thread."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import qt

if TYPE_CHECKING:
    from collections.abc import Callable

POLL_MILLISECONDS = 40

YIELD_SECONDS = 0.01
"""How long each poll sleeps.

Slicer's main thread takes Python's global lock at start-up and keeps it while its event loop runs, so other Python
threads only advance while a callback on the main thread gives the lock away, as sleeping does.
"""


def letThreadsRun() -> None:
    """Give Python threads a moment; called by everything that polls on the main thread."""
    time.sleep(YIELD_SECONDS)


class BackgroundTask:
    """One function in a thread; its outcome arrives on the main thread.

    >>> task = BackgroundTask(lambda: slow(), lambda value, error: show(value))  # doctest: +SKIP
    """

    def __init__(self, function: Callable[[], Any], onDone: Callable[[Any, Exception | None], None]) -> None:
        self._function = function
        self._onDone = onDone
        self._value: Any = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="MedSegBackground", daemon=True)
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MILLISECONDS)
        self._timer.connect("timeout()", self._poll)
        self._thread.start()
        self._timer.start()

    @property
    def isRunning(self) -> bool:
        return self._timer is not None

    def abandon(self) -> None:
        """Stop listening; the thread ends by itself and nobody hears of it."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    def _run(self) -> None:
        try:
            self._value = self._function()
        except Exception as error:  # noqa: BLE001 - handed to the main thread, which reports it
            self._error = error

    def _poll(self) -> None:
        letThreadsRun()
        if self._timer is not None and not self._thread.is_alive():
            self.abandon()
            self._onDone(self._value, self._error)
