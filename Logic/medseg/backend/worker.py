"""The worker: a small process that serves the backend's service to the client that started it, and ends with it.

It prints one line of JSON on standard output when it is ready: ``{"medseg_worker": 1, "port", "pid", "folder"}``. The
token comes in the environment variable ``MEDSEG_WORKER_TOKEN``: other users can read a command line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.backend.http_server import WorkerServer
from medseg.backend.processes import python_command, watch_owner
from medseg.backend.protocol import PROTOCOL, TOKEN_VARIABLE
from medseg.backend.run_folder import RunFolder
from medseg.backend.service import Service
from medseg.backend.verbs import VERBS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def compute_command() -> list[str]:
    """Return the command of the computing process: this Python and this copy of medseg."""
    return python_command(str(Path(__file__).with_name("launch.py")), "medseg.backend.compute")


def main(
    arguments: Sequence[str] | None = None,
    *,
    command: Sequence[str] | None = None,
    verbs: Collection[str] = tuple(VERBS),
) -> None:
    """Serve until the owner ends or a signal asks to stop; leave nothing behind.

    ``command`` and ``verbs`` replace the computing process; nothing outside this call can.
    """
    parser = argparse.ArgumentParser(prog="medseg worker", description="The background worker of MedSeg.")
    parser.add_argument("--owner", type=int, default=None, help="end when the process with this number ends")
    parser.add_argument("--idle-minutes", type=float, default=None, help="end the computing process when idle so long")
    options = parser.parse_args(arguments)
    # Taken out of the environment, so that no child inherits it.
    token = os.environ.pop(TOKEN_VARIABLE, "")
    stop = threading.Event()
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: stop.set())
    folder = RunFolder()
    service = Service(folder.path, command or compute_command(), verbs=verbs, idle_minutes=options.idle_minutes)
    try:
        server = WorkerServer(service, token)
        threading.Thread(target=server.serve_forever, name="medseg-http", daemon=True).start()
        watch_owner(options.owner, sys.stdin.buffer if sys.stdin is not None else None, stop.set)
        greeting = {
            "medseg_worker": PROTOCOL,
            "port": server.server_port,
            "pid": os.getpid(),
            "folder": str(folder.path),
            "python": sys.version.split()[0],
        }
        with contextlib.suppress(OSError):
            sys.stdout.write(json.dumps(greeting) + "\n")
            sys.stdout.flush()
        # A wait without end does not see signals on Windows.
        while not stop.wait(1.0):
            pass
    finally:
        service.close()
        folder.remove()
    # Threads that still serve a connection must not keep the process.
    os._exit(0)


if __name__ == "__main__":
    main()
