"""Running Qt's event loop as Slicer does: with Python's global lock held.

Slicer's main thread owns the lock and does not give it away while it is inside Qt; threads of a scripted module run
only while the main thread runs Python code (a slot, a timer's function). PySide6 gives the lock away, which hides how
slowly such a thread gets on in Slicer: 20 small HTTP requests of a thread were measured to take 0.02 s with the lock
given away, and 4 s with the lock held and a timer of 100 ms. So Qt is entered through its C++ functions, past PySide6.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path

import PySide6
import shiboken6
from PySide6.QtCore import QCoreApplication, QEventLoop, QTimer

# QEventLoop::exec and QCoreApplication::processEvents by the names that compilers on Linux give them.
EXEC = "_ZN10QEventLoop4execE6QFlagsINS_17ProcessEventsFlagEE"
PROCESS_EVENTS = "_ZN16QCoreApplication13processEventsE6QFlagsIN10QEventLoop17ProcessEventsFlagEE"


@cache
def _with_lock(name: str) -> Callable | None:
    """A function of Qt that is called without giving the lock away; None where it is not found."""
    for library in (Path(PySide6.__file__).parent / "Qt" / "lib").glob("libQt6Core.so*"):
        function = getattr(ctypes.PyDLL(str(library)), name, None)
        if function is not None:
            return function
    logging.getLogger(__name__).info("%s is not found: threads get on better here than in Slicer", name)
    return None


def run(milliseconds: int) -> None:
    """Handle events for this long."""
    loop = QEventLoop()
    timer = QTimer()
    timer.setSingleShot(True)
    timer.timeout.connect(loop.quit)
    timer.start(milliseconds)
    function = _with_lock(EXEC)
    if function is None:
        loop.exec()
    else:
        function(ctypes.c_void_p(shiboken6.getCppPointer(loop)[0]), ctypes.c_int(0))


def process_events() -> None:
    """Handle the events that are due now."""
    function = _with_lock(PROCESS_EVENTS)
    if function is None:
        QCoreApplication.processEvents()
    else:
        function(ctypes.c_int(0))
