"""What the claim tests share: a plain training loop, seeds, figures."""

from __future__ import annotations

import ctypes
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from medseg.progress import NO_PROGRESS, Progress

Batch = TypeVar("Batch")
Job = TypeVar("Job")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Fitted:
    """How a training went: the loss of every step, and the seconds of all steps without drawing the batches."""

    losses: tuple[float, ...]
    seconds: float

    @property
    def seconds_per_step(self) -> float:
        return self.seconds / max(len(self.losses), 1)


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and PyTorch's global generators."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - MONAI's transforms may draw from it
    torch.manual_seed(seed)


def fit(
    network: nn.Module,
    draw_batch: Callable[[int], Batch],
    loss: Callable[[nn.Module, Batch], Tensor],
    *,
    steps: int,
    lr: float = 1e-3,
    weight_decay: float = 1e-2,
    gradient_norm: float | None = None,
    progress: Progress = NO_PROGRESS,
) -> Fitted:
    """Train ``network`` with AdamW and a learning rate that falls along a cosine to zero; leave it in eval mode.

    Parameters
    ----------
    draw_batch
        Takes the number of the step (from 0) and returns its batch; draw from a generator of your own, so that rivals
        see the same batches.
    loss
        Takes the network and the batch, runs the one on the other and returns a scalar.
    gradient_norm
        When given, gradients are clipped to this norm.

    Raises
    ------
    FloatingPointError
        When the loss is not finite.
    """
    optimiser = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps)
    network.train()
    losses: list[float] = []
    seconds = 0.0
    for step in range(steps):
        batch = draw_batch(step)
        begun = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        value = loss(network, batch)
        if not torch.isfinite(value):
            raise FloatingPointError(f"the loss of {type(network).__name__} is {value.item()} at step {step}")
        value.backward()
        if gradient_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), gradient_norm)
        optimiser.step()
        schedule.step()
        losses.append(value.item())
        seconds += time.perf_counter() - begun
        progress.update((step + 1) / steps, f"loss {losses[-1]:.3f}")
    network.eval()
    return Fitted(tuple(losses), seconds)


def parameters_of(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def seconds_of(function: Callable[[], object], repeat: int = 3) -> float:
    """Return the least seconds that ``function`` takes of ``repeat`` calls, after one that is not counted."""
    function()
    taken = []
    for _ in range(repeat):
        begun = time.perf_counter()
        function()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def mean_of(values: Iterable[float]) -> float:
    """Return the mean of the values that are numbers (not NaN), NaN when there is none."""
    known = [value for value in values if value == value]  # noqa: PLR0124 - NaN is the value that differs from itself
    return statistics.fmean(known) if known else float("nan")


def mean_and_std(values: Iterable[float], digits: int = 3) -> str:
    """Return "mean ± standard deviation" (n - 1) of the values that are numbers; the mean alone when there is one."""
    known = [value for value in values if value == value]  # noqa: PLR0124
    if not known:
        return "–"
    mean = f"{statistics.fmean(known):.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ± {statistics.stdev(known):.{digits}f}"


def is_fast_in_bfloat16() -> bool:
    """Say whether this processor has instructions for bfloat16, which save half of a step's time and more."""
    capabilities = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in capabilities)


def keep_freed_memory() -> None:
    """Let glibc keep the large blocks that a step frees for the next one, which saves up to half of a step's time."""
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if library is not None and hasattr(library, "mallopt"):
        library.mallopt(-4, 0)  # M_MMAP_MAX of malloc.h: never map
        library.mallopt(-1, -1)  # M_TRIM_THRESHOLD: never trim


def each_on_one_thread(
    function: Callable[[Job, Progress], Outcome],
    jobs: Sequence[Job],
    *,
    workers: int,
    progress: Progress = NO_PROGRESS,
) -> list[Outcome]:
    """Return ``function(job, progress)`` of every job, in their order; ``workers`` of them run at a time.

    Every job computes on one thread: small networks gain little from more, and the outcome does not depend on how many
    run at a time. With several workers each is a process of its own, so ``function`` and the jobs must be picklable;
    progress is then told after each job only.
    """
    if workers == 1:
        outcomes = []
        for done, job in enumerate(jobs):
            _prepare_worker()
            outcomes.append(function(job, progress.part(done / len(jobs), (done + 1) / len(jobs))))
        return outcomes
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_prepare_worker) as pool:
        futures = [pool.submit(function, job, NO_PROGRESS) for job in jobs]
        try:
            for done, _ in enumerate(as_completed(futures), start=1):
                progress.update(done / len(jobs), f"{done} of {len(jobs)} done")
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _prepare_worker() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
