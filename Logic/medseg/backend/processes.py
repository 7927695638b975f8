"""Starting processes so that the whole family can be ended, and noticing that the owner is gone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

OWNER_CHECK_SECONDS = 1.0


def start_process(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, **pipes: Any
) -> subprocess.Popen[bytes]:
    """Start a process as the head of its own group, so that :func:`kill_family` reaches its children too.

    A group of its own also keeps a Ctrl+C in the terminal, which is meant for the program in front, away from it.
    On Windows no console window opens.
    """
    options: dict[str, Any] = dict(pipes)
    if os.name == "nt":
        options["creationflags"] = getattr(subprocess, "CREATE_NO_WINDOW", 0) | getattr(
            subprocess, "CREATE_NEW_PROCESS_GROUP", 0
        )
    else:
        options["start_new_session"] = True
    return subprocess.Popen(
        list(command), env=dict(environment) if environment is not None else None, close_fds=True, **options
    )


def kill_family(process: subprocess.Popen[bytes]) -> None:
    """End a process of :func:`start_process` and all its children at once, without asking.

    Safe to call again. PythonSlicer is a launcher with the real Python below it: ending only the process that was
    started would leave the one that computes.
    """
    if os.name == "nt":
        if process.poll() is None:
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                subprocess.run(
                    ["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, timeout=5, check=False
                )
        with contextlib.suppress(OSError):
            process.kill()
        return
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)


def kill_own_family() -> None:
    """End this process, which was started by :func:`start_process`, together with its children."""
    # Our group is that of start_process when it is the first of its session; a launcher may be its head.
    if os.name != "nt" and os.getpgrp() == os.getsid(0):
        os.killpg(0, signal.SIGKILL)
    if os.name == "nt":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(os.getpid())], capture_output=True, check=False)
    os._exit(1)


def wait_until_dead(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a process of :func:`start_process`, end what is left of its family, return its exit code.

    The group is ended before the dead head is collected: until then its number cannot belong to anybody else.
    """
    if os.name != "nt" and hasattr(os, "waitid"):
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        if process.returncode is None:
            kill_family(process)
        return process.wait()
    code = process.wait()
    kill_family(process)
    return code


def process_exists(pid: int) -> bool:
    """Return whether a process with this number runs (a dead one that nobody has collected counts as gone)."""
    if os.name == "nt":
        return _windows_process_exists(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123 - no Path for a moment's read
        return stat.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    return True


def _windows_process_exists(pid: int) -> bool:
    synchronize, timed_out = 0x00100000, 0x00000102
    kernel: Any = getattr(ctypes, "windll").kernel32  # noqa: B009 - mypy on Linux does not know the attribute
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = kernel.OpenProcess(synchronize, False, pid)
    if not handle:
        return False
    try:
        return bool(kernel.WaitForSingleObject(ctypes.c_void_p(handle), 0) == timed_out)
    finally:
        kernel.CloseHandle(ctypes.c_void_p(handle))


def watch_owner(owner_pid: int | None, stream: IO[bytes] | None, gone: Callable[[], None]) -> None:
    """Call ``gone`` once, from a background thread, when the owner of this process has ended.

    The end of ``stream`` (our standard input, whose other end only the owner holds) tells it at once. It counts only
    after the owner has written a first line there: a launcher in between may connect something else, which would
    read as an end at once. The owner's process number, looked up every second, is the second witness.
    """
    once = threading.Lock()

    def tell() -> None:
        if once.acquire(blocking=False):
            gone()

    def read() -> None:
        if stream is None or not stream.readline():
            return
        while stream.read1(4096) if hasattr(stream, "read1") else stream.read(1):
            pass
        tell()

    def look() -> None:
        while owner_pid is not None and process_exists(owner_pid):
            time.sleep(OWNER_CHECK_SECONDS)
        if owner_pid is not None:
            tell()

    for target in (read, look):
        threading.Thread(target=target, name=f"medseg-owner-{target.__name__}", daemon=True).start()


class TailOfOutput:
    """The last lines that a process wrote on a pipe, read by a thread so that the pipe never fills up."""

    def __init__(self, stream: IO[bytes], lines: int = 200) -> None:
        self._lines: deque[str] = deque(maxlen=lines)
        self._thread = threading.Thread(target=self._read, args=(stream,), name="medseg-output", daemon=True)
        self._thread.start()

    def _read(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in stream:
                self._lines.append(line.decode("utf-8", errors="replace").rstrip())

    def lines(self, wait_seconds: float = 0.0) -> list[str]:
        """Return the lines so far; after the process's end, ``wait_seconds`` lets the last ones arrive."""
        self._thread.join(wait_seconds)
        return list(self._lines)


def python_command(script: str, *arguments: str) -> list[str]:
    """Return the command that runs a script with this same Python, unbuffered."""
    return [sys.executable, "-u", script, *arguments]
