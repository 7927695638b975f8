"""Looking at processes from outside, for tests that end them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_SECONDS = 120


def until(condition: Callable[[], object], what: str = "what the test waits for") -> None:
    """Wait until ``condition`` holds; fail the test when it never does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen")
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    """Whether no living process has this number."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def memory_of_family(pid: int) -> int:
    """Resident bytes of a process and all its children."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(_resident_bytes(process) for process in family)


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def workers() -> dict[int, str]:
    """Return the commands of the workers, and of their computing processes, that descend from this process."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            command = process.cmdline()
        except psutil.NoSuchProcess:
            continue
        if {"medseg.backend.worker", "medseg.backend.compute"} & set(command):
            found[process.pid] = " ".join(command)
    return found
