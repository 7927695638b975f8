"""The verb that registers a moving volume to a fixed one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from medseg.backend.encoding_registration import Registered, encode_registration
from medseg.errors import Cancelled, InputError

if TYPE_CHECKING:
    from medseg.backend.encoding import Parcel
    from medseg.backend.verbs import Task
    from medseg.models import ModelPackage
    from medseg.registration import RegistrationOptions, RegistrationResult
    from medseg.registration.instance import Objective
    from medseg.volumes import Volume

NO_MODEL = "registration"
"""What a request names where other verbs have a model, unless its method is "model"."""

INPUTS = ("fixed", "moving", "fixed_mask", "moving_mask", "fixed_labels", "moving_labels")
"""What the volumes of a request may be."""

OUTPUTS = ("warped", "labels", "jacobian", "checkerboard", "difference")
"""Volumes that may be asked for: the moving one on the fixed grid, its label map there, and pictures of the result."""

LOSS = "loss"
"""What the losses of a refinement are called among the figures of a job."""

_MOST_LANDMARKS = 1000


@dataclass(frozen=True)
class RegisterRequest:
    """The options of the verb ``register``.

    Attributes
    ----------
    inputs
        What the volumes are, one name of :data:`INPUTS` for each, in their order. Masks count where they are above 0;
        label maps have the same values for the same structures.
    outputs
        The volumes to give, names of :data:`OUTPUTS`. "labels" needs the label map of the moving volume.
    method, refine, start, metric, spacing_mm, inverse, device, seed
        As :class:`medseg.registration.RegistrationOptions`. With the method "model" the request names the package.
    similarity, regulariser
        As :class:`medseg.registration.instance.Objective`; "auto" goes by the modalities.
    smoothness
        0 follows the images, 1 is stiff; ``None``: the model's own, or 0.4.
    initial
        A linear transform to begin with, four rows of four numbers, from fixed to moving points (RAS mm).
    landmarks
        Points (R, A, S) in mm of the fixed volume, and as many of the moving one in the same order.
    start_from_landmarks
        Begin with them; else they only tell how good the result is.
    """

    inputs: tuple[str, ...] = ("fixed", "moving")
    outputs: tuple[str, ...] = ("warped",)
    method: str = "affine"
    refine: str = "quick"
    smoothness: float | None = None
    similarity: str = "auto"
    regulariser: str = "diffusion"
    start: str = "centre"
    metric: str = "mutual_information"
    initial: Any = None
    landmarks: Any = None
    start_from_landmarks: bool = True
    spacing_mm: float | None = None
    inverse: bool = False
    device: str = "auto"
    seed: int = 0


def register_verb(task: Task) -> Parcel:
    """Register (:func:`medseg.registration.register`); the losses of a refinement are told as they come.

    Raises
    ------
    InputError
        When the volumes are not those that the options name, or an option or a volume cannot be used.
    ModelError
        When the model cannot be loaded or does not register.
    Cancelled
        When the user cancelled. (A finish during a refinement gives the best so far.)
    """
    from medseg.backend.refinement_watch import AbandonedError, RefinementWatch
    from medseg.backend.verbs import make_options
    from medseg.registration import register

    request = make_options(RegisterRequest, task.options)
    volumes = _named_volumes(request, task.volumes)
    landmarks = _landmarks(request.landmarks)
    package = _package(task, request)
    watch = RefinementWatch(task)
    objective = watch.objective(_objective(request, package))
    options = _options(request, objective, landmarks, package)
    if package is not None:
        task.progress.update(0.0, "Loading the model")
    try:
        result = register(
            options=options,
            network=None if package is None else task.models.get(package),
            progress=watch.progress(0.0, 0.95),
            **volumes,
        )
    except AbandonedError as error:
        raise Cancelled from error
    quality = result.quality
    if landmarks is not None and not request.start_from_landmarks:
        quality = quality.with_landmarks(result.transform, *landmarks)
    pictures, notices = _pictures(request, result, volumes, task)
    return encode_registration(
        Registered(
            transform=result.transform,
            method=request.method,
            figures={**quality.to_dict(), "start": result.start},
            inverse=result.inverse,
            volumes=pictures,
            losses=[value if np.isfinite(value) else None for value in result.losses],
            notices=[*result.notices, *notices],
            timings=dict(result.timings),
            device=_device(request),
            model={}
            if package is None
            else {"name": package.name, "version": package.version, "weights_sha256": package.weights_sha256},
        )
    )


def _named_volumes(request: RegisterRequest, volumes: list[Volume]) -> dict[str, Volume]:
    names = [str(name) for name in request.inputs]
    known = set(names) <= set(INPUTS) and len(set(names)) == len(names)
    if not known or len(names) != len(volumes) or not {"fixed", "moving"} <= set(names):
        raise InputError(
            "Registering takes a fixed and a moving volume, and perhaps masks and label maps of both.",
            advice=f"Name each volume in the option inputs: {', '.join(INPUTS)}.",
        )
    if not set(request.outputs) <= set(OUTPUTS):
        raise InputError("There is no such volume to give.", advice=f"The option outputs takes {', '.join(OUTPUTS)}.")
    if "labels" in request.outputs and "moving_labels" not in names:
        raise InputError(
            "There is no segmentation of the moving volume to bring onto the fixed one.", advice="Choose one."
        )
    named = dict(zip(names, volumes, strict=True))
    for name, volume in named.items():
        if name not in ("fixed", "moving") and volume.array.dtype.kind not in "bui":
            raise InputError("A mask or label map does not hold whole numbers.", advice="Give a label map.")
    return named


def _landmarks(given: Any) -> tuple[np.ndarray, np.ndarray] | None:
    if given is None:
        return None
    advice = "Place the same landmarks in both volumes, in the same order."
    try:
        fixed, moving = (np.array(points, np.float64) for points in given)
    except (TypeError, ValueError) as error:
        raise InputError("The landmarks are not two lists of points.", advice=advice) from error
    if any(points.ndim not in (1, 2) or (points.size and points.shape[-1] != 3) for points in (fixed, moving)):
        raise InputError("The landmarks are not two lists of points.", advice=advice)
    if fixed.shape != moving.shape or fixed.ndim != 2 or not 0 < len(fixed) <= _MOST_LANDMARKS:
        raise InputError(
            f"There are {len(fixed)} landmarks in the fixed and {len(moving)} in the moving volume.", advice=advice
        )
    if not (np.isfinite(fixed).all() and np.isfinite(moving).all()):
        raise InputError("A landmark is not at a finite place.", advice="Place it again.")
    return fixed, moving


def _package(task: Task, request: RegisterRequest) -> ModelPackage | None:
    if request.method != "model":
        return None
    from medseg.registration.models import registration_package

    return registration_package(None if task.model == NO_MODEL else task.model)


def _objective(request: RegisterRequest, package: ModelPackage | None) -> Objective:
    from medseg.networks.lapirn import DEFAULT_SMOOTHNESS
    from medseg.registration.instance import Objective, Regulariser, Similarity

    smoothness = request.smoothness
    if smoothness is None:
        section = None if package is None else package.registration
        smoothness = DEFAULT_SMOOTHNESS if section is None else section.smoothness
    if isinstance(smoothness, bool) or not isinstance(smoothness, (int, float)) or not 0 <= smoothness <= 1:
        raise InputError(f"The smoothness is {smoothness}.", advice="Give a number from 0 to 1.")
    if request.regulariser not in get_args(Regulariser):
        raise InputError(
            f"There is nothing called '{request.regulariser}' to keep a deformation smooth.",
            advice=f"Choose one of {', '.join(get_args(Regulariser))}.",
        )
    if request.similarity not in ("auto", *get_args(Similarity)):
        raise InputError(
            f"There is no similarity '{request.similarity}'.",
            advice=f"Choose one of auto, {', '.join(get_args(Similarity))}.",
        )
    return Objective(request.similarity, request.regulariser, float(smoothness))  # type: ignore[arg-type] # checked above


def _options(
    request: RegisterRequest,
    objective: Objective,
    landmarks: tuple[np.ndarray, np.ndarray] | None,
    package: ModelPackage | None,
) -> RegistrationOptions:
    from medseg.registration import RegistrationOptions
    from medseg.registration.alignment import Metric
    from medseg.registration.pipeline import DEFORMABLE

    return RegistrationOptions(
        method=request.method,  # type: ignore[arg-type] # it checks them itself
        refine=request.refine,  # type: ignore[arg-type]
        model=None if package is None else str(package.folder),
        objective=objective if request.method in DEFORMABLE else None,
        start=_one_of("start", request.start, ("centre", "moments")),
        metric=_one_of("metric", request.metric, get_args(Metric)),
        initial=_initial(request.initial),
        landmarks=landmarks if request.start_from_landmarks else None,
        spacing_mm=_spacing(request.spacing_mm),
        inverse=bool(request.inverse),
        device=str(request.device),
        seed=request.seed,
    )


def _one_of(name: str, value: str, known: tuple[str, ...]) -> Any:
    if value not in known:
        raise InputError(f"The option {name} cannot be '{value}'.", advice=f"Choose one of {', '.join(known)}.")
    return value


def _initial(given: Any) -> Any:
    from medseg.registration import SpatialTransform

    if given is None:
        return None
    try:
        return SpatialTransform((np.array(given, np.float64),))
    except (TypeError, ValueError) as error:
        raise InputError(
            "The transform to begin with is not four rows of four numbers.", advice="Give a linear transform."
        ) from error


def _spacing(given: Any) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0.1 <= given <= 100:
        raise InputError(f"The voxel size to work at is {given}.", advice="Give 0.1 to 100 mm, or nothing.")
    return float(given)


def _pictures(
    request: RegisterRequest, result: RegistrationResult, volumes: dict[str, Volume], task: Task
) -> tuple[dict[str, Volume], list[str]]:
    """Return the volumes that were asked for, and why one of them is missing."""
    from medseg.registration.maps import checkerboard, difference, jacobian_map, warp_labels

    fixed, wanted, notices = volumes["fixed"], set(request.outputs), []
    task.progress.update(0.95, "Making the volumes")
    found: dict[str, Volume] = {}
    if "warped" in wanted:
        found["warped"] = result.warped
    if "labels" in wanted:
        found["labels"] = warp_labels(volumes["moving_labels"], result.transform, fixed.geometry)
    if "jacobian" in wanted and result.field is not None:
        found["jacobian"] = jacobian_map(result.field, fixed.geometry)
    elif "jacobian" in wanted:
        determinant = float(np.linalg.det(result.transform.matrix[:3, :3]))
        notices.append(
            f"A linear transform changes the volume everywhere alike (by a factor of {determinant:.4g}), so there is "
            "no map of it."
        )
    task.progress.check()
    if "checkerboard" in wanted:
        found["checkerboard"] = checkerboard(fixed, result.warped)
    if "difference" in wanted:
        found["difference"] = difference(fixed, result.warped)
    return found, notices


def _device(request: RegisterRequest) -> str:
    from medseg.device import choose_device
    from medseg.registration.pipeline import DEFORMABLE

    return choose_device(str(request.device)).device if request.method in DEFORMABLE else "cpu"
