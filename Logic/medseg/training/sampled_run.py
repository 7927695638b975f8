"""The frame of a run that trains on samples made on the spot: network, sources, fit, measure, export.

What differs from task to task is a :class:`SampledTask`, which :mod:`medseg.training.registration.run` and
:mod:`medseg.training.correction.run` make of their recipes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.device import choose_device
from medseg.models import load_network, read_package
from medseg.training.fitting import fit, new_trainer
from medseg.training.report import Report
from medseg.training.results import RESULTS
from medseg.training.setup import checkpoint_to_resume, write_split, write_stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from medseg.labels import LabelTable
    from medseg.models import Measured
    from medseg.progress import Progress
    from medseg.training.averaging import AveragedModule
    from medseg.training.drawn import DrawnData
    from medseg.training.fitting import Hardware
    from medseg.training.report import ReportTable
    from medseg.training.results import TrainingResult
    from medseg.training.run import Run
    from medseg.training.tasks import SampledRecipe

_PREPARED = 0.03
"""Part of the whole run, for its progress (our choice)."""


@dataclass(frozen=True)
class Samples:
    """The sources of a recipe, read; they are a :data:`~medseg.training.inspection.Checked`.

    Attributes
    ----------
    makers
        One for each source.
    kept_aside
        What is never trained on, for the network to be measured by.
    labels
        The structures by which it is measured.
    facts
        What the progress of a run begins with.
    glance, head, lines
        For a user's eyes: what there is, each with a text, and a table with a line for each of what is kept aside.
    """

    recipe: SampledRecipe
    makers: Sequence[Any]
    kept_aside: Sequence[Any]
    labels: LabelTable
    facts: Mapping[str, Any]
    glance: Sequence[tuple[str, str]]
    head: tuple[str, ...]
    lines: Sequence[tuple[str, ...]]

    def rows(self) -> list[tuple[str, str]]:
        """Return what there is, each with a text."""
        total = sum(source.share for source in self.recipe.sources)
        sources = ", ".join(f"{one.kind} ({100 * one.share / total:.0f} %)" for one in self.recipe.sources)
        return [("Sources", sources), *self.glance]

    def label_table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return the head and the rows of the table."""
        return self.head, list(self.lines)


@dataclass(frozen=True)
class SampledTask:
    """What a run does in its own way; figures are what ``measure`` returns for one of what is kept aside.

    Attributes
    ----------
    noun
        What is kept aside, in a word.
    trained, measured
        Where fitting and measuring end in the progress of the whole run (our choice).
    new_network, try_network, read
        What comes before the first step: the network with its first weights, which depend on the seed alone; a copy of
        it and the loss, once on noise; the sources. All raise ``RecipeError`` for what cannot be used, the second also
        ``DeviceMemoryError``.
    module, data
        What Lightning fits, and to what.
    export
        Writes a package and returns its folder; takes ``figures``, ``measured`` and ``epochs`` where they are known.
    findings
        Figures as a table for the report, and what is to be said of them, in sentences.
    usage
        The command that runs a package, ``{model}`` standing for where it lies.
    cost_of
        What a run of a package costs, where that is measured.
    """

    recipe: SampledRecipe
    noun: str
    trained: float
    measured: float
    new_network: Callable[[Path, Any], nn.Module]
    try_network: Callable[[Any, Any, str], None]
    read: Callable[[Any, Path | None, Path, Progress], Samples]
    module: Callable[[Any, Any, LabelTable, Path, Sequence[Any]], AveragedModule]
    data: Callable[[Any, Sequence[Any], int], DrawnData]
    export: Callable[..., Path]
    measure: Callable[[Any, Any, Any], Any]
    write_figures: Callable[[Sequence[Any], Path], None]
    findings: Callable[[Sequence[Any]], tuple[ReportTable, Sequence[str]]]
    usage: str
    hardware_for: Callable[[Any, Hardware], Hardware] = lambda _, hardware: hardware
    cost_of: Callable[[Path, Progress], Measured | None] | None = None

    def check(self, recipe_path: Path, data: Path | None, progress: Progress) -> Samples:
        """See :func:`medseg.training.check_data`."""
        recipe = self.recipe
        self.try_network(self.new_network(recipe_path, recipe), recipe, "cpu")
        return self.read(recipe, data, recipe_path.parent, progress)

    def train(self, run: Run) -> TrainingResult | None:
        """Train as the recipe says; ``None`` in a process that only helps the first one.

        Raises
        ------
        RecipeError, TrainingError, Cancelled
            As :func:`medseg.training.run_training` says.
        """
        recipe, output, hardware = self.recipe, run.output, run.hardware
        network = self.new_network(run.recipe_path, recipe)
        checkpoint = checkpoint_to_resume(output, recipe) if run.resume else None
        device, used = choose_device(hardware.device).device, self.hardware_for(recipe, hardware)
        trainer = new_trainer(recipe, network, used, output, callbacks=[], resumed=checkpoint is not None)
        if hardware.is_first:
            self.try_network(network, recipe, device)
        samples = self.read(recipe, run.data, run.recipe_path.parent, run.progress.part(0, _PREPARED))
        module = self.module(network, recipe, samples.labels, output, samples.kept_aside)
        report = Report(output, recipe, samples.labels, started=run.started)
        if hardware.is_first:
            write_stamp(output, run.recipe_path, recipe, samples.labels, anew=checkpoint is None)
            both = [maker.cases for maker in samples.makers]
            write_split(
                output, [one for cases, _ in both for one in cases], [one for _, cases in both for one in cases]
            )
            run.record(trainer, report, run.progress.part(_PREPARED, self.trained), **samples.facts, device=device)
        fit(trainer, module, self.data(recipe, samples.makers, len(samples.kept_aside)), checkpoint)
        return self._finish(run, module.average, samples, report) if hardware.is_first else None

    def export_unfinished(
        self, network: nn.Module, labels: LabelTable, folder: Path, _output: Path, epochs: int
    ) -> Path:
        """Write the package of a run that has come as far as ``epochs``, and return its folder."""
        return self.export(network, self.recipe, labels, folder, epochs=epochs)

    def _finish(self, run: Run, network: nn.Module, samples: Samples, report: Report) -> TrainingResult:
        recipe, labels = self.recipe, samples.labels
        run.files.update(stage="evaluating", eta_seconds=None)
        package = self.export(network, recipe, labels, run.output / recipe.package.name)
        # Measured with the package as it is stored, then written again with its figures.
        figures = self._measured(package, samples.kept_aside, run.progress)
        self.write_figures(figures, run.output / RESULTS)
        cost = None
        if self.cost_of is not None:
            run.progress.update(self.measured, "Measuring the cost of a run")
            cost = self.cost_of(package, run.progress)
        self.export(network, recipe, labels, package, figures=figures, measured=cost)
        remarks: Sequence[str] = ()
        if figures:
            table, remarks = self.findings(figures)
            report.tables = (table,)
        return run.finish(report, package, self.usage, cases=(), remarks=tuple(remarks))

    def _measured(self, package: Path, kept_aside: Sequence[Any], progress: Progress) -> list[Any]:
        network, found = load_network(read_package(package)), []
        part, count = progress.part(self.trained, self.measured), len(kept_aside)
        for number, kept in enumerate(kept_aside):
            part.update(number / count, f"Measuring {self.noun} {number + 1} of {count}")
            found.append(self.measure(network, kept, self.recipe))
        return found
