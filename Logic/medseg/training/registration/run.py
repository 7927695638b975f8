"""What a run of the task registration does in its own way: pairs, levels, figures of the pairs kept aside."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING

import torch

from medseg.errors import RecipeError
from medseg.networks import ConditionalLapIRN, RegistrationNetwork
from medseg.networks.registration_network import start_near_zero
from medseg.training.registration.data import RegistrationData
from medseg.training.registration.export import export_registration_package
from medseg.training.registration.makers import makers_of
from medseg.training.registration.measure import measure_registration_cost
from medseg.training.registration.measuring import HEAD, mean_row, measured, write_figures
from medseg.training.registration.module import RegistrationModule, noise_batch
from medseg.training.registration.objective import LevelPlan, RegistrationObjective, fields_of
from medseg.training.report import ReportTable
from medseg.training.sampled_run import SampledTask, Samples
from medseg.training.setup import label_table, load_start, on_trial, seeded_network

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.progress import Progress
    from medseg.training.fitting import Hardware
    from medseg.training.registration.measuring import PairFigures
    from medseg.training.registration.recipe import RegistrationRecipe


def registration_task(recipe: RegistrationRecipe) -> SampledTask:
    """Return what a run of the recipe does in its own way."""
    return SampledTask(
        recipe,
        noun="pair",
        trained=0.96,
        measured=0.98,
        new_network=new_registration_network,
        try_network=_try_network,
        read=_samples,
        module=RegistrationModule,
        data=RegistrationData,
        export=export_registration_package,
        measure=measured,
        write_figures=write_figures,
        findings=_findings,
        usage="medseg register FIXED MOVING --method model --model {model} --output-transform T.h5",
        hardware_for=_hardware_for,
        cost_of=measure_registration_cost,
    )


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


def _try_network(network: RegistrationNetwork, recipe: RegistrationRecipe, device: str) -> None:
    plan = LevelPlan.of(recipe, network)
    with on_trial("grid", f"a grid of {' x '.join(map(str, recipe.grid.size))} voxels"):
        batch = noise_batch(recipe, torch.device(device))
        objective = RegistrationObjective(recipe.loss).to(device)
        fields = fields_of(copy.deepcopy(network).to(device).train(), batch, None)
        objective(fields, batch)
        if plan is not None:
            objective(fields, batch, plan.coarser(0))


def _samples(recipe: RegistrationRecipe, data: Path | None, recipe_folder: Path, progress: Progress) -> Samples:
    own = None if recipe.labels is None else label_table(recipe_folder / recipe.labels)
    makers, labels = makers_of(recipe, own, data, recipe_folder, progress)
    kept_aside = [pair for maker in makers for pair in maker.kept_aside()]
    grid = recipe.grid
    return Samples(
        recipe,
        makers,
        kept_aside,
        labels,
        facts={"sources": [source.kind for source in recipe.sources], "validation_pairs": len(kept_aside)},
        glance=[
            ("Grid", f"{' x '.join(map(str, grid.size))} voxels of {grid.spacing:g} mm, {grid.orientation}"),
            ("Pairs kept aside", str(len(kept_aside))),
        ],
        head=("Pair kept aside", "Source", "Structures that count"),
        lines=[(one.name, one.source, str(len(one.pair.scored))) for one in kept_aside],
    )


def _findings(figures: Sequence[PairFigures]) -> tuple[ReportTable, list[str]]:
    last = mean_row(figures)
    _, _, before, after, folded, _ = last
    sentence = (
        f"On {len(figures)} pairs that were kept aside: Dice {before} before and {after} after,"
        f" {folded} % of the voxels folded."
    )
    return ReportTable("Pairs kept aside", HEAD, [*(one.row() for one in figures), last], texts=2), [sentence]


def _hardware_for(recipe: RegistrationRecipe, hardware: Hardware) -> Hardware:
    """Return the hardware with the strategy that a network needs whose levels are not all used in every step."""
    if recipe.levels is None or hardware.processes == 1 or hardware.strategy != "auto":
        return hardware
    return dataclasses.replace(hardware, strategy="ddp_find_unused_parameters_true")
