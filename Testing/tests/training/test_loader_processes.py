"""A process that loads ends with the run that it loads for, also when the run has failed."""

from __future__ import annotations

import subprocess
import sys

import pytest

_FAILS = """
import torch
from torch.utils.data import DataLoader
from medseg.training import loading

loading.GRACE_SECONDS = 1
numbers = torch.arange(1_000_000)
loader = DataLoader(
    numbers, batch_size=1, num_workers=1, persistent_workers=True, worker_init_fn=loading.prepare_loader
)
batches = iter(loader)
next(batches)
raise RuntimeError("the run has failed")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no alarm, and ends its processes otherwise")
def test_a_failed_run_ends_though_its_loader_does_not_heed_the_signal() -> None:
    done = subprocess.run([sys.executable, "-c", _FAILS], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "the run has failed" in done.stderr
