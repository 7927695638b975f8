"""Which of several processes this one is, before anything heavy is imported."""

from __future__ import annotations

import os

_RANKS = ("RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK", "LOCAL_RANK")
"""What Lightning, torchrun and SLURM tell a process of its place; all are 0 in the first one."""


def is_first(processes: int) -> bool:
    """Return whether this process is the one of ``processes`` that checks, writes and reports."""
    return processes == 1 or all((os.environ.get(name) or "0") == "0" for name in _RANKS)
