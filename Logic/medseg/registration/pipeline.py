"""Register a moving volume to a fixed one: align, deform, measure."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Literal

from medseg.errors import InputError
from medseg.progress import NO_PROGRESS, Progress
from medseg.registration.alignment import AlignmentOptions, align, from_landmarks
from medseg.registration.models import registration_package
from medseg.registration.quality import Quality, figures_of_field, figures_of_labels, likeness
from medseg.registration.transform import SpatialTransform

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from torch import nn

    from medseg.registration.alignment import Metric, Start
    from medseg.registration.instance import Objective
    from medseg.registration.transform import DisplacementField
    from medseg.volumes import Volume

Method = Literal["rigid", "affine", "lapirn", "field", "model"]
Effort = Literal["none", "quick", "full"]
RefineBy = Literal["auto", "weights", "field"]

METHODS: tuple[Method, ...] = ("rigid", "affine", "lapirn", "field", "model")
EFFORTS: tuple[Effort, ...] = ("none", "quick", "full")
DEFORMABLE: tuple[Method, ...] = ("lapirn", "field", "model")
NO_NETWORK = "no network"
_LARGEST_SEED = 2**32 - 2
"""SimpleITK takes 32 bits, of which 0 stands for the clock; see :mod:`medseg.registration.alignment`."""
_REFINE_BY: tuple[RefineBy, ...] = ("auto", "weights", "field")


@dataclass(frozen=True)
class RegistrationOptions:
    """How to register.

    Attributes
    ----------
    method
        "rigid" and "affine" align; "lapirn" deforms by a conditional LapIRN that is optimised on the pair from fresh
        weights (NIO), "field" by the displacement itself, from the alignment (IO), "model" by a trained network.
    refine
        How long a deformable method works on the pair. "none" is for "model": one pass of the network.
    model
        With "model", the name or folder of a package that registers; ``None``: the default.
    refine_by
        What is refined with "model": "weights" (NIO, at the small learning rate of trained weights; for networks with
        levels), "field" (IO, from what the network has found), or "auto", which is the field. (Measured with the
        bundled model on one pair of brains at 2 mm, quick: 1.28 mm in 20 s of one core by the field, 1.68 mm in 180 s
        by the weights.)
    objective
        What a deformable method minimises; ``None``: diffusion with the model's own smoothness or 0.4, and LNCC, or
        NMI when the volumes differ in contrast (see :func:`medseg.registration.contrast.have_one_contrast`).
    alignment
        Where the alignment starts and what it compares; its freedom is set by the method ("affine" before deforming).
    spacing_mm
        Voxel size of the working grid of a deformable method; ``None`` chooses, or takes the model's.
    inverse
        Compute the inverse too, and state its error.
    device
        "auto", "cpu", "cuda" or "cuda:N".
    seed
        The same seed gives the same result, to the rounding of sums over threads; from 0 to 2**32 - 2.

    Raises
    ------
    InputError
        When an option has a value that does not exist, or two do not fit each other.
    """

    method: Method = "affine"
    refine: Effort = "quick"
    model: str | None = None
    refine_by: RefineBy = "auto"
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
        if self.refine not in EFFORTS:
            raise InputError(f"There is no effort '{self.refine}'.", advice="Choose none, quick or full.")
        if self.refine_by not in _REFINE_BY:
            raise InputError(
                f"There is nothing called '{self.refine_by}' to refine.", advice="Choose auto, weights or field."
            )
        if not isinstance(self.seed, Integral) or not 0 <= self.seed <= _LARGEST_SEED:
            raise InputError(f"The seed is {self.seed}.", advice=f"Give a whole number from 0 to {_LARGEST_SEED}.")
        if self.model and self.method != "model":
            raise InputError(
                f"The method {self.method} takes no model.", advice="Choose the method model, or leave the model out."
            )
        if self.method in ("lapirn", "field") and self.refine == "none":
            raise InputError(
                f"The method {self.method} has no trained weights, so without refinement it would change nothing.",
                advice="Choose to refine quick or full, or the method affine.",
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
    start
        Where the deformable method began: "trained weights of X version Y", "fresh weights" or :data:`NO_NETWORK`.
    similarity
        What the deformable method compared: "lncc", "nmi" or "mind"; "" for linear methods.
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
    start: str = NO_NETWORK
    similarity: str = ""
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
    network: nn.Module | None = None,
    progress: Progress = NO_PROGRESS,
) -> RegistrationResult:
    """Register ``moving`` to ``fixed``.

    Parameters
    ----------
    fixed_mask, moving_mask
        Where to compare: label maps whose voxels above 0 count.
    fixed_labels, moving_labels
        Segmentations of both, for the figures only.
    network
        The model's network when it is loaded already (``medseg.models.load_network``); its weights are left as they
        are.

    Raises
    ------
    InputError
        When the volumes are constant, do not overlap, or the options do not fit, or there is no model; nothing was
        changed.
    ModelError
        When the model cannot be loaded or does not register.
    Cancelled
        When the user asked to stop during the alignment; a stop during the refinement gives the best so far.
    """
    options = options or RegistrationOptions()
    given = _Given(fixed, moving, options, fixed_mask, moving_mask, fixed_labels, moving_labels)
    clock = _Clock()
    notices: list[str] = []
    # Looked for before anything takes time.
    package = registration_package(options.model) if options.method == "model" else None
    alignment = _aligned(given, progress.part(0.0, 0.3))
    clock.stop("alignment")
    transform, field, found = alignment, None, None
    if options.method in DEFORMABLE:
        from medseg.registration.deformation import deform

        found = deform(
            fixed,
            moving,
            alignment,
            options,
            package=package,
            fixed_mask=fixed_mask,
            network=network,
            progress=progress.part(0.3, 0.9),
        )
        field = found.field
        transform = SpatialTransform((field,)).then(alignment)
        notices += found.notices
        if found.stopped:
            notices.append("The refinement was stopped; the transform is the best that was found until then.")
            progress = NO_PROGRESS  # what is left takes a moment, and the user wants the result
        clock.stop("deformation")
    progress.update(0.9, "Measuring")
    warped = transform.resample(moving, fixed.geometry, fill=float(moving.array.min()))
    quality = _measured(given, transform, warped, field)
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
        transform,
        alignment,
        warped,
        quality,
        field=field,
        inverse=inverse,
        losses=found.losses if found else (),
        start=found.start if found else NO_NETWORK,
        similarity=found.similarity if found else "",
        notices=tuple(notices),
        timings=clock.seconds,
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


def _measured(
    given: _Given, transform: SpatialTransform, warped: Volume, deformation: DisplacementField | None
) -> Quality:
    fixed, moving, landmarks = given.fixed, given.moving, given.options.landmarks
    untouched = moving.resample(fixed.geometry, fill=float(moving.array.min()))
    before = likeness(fixed, untouched, SpatialTransform().coverage(moving, fixed.geometry))
    after = likeness(fixed, warped, transform.coverage(moving, fixed.geometry))
    labels = {}
    if given.fixed_labels is not None and given.moving_labels is not None:
        grid = given.fixed_labels.geometry
        labels = figures_of_labels(
            given.fixed_labels,
            given.moving_labels.resample(grid, interpolation="nearest"),
            transform.resample(given.moving_labels, grid, "nearest"),
        )
    quality = Quality(
        correlation_before=before[0],
        correlation_after=after[0],
        information_before=before[1],
        information_after=after[1],
        deformation=figures_of_field(deformation) if deformation is not None else None,
        labels=labels,
    )
    return quality if landmarks is None else quality.with_landmarks(transform, *landmarks)


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, what: str) -> None:
        now = time.perf_counter()
        self.seconds[what], self._last = now - self._last, now
