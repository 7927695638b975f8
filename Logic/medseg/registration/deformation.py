"""The deformable methods: which network, grid and start, and what is optimised on the pair."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from medseg.device import choose_device
from medseg.errors import InputError, ModelError
from medseg.models import load_network
from medseg.networks import ConditionalLapIRN, RegistrationNetwork
from medseg.networks.lapirn import DEFAULT_SMOOTHNESS
from medseg.registration.instance import FRESH_RATE, TRAINED_RATE, Objective, Refined, refine_field, refine_network
from medseg.registration.pipeline import NO_NETWORK
from medseg.registration.working_grid import working_pair

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

    from medseg.models import ModelPackage, Preprocessing
    from medseg.progress import Progress
    from medseg.registration.pipeline import RegistrationOptions
    from medseg.registration.transform import DisplacementField, SpatialTransform
    from medseg.registration.working_grid import WorkingPair
    from medseg.volumes import Volume

NETWORK_ITERATIONS = {"none": (0, 0, 0), "quick": (60, 30, 10), "full": (100, 60, 30)}
"""Of the weights of a network with three levels, the coarsest first; see :func:`_of_levels` for others."""
FIELD_ITERATIONS = {"none": (0, 0, 0), "quick": (60, 60, 20), "full": (100, 100, 80)}
FRESH = "fresh weights"

_LEAST_SPACING, _MOST_VOXELS = 1.5, 96**3
"""The working grid of a deformable method is no finer than the one and holds about as many voxels as the other."""
_MOST_VOXELS_OF_A_PASS = 128**3
"""The same for one pass of a network without refinement, which keeps less in memory."""
_MULTIPLE = 16
"""Sizes of the working grid: LapIRN with three levels takes multiples of 8, one of them larger."""
_LITE = 4
"""Start channels of the LapIRN that two cores can train on a pair."""
_OTHER_CONTRAST = (
    "The two volumes show tissues in different brightness, so the deformation was found by their mutual information."
)
_COARSER = 1.1
"""How much coarser than its training grid a model's grid may be before the user is told (our choice)."""


@dataclass(frozen=True)
class Deformation:
    """What a deformable method has found.

    Attributes
    ----------
    field
        On the part of the working grid that the fixed volume fills.
    losses
        Of every iteration; the first is that of the start.
    stopped
        Whether the user stopped it; the field is the best until then.
    start
        Where it began: "trained weights of X version Y", "fresh weights" or "no network".
    similarity
        What was compared: "lncc", "nmi" or "mind".
    notices
        Whole sentences for the user.
    """

    field: DisplacementField
    losses: tuple[float, ...]
    stopped: bool
    start: str
    similarity: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Task:
    """What :func:`deform` was given."""

    fixed: Volume
    moving: Volume
    alignment: SpatialTransform
    options: RegistrationOptions
    fixed_mask: Volume | None
    progress: Progress

    def pair(
        self,
        spacing_mm: float | tuple[float, float, float],
        multiple: int,
        device: str,
        preprocessing: Preprocessing | None = None,
    ) -> WorkingPair:
        return working_pair(
            self.fixed,
            self.moving,
            self.alignment,
            spacing_mm=spacing_mm,
            multiple=multiple,
            fixed_mask=self.fixed_mask,
            preprocessing=preprocessing,
            device=device,
        )

    def objective(self, smoothness: float) -> Objective:
        asked = self.options.objective or Objective(similarity="auto", smoothness=smoothness)
        return asked.settled(self.fixed, self.moving, self.alignment)

    def found(
        self, pair: WorkingPair, refined: Refined, objective: Objective, start: str, notices: Sequence[str] = ()
    ) -> Deformation:
        """Return a deformation, with a word about a choice that the user could not foresee."""
        asked = self.options.objective
        is_chosen = asked is None or asked.similarity == "auto"
        if is_chosen and objective.similarity != "lncc" and self.fixed.modality == self.moving.modality:
            notices = (_OTHER_CONTRAST, *notices)
        return Deformation(
            pair.field(refined.displacement),
            refined.losses,
            refined.stopped,
            start,
            objective.similarity,
            tuple(notices),
        )


def deform(
    fixed: Volume,
    moving: Volume,
    alignment: SpatialTransform,
    options: RegistrationOptions,
    *,
    package: ModelPackage | None = None,
    fixed_mask: Volume | None = None,
    network: nn.Module | None = None,
    progress: Progress,
) -> Deformation:
    """Find the deformation that remains after the alignment; parameters as for :func:`medseg.registration.register`.

    ``package`` is the model of the method "model".

    Raises
    ------
    InputError
        When nothing is left to compare, or the loss was never a number.
    ModelError
        When the model cannot be loaded or does not register.
    """
    task = _Task(fixed, moving, alignment, options, fixed_mask, progress)
    if package is not None:
        return _by_model(task, package, network)
    device = choose_device(options.device).device
    objective = task.objective(DEFAULT_SMOOTHNESS)
    pair = task.pair(options.spacing_mm or _affordable(fixed), _MULTIPLE, device)
    with _a_loss_that_is_a_number():
        if options.method == "field":
            zero = torch.zeros((1, 3, *pair.fixed.shape[2:]), device=device)
            counts = FIELD_ITERATIONS[options.refine]
            found = refine_field(zero, pair, objective, iterations=counts, progress=progress)
        else:
            with torch.random.fork_rng():
                torch.manual_seed(options.seed)
                fresh = ConditionalLapIRN(_LITE).to(device)
            counts = NETWORK_ITERATIONS[options.refine]
            found = refine_network(
                fresh, pair, objective, iterations=counts, learning_rate=FRESH_RATE, progress=progress
            )
    return task.found(pair, found, objective, NO_NETWORK if options.method == "field" else FRESH)


def _by_model(task: _Task, package: ModelPackage, network: nn.Module | None) -> Deformation:
    """Run a trained network on its own grid, and refine what it finds."""
    section, options = package.registration, task.options
    assert section is not None
    device = choose_device(options.device).device
    task.progress.update(0.0, f"Loading {package.title}")
    network = load_network(package, device) if network is None else network.to(device).eval()
    if not isinstance(network, RegistrationNetwork):
        raise ModelError(
            f"The network of the model '{package.title}' is not one that registers.", advice="Use another model."
        )
    objective, notices = task.objective(section.smoothness), []
    if not section.conditional and options.objective is not None and objective.smoothness != section.smoothness:
        notices.append(
            f"The model was trained for a smoothness of {section.smoothness:g}; the one asked for counts in the"
            " refinement only."
        )
    spacing, notice = _spacing_for(package, task.fixed, options)
    # One size of LapIRN's grid must be larger than its multiple.
    multiple = network.multiple * (2 if isinstance(network, ConditionalLapIRN) else 1)
    pair = task.pair(spacing, math.lcm(multiple, _MULTIPLE), device, package.preprocessing)
    with _a_loss_that_is_a_number():
        found = _refined(network, pair, objective, options, task.progress)
    if notice:
        notices.append(notice)
    return task.found(pair, found, objective, f"trained weights of {package.title} version {package.version}", notices)


def _refined(
    network: RegistrationNetwork,
    pair: WorkingPair,
    objective: Objective,
    options: RegistrationOptions,
    progress: Progress,
) -> Refined:
    if options.refine_by == "weights":
        if not isinstance(network, ConditionalLapIRN):
            raise InputError(
                "The weights of this model cannot be refined: its network has no levels.",
                advice="Refine the field instead (refine_by 'auto' or 'field').",
            )
        counts = _of_levels(NETWORK_ITERATIONS[options.refine], network.levels)
        return refine_network(
            network, pair, objective, iterations=counts, learning_rate=TRAINED_RATE, progress=progress
        )
    with torch.no_grad():
        first = network(pair.fixed, pair.moving, objective.smoothness)
    return refine_field(first, pair, objective, iterations=FIELD_ITERATIONS[options.refine], progress=progress)


def _of_levels(counts: tuple[int, ...], levels: int) -> tuple[int, ...]:
    """Return the iterations of so many levels: the finest keep theirs, further coarse ones have those of the coarsest.

    The paper has three levels; the rest is our choice.
    """
    return counts[:1] * (levels - len(counts)) + counts[-levels:]


@contextlib.contextmanager
def _a_loss_that_is_a_number() -> Iterator[None]:
    """Say it to the user in a sentence when the loss was never a number."""
    try:
        yield
    except FloatingPointError as error:
        raise InputError(
            "The registration did not find a way: its loss was never a number.",
            advice="Look for voxels that are not finite, or choose another similarity.",
        ) from error


def _affordable(fixed: Volume) -> float:
    """Return the spacing (mm) of an isotropic grid over the volume with about :data:`_MOST_VOXELS` voxels at most."""
    extent = float(np.prod(fixed.geometry.extent_mm))
    return max(_LEAST_SPACING, min(fixed.geometry.spacing), (extent / _MOST_VOXELS) ** (1 / 3))


def _spacing_for(
    package: ModelPackage, fixed: Volume, options: RegistrationOptions
) -> tuple[tuple[float, float, float], str]:
    """Return the voxel size along the axes of the model's grid, and what to tell the user about it."""
    first, second, third = (float(step or 1.0) for step in package.preprocessing.spacing)
    if options.spacing_mm is not None:
        return (options.spacing_mm,) * 3, ""
    most = _MOST_VOXELS_OF_A_PASS if options.refine == "none" else _MOST_VOXELS
    voxels = float(np.prod(fixed.geometry.extent_mm)) / (first * second * third)
    factor = max(1.0, (voxels / most) ** (1 / 3))
    notice = ""
    if factor > _COARSER:
        notice = (
            f"The volume is so large that the model worked on voxels of {first * factor:.2g} mm instead of {first:g};"
            " crop it to what matters for more detail."
        )
    return (first * factor, second * factor, third * factor), notice
