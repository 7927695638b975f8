"""A run from recipe to a package that follows clicks: read the scans, fit, measure by clicks, export."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from medseg.device import choose_device
from medseg.errors import RecipeError
from medseg.models import load_network, read_package
from medseg.networks import ClickNetwork
from medseg.training.correction.data import CorrectionData
from medseg.training.correction.export import export_correction_package, structure_table
from medseg.training.correction.makers import makers_of
from medseg.training.correction.measuring import measured, write_figures
from medseg.training.correction.module import CorrectionModule, losses_of
from medseg.training.export import place_package
from medseg.training.fitting import CHECKPOINT, fit, new_trainer
from medseg.training.recording import Recorder
from medseg.training.report import REPORT, Report, ReportTable, draw
from medseg.training.results import RESULTS, TrainingResult
from medseg.training.setup import checkpoint_to_resume, load_start, on_trial, seeded_network, write_split, write_stamp

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.progress import Progress
    from medseg.training.correction.data import SampleBatch
    from medseg.training.correction.makers import KeptAside
    from medseg.training.correction.measuring import StructureFigures
    from medseg.training.correction.recipe import CorrectionRecipe
    from medseg.training.fitting import Hardware
    from medseg.training.run_files import RunFiles

_PREPARED, _TRAINED, _MEASURED = 0.03, 0.94, 0.99
"""Parts of the whole run, for its progress (our choice)."""


@dataclass(frozen=True)
class CorrectionRun:
    """What the steps of a run share."""

    recipe_path: Path
    recipe: CorrectionRecipe
    data: Path | None
    output: Path
    hardware: Hardware
    files: RunFiles
    progress: Progress


def train_correction(run: CorrectionRun, start: float, *, resume: bool, export: Path | None) -> TrainingResult | None:
    """Train as the recipe says; ``None`` in a process that only helps the first one.

    Raises
    ------
    RecipeError, TrainingError, Cancelled
        As :func:`medseg.training.run_training` says.
    """
    recipe, output, hardware = run.recipe, run.output, run.hardware
    network = new_correction_network(run.recipe_path, recipe)
    checkpoint = checkpoint_to_resume(output, recipe) if resume else None
    device = choose_device(hardware.device).device
    trainer = new_trainer(recipe, network, hardware, output, callbacks=[], resumed=checkpoint is not None)
    if hardware.is_first:
        try_correction(network, recipe, device)
    makers = makers_of(recipe, run.data, run.progress.part(0, _PREPARED))
    kept_aside = [one for maker in makers for one in maker.kept_aside()]
    labels = structure_table(list(dict.fromkeys(one.structure for one in kept_aside)))
    module = CorrectionModule(network, recipe, labels, output, kept_aside)
    report = Report(output, recipe, labels, started=start)
    if hardware.is_first:
        if checkpoint is None:
            (output / CHECKPOINT).unlink(missing_ok=True)
        write_stamp(output, run.recipe_path, recipe, labels)
        names = [maker.cases for maker in makers]
        trained, aside = ([case for group in groups for case in group] for groups in zip(*names, strict=True))
        write_split(output, trained, aside)
        facts = {"training_cases": len(trained), "validation_cases": len(aside), "device": device}
        recorder = Recorder(
            run.files,
            run.progress.part(_PREPARED, _TRAINED),
            recipe,
            labels,
            report=lambda: draw(report, run.files),
            facts=facts,
        )
        trainer.callbacks.insert(0, recorder)
    fit(trainer, module, CorrectionData(recipe, makers, len(kept_aside)), checkpoint)
    if not hardware.is_first:
        return None
    return _finish(run, module, kept_aside, report, export)


def new_correction_network(recipe_path: Path, recipe: CorrectionRecipe) -> ClickNetwork:
    """Return the recipe's network with its first weights, which depend on the seed alone.

    Raises
    ------
    RecipeError
        When it cannot be built, or is not one that follows clicks in 3D, or in 2D for a window of one slice.
    """
    network, dims = seeded_network(recipe), len(recipe.size)
    if not isinstance(network, ClickNetwork) or network.dims != dims:
        raise RecipeError(
            f"The network '{recipe.network.target}' does not follow clicks in {dims}D.",
            advice="Choose medseg.networks.PEMED with the argument dims: 2, or a window whose first size is not 1."
            if recipe.is_flat
            else "Choose medseg.networks.ConvolutionalPEMED, or PEMED with the argument dims: 3.",
        )
    if recipe.start_from is not None:
        load_start(network, recipe_path.parent / recipe.start_from)
    return network


def try_correction(network: ClickNetwork, recipe: CorrectionRecipe, device: str) -> None:
    """Run a copy of the network and the loss once on noise, before anything is read.

    Raises
    ------
    RecipeError
        When they do not take the recipe's window.
    DeviceMemoryError
        When the GPU's memory is too small.
    """
    with on_trial("window", f"windows of {' x '.join(map(str, recipe.window))} voxels"):
        size = (recipe.optimisation.batch_size, 1, *recipe.size)
        noise = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(device)
        truth = torch.zeros_like(noise)
        inner = (..., *[slice(4, 12)] * len(recipe.size))
        truth[inner] = 1
        number = torch.zeros(size[0], dtype=torch.int64)
        batch: SampleBatch = {"image": noise, "truth": truth, "start": torch.zeros_like(noise), "number": number}
        losses_of(copy.deepcopy(network).to(device).train(), batch, recipe)


def _finish(
    run: CorrectionRun,
    module: CorrectionModule,
    kept_aside: Sequence[KeptAside],
    report: Report,
    export: Path | None,
) -> TrainingResult:
    recipe, files, output, labels, network = run.recipe, run.files, run.output, report.labels, module.average
    files.update(stage="evaluating", eta_seconds=None)
    package = export_correction_package(network, recipe, labels, output / recipe.package.name)
    figures = _measured(package, recipe, kept_aside, run.progress)
    write_figures(figures, output / RESULTS)
    export_correction_package(network, recipe, labels, package, figures=figures)
    run.progress.update(_MEASURED, "Drawing the report")
    report.package = package
    if figures:
        head = ("Scan", "Structure", "Trained", *(f"Dice, click {n}" for n in range(1, len(figures[0].scores) + 1)))
        rows = [
            (one.case, one.structure, "yes" if one.seen else "no", *(f"{score:.3f}" for score in one.scores))
            for one in figures
        ]
        report.tables = (ReportTable("Structures kept aside", head, rows, texts=3),)
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
        remarks=tuple(_sentences(figures)),
        usage=f"medseg correct VOLUME {'--tool slice ' if recipe.is_flat else ''}--model {exported or package} "
        "--segment NAME --prompts PROMPTS.json --output OUT.seg.nrrd",
    )


def _measured(
    package: Path, recipe: CorrectionRecipe, kept_aside: Sequence[KeptAside], progress: Progress
) -> list[StructureFigures]:
    """Measure the package as it is stored."""
    network = load_network(read_package(package))
    assert isinstance(network, ClickNetwork)
    found = []
    for number, kept in enumerate(kept_aside):
        done = _TRAINED + (_MEASURED - _TRAINED) * number / len(kept_aside)
        progress.update(done, f"Measuring structure {number + 1} of {len(kept_aside)}")
        found.append(measured(network, kept, recipe))
    return found


def _sentences(figures: Sequence[StructureFigures]) -> list[str]:
    found = []
    for words, group in (
        ("structures of kinds that were trained", [one for one in figures if one.seen]),
        ("structures that were held out", [one for one in figures if not one.seen]),
    ):
        if group:
            first, last = (sum(one.scores[place] for one in group) / len(group) for place in (0, -1))
            clicks = len(group[0].scores)
            found.append(f"On {len(group)} {words}: Dice {first:.3f} after a click, {last:.3f} after {clicks}.")
    return found
