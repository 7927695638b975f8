"""What a run tells while it goes on: its state, a line for each epoch, and the report."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from collections.abc import Callable

    import lightning

    from medseg.labels import LabelTable
    from medseg.progress import Progress
    from medseg.training.run_files import RunFiles
    from medseg.training.tasks import AnyRecipe

REPORT_SECONDS, _REPORT_SHARE = 5.0, 0.05
"""The least time between two reports, and the most of a run's time that drawing them may take (our choice)."""


class Recorder(Callback):
    """Writes the run's files, passes on how far it is and stops it when somebody asks.

    Parameters
    ----------
    files, progress
        Where to write and whom to tell; ``progress`` raises :class:`~medseg.errors.Cancelled` to stop.
    report
        Draws the report anew.
    facts
        Further entries of the line with which the progress starts.
    """

    def __init__(
        self,
        files: RunFiles,
        progress: Progress,
        recipe: AnyRecipe,
        labels: LabelTable,
        *,
        report: Callable[[], object],
        facts: dict[str, Any],
    ) -> None:
        self._files, self._progress, self._recipe, self._labels = files, progress, recipe, labels
        self._report, self._facts = report, facts
        self._before = self._since = self._epoch_since = 0.0
        self._first_epoch = 0
        self._reported_at = self._report_seconds = 0.0

    def on_train_start(self, trainer: lightning.Trainer, _module: Any) -> None:
        """Begin the progress, or go on with that of the epochs before."""
        self._first_epoch = trainer.current_epoch
        self._before = self._files.forget_epochs(after=trainer.current_epoch)
        self._since = self._reported_at = time.monotonic()
        settings = self._recipe.optimisation
        self._files.append(
            "start",
            epochs=settings.epochs,
            steps_per_epoch=settings.steps_per_epoch,
            resumed_from_epoch=trainer.current_epoch,
            labels={label.value: label.name for label in self._labels},
            colors={label.value: label.color_hex for label in self._labels},
            processes=trainer.world_size,
            **self._facts,
        )
        self._files.update(
            stage="training",
            epoch=trainer.current_epoch,
            epochs=settings.epochs,
            step=trainer.global_step,
            steps=settings.moves,
            resumed_from_epoch=trainer.current_epoch,
        )

    def on_train_epoch_start(self, _trainer: lightning.Trainer, _module: Any) -> None:
        """Look at the clock."""
        self._epoch_since = time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, _module: Any, _outputs: Any, _batch: Any, batch_idx: int
    ) -> None:
        """Tell how far the run is."""
        settings = self._recipe.optimisation
        done = trainer.current_epoch + (batch_idx + 1) / settings.steps_per_epoch
        metrics = trainer.callback_metrics
        text = f"Epoch {trainer.current_epoch + 1} of {settings.epochs}"
        if "loss_step" in metrics:
            text += f", loss {float(metrics['loss_step']):.3f}"
        if "validation_dice" in metrics:
            text += f", validation Dice {float(metrics['validation_dice']):.3f}"
        self._files.update(step=trainer.global_step, eta_seconds=self._seconds_left(done))
        self._progress.update(done / settings.epochs, text)

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        """Stop between two cases when somebody asks."""
        self._progress.check()

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: Any) -> None:
        """Write the line of the epoch, after its validation."""
        epoch, metrics = trainer.current_epoch + 1, trainer.callback_metrics
        now = time.monotonic()
        found = module.last_validation
        if found is not None and found.epoch != epoch:
            found = None
        eta = self._seconds_left(epoch)
        self._files.append(
            "epoch",
            epoch=epoch,
            step=trainer.global_step,
            loss=float(metrics["loss_epoch"]) if "loss_epoch" in metrics else None,
            parts={name: float(metrics[name]) for name in module.parts if name in metrics},
            learning_rate=trainer.optimizers[0].param_groups[0]["lr"],
            validation_loss=found and found.loss,
            validation_dice=found and found.mean,
            validation_dice_worst=found and found.worst,
            dice_per_label=found and found.dice,
            **(found.more if found else {}),
            seconds=now - self._epoch_since,
            total_seconds=self._before + now - self._since,
            eta_seconds=eta,
        )
        self._files.update(epoch=epoch, step=trainer.global_step, eta_seconds=eta)
        self._files.flush()
        if found is not None and now - self._reported_at >= max(REPORT_SECONDS, self._report_seconds / _REPORT_SHARE):
            self._report()
            self._reported_at = time.monotonic()
            self._report_seconds = self._reported_at - now

    def _seconds_left(self, done: float) -> float | None:
        ran = done - self._first_epoch
        if ran <= 0:
            return None
        return (time.monotonic() - self._since) / ran * (self._recipe.optimisation.epochs - done)
