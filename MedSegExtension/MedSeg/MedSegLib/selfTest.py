"""What the module's own test needs beside assertions."""

from __future__ import annotations

from typing import Any


def dice(first: Any, second: Any) -> float:
    """Return the Dice coefficient of two boolean arrays of one shape, 0 when both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2.0 * int((first & second).sum()) / total if total else 0.0
