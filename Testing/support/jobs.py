"""Work for other processes, which can only run what they can import."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from medseg.progress import Progress


def threads_and_double(job: int, progress: Progress) -> tuple[int, int]:
    """Return how many threads PyTorch uses here, and twice the number."""
    progress.update(0.5)
    return torch.get_num_threads(), 2 * job
