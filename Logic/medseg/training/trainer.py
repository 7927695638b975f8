"""A training run from recipe to model package, and the way of segmentation: check, prepare, fit, measure, export.

The other tasks go their way in :mod:`medseg.training.sampled_run`.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.device import choose_device
from medseg.progress import NO_PROGRESS, Progress
from medseg.training.checks import write_facts
from medseg.training.evaluation import evaluate, figures, write_results
from medseg.training.export import export_package
from medseg.training.fitting import Hardware, fit, new_trainer
from medseg.training.inspection import CheckedData
from medseg.training.loading import TrainingData
from medseg.training.measure import measure_cost
from medseg.training.module import TrainingModule
from medseg.training.pairs import find_pairs, split_pairs
from medseg.training.preparation import check_cases, prepare_cases
from medseg.training.report import RESULT_FOLDER, Report, draw_picture
from medseg.training.results import RESULTS
from medseg.training.run import Run
from medseg.training.setup import (
    checkpoint_to_resume,
    figures_of_the_start,
    labels_of,
    new_network,
    read_split,
    try_network,
    write_split,
    write_stamp,
)
from medseg.training.tasks import read_any_recipe, task_for
from medseg.training.telling import told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from medseg.labels import LabelTable
    from medseg.training.pairs import Pair
    from medseg.training.recipe import Recipe
    from medseg.training.results import TrainingResult

FACTS = "cases.csv"
_PREPARED, _TRAINED, _MEASURED = 0.05, 0.92, 0.98
"""Parts of the whole run, for its progress (our choice)."""


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
        return task_for(recipe).train(
            Run(recipe_path, data, output, resume, export, hardware, files, telling, started=start)
        )


class SegmentationTask:
    """A run of the task segmentation, whose samples are patches of cases that are read before."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def train(self, run: Run) -> TrainingResult | None:
        """See :meth:`medseg.training.sampled_run.SampledTask.train`."""
        recipe, output, hardware = self.recipe, run.output, run.hardware
        labels, training, validation = self._cases(run.recipe_path, run.data)
        network = new_network(run.recipe_path, recipe, labels)
        device = choose_device(hardware.device).device
        checkpoint = checkpoint_to_resume(output, recipe) if run.resume else None
        module = TrainingModule(network, recipe, labels, output)
        report = Report(
            output, recipe, labels, run.started, tolerance_mm=recipe.evaluation.tolerance_mm, pairs=validation
        )
        trainer = new_trainer(recipe, network, hardware, output, callbacks=[], resumed=checkpoint is not None)
        if hardware.is_first:
            try_network(network, recipe, labels, device)
            write_stamp(output, run.recipe_path, recipe, labels, anew=checkpoint is None)
        cases = prepare_cases(
            training,
            validation,
            recipe,
            labels,
            output=output,
            processes=hardware.processes,
            is_first=hardware.is_first,
            progress=run.progress.part(0.0, _PREPARED),
        )
        report.facts = cases.facts
        if hardware.is_first:
            write_split(output, [pair.case for pair in training], [pair.case for pair in validation])
            write_facts(cases.facts, labels, output / FACTS)
            facts = {"training_cases": len(training), "validation_cases": len(validation), "device": device}
            run.record(trainer, report, run.progress.part(_PREPARED, _TRAINED), **facts)
        fit(trainer, module, TrainingData(recipe, cases.training, cases.validation), checkpoint)
        if not hardware.is_first:
            return None
        spacings = cases.spacings
        cases.cache.close()
        return self._finish(run, module.average, report, training, spacings)

    def check(self, recipe_path: Path, data: Path | None, progress: Progress) -> CheckedData:
        """See :func:`medseg.training.check_data`."""
        recipe = self.recipe
        labels, training, validation = self._cases(recipe_path, data)
        try_network(new_network(recipe_path, recipe, labels), recipe, labels, "cpu")
        return CheckedData(check_cases(training, validation, recipe, labels, progress), labels)

    def export_unfinished(
        self, network: nn.Module, labels: LabelTable, folder: Path, output: Path, epochs: int
    ) -> Path:
        """Write the package of the run in ``output``, which has come as far as ``epochs``, and return its folder."""
        training, kept_aside = read_split(output)
        return export_package(
            network, self.recipe, labels, folder, trained_on=len(training), kept_aside=kept_aside, epochs=epochs
        )

    def _cases(self, recipe_path: Path, data: Path | None) -> tuple[LabelTable, list[Pair], list[Pair]]:
        """Return the label table, and the cases to train on and those that are kept aside."""
        labels = labels_of(recipe_path, self.recipe)
        pairs = find_pairs(data, self.recipe.data, labels=labels, recipe_folder=recipe_path.parent)
        return labels, *split_pairs(pairs, self.recipe.data, self.recipe.seed)

    def _finish(
        self,
        run: Run,
        network: nn.Module,
        report: Report,
        training: Sequence[Pair],
        spacings: Sequence[tuple[float, float, float]],
    ) -> TrainingResult:
        recipe, labels, output, validation = self.recipe, report.labels, run.output, report.pairs
        run.files.update(stage="evaluating", eta_seconds=None)
        package = output / recipe.package.name
        export = functools.partial(
            export_package,
            network,
            recipe,
            labels,
            package,
            trained_on=len(training),
            kept_aside=[pair.case for pair in validation],
            spacings=spacings,
        )
        export()
        # Measured with the package as it is stored, through the pipeline, then written again with its figures.
        results = evaluate(
            package,
            validation,
            labels,
            recipe.data,
            loss=recipe.loss,
            tolerance_mm=recipe.evaluation.tolerance_mm,
            device=run.hardware.device,
            keep=output / RESULT_FOLDER,
            progress=run.progress.part(_TRAINED, _MEASURED),
        )
        report.results = results
        write_results(results, output / RESULTS)
        run.progress.update(_MEASURED, "Measuring the cost of a run")
        export(
            results=results,
            earlier=figures_of_the_start(run.recipe_path.parent, recipe),
            measured=measure_cost(package, (validation or training)[0].images, run.progress),
            picture=self._picture(report),
        )
        usage = "medseg segment INPUT --model {model} --output OUT.seg.nrrd"
        return run.finish(report, package, usage, cases=tuple(results), structures=tuple(figures(results, labels)))

    def _picture(self, report: Report) -> Path | None:
        """Draw the case in the middle of the results for the package, when the recipe allows it."""
        about = self.recipe.package
        if not (about.picture and report.results):
            return None
        return draw_picture(report.output, report.pairs, report.labels, report.results, about.slots[0].modality)
