"""Where the time of segmenting one volume goes: imports, reading, the network, everything else.

Does what ``medseg segment`` does, in a fresh process for each repetition. The share outside the network leaves out the
imports, which are shown by themselves.

    python Testing/benchmarks/segment_time.py [--model NAME_OR_FOLDER] [--volume FILE] [--repeat N] [--threads N]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOAL_SHARE = 0.20
ROOT = Path(__file__).resolve().parents[2]
STEPS = ("read", "load", "prepare", "network", "labels", "postprocess", "statistics", "write")


def default_volume() -> Path:
    """Return the first left-atrium volume of the shared data."""
    data = Path(os.environ.get("MEDSEG_TEST_DATA") or ROOT.parent / "shared" / "data")
    found = sorted(path for path in (data / "left-atrium-mr").glob("la_*.nii.gz") if "_label" not in path.name)
    if not found:
        raise SystemExit(f"No left-atrium volume in {data}: give one with --volume.")
    return found[0]


def run_here(model: str, volume: str) -> dict[str, float]:
    """Segment ``volume`` in this process and return the seconds of each step."""
    clock = time.perf_counter
    begun = clock()
    import SimpleITK  # noqa: F401 - counted as an import, not as reading

    from medseg.models import ModelLibrary
    from medseg.segmentation import pipeline
    from medseg.segmentation.seg_nrrd import write_seg_nrrd
    from medseg.segmentation.statistics import write_statistics_csv
    from medseg.volumes import read_volume

    imports = clock() - begun
    begun = clock()
    package = ModelLibrary().find(model)
    image = read_volume(volume)
    read = clock() - begun
    result = pipeline.segment([image], package)
    begun = clock()
    with tempfile.TemporaryDirectory() as folder:
        write_seg_nrrd(result, Path(folder) / "result.seg.nrrd")
        write_statistics_csv(Path(folder) / "result.csv", result.statistics)
    timings = {**result.timings, "read": read, "write": clock() - begun}
    timings["imports"] += imports
    timings["whole"] = read + timings["other"] + timings["network"] + timings["write"]
    return timings


def main() -> int:
    """Print the table; the exit status is 1 when the median share outside the network is above the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="left-atrium-mr")
    parser.add_argument("--volume", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    volume = options.volume or default_volume()
    if options.child:
        print(json.dumps(run_here(options.model, str(volume))))
        return 0
    shares = []
    print(f"{volume.name}, model {options.model}, {options.threads} threads; seconds\n")
    print(f"| run | imports | {' | '.join(STEPS)} | whole | outside the network |")
    print("|---" * (len(STEPS) + 4) + "|")
    for run in range(1, options.repeat + 1):
        child = subprocess.run(
            [sys.executable, __file__, "--child", "--model", options.model, "--volume", str(volume)],
            env={**os.environ, "OMP_NUM_THREADS": str(options.threads)},
            capture_output=True,
            text=True,
            check=False,
        )
        if child.returncode != 0:
            raise SystemExit(child.stderr)
        timings = json.loads(child.stdout.splitlines()[-1])
        shares.append(1 - timings["network"] / timings["whole"])
        steps = " | ".join(f"{timings[step]:.2f}" for step in STEPS)
        print(f"| {run} | {timings['imports']:.2f} | {steps} | {timings['whole']:.2f} | {shares[-1]:.1%} |", flush=True)
    share = sorted(shares)[len(shares) // 2]
    print(f"\ngoal: at most {GOAL_SHARE:.0%} outside the network; median {share:.1%}")
    return 0 if share <= GOAL_SHARE else 1


if __name__ == "__main__":
    raise SystemExit(main())
