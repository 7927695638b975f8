"""Peak memory of the segmentation engine on a large volume with many classes and a small network.

Every configuration runs in a fresh process. The baseline is that process with everything imported and the network
loaded; the peak includes the volume itself. Holding whole scores would cost classes x voxels x 4 bytes.

    python Testing/benchmarks/engine_memory.py [--quick] [--threads N]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

GOAL_BYTES = 2_000_000_000
SHAPE = (300, 512, 512)
CLASSES = 25
CONFIGURATIONS = [
    {"name": "64 cubed", "window": [64, 64, 64], "overlap": 0.25, "spacing": None},
    {"name": "64 cubed, 1.5 mm", "window": [64, 64, 64], "overlap": 0.25, "spacing": 1.5},
    {"name": "96 x 96 x 32", "window": [96, 96, 32], "overlap": 0.25, "spacing": None},
    {"name": "128 cubed", "window": [128, 128, 128], "overlap": 0.25, "spacing": None},
]


def resident() -> int:
    """Return the memory that this process holds, in bytes."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run_here(configuration: dict) -> dict:
    """Run one configuration in this process and return its figures."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import numpy as np
    import SimpleITK  # noqa: F401 - part of the interpreter that is not counted
    import torch
    from monai.networks.nets import UNet

    from medseg.device import peak_memory
    from medseg.segmentation import SegmentOptions, estimate, pipeline
    from medseg.volumes import Geometry, Volume
    from support.segmentation import package_of

    torch.manual_seed(0)
    network = UNet(3, 1, CLASSES, channels=(8, 16, 32), strides=(2, 2), num_res_units=0).eval()
    package = package_of(
        classes=CLASSES,
        window=tuple(configuration["window"]),
        overlap=configuration["overlap"],
        spacing=(configuration["spacing"],) * 3,
    )
    baseline = resident()
    geometry = Geometry.from_spacing(SHAPE, (0.7, 0.7, 1.0), orientation="LPS")
    rng = np.random.default_rng(0)
    array = np.empty(SHAPE, np.int16)
    for plane in array:
        plane[:] = rng.integers(-1000, 1000, plane.shape, dtype=np.int16)
    volume = Volume(array, geometry, name="synthetic", modality="CT")
    expected = estimate(geometry, package, "cpu")
    begun = time.perf_counter()
    result = pipeline.segment([volume], package, SegmentOptions(device="cpu"), network=network)
    return {
        "peak": peak_memory() - baseline,
        "baseline": baseline,
        "volume": array.nbytes,
        "estimate": expected.memory_bytes,
        "windows": expected.windows,
        "plan": expected.plan,
        "seconds": time.perf_counter() - begun,
        "network": result.timings["network"],
        "labels": len(np.unique(result.labelmap.array)),
    }


def run_apart(configuration: dict, threads: int) -> dict:
    """Run one configuration in a process of its own."""
    child = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps(configuration)],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode != 0:
        raise SystemExit(child.stderr)
    return json.loads(child.stdout.splitlines()[-1])


def main() -> int:
    """Print the table; the exit status is 1 when a configuration needs more than the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the first configuration")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(run_here(json.loads(options.child))))
        return 0
    whole = CLASSES * SHAPE[0] * SHAPE[1] * SHAPE[2] * 4
    print(f"{SHAPE[2]} x {SHAPE[1]} x {SHAPE[0]} voxels, {CLASSES} classes; whole scores: {whole / 1e9:.1f} GB\n")
    print(
        "| window | runs of the network | peak above the loaded model | estimated | seconds | of these in the network |"
    )
    print("|---|---|---|---|---|---|")
    worst = 0
    for configuration in CONFIGURATIONS[: 1 if options.quick else None]:
        figures = run_apart(configuration, options.threads)
        worst = max(worst, figures["peak"])
        print(
            f"| {configuration['name']} | {figures['windows']} | {figures['peak'] / 1e9:.2f} GB |"
            f" {figures['estimate'] / 1e9:.2f} GB | {figures['seconds']:.0f} | {figures['network']:.0f} |",
            flush=True,
        )
    print(f"\ngoal: at most {GOAL_BYTES / 1e9:.1f} GB; worst {worst / 1e9:.2f} GB")
    return 0 if worst <= GOAL_BYTES else 1


if __name__ == "__main__":
    raise SystemExit(main())
