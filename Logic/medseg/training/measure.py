"""What a run of a package costs, measured in a process of its own: ``python -m medseg.training.measure``.

In the training process the peak of memory would be that of training, and everything would be imported and warm.
"""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from medseg.models import Measured, read_package
from medseg.progress import NO_PROGRESS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.progress import Progress
    from medseg.volumes import Geometry

_LOG = logging.getLogger(__name__)

MOST_SECONDS = 1800.0
"""How long the one run may take (our choice); the package can do without its cost."""

_POLL_SECONDS = 0.2


def measure_cost(package: Path, images: Sequence[Path], progress: Progress = NO_PROGRESS) -> Measured | None:
    """Segment a case once with ``package`` on the CPU and return seconds and memory.

    ``None`` when that failed or took longer than :data:`MOST_SECONDS`.

    Raises
    ------
    Cancelled
        When somebody asked to stop, through ``progress``.
    """
    command = [sys.executable, "-m", "medseg.training.measure", str(package), *(str(image) for image in images)]
    return measured_apart(command, progress)


def measured_apart(command: Sequence[str], progress: Progress) -> Measured | None:
    """Return what a process tells of a run, as a last line of JSON; ``None`` when it failed or took too long.

    Raises
    ------
    Cancelled
        When somebody asked to stop, through ``progress``.
    """
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet, text=True) as process:
        try:
            said = _awaited(process, progress)
        finally:
            process.kill()
    if process.returncode or not said:
        return None
    found = json.loads(said.splitlines()[-1])
    return Measured(
        seconds_cpu=found["seconds"],
        memory_mb_cpu=found["memory_mb"],
        size=tuple(found["size"]),
        spacing=tuple(found["spacing"]),
    )


def _awaited(process: subprocess.Popen[str], progress: Progress) -> str:
    """Return what the process has said at its end, or nothing after the longest time."""
    deadline = time.monotonic() + MOST_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=_POLL_SECONDS)[0]
        progress.check()
    _LOG.warning("The cost of a run was not measured: it took more than %.0f minutes.", MOST_SECONDS / 60)
    return ""


def tell_cost(seconds: float, memory: int, geometry: Geometry) -> None:
    """Print the line of JSON that :func:`measured_apart` reads.

    Parameters
    ----------
    seconds
        Of a run without imports.
    memory
        Peak of memory in bytes before the run, with the model loaded; what is told is how far it has risen, in MB.
    geometry
        Of what was run on.
    """
    from medseg.device import peak_memory

    line = {
        "seconds": float(f"{seconds:.2g}"),
        "memory_mb": round((peak_memory() - memory) / 1e6),
        "size": geometry.size,
        "spacing": geometry.spacing,
    }
    sys.stdout.write(json.dumps(line) + "\n")


def main(arguments: list[str]) -> None:
    """Segment the volumes once and tell what it cost."""
    from medseg.device import peak_memory
    from medseg.models import load_network
    from medseg.segmentation import SegmentOptions, segment
    from medseg.volumes import read_volume

    folder, *paths = arguments
    package = read_package(folder)
    images = [read_volume(path) for path in paths]
    network = load_network(package)
    memory, start = peak_memory(), time.perf_counter()
    result = segment(images, package, SegmentOptions(device="cpu"), network=network)
    tell_cost(time.perf_counter() - start - result.timings.get("imports", 0.0), memory, images[0].geometry)


if __name__ == "__main__":
    main(sys.argv[1:])
