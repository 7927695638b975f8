"""What a run of the task correction does in its own way: structures to click at, figures after each click."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

from medseg.errors import RecipeError
from medseg.networks import ClickNetwork
from medseg.training.correction.data import CorrectionData
from medseg.training.correction.export import export_correction_package, structure_table
from medseg.training.correction.makers import makers_of
from medseg.training.correction.measuring import by_kind, mean_score, measured, write_figures
from medseg.training.correction.module import CorrectionModule, losses_of
from medseg.training.report import ReportTable
from medseg.training.sampled_run import SampledTask, Samples
from medseg.training.setup import load_start, on_trial, seeded_network

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.progress import Progress
    from medseg.training.correction.data import SampleBatch
    from medseg.training.correction.measuring import StructureFigures
    from medseg.training.correction.recipe import CorrectionRecipe


def correction_task(recipe: CorrectionRecipe) -> SampledTask:
    """Return what a run of the recipe does in its own way."""
    return SampledTask(
        recipe,
        noun="structure",
        trained=0.94,
        measured=0.99,
        new_network=_new_network,
        try_network=_try_network,
        read=_samples,
        module=CorrectionModule,
        data=CorrectionData,
        export=export_correction_package,
        measure=measured,
        write_figures=write_figures,
        findings=_findings,
        usage=f"medseg correct VOLUME {'--tool slice ' if recipe.is_flat else ''}--model {{model}} "
        "--segment NAME --prompts PROMPTS.json --output OUT.seg.nrrd",
    )


def _new_network(recipe_path: Path, recipe: CorrectionRecipe) -> ClickNetwork:
    """Return a network that follows clicks in 3D, or in 2D for a window of one slice."""
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


def _try_network(network: ClickNetwork, recipe: CorrectionRecipe, device: str) -> None:
    with on_trial("window", f"windows of {' x '.join(map(str, recipe.window))} voxels"):
        size = (recipe.optimisation.batch_size, 1, *recipe.size)
        noise = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(device)
        truth = torch.zeros_like(noise)
        inner = (..., *[slice(4, 12)] * len(recipe.size))
        truth[inner] = 1
        number = torch.zeros(size[0], dtype=torch.int64)
        batch: SampleBatch = {"image": noise, "truth": truth, "start": torch.zeros_like(noise), "number": number}
        losses_of(copy.deepcopy(network).to(device).train(), batch, recipe)


def _samples(recipe: CorrectionRecipe, data: Path | None, _recipe_folder: Path, progress: Progress) -> Samples:
    makers = makers_of(recipe, data, progress)
    kept_aside = [one for maker in makers for one in maker.kept_aside()]
    trained, aside = (sum(len(maker.cases[place]) for maker in makers) for place in (0, 1))
    return Samples(
        recipe,
        makers,
        kept_aside,
        structure_table(list(dict.fromkeys(one.structure for one in kept_aside))),
        facts={"training_cases": trained, "validation_cases": aside},
        glance=[
            ("Window", " x ".join(map(str, recipe.window)) + " voxels"),
            ("Cases to train on", str(trained)),
            ("Structures kept aside", str(len(kept_aside))),
        ],
        head=("Case kept aside", "Structure", "Its kind is trained"),
        lines=[(one.case, one.structure, "yes" if one.seen else "no") for one in kept_aside],
    )


def _findings(figures: Sequence[StructureFigures]) -> tuple[ReportTable, list[str]]:
    clicks = len(figures[0].scores)
    head = ("Scan", "Structure", "Trained", *(f"Dice, click {number}" for number in range(1, clicks + 1)))
    sentences = [
        f"On {len(group)} {kind}: Dice {mean_score(group, 0):.3f} after a click,"
        f" {mean_score(group, -1):.3f} after {clicks}."
        for kind, group in by_kind(figures, "structures of kinds that were trained", "structures that were held out")
    ]
    return ReportTable("Structures kept aside", head, [one.row() for one in figures], texts=3), sentences
