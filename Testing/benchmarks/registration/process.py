"""Runs one registration in a process of its own, so that its time and its memory are its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import medseg
from benchmarks.registration.job import Costs, Job
from medseg.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from benchmarks.registration.pair import Pair
    from medseg.registration import SpatialTransform

_THREADS = (
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
_ANTS_SEED = {"ANTS_RANDOM_SEED": "1"}
"""ANTs takes its seed from here; elastix and ours have fixed ones."""
_LOOK_SECONDS, _OUTPUT = 0.2, "output.txt"
_TESTING = Path(__file__).resolve().parents[2]


def register_apart(
    pair: Pair, method: str, *, threads: int, seed: int = 0, progress: Progress = NO_PROGRESS
) -> tuple[SpatialTransform, Costs] | str:
    """Return the transform that a method finds and what it took, or in a line why it found none.

    Raises
    ------
    Cancelled
        When the user asked to stop; the process is ended.
    """
    with tempfile.TemporaryDirectory(prefix="medseg-bench-") as name:
        folder = Path(name)
        job = Job.write(folder, pair, method, threads=threads, seed=seed)
        status = _run([sys.executable, "-m", "benchmarks.registration.child", name], folder, threads, progress)
        if status < 0:
            return f"it was ended by signal {-status}"
        return job.result() or f"it ended without a word ({_last_line(folder / _OUTPUT)})"


def environment(threads: int) -> dict[str, str]:
    """Return the environment of such a process: the same number of threads for every library, our packages in reach."""
    ours = [str(_TESTING), str(Path(medseg.__file__).resolve().parents[1])]
    paths = os.pathsep.join([*ours, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, **_ANTS_SEED, **dict.fromkeys(_THREADS, str(threads)), "PYTHONPATH": paths}


def _run(command: list[str], folder: Path, threads: int, progress: Progress) -> int:
    with (folder / _OUTPUT).open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(threads), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            while process.poll() is None:
                progress.check()
                time.sleep(_LOOK_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    return process.returncode


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")
