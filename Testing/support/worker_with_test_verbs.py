"""A worker that can do what only tests want: sleep, ignore a cancellation, crash, hold memory, start children.

Run by ``WorkerClient(script=...)``. It calls the same ``main`` functions as the real worker and its computing process,
with other verbs; nothing in the product can be made to do that from outside.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.backend import compute, worker
from medseg.backend.encoding import Parcel, encode_result
from medseg.device import choose_device
from medseg.errors import InputError
from medseg.labels import Code, Label, LabelTable
from medseg.segmentation import SegmentationResult

if TYPE_CHECKING:
    from medseg.backend.verbs import Task

THIS = Path(__file__).resolve()
HELD_BYTES = 300 << 20
ANATOMY = Code("SCT", "123037004", "Anatomical Structure")
LABELS = LabelTable([Label(1, "bright", (200, 100, 50), ANATOMY, Code("SCT", "82471001", "Left atrium"))])


def threshold(task: Task) -> Parcel:
    """Label what is brighter than the option "level"."""
    volume = task.volumes[0]
    task.progress.update(0.5, "Comparing")
    labels = (volume.array > task.options.get("level", 0)).astype(np.uint8)
    notices = [f"{len(task.volumes)} volumes, name '{volume.name}', read-only: {not volume.array.flags.writeable}"]
    return encode_result(SegmentationResult(volume.with_array(labels), LABELS, notices=notices))


def sleep(task: Task) -> Parcel:
    """Do nothing for a while, politely; with "hold" keep memory meanwhile."""
    held = np.ones(HELD_BYTES, np.uint8) if task.options.get("hold") else None
    for step in range(1000):
        task.progress.update(step / 1000, f"Step {step}")
        time.sleep(0.03)
    task.options["held"] = held
    return threshold(task)


def approach(task: Task) -> Parcel:
    """Come nearer to a goal step by step, for ever unless told to finish; the last step is the best."""
    steps = 0
    while not task.finishing() or steps < task.options.get("least", 1):
        steps += 1
        task.tell("loss", 1 / steps if steps != 2 else float("nan"))
        task.progress.update(0.5, f"Step {steps}")
        time.sleep(0.01)
    task.progress.update(0.9, "Keeping the best")
    return encode_result(
        SegmentationResult(
            task.volumes[0].with_array((task.volumes[0].array > 0).astype(np.uint8)), LABELS, notices=[str(steps)]
        )
    )


def stubborn(task: Task) -> Parcel:
    """Hold memory, have a child, and never ask whether to stop."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    held = np.ones(HELD_BYTES, np.uint8)
    task.progress.update(0.1, f"Children {os.getpid()} {child.pid}")
    for _ in range(6000):
        time.sleep(0.1)
    task.options["held"] = held
    return threshold(task)


def crash(task: Task) -> Parcel:
    """Fail in the way that the option "how" names."""
    how = task.options["how"]
    task.progress.update(0.3, "About to fail")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "segfault":
        ctypes.string_at(0)
    elif how == "exit":
        os._exit(7)
    elif how == "orphans":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        task.progress.update(0.4, f"Children {child.pid}")
        os._exit(7)
    elif how == "memory":
        raise MemoryError
    elif how == "torch memory":
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")
    elif how == "input":
        raise InputError("The volume is odd.", advice="Use another one.")
    elif how == "print":
        os.write(1, b'{"event": "done"}\n\x00\xff garbage\n')
        logging.getLogger("medseg.anything").warning("said on the way")
        return threshold(task)
    raise ZeroDivisionError("a secret of the traceback")


def device_call(request: dict[str, Any]) -> dict[str, Any]:
    """Answer a call: the device, or the error that is asked for."""
    if request.get("model") == "fail":
        raise InputError("There is no such model.", advice="Choose another.")
    if request.get("model") == "die":
        os._exit(3)
    return {"device": choose_device("cpu").device, "asked": request}


VERBS = {"threshold": threshold, "sleep": sleep, "approach": approach, "stubborn": stubborn, "crash": crash}


def compute_main() -> None:
    """Run the computing process with these verbs; there is nothing to load."""
    compute.main(verbs=VERBS, calls={"estimate": device_call}, loader=lambda: {"test verbs": "1"})


if __name__ == "__main__":
    if sys.argv[1:] == ["compute"]:
        compute_main()
    else:
        worker.main(sys.argv[1:], command=[sys.executable, "-u", str(THIS), "compute"], verbs=tuple(VERBS))
