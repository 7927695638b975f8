"""The process that registers one pair: ``python -m benchmarks.registration.child FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.registration.job import Job
from benchmarks.registration.methods import METHODS


def main(folder: Path) -> int:
    """Do the job in a folder; the exit status is 1 when nothing was found."""
    job = Job.read(folder)
    try:
        job.finish(METHODS[job.method].run(job))
    except Exception as error:  # noqa: BLE001 - whatever a rival raises is a line in the table
        job.fail(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
