"""What tasks have in common whose samples are drawn on the spot: sources by their shares, loaders, held-out numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import lightning
import torch
from torch.utils.data import DataLoader, Dataset

from medseg.training.loading import PatchNumbers, prepare_loader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medseg.training.sections import ScheduleSection
    from medseg.training.synthesis import Draws


class HasShare(Protocol):
    """Something that makes a part of all samples."""

    share: float


MakerT = TypeVar("MakerT", bound=HasShare)


class DrawnData(lightning.LightningDataModule):
    """New samples in every step; the numbers of what is kept aside after every so many epochs.

    Parameters
    ----------
    samples
        By number: a number is the same sample in every run of the recipe, also after a restart.
    kept_aside
        How many there are.
    collate
        Makes a batch of samples; ``None``: stacks them.
    """

    def __init__(
        self,
        schedule: ScheduleSection,
        samples: Dataset,
        kept_aside: int,
        collate: Callable[[Sequence[Any]], Any] | None = None,
    ) -> None:
        super().__init__()
        self._schedule, self._samples, self._kept_aside, self._collate = schedule, samples, kept_aside, collate

    def train_dataloader(self) -> DataLoader:
        """Return ``steps_per_epoch`` batches for this process."""
        settings = self._schedule
        return DataLoader(
            self._samples,
            batch_size=settings.batch_size,
            sampler=PatchNumbers(settings.steps_per_epoch, settings.batch_size, *self._place()),
            num_workers=settings.workers,
            persistent_workers=settings.workers > 0,
            worker_init_fn=prepare_loader,
            collate_fn=self._collate,
        )

    def val_dataloader(self) -> DataLoader | list:
        """Return the numbers of what this process measures; every process has as many."""
        if not self._kept_aside:
            return []
        rank, processes = self._place()
        rounds = -(-self._kept_aside // processes)
        numbers = [(rank + turn * processes) % self._kept_aside for turn in range(rounds)]
        return DataLoader(numbers, batch_size=None)

    def _place(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


def chosen(makers: Sequence[MakerT], draws: Draws) -> MakerT:
    """Return one of the makers, each as often as its share says."""
    shares = torch.tensor([maker.share for maker in makers], dtype=torch.float64)
    ends = (shares.cumsum(0) / shares.sum()).tolist()
    drawn = draws.uniform(0, 1)
    return next(maker for maker, end in zip(makers, [*ends[:-1], 1.0], strict=True) if drawn <= end)
