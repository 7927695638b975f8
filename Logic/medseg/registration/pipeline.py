"""Register a moving volume to a fixed one: align, deform, measure."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from medseg.device import choose_device
from medseg.errors import InputError
from medseg.progress import NO_PROGRESS, Progress
from medseg.registration.alignment import AlignmentOptions, align, from_landmarks
from medseg.registration.quality import Quality, figures_of_field, figures_of_labels, landmark_errors, likeness
from medseg.registration.transform import SpatialTransform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medseg.registration.alignment import Metric, Start
    from medseg.registration.instance import Objective
    from medseg.registration.transform import DisplacementField
    from medseg.volumes import Volume

Method = Literal["rigid", "affine", "lapirn", "field"]
Effort = Literal["none", "quick", "full"]

METHODS: tuple[Method, ...] = ("rigid", "affine", "lapirn", "field")
_NETWORK_ITERATIONS = {"none": (0, 0, 0), "quick": (60, 30, 10), "full": (100, 60, 30)}
_FIELD_ITERATIONS = {"none": (0, 0, 0), "quick": (40, 30, 15), "full": (100, 80, 60)}
_LEAST_SPACING, _MOST_VOXELS = 1.5, 96**3
"""The working grid of a deformable method is no finer than the one and holds about as many voxels as the other."""
_MULTIPLE = 16
"""Sizes of the working grid: LapIRN takes multiples of 8, one of them larger."""
_LITE = 4
"""Start channels of the LapIRN that two cores can train on a pair."""


@dataclass(frozen=True)
class RegistrationOptions:
    """How to register.

    Attributes
    ----------
    method
        "rigid" and "affine" align; "lapirn" deforms by a conditional LapIRN that is optimised on the pair (NIO, from
        fresh weights: there are no trained ones yet), "field" by the displacement itself (IO).
    refine
        How long a deformable method works on the pair. "none" makes sense with trained weights only.
    objective
        What a deformable method minimises; ``None``: LNCC and diffusion, or MIND for "lapirn" and "field" when the
        volumes have different modalities.
    alignment
        Where the alignment starts and what it compares; its freedom is set by the method ("affine" before deforming).
    spacing_mm
        Voxel size of the working grid of a deformable method; ``None`` chooses.
    inverse
        Compute the inverse too, and state its error.
    device
        "auto", "cpu", "cuda" or "cuda:N".
    seed
        The same seed gives the same result, to the rounding of sums over threads.
    """

    method: Method = "affine"
    refine: Effort = "quick"
    objective: Objective | None = None
    start: Start = "centre"
    metric: Metric = "mutual_information"
    initial: SpatialTransform | None = None
    landmarks: tuple[np.ndarray, np.ndarray] | None = None
    spacing_mm: float | None = None
    inverse: bool = False
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(
                f"There is no registration method '{self.method}'.", advice=f"Choose one of {', '.join(METHODS)}."
            )
        if self.refine not in _NETWORK_ITERATIONS:
            raise InputError(f"There is no effort '{self.refine}'.", advice="Choose none, quick or full.")
        if self.method in ("lapirn", "field") and self.refine == "none":
            raise InputError(
                f"The method {self.method} has no trained weights, so without refinement it would change nothing.",
                advice="Choose --refine quick or full, or the method affine.",
            )


@dataclass(frozen=True)
class RegistrationResult:
    """A registration.

    Attributes
    ----------
    transform
        From points of the fixed volume to points of the moving one.
    alignment
        Its linear part.
    field
        Its deformable part on the working grid; ``None`` for linear methods.
    warped
        The moving volume on the fixed volume's grid, float32.
    quality
        Figures.
    inverse
        When it was asked for.
    losses
        Of the deformable method, iteration by iteration.
    notices
        Whole sentences for the user.
    timings
        Seconds of each step.
    """

    transform: SpatialTransform
    alignment: SpatialTransform
    warped: Volume
    quality: Quality
    field: DisplacementField | None = None
    inverse: SpatialTransform | None = None
    losses: tuple[float, ...] = ()
    notices: tuple[str, ...] = ()
    timings: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class _Given:
    """What :func:`register` was given."""

    fixed: Volume
    moving: Volume
    options: RegistrationOptions
    fixed_mask: Volume | None
    moving_mask: Volume | None
    fixed_labels: Volume | None
    moving_labels: Volume | None


def register(
    fixed: Volume,
    moving: Volume,
    options: RegistrationOptions | None = None,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    fixed_labels: Volume | None = None,
    moving_labels: Volume | None = None,
    progress: Progress = NO_PROGRESS,
) -> RegistrationResult:
    """Register ``moving`` to ``fixed``.

    Parameters
    ----------
    fixed_mask, moving_mask
        Where to compare: label maps whose voxels above 0 count.
    fixed_labels, moving_labels
        Segmentations of both, for the figures only.

    Raises
    ------
    InputError
        When the volumes are constant, do not overlap, or the options do not fit; nothing was changed.
    Cancelled
        When the user asked to stop during the alignment; a stop during the refinement gives the best so far.
    """
    options = options or RegistrationOptions()
    given = _Given(fixed, moving, options, fixed_mask, moving_mask, fixed_labels, moving_labels)
    clock = _Clock()
    notices: list[str] = []
    alignment = _aligned(given, progress.part(0.0, 0.3))
    clock.stop("alignment")
    transform, deformation = alignment, None
    losses: tuple[float, ...] = ()
    if options.method in ("lapirn", "field"):
        deformation, losses, stopped = _deformed(given, alignment, progress.part(0.3, 0.9))
        transform = SpatialTransform((deformation,)).then(alignment)
        if stopped:
            notices.append("The refinement was stopped; the transform is the best that was found until then.")
            progress = NO_PROGRESS  # what is left takes a moment, and the user wants the result
        clock.stop("deformation")
    progress.update(0.9, "Measuring")
    warped = transform.resample(moving, fixed.geometry, fill=float(moving.array.min()))
    quality = _measured(given, transform, warped, deformation)
    inverse = None
    if options.inverse:
        inverse, error = transform.inverse(moving.geometry)
        quality = dataclasses.replace(quality, inverse_error_mm=error)
    clock.stop("measuring")
    folded = 0.0 if quality.deformation is None else quality.deformation.folded_share
    if folded > 0:
        notices.append(f"The field folds in {100 * folded:.2g} % of the voxels; more smoothness avoids it.")
    progress.update(1.0, "Done")
    return RegistrationResult(
        transform, alignment, warped, quality, deformation, inverse, losses, tuple(notices), clock.seconds
    )


def _aligned(given: _Given, progress: Progress) -> SpatialTransform:
    options = given.options
    start, initial = options.start, options.initial
    if options.landmarks is not None:
        start, initial = "given", from_landmarks(*options.landmarks)
    elif initial is not None:
        start = "given"
    freedom: Literal["rigid", "affine"] = "rigid" if options.method == "rigid" else "affine"
    chosen = AlignmentOptions(freedom, start, options.metric, initial, options.seed)
    masks = {"fixed_mask": given.fixed_mask, "moving_mask": given.moving_mask}
    return align(given.fixed, given.moving, chosen, **masks, progress=progress)


def _deformed(
    given: _Given, alignment: SpatialTransform, progress: Progress
) -> tuple[DisplacementField, tuple[float, ...], bool]:
    """Return the field, the losses, and whether the user stopped it."""
    import torch

    from medseg.networks import ConditionalLapIRN
    from medseg.registration.instance import FRESH_RATE, Objective, refine_field, refine_network
    from medseg.registration.working_grid import working_pair

    fixed, moving, options = given.fixed, given.moving, given.options
    device = choose_device(options.device).device
    objective = options.objective or Objective.for_pair(fixed, moving)
    pair = working_pair(
        fixed,
        moving,
        alignment,
        spacing_mm=options.spacing_mm or _affordable(fixed),
        multiple=_MULTIPLE,
        fixed_mask=given.fixed_mask,
        device=device,
    )
    try:
        if options.method == "field":
            start = torch.zeros((1, 3, *pair.fixed.shape[2:]), device=device)
            counts = _FIELD_ITERATIONS[options.refine]
            found = refine_field(start, pair, objective, iterations=counts, progress=progress)
        else:
            with torch.random.fork_rng():
                torch.manual_seed(options.seed)
                network = ConditionalLapIRN(_LITE).to(device)
            counts = _NETWORK_ITERATIONS[options.refine]
            found = refine_network(
                network, pair, objective, iterations=counts, learning_rate=FRESH_RATE, progress=progress
            )
    except FloatingPointError as error:
        raise InputError(
            "The registration did not find a way: its loss was never a number.",
            advice="Look for voxels that are not finite, or choose another similarity.",
        ) from error
    return pair.field(found.displacement), found.losses, found.stopped


def _affordable(fixed: Volume) -> float:
    """Return the spacing (mm) of an isotropic grid over the volume with about :data:`_MOST_VOXELS` voxels at most."""
    extent = float(np.prod(fixed.geometry.extent_mm))
    return max(_LEAST_SPACING, min(fixed.geometry.spacing), (extent / _MOST_VOXELS) ** (1 / 3))


def _measured(
    given: _Given, transform: SpatialTransform, warped: Volume, deformation: DisplacementField | None
) -> Quality:
    fixed, moving, landmarks = given.fixed, given.moving, given.options.landmarks
    everywhere = moving.with_array(np.ones(moving.shape, np.uint8))
    untouched = moving.resample(fixed.geometry, fill=float(moving.array.min()))
    before = likeness(fixed, untouched, everywhere.resample(fixed.geometry, interpolation="nearest").array > 0)
    after = likeness(fixed, warped, transform.resample(everywhere, fixed.geometry, "nearest").array > 0)
    labels = {}
    if given.fixed_labels is not None and given.moving_labels is not None:
        grid = given.fixed_labels.geometry
        labels = figures_of_labels(
            given.fixed_labels,
            given.moving_labels.resample(grid, interpolation="nearest"),
            transform.resample(given.moving_labels, grid, "nearest"),
        )
    return Quality(
        correlation_before=before[0],
        correlation_after=after[0],
        information_before=before[1],
        information_after=after[1],
        deformation=figures_of_field(deformation) if deformation is not None else None,
        labels=labels,
        landmark_errors_before_mm=() if landmarks is None else landmark_errors(SpatialTransform(), *landmarks),
        landmark_errors_after_mm=() if landmarks is None else landmark_errors(transform, *landmarks),
    )


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, what: str) -> None:
        now = time.perf_counter()
        self.seconds[what], self._last = now - self._last, now
