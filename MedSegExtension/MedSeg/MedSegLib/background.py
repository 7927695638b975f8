"""Waiting on the main thread without keeping it: one timer, and threads for work that touches neither Qt nor MRML."""

from __future__ import annotations

import contextlib
import gc
import math
import threading
import time
from typing import TYPE_CHECKING, Any

import qt
import slicer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POLL_MILLISECONDS = 40

YIELD_SECONDS = 0.01
"""How long each poll sleeps.

Slicer's main thread takes Python's global lock at start-up and keeps it while its event loop runs, so other Python
threads only advance while a callback on the main thread gives the lock away, as sleeping does.
"""


@contextlib.contextmanager
def collectorPaused() -> Iterator[None]:
    """Keep Python's garbage collector from running meanwhile.

    It runs in whatever thread happens to allocate; in a thread other than the main one it could destroy Qt and VTK
    objects that the main thread is using.
    """
    wasEnabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if wasEnabled:
            gc.enable()


def waitUntil(condition: Callable[[], bool], seconds: float = math.inf) -> bool:
    """Handle events until ``condition`` holds; return whether it did within ``seconds``. For scripts and tests."""
    deadline = time.monotonic() + seconds
    with collectorPaused():
        while not condition():
            if time.monotonic() > deadline:
                return False
            slicer.app.processEvents()
            time.sleep(YIELD_SECONDS)
    return True


class Poller:
    """Calls functions on the main thread, several times a second, for as long as there are any."""

    def __init__(self, milliseconds: int = POLL_MILLISECONDS) -> None:
        self._functions: list[Callable[[], None]] = []
        self._isCalling = False
        self._timer = qt.QTimer()
        self._timer.setInterval(milliseconds)
        self._timer.connect("timeout()", self._onTimeout)

    def add(self, function: Callable[[], None]) -> None:
        """Call ``function`` from now on."""
        self._functions.append(function)
        self._timer.start()

    def remove(self, function: Callable[[], None]) -> None:
        """Call ``function`` no more."""
        if function in self._functions:
            self._functions.remove(function)

    def close(self) -> None:
        """Call nothing any more."""
        self._functions.clear()
        self._timer.stop()
        self._timer.disconnect("timeout()", self._onTimeout)

    def _onTimeout(self) -> None:
        # What is called may let Qt handle events, and so this timer fire again.
        if self._isCalling:
            return
        if not self._functions:
            self._timer.stop()
            return
        with collectorPaused():
            time.sleep(YIELD_SECONDS)
        self._isCalling = True
        try:
            for function in list(self._functions):
                function()
        finally:
            self._isCalling = False


class Ticker:
    """Calls one function on the main thread now and then, for hours if need be, and costs nothing in between.

    A :class:`Poller` sleeps for its threads, which would make Slicer sluggish in the long run.
    """

    def __init__(self, function: Callable[[], None], milliseconds: int) -> None:
        self._function = function
        self._timer = qt.QTimer()
        self._timer.setInterval(milliseconds)
        self._timer.connect("timeout()", self._onTimeout)

    @property
    def isRunning(self) -> bool:
        return bool(self._timer.isActive())

    def start(self) -> None:
        """Call the function from now on."""
        if not self.isRunning:
            self._timer.start()

    def stop(self) -> None:
        """Call it no more."""
        self._timer.stop()

    def _onTimeout(self) -> None:
        self._function()


class BackgroundTask:
    """One function in a thread; its outcome arrives on the main thread.

    >>> task = BackgroundTask(poller, lambda: slow(), lambda value, error: show(value))  # doctest: +SKIP
    """

    def __init__(
        self, poller: Poller, function: Callable[[], Any], onDone: Callable[[Any, Exception | None], None]
    ) -> None:
        self._poller = poller
        self._function = function
        self._onDone = onDone
        self._value: Any = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="MedSegBackground", daemon=True)
        self._thread.start()
        poller.add(self._poll)

    def _run(self) -> None:
        try:
            self._value = self._function()
        except Exception as error:  # noqa: BLE001 - handed to the main thread, which reports it
            self._error = error

    def _poll(self) -> None:
        if not self._thread.is_alive():
            self._poller.remove(self._poll)
            self._onDone(self._value, self._error)
