"""A training run from recipe to model package: check, prepare, fit, measure on unseen cases, export.

This is the way of segmentation; those of the other tasks are :mod:`medseg.training.registration.run` and
:mod:`medseg.training.correction.run`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.device import choose_device
from medseg.progress import NO_PROGRESS, Progress
from medseg.training.checks import write_facts
from medseg.training.correction.recipe import CorrectionRecipe
from medseg.training.correction.run import CorrectionRun, train_correction
from medseg.training.evaluation import evaluate, figures, write_results
from medseg.training.export import export_package, place_package
from medseg.training.fitting import CHECKPOINT, Hardware, fit, new_trainer
from medseg.training.loading import TrainingData
from medseg.training.measure import measure_cost
from medseg.training.module import TrainingModule
from medseg.training.pairs import find_pairs, split_pairs
from medseg.training.preparation import prepare_cases
from medseg.training.recording import Recorder
from medseg.training.registration.recipe import RegistrationRecipe
from medseg.training.registration.run import RegistrationRun, train_registration
from medseg.training.report import REPORT, RESULT_FOLDER, Report, draw, draw_picture
from medseg.training.results import RESULTS, TrainingResult
from medseg.training.setup import (
    checkpoint_to_resume,
    figures_of_the_start,
    labels_of,
    new_network,
    try_network,
    write_split,
    write_stamp,
)
from medseg.training.tasks import read_any_recipe
from medseg.training.telling import told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.labels import LabelTable
    from medseg.training.evaluation import CaseResult
    from medseg.training.pairs import Pair
    from medseg.training.recipe import Recipe
    from medseg.training.run_files import RunFiles

FACTS = "cases.csv"
_PREPARED, _TRAINED, _MEASURED = 0.05, 0.92, 0.98
"""Parts of the whole run, for its progress (our choice)."""


@dataclass(frozen=True)
class _Run:
    """What the steps of a run share."""

    recipe_path: Path
    recipe: Recipe
    labels: LabelTable
    training: Sequence[Pair]
    validation: Sequence[Pair]
    output: Path
    hardware: Hardware
    files: RunFiles
    progress: Progress


def train(
    recipe_path: Path,
    data: Path | None,
    output: Path,
    *,
    resume: bool = True,
    hardware: Hardware | None = None,
    export: Path | None = None,
    progress: Progress = NO_PROGRESS,
) -> TrainingResult | None:
    """See :func:`medseg.training.run_training`."""
    start = time.monotonic()
    recipe_path, output, hardware = Path(recipe_path), Path(output), hardware or Hardware()
    with told(output, hardware, progress) as (files, telling):
        recipe = read_any_recipe(recipe_path)
        files.update(recipe=recipe.package.name, epochs=recipe.optimisation.epochs)
        if isinstance(recipe, RegistrationRecipe):
            registration = RegistrationRun(recipe_path, recipe, data, output, hardware, files, telling)
            return train_registration(registration, start, resume=resume, export=export)
        if isinstance(recipe, CorrectionRecipe):
            correction = CorrectionRun(recipe_path, recipe, data, output, hardware, files, telling)
            return train_correction(correction, start, resume=resume, export=export)
        labels = labels_of(recipe_path, recipe)
        pairs = find_pairs(data, recipe.data, labels=labels, recipe_folder=recipe_path.parent)
        training, validation = split_pairs(pairs, recipe.data, recipe.seed)
        run = _Run(recipe_path, recipe, labels, training, validation, output, hardware, files, telling)
        return _train(run, start, resume=resume, export=export)


def _train(run: _Run, start: float, *, resume: bool, export: Path | None) -> TrainingResult | None:
    recipe, labels, files, output = run.recipe, run.labels, run.files, run.output
    network = new_network(run.recipe_path, recipe, labels)
    device = choose_device(run.hardware.device).device
    checkpoint = checkpoint_to_resume(output, recipe) if resume else None
    module = TrainingModule(network, recipe, labels, output)
    report = Report(output, recipe, labels, started=start, tolerance_mm=recipe.evaluation.tolerance_mm)
    trainer = new_trainer(recipe, network, run.hardware, output, callbacks=[], resumed=checkpoint is not None)
    if run.hardware.is_first:
        try_network(network, recipe, labels, device)
        if checkpoint is None:
            (output / CHECKPOINT).unlink(missing_ok=True)
        write_stamp(output, run.recipe_path, recipe, labels)
    cases = prepare_cases(
        run.training,
        run.validation,
        recipe,
        labels,
        output=output,
        processes=run.hardware.processes,
        is_first=run.hardware.is_first,
        progress=run.progress.part(0.0, _PREPARED),
    )
    report.facts = cases.facts
    if run.hardware.is_first:
        write_split(output, [pair.case for pair in run.training], [pair.case for pair in run.validation])
        write_facts(cases.facts, labels, output / FACTS)
        facts = {"training_cases": len(run.training), "validation_cases": len(run.validation), "device": device}
        fitting = run.progress.part(_PREPARED, _TRAINED)
        recorder = Recorder(files, fitting, recipe, labels, report=lambda: draw(report, files), facts=facts)
        trainer.callbacks.insert(0, recorder)
    fit(trainer, module, TrainingData(recipe, cases.training, cases.validation), checkpoint)
    if not run.hardware.is_first:
        return None
    spacings = cases.spacings
    cases.cache.close()
    return _finish(run, module, report, spacings=spacings, export=export)


def _finish(
    run: _Run,
    module: TrainingModule,
    report: Report,
    *,
    spacings: list[tuple[float, float, float]],
    export: Path | None,
) -> TrainingResult:
    recipe, labels, files, output = run.recipe, run.labels, run.files, run.output
    files.update(stage="evaluating", eta_seconds=None)
    kept_aside = [pair.case for pair in run.validation]
    package = output / recipe.package.name
    export_package(
        module.average, recipe, labels, package, trained_on=len(run.training), kept_aside=kept_aside, spacings=spacings
    )
    # Measured with the package as it is stored, through the pipeline, then written again with its figures.
    results = evaluate(
        package,
        run.validation,
        labels,
        recipe.data,
        loss=recipe.loss,
        tolerance_mm=recipe.evaluation.tolerance_mm,
        device=run.hardware.device,
        keep=output / RESULT_FOLDER,
        progress=run.progress.part(_TRAINED, _MEASURED),
    )
    write_results(results, output / RESULTS)
    run.progress.update(_MEASURED, "Measuring the cost of a run")
    export_package(
        module.average,
        recipe,
        labels,
        package,
        results=results,
        trained_on=len(run.training),
        kept_aside=kept_aside,
        earlier=figures_of_the_start(run.recipe_path.parent, recipe),
        measured=measure_cost(package, (run.validation or run.training)[0].images, run.progress),
        spacings=spacings,
        picture=_picture(run, results),
    )
    run.progress.update(0.99, "Drawing the report")
    report.results, report.pairs, report.package = results, run.validation, package
    drawn = draw(report, files)
    exported = None if export is None else place_package(package, export)
    files.update(package=recipe.package.name, exported=None if exported is None else str(exported))
    run.progress.update(1.0, "Done")
    return TrainingResult(
        package,
        tuple(results),
        time.monotonic() - report.started,
        tuple(figures(results, labels)),
        output / REPORT if drawn else None,
        exported,
        usage=f"medseg segment INPUT --model {exported or package} --output OUT.seg.nrrd",
    )


def _picture(run: _Run, results: Sequence[CaseResult]) -> Path | None:
    """Draw the case in the middle of the results for the package, when the recipe allows it."""
    if not (run.recipe.package.picture and results):
        return None
    return draw_picture(run.output, run.validation, run.labels, results, run.recipe.package.slots[0].modality)
