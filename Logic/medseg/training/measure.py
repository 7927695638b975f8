"""What a run of a package costs, measured in a process of its own: ``python -m medseg.training.measure``.

In the training process the peak of memory would be that of training, and everything would be imported and warm.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from medseg.models import Measured, read_package

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def measure_cost(package: Path, images: Sequence[Path]) -> Measured | None:
    """Segment a case once with ``package`` on the CPU and return seconds and memory; ``None`` when that failed."""
    command = [sys.executable, "-m", "medseg.training.measure", str(package), *(str(image) for image in images)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        return None
    found = json.loads(result.stdout.splitlines()[-1])
    return Measured(
        seconds_cpu=found["seconds"],
        memory_mb_cpu=found["memory_mb"],
        size=tuple(found["size"]),
        spacing=tuple(found["spacing"]),
    )


def main(arguments: list[str]) -> None:
    """Print one line of JSON: seconds of a run without imports, peak memory above the loaded model in MB."""
    import time

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
    seconds = time.perf_counter() - start - result.timings.get("imports", 0.0)
    line = {
        "seconds": float(f"{seconds:.2g}"),
        "memory_mb": round((peak_memory() - memory) / 1e6),
        "size": images[0].geometry.size,
        "spacing": images[0].geometry.spacing,
    }
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
