"""A registration run from recipe to model package: read the sources, fit, measure on held-out pairs, export."""

from __future__ import annotations

import copy
import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from medseg.device import choose_device
from medseg.errors import RecipeError
from medseg.models import load_network, read_package
from medseg.networks import ConditionalLapIRN, RegistrationNetwork
from medseg.networks.registration_network import start_near_zero
from medseg.training.export import place_package
from medseg.training.fitting import CHECKPOINT, fit, new_trainer
from medseg.training.recording import Recorder
from medseg.training.registration.data import RegistrationData
from medseg.training.registration.export import export_registration_package
from medseg.training.registration.makers import makers_of
from medseg.training.registration.measure import measure_registration_cost
from medseg.training.registration.measuring import HEAD, mean_row, measured, write_figures
from medseg.training.registration.module import RegistrationModule, noise_batch
from medseg.training.registration.objective import LevelPlan, RegistrationObjective, fields_of
from medseg.training.report import REPORT, Report, ReportTable, draw
from medseg.training.results import RESULTS, TrainingResult
from medseg.training.setup import (
    checkpoint_to_resume,
    label_table,
    load_start,
    on_trial,
    seeded_network,
    write_split,
    write_stamp,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.labels import LabelTable
    from medseg.progress import Progress
    from medseg.training.fitting import Hardware
    from medseg.training.registration.data import KeptAside
    from medseg.training.registration.measuring import PairFigures
    from medseg.training.registration.recipe import RegistrationRecipe
    from medseg.training.run_files import RunFiles

_PREPARED, _TRAINED, _MEASURED = 0.03, 0.96, 0.98
"""Parts of the whole run, for its progress (our choice)."""


@dataclass(frozen=True)
class RegistrationRun:
    """What the steps of a run share."""

    recipe_path: Path
    recipe: RegistrationRecipe
    data: Path | None
    output: Path
    hardware: Hardware
    files: RunFiles
    progress: Progress


def train_registration(
    run: RegistrationRun, start: float, *, resume: bool, export: Path | None
) -> TrainingResult | None:
    """Train as the recipe says; ``None`` in a process that only helps the first one.

    Raises
    ------
    RecipeError, TrainingError, Cancelled
        As :func:`medseg.training.run_training` says.
    """
    recipe, output, hardware = run.recipe, run.output, run.hardware
    network = new_registration_network(run.recipe_path, recipe)
    checkpoint = checkpoint_to_resume(output, recipe) if resume else None
    device = choose_device(hardware.device).device
    trainer = new_trainer(
        recipe, network, _hardware_for(recipe, hardware), output, callbacks=[], resumed=checkpoint is not None
    )
    if hardware.is_first:
        try_registration(network, recipe, device)
    makers, labels = makers_of(
        recipe, named_labels(run.recipe_path, recipe), run.data, run.recipe_path.parent, run.progress.part(0, _PREPARED)
    )
    kept_aside = [pair for maker in makers for pair in maker.kept_aside()]
    module = RegistrationModule(network, recipe, labels, output, kept_aside)
    report = Report(output, recipe, labels, started=start)
    if hardware.is_first:
        if checkpoint is None:
            (output / CHECKPOINT).unlink(missing_ok=True)
        write_stamp(output, run.recipe_path, recipe, labels)
        names = [maker.cases for maker in makers]
        write_split(output, [one for cases, _ in names for one in cases], [one for _, cases in names for one in cases])
        facts = {"sources": [source.kind for source in recipe.sources], "validation_pairs": len(kept_aside)}
        recorder = Recorder(
            run.files,
            run.progress.part(_PREPARED, _TRAINED),
            recipe,
            labels,
            report=lambda: draw(report, run.files),
            facts={**facts, "device": device},
        )
        trainer.callbacks.insert(0, recorder)
    fit(trainer, module, RegistrationData(recipe, makers, len(kept_aside)), checkpoint)
    if not hardware.is_first:
        return None
    return _finish(run, module, kept_aside, report, export)


def new_registration_network(recipe_path: Path, recipe: RegistrationRecipe) -> RegistrationNetwork:
    """Return the recipe's network with its first weights, which depend on the seed alone.

    Raises
    ------
    RecipeError
        When it cannot be built, does not register, or does not go with ``levels``, the smoothness or the grid.
    """
    network = seeded_network(recipe)
    if not isinstance(network, RegistrationNetwork):
        raise RecipeError(
            f"The network '{recipe.network.target}' does not register.",
            advice="Choose medseg.networks.ConditionalLapIRN, VoxelMorph or TMDCA.",
        )
    wrong = [size for size in recipe.grid.size if size % network.multiple]
    if wrong:
        raise RecipeError(
            f"The network takes multiples of {network.multiple} voxels, and grid.size has {wrong[0]}.",
            advice="Correct grid.size.",
        )
    low, high = recipe.loss.range_of_smoothness
    if low != high and not network.conditional:
        raise RecipeError(
            "loss.smoothness is a range, and this network is trained for one smoothness only.",
            advice="Give one number, or choose medseg.networks.ConditionalLapIRN.",
        )
    if recipe.levels is not None and not isinstance(network, ConditionalLapIRN):
        raise RecipeError("The network has no levels to train one after the other.", advice="Take levels out.")
    try:
        LevelPlan.of(recipe, network)
    except ValueError as error:
        raise RecipeError(f"The recipe's {error}.", advice="Correct levels.steps.") from error
    if isinstance(network, ConditionalLapIRN):
        # A level that is added begins at what the ones before have found; the other networks do so by themselves.
        for level in network.parts:
            start_near_zero([part for part in level.flow if isinstance(part, torch.nn.Conv3d)][-1])
    if recipe.start_from is not None:
        load_start(network, recipe_path.parent / recipe.start_from)
    return network


def try_registration(network: RegistrationNetwork, recipe: RegistrationRecipe, device: str) -> None:
    """Run a copy of the network and the loss once on noise, before anything is read.

    Raises
    ------
    RecipeError
        When they do not take the recipe's grid.
    DeviceMemoryError
        When the GPU's memory is too small.
    """
    plan = LevelPlan.of(recipe, network)
    with on_trial("grid", f"a grid of {' x '.join(map(str, recipe.grid.size))} voxels"):
        batch = noise_batch(recipe, torch.device(device))
        objective = RegistrationObjective(recipe.loss).to(device)
        fields = fields_of(copy.deepcopy(network).to(device).train(), batch, None)
        objective(fields, batch)
        if plan is not None:
            objective(fields, batch, plan.coarser(0))


def named_labels(recipe_path: Path, recipe: RegistrationRecipe) -> LabelTable | None:
    """Return the recipe's own label table, ``None`` when it has none.

    Raises
    ------
    RecipeError
        When it cannot be read.
    """
    return None if recipe.labels is None else label_table(recipe_path.parent / recipe.labels)


def _hardware_for(recipe: RegistrationRecipe, hardware: Hardware) -> Hardware:
    """Return the hardware with the strategy that a network needs whose levels are not all used in every step."""
    if recipe.levels is None or hardware.processes == 1 or hardware.strategy != "auto":
        return hardware
    return dataclasses.replace(hardware, strategy="ddp_find_unused_parameters_true")


def _finish(
    run: RegistrationRun,
    module: RegistrationModule,
    kept_aside: Sequence[KeptAside],
    report: Report,
    export: Path | None,
) -> TrainingResult:
    recipe, files, output, labels, network = run.recipe, run.files, run.output, report.labels, module.average
    files.update(stage="evaluating", eta_seconds=None)
    package, facts = output / recipe.package.name, {"multiple": network.multiple, "conditional": network.conditional}
    export_registration_package(network, recipe, labels, package, **facts)
    figures = _measured(package, recipe, kept_aside, run.progress)
    write_figures(figures, output / RESULTS)
    run.progress.update(_MEASURED, "Measuring the cost of a run")
    cost = measure_registration_cost(package, run.progress)
    export_registration_package(network, recipe, labels, package, figures=figures, measured=cost, **facts)
    run.progress.update(0.99, "Drawing the report")
    report.package = package
    if figures:
        rows = [*(one.row() for one in figures), mean_row(figures)]
        report.tables = (ReportTable("Pairs kept aside", HEAD, rows, texts=2),)
    drawn = draw(report, files)
    exported = None if export is None else place_package(package, export)
    files.update(package=recipe.package.name, exported=None if exported is None else str(exported))
    run.progress.update(1.0, "Done")
    return TrainingResult(
        package,
        (),
        time.monotonic() - report.started,
        report=output / REPORT if drawn else None,
        exported=exported,
        remarks=(_sentence(figures),) if figures else (),
        usage=f"medseg register FIXED MOVING --method model --model {exported or package} --output-transform T.h5",
    )


def _measured(
    package: Path, recipe: RegistrationRecipe, kept_aside: Sequence[KeptAside], progress: Progress
) -> list[PairFigures]:
    """Measure the package as it is stored."""
    network = load_network(read_package(package))
    assert isinstance(network, RegistrationNetwork)
    found = []
    for number, kept in enumerate(kept_aside):
        done = _TRAINED + (_MEASURED - _TRAINED) * number / len(kept_aside)
        progress.update(done, f"Measuring pair {number + 1} of {len(kept_aside)}")
        found.append(measured(network, kept, recipe.loss.usual_smoothness))
    return found


def _sentence(figures: Sequence[PairFigures]) -> str:
    _, _, before, after, folded, _ = mean_row(figures)
    return (
        f"On {len(figures)} pairs that were kept aside: Dice {before} before and {after} after,"
        f" {folded} % of the voxels folded."
    )
