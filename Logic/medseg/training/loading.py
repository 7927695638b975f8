"""Patches and whole volumes on their way to the network, the same in every run and dealt out to several processes."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from medseg.training.augmentation import PatchSampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medseg.training.cache import CaseView
    from medseg.training.recipe import AugmentationSection, Recipe

GRACE_SECONDS = 30
"""So long after the signal to end, a loader ends; a run that got it too has stopped by then."""


class TrainingData(lightning.LightningDataModule):
    """Augmented patches of the training cases, whole volumes of the validation cases."""

    def __init__(self, recipe: Recipe, training: CaseView, validation: CaseView) -> None:
        super().__init__()
        self._recipe, self._training, self._validation = recipe, training, validation
        foreground = recipe.optimisation.foreground_patches
        self._sampler = PatchSampler(recipe.window, recipe.augmentation, foreground, recipe.loss.slice_groups)

    def train_dataloader(self) -> DataLoader:
        """Return ``steps_per_epoch`` batches (:class:`~medseg.training.objectives.Batch`) for this process."""
        settings = self._recipe.optimisation
        return DataLoader(
            _Patches(self._training, self._sampler, self._recipe.seed),
            batch_size=settings.batch_size,
            sampler=PatchNumbers(settings.steps_per_epoch, settings.batch_size, *self._place()),
            num_workers=settings.workers,
            persistent_workers=settings.workers > 0,
            worker_init_fn=prepare_loader,
        )

    def val_dataloader(self) -> DataLoader | list:
        """Return the validation volumes of this process, one a batch; every process has the same number."""
        if not len(self._validation):
            return []
        rank, processes = self._place()
        rounds = -(-len(self._validation) // processes)
        numbers = [(rank + turn * processes) % len(self._validation) for turn in range(rounds)]
        return DataLoader(_Volumes(self._validation, self._recipe, numbers), batch_size=1)

    def _place(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


class _Patches(Dataset):
    """Patches by number: number ``n`` is the same patch in every run of the recipe, also after a restart."""

    def __init__(self, cases: CaseView, sampler: PatchSampler, seed: int) -> None:
        self._cases, self._sampler, self._seed = cases, sampler, seed

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        # Every case comes once in a round, in an order of the round's own.
        round_number, place = divmod(number, len(self._cases))
        order = torch.randperm(
            len(self._cases), generator=torch.Generator().manual_seed(self._seed * 7919 + round_number)
        )
        case = self._cases[int(order[place])]
        return self._sampler.draw(case, self._seed * 1_000_003 + number)


class PatchNumbers(Sampler[int]):
    """The patch numbers of an epoch for one of several processes; Lightning tells the epoch through ``set_epoch``.

    The batches of all processes at one step are together the batch of one process with a batch size larger by their
    number, so that two processes of batch 1 learn what one of batch 2 does.
    """

    def __init__(self, steps: int, batch_size: int, rank: int, processes: int) -> None:
        self._steps, self._batch = steps, batch_size
        self._rank, self._processes, self._epoch = rank, processes, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        for step in range(self._epoch * self._steps, (self._epoch + 1) * self._steps):
            first = (step * self._processes + self._rank) * self._batch
            yield from range(first, first + self._batch)

    def __len__(self) -> int:
        return self._steps * self._batch


class _Volumes(Dataset):
    """Validation cases by place: the volume, and one patch of it that is always the same, for the validation loss."""

    def __init__(self, cases: CaseView, recipe: Recipe, numbers: list[int]) -> None:
        self._cases, self._numbers, self._seed = cases, numbers, recipe.seed
        self._sampler = PatchSampler(recipe.window, unchanged(recipe.augmentation), 1.0, recipe.loss.slice_groups)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: int) -> dict[str, object]:
        number = self._numbers[place]
        case = self._cases[number]
        return {
            "number": number,
            "image": case.image,
            "classes": case.label,
            "annotated": case.annotated,
            "spacing": torch.tensor(case.spacing),
            "patch": self._sampler.draw(case, self._seed * 1_000_003 + number),
        }


def unchanged(section: AugmentationSection) -> AugmentationSection:
    """Return the section with every random change switched off; what lies beyond a scan stays as it says."""
    off = {name: 0.0 for name in type(section).model_fields if name.endswith("_probability")}
    rest = {"intensity_shift": 0.0, "intensity_scale": 0.0, "flip_axes": (), "swap_on_flip": (), "elastic_affine": None}
    return section.model_copy(update={**off, **rest})


def prepare_loader(_worker: int) -> None:
    """Compute on one thread, and leave interruptions to the run.

    Ctrl-C and the signal of a batch system reach every process of the group. A loader that dies of them first looks to
    the run like a defect; one that stays is ended by the run, or by itself when the run is gone. But a run that has
    failed ends its loaders by that signal and waits for them: so they end, a while later.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        # Nothing handles the alarm, so it ends the process, whatever that waits for.
        signal.signal(signal.SIGTERM, lambda _number, _frame: signal.alarm(GRACE_SECONDS))
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
