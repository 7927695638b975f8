"""A training run from recipe to model package: check, prepare, fit, measure on unseen cases, export."""

from __future__ import annotations

import csv
import ctypes
import json
import logging
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from medseg.device import choose_device
from medseg.errors import Cancelled, MedSegError, ModelError, RecipeError, TrainingError
from medseg.files import atomic_path
from medseg.labels import LabelTable, read_labels
from medseg.networks import build_network
from medseg.progress import NO_PROGRESS, Progress
from medseg.training.augmentation import PatchSampler
from medseg.training.data import Pair, PreparedCase, find_pairs, prepare, read_pair, split_pairs
from medseg.training.export import CaseResult, evaluate, export_package, preprocessing_of
from medseg.training.instances import check_instances_exist
from medseg.training.measure import measure_cost
from medseg.training.module import TrainingData, TrainingModule
from medseg.training.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

_LOG = logging.getLogger(__name__)

CHECKPOINT = "last.ckpt"
LARGEST_CLASS = 255
"""Class indices are held as unsigned 8-bit integers."""


@dataclass(frozen=True)
class TrainingResult:
    """What a run has made.

    Attributes
    ----------
    package
        Folder of the exported model package.
    cases
        Dice of every case that was not trained on, at the full resolution of its image.
    seconds
        Time of this call (a resumed run counts from its last start).
    """

    package: Path
    cases: tuple[CaseResult, ...]
    seconds: float


def train(
    recipe_path: Path,
    data: Path,
    output: Path,
    *,
    resume: bool = True,
    device: str = "auto",
    progress: Progress = NO_PROGRESS,
) -> TrainingResult:
    """See :func:`medseg.training.run_training`."""
    start = time.monotonic()
    recipe_path, data, output = Path(recipe_path), Path(data), Path(output)
    recipe = read_recipe(recipe_path)
    labels = _read_labels(recipe_path, recipe)
    network = _new_network(recipe_path, recipe, labels)
    pairs = find_pairs(data, recipe.data)
    training_pairs, validation_pairs = split_pairs(pairs, recipe.data, recipe.seed)
    checkpoint = _checkpoint_to_resume(output, recipe, resume=resume)

    progress.update(0.0, "Reading and checking the cases")
    cases = _prepare_all([*training_pairs, *validation_pairs], labels, recipe, progress.part(0.0, 0.05))
    training, validation = cases[: len(training_pairs)], cases[len(training_pairs) :]
    _write_split(output, training_pairs, validation_pairs)

    classes = labels.values[-1] + 1
    module = TrainingModule(network, recipe, classes, output)
    sampler = PatchSampler(recipe.window, recipe.augmentation, recipe.optimisation.foreground_patches)
    chosen = choose_device(device)
    _fit(
        module,
        TrainingData(recipe, training, validation, sampler),
        recipe,
        output,
        accelerator="gpu" if chosen.device.startswith("cuda") else "cpu",
        checkpoint=checkpoint,
        progress=progress.part(0.05, 0.95),
    )

    progress.update(0.95, "Measuring on the cases kept aside")
    spacings = [case.spacing for case in training]
    package = export_package(
        module.average, recipe, labels, output / recipe.package.name, trained_on=len(training), spacings=spacings
    )
    # Measured with the package as it is stored, through the pipeline, then written again with its figures.
    results = evaluate(package, validation_pairs, labels, recipe.data, progress=progress.part(0.95, 0.99))
    package = export_package(
        module.average,
        recipe,
        labels,
        package,
        results=results,
        trained_on=len(training),
        earlier=_figures_of_the_start(recipe_path, recipe),
        measured=measure_cost(package, (validation_pairs or training_pairs)[0].image),
        spacings=spacings,
    )
    _write_results(output, results)
    progress.update(1.0, "Done")
    return TrainingResult(package, tuple(results), time.monotonic() - start)


def _read_labels(recipe_path: Path, recipe: Recipe) -> LabelTable:
    try:
        labels = read_labels(recipe_path.parent / recipe.labels)
    except MedSegError as error:
        raise RecipeError(f"The recipe's label table cannot be used: {error.message}", advice=error.advice) from error
    if labels.values[-1] > LARGEST_CLASS:
        raise RecipeError(
            f"The label table holds the value {labels.values[-1]}, and training takes values up to {LARGEST_CLASS}.",
            advice="Number the labels from 1; channel v of the network becomes the label of value v.",
        )
    check_instances_exist(recipe, labels)
    return labels


def _new_network(recipe_path: Path, recipe: Recipe, labels: LabelTable) -> nn.Module:
    lightning.seed_everything(recipe.seed, workers=True, verbose=False)
    expected = labels.values[-1] + 1
    declared = recipe.network.arguments.get("out_channels")
    if declared is not None and declared != expected:
        raise RecipeError(
            f"The network has {declared} output channels, but the label table needs {expected} (with background).",
            advice="Set network.arguments.out_channels accordingly.",
        )
    try:
        network = build_network(recipe.network.target, recipe.network.arguments)
    except ModelError as error:
        raise RecipeError(error.message, advice="Correct network.target and network.arguments.") from error
    if recipe.start_from is not None:
        _load_weights(network, recipe_path.parent / recipe.start_from)
    return network


def _figures_of_the_start(recipe_path: Path, recipe: Recipe) -> Mapping[str, float] | None:
    from medseg.models import read_package

    return None if recipe.start_from is None else read_package(recipe_path.parent / recipe.start_from).metrics


def _load_weights(network: nn.Module, folder: Path) -> None:
    from medseg.models import load_network, read_package

    try:
        weights = load_network(read_package(folder), "cpu").state_dict()
        network.load_state_dict(weights)
    except ModelError as error:
        raise RecipeError(f"start_from cannot be used: {error.message}", advice=error.advice) from error
    except RuntimeError as error:
        raise RecipeError(
            f"The weights of {folder.name} do not fit the recipe's network.",
            advice="Give start_from a package that was trained with the same network and arguments.",
        ) from error


def _checkpoint_to_resume(output: Path, recipe: Recipe, *, resume: bool) -> Path | None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecipeError(
            f"The output folder {output} cannot be made: {error.strerror}.", advice="Choose another with --output."
        ) from error
    checkpoint, stamp = output / CHECKPOINT, output / "recipe.json"
    if not checkpoint.is_file():
        resume = False
    elif resume and (not stamp.is_file() or json.loads(stamp.read_text()).get("digest") != recipe.digest()):
        raise TrainingError(
            f"{output} holds a run of another recipe.",
            advice="Choose an empty output folder, or start over in this one with --no-resume.",
        )
    if not resume:
        checkpoint.unlink(missing_ok=True)
        with atomic_path(stamp) as path:
            path.write_text(json.dumps({"digest": recipe.digest(), "recipe": recipe.model_dump(mode="json")}, indent=2))
        return None
    _LOG.info("Going on from %s", checkpoint)
    return checkpoint


def _prepare_all(pairs: Sequence[Pair], labels: LabelTable, recipe: Recipe, progress: Progress) -> list[PreparedCase]:
    # Every case is read and checked before the first step: a bad one must not end a run at night.
    preprocessing = preprocessing_of(recipe)
    prepared = []
    for number, pair in enumerate(pairs):
        image, label = read_pair(pair, labels, recipe.data)
        prepared.append(
            prepare(
                pair,
                image,
                label,
                labels=labels,
                section=recipe.data,
                preprocessing=preprocessing,
                seed=recipe.seed,
            )
        )
        progress.update((number + 1) / len(pairs), f"Read {pair.case}")
    return prepared


def _fit(
    module: TrainingModule,
    data: TrainingData,
    recipe: Recipe,
    output: Path,
    *,
    accelerator: str,
    checkpoint: Path | None,
    progress: Progress,
) -> None:
    settings = recipe.optimisation
    if accelerator == "cpu":
        _keep_freed_memory()
    # Lightning's notes on devices and its advertisements are not for our users; its warnings are.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    trainer = lightning.Trainer(
        accelerator=accelerator,
        devices=1 if accelerator == "cpu" else "auto",
        max_epochs=settings.epochs,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.gradient_clip,
        precision=_precision(settings.precision, accelerator),
        check_val_every_n_epoch=settings.validate_every,
        num_sanity_val_steps=0,
        log_every_n_steps=min(10, settings.steps_per_epoch),
        logger=_loggers(output, resumed=checkpoint is not None),
        callbacks=[
            ModelCheckpoint(
                dirpath=output,
                filename=CHECKPOINT.removesuffix(".ckpt"),
                enable_version_counter=False,
                save_on_train_epoch_end=True,
            ),
            LearningRateMonitor("epoch"),
            _Reporter(progress, settings.epochs, settings.steps_per_epoch),
        ],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=accelerator != "cpu",
    )
    with warnings.catch_warnings():
        # Two loader processes on two cores would starve the network; Lightning's advice to add more is wrong there.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*exists and is not empty.*")
        warnings.filterwarnings("ignore", ".*in eval mode at the start of training.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*")
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    if trainer.interrupted:
        raise Cancelled


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


def _precision(wanted: str, accelerator: str) -> Any:
    if wanted != "auto":
        return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[wanted]
    if accelerator == "gpu":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    # Measured with a 3D U-Net: in bfloat16 a step takes a third of the time on a Xeon with AMX, half of it on an EPYC
    # with AVX-512 BF16. Without such instructions it takes longer.
    capabilities = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    fast = any(getattr(torch.cpu, name, lambda: False)() for name in capabilities)
    return "bf16-mixed" if fast else "32-true"


def _loggers(output: Path, *, resumed: bool) -> list[Any]:
    loggers: list[Any] = [CSVLogger(output, name="logs", version="resumed" if resumed else "first")]
    try:
        from lightning.pytorch.loggers import TensorBoardLogger

        loggers.append(TensorBoardLogger(output, name="tensorboard", version=""))
    except ModuleNotFoundError:
        _LOG.info("TensorBoard is not installed; losses are logged as CSV only")
    return loggers


class _Reporter(Callback):
    """Passes on how far the run is and stops it when the user asks."""

    def __init__(self, progress: Progress, epochs: int, steps: int) -> None:
        self._progress, self._epochs, self._steps = progress, epochs, steps

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        _module: Any,
        _outputs: Any,
        _batch: Any,
        batch_idx: int,
    ) -> None:
        done = trainer.current_epoch + (batch_idx + 1) / self._steps
        loss = trainer.callback_metrics.get("loss_step")
        text = f"Epoch {trainer.current_epoch + 1} of {self._epochs}"
        if loss is not None:
            text += f", loss {float(loss):.3f}"
        dice = trainer.callback_metrics.get("validation_dice")
        if dice is not None:
            text += f", validation Dice {float(dice):.3f}"
        self._progress.update(done / self._epochs, text)


def _write_split(output: Path, training: Sequence[Pair], validation: Sequence[Pair]) -> None:
    with atomic_path(output / "split.json") as path:
        split = {"training": [p.case for p in training], "validation": [p.case for p in validation]}
        path.write_text(json.dumps(split, indent=2))


def _write_results(output: Path, results: Sequence[CaseResult]) -> None:
    with atomic_path(output / "evaluation.csv") as path, path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["case", "label", "dice", "seconds"])
        writer.writeheader()
        writer.writerows(asdict(result) for result in results)
