"""Samples on their way to the network, the same in every run and dealt out to several processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medseg.training.loading import PatchNumbers, prepare_loader
from medseg.training.synthesis import Draws

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.training.correction.makers import SampleMaker
    from medseg.training.correction.recipe import CorrectionRecipe


class SampleBatch(TypedDict):
    """What a step takes: image, truth and start (B, 1, \\*window) float32, and a number for the simulated user (B,)."""

    image: Tensor
    truth: Tensor
    start: Tensor
    number: Tensor


class CorrectionData(lightning.LightningDataModule):
    """New samples in every step; the numbers of the structures kept aside after every so many epochs."""

    def __init__(self, recipe: CorrectionRecipe, makers: Sequence[SampleMaker], kept_aside: int) -> None:
        super().__init__()
        self._recipe, self._makers, self._kept_aside = recipe, makers, kept_aside

    def train_dataloader(self) -> DataLoader:
        """Return ``steps_per_epoch`` batches (:class:`SampleBatch`) for this process."""
        settings = self._recipe.optimisation
        return DataLoader(
            TrainingSamples(self._recipe, self._makers),
            batch_size=settings.batch_size,
            sampler=PatchNumbers(settings.steps_per_epoch, settings.batch_size, *self._place()),
            num_workers=settings.workers,
            persistent_workers=settings.workers > 0,
            worker_init_fn=prepare_loader,
        )

    def val_dataloader(self) -> DataLoader | list:
        """Return the numbers of the structures of this process; every process has as many."""
        if not self._kept_aside:
            return []
        rank, processes = self._place()
        rounds = -(-self._kept_aside // processes)
        numbers = [(rank + turn * processes) % self._kept_aside for turn in range(rounds)]
        return DataLoader(numbers, batch_size=None)

    def _place(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


class TrainingSamples(Dataset):
    """Samples by number: number ``n`` is the same sample in every run of the recipe, also after a restart."""

    def __init__(self, recipe: CorrectionRecipe, makers: Sequence[SampleMaker]) -> None:
        self._recipe, self._makers = recipe, makers
        shares = torch.tensor([maker.share for maker in makers], dtype=torch.float64)
        self._ends = (shares.cumsum(0) / shares.sum()).tolist()

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        draws = Draws(self._recipe.seed * 1_000_003 + number)
        drawn = draws.uniform(0, 1)
        maker = next(maker for maker, end in zip(self._makers, [*self._ends[:-1], 1.0], strict=True) if drawn <= end)
        sample = maker.training_sample(draws)
        return {**sample._asdict(), "number": torch.tensor(number, dtype=torch.int64)}
