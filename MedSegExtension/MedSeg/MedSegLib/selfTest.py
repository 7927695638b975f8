"""What the module's own test needs beside assertions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import slicer

if TYPE_CHECKING:
    from collections.abc import Callable


def waitUntil(condition: Callable[[], bool], seconds: float) -> bool:
    """Handle events until ``condition`` holds; return whether it did within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        slicer.app.processEvents()
        time.sleep(0.01)
    return True


def dice(first: Any, second: Any) -> float:
    """Return the Dice coefficient of two masks, 0 when both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2.0 * int((first & second).sum()) / total if total else 0.0
