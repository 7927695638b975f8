"""The Lightning trainer of a run: devices and processes, precision, logs, and checkpoints that are whole or absent."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO

from medseg.device import choose_device
from medseg.errors import Cancelled, DeviceError, DeviceMemoryError
from medseg.files import atomic_path
from medseg.training.precision import precision_of
from medseg.training.processes import is_first

if TYPE_CHECKING:
    from torch import nn

    from medseg.training.averaging import AveragedModule
    from medseg.training.tasks import AnyRecipe

_LOG = logging.getLogger(__name__)

CHECKPOINT = "last.ckpt"
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")


@dataclass(frozen=True)
class Hardware:
    """What a run computes on.

    Attributes
    ----------
    device
        "auto", "cpu", "cuda" or "cuda:N".
    devices, nodes
        Processes on each machine (one for each GPU), and machines.
    strategy
        How processes share the work, one of :data:`STRATEGIES` (Lightning's names).

    Raises
    ------
    DeviceError
        When a number is below 1 or the strategy is none of these.
    """

    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"

    def __post_init__(self) -> None:
        if min(self.devices, self.nodes) < 1:
            raise DeviceError(
                f"A run on {self.devices} devices of {self.nodes} machines is none.", advice="Give numbers from 1."
            )
        if self.strategy not in STRATEGIES:
            raise DeviceError(
                f"There is no strategy '{self.strategy}'.", advice=f"Choose one of {', '.join(STRATEGIES)}."
            )

    @property
    def processes(self) -> int:
        """How many processes work on the run."""
        return self.devices * self.nodes

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that checks, writes and reports; the others only help it."""
        return is_first(self.processes)


class AtomicCheckpoint(TorchCheckpointIO):
    """Writes a checkpoint beside the old one and then puts it in its place: a kill leaves one of the two, whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:  # noqa: ARG002
        """Write ``checkpoint`` to ``path`` and make sure that it is on the disk."""
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as stream:
            torch.save(checkpoint, stream)
            stream.flush()
            os.fsync(stream.fileno())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:  # noqa: ARG002
        """Read tensors and plain values, whatever Lightning's version would do: a checkpoint runs no code."""
        return torch.load(path, map_location=map_location, weights_only=True)


def new_trainer(
    recipe: AnyRecipe,
    network: nn.Module,
    hardware: Hardware,
    output: Path,
    *,
    callbacks: list[Callback],
    resumed: bool,
) -> lightning.Trainer:
    """Return the trainer of a run for ``network``; nothing is written yet.

    Raises
    ------
    DeviceError
        When there are not as many devices as asked for.
    """
    settings = recipe.optimisation
    chosen = choose_device(hardware.device)
    accelerator = "gpu" if chosen.device.startswith("cuda") else "cpu"
    if accelerator == "cpu":
        _keep_freed_memory()
    devices: int | list[int] = hardware.devices
    if accelerator == "gpu" and devices == 1:
        devices = [int(chosen.device.partition(":")[2] or 0)]
    # Lightning's notes on devices and its advertisements are not for our users; its warnings are.
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    checkpoints = ModelCheckpoint(
        dirpath=output,
        filename=CHECKPOINT.removesuffix(".ckpt"),
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    try:
        return lightning.Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=hardware.nodes,
            strategy="ddp" if hardware.processes > 1 and hardware.strategy == "auto" else hardware.strategy,
            max_epochs=settings.epochs,
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=settings.gradient_clip,
            precision=precision_of(recipe, network, accelerator),
            check_val_every_n_epoch=settings.validate_every,
            num_sanity_val_steps=0,
            log_every_n_steps=min(10, settings.steps_per_epoch),
            logger=_loggers(output, resumed=resumed) if hardware.is_first else False,
            callbacks=[
                *callbacks,
                _LastEpoch(),
                *([LearningRateMonitor("epoch")] if hardware.is_first else []),
                checkpoints,
            ],
            plugins=[AtomicCheckpoint()],
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,  # the patches are dealt out by number, see PatchNumbers
        )
    except (MisconfigurationException, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".!")
        raise DeviceError(
            f"The run cannot use {hardware.devices} devices here: {reason}.", advice="Set --devices lower."
        ) from error


def fit(
    trainer: lightning.Trainer, module: AveragedModule, data: lightning.LightningDataModule, checkpoint: Path | None
) -> None:
    """Train until the last epoch, going on from ``checkpoint`` when there is one.

    Raises
    ------
    Cancelled
        When Lightning was interrupted.
    DeviceMemoryError
        When the GPU's memory is too small.
    """
    try:
        with warnings.catch_warnings():
            # Two loader processes on two cores would starve the network; Lightning's advice to add more is wrong there.
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            warnings.filterwarnings("ignore", ".*exists and is not empty.*")
            warnings.filterwarnings("ignore", ".*in eval mode at the start of training.*")
            warnings.filterwarnings("ignore", ".*LeafSpec.*")
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    except BaseException as error:
        _end_helpers(trainer)
        if _began_with_an_interruption(error):
            raise KeyboardInterrupt from error
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise DeviceMemoryError(
                "The GPU's memory is too small for this network and this many voxels.",
                advice="Lower optimisation.batch_size, or window.size or grid.size, in the recipe.",
            ) from error
        raise
    if trainer.interrupted:
        raise Cancelled


def _began_with_an_interruption(error: BaseException) -> bool:
    """Say whether an error only followed a Ctrl-C, as when half a checkpoint cannot be closed."""
    seen = error.__context__
    while seen is not None and not isinstance(seen, KeyboardInterrupt):
        seen = seen.__context__
    return seen is not None


class _LastEpoch(Callback):
    """Validates after the last epoch, whatever its number."""

    def on_train_epoch_start(self, trainer: lightning.Trainer, _module: Any) -> None:
        if trainer.current_epoch == trainer.max_epochs - 1:
            trainer.check_val_every_n_epoch = 1


def _end_helpers(trainer: lightning.Trainer) -> None:
    """End the processes that Lightning has started; they would wait for this one for half an hour."""
    import signal

    kill = getattr(trainer.strategy.launcher, "kill", None)
    if kill is not None:
        kill(getattr(signal, "SIGKILL", signal.SIGTERM))


def _keep_freed_memory() -> None:
    """Let glibc keep the large blocks that a step frees for the next step.

    By default it maps each large tensor anew and the kernel clears its pages every time. Measured on two cores with a
    3D U-Net: a step took 0.62 s instead of 1.2 to 1.7 s.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        never_map, never_trim = (-4, 0), (-1, -1)  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
        library.mallopt(*never_map)
        library.mallopt(*never_trim)


def _loggers(output: Path, *, resumed: bool) -> list[Any]:
    loggers: list[Any] = [CSVLogger(output, name="logs", version="resumed" if resumed else "first")]
    try:
        from lightning.pytorch.loggers import TensorBoardLogger

        loggers.append(TensorBoardLogger(output, name="tensorboard", version=""))
    except ModuleNotFoundError:
        _LOG.info("TensorBoard is not installed; losses are logged as CSV only")
    return loggers
