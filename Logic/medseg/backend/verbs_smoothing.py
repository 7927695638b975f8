"""The verb that smooths the displacement field of a transform."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.backend.encoding_registration import Registered, encode_registration
from medseg.errors import InputError

if TYPE_CHECKING:
    from medseg.backend.encoding import Parcel
    from medseg.backend.verbs import Task
    from medseg.registration import DisplacementField

NO_MODEL = "smoothing"
"""What a request names where other verbs have a model."""


KINDS = ("diffusion", "curvature", "elastic")
"""As :data:`medseg.losses.implicit_smoothness.Kind`, which comes with torch."""


@dataclass(frozen=True)
class SmoothRequest:
    """The options of the verb ``smooth_transform``.

    Attributes
    ----------
    kind
        What is small in a smooth field, one of :data:`KINDS`.
    distance_mm
        The distance over which a displacement spreads.
    """

    kind: str = "diffusion"
    distance_mm: float = 5.0


def smooth_transform_verb(task: Task) -> Parcel:
    """Smooth a field (:class:`medseg.losses.implicit_smoothness.ImplicitRegulariser`).

    The volumes are the displacements along R, A and S in mm, float, on one right-angled grid; the answer is a transform
    of one field, with the figures of the field before and after and how far it has moved, in mm.

    ``u_bar = (I - gamma A)^-1 u`` in mm, with ``gamma = distance_mm**2``, and its square for the curvature, whose
    operator is of the fourth order.

    Raises
    ------
    InputError
        When the volumes are not those, or an option cannot be used.
    """
    from medseg.backend.verbs import make_options
    from medseg.registration import SpatialTransform
    from medseg.registration.quality import figures_of_field

    request = make_options(SmoothRequest, task.options)
    field = _field(task)
    if request.kind not in KINDS:
        raise InputError(f"There is no smoothing '{request.kind}'.", advice=f"Choose one of {', '.join(KINDS)}.")
    distance = request.distance_mm
    if isinstance(distance, bool) or not isinstance(distance, (int, float)) or not 0.1 <= distance <= 100:
        raise InputError(f"The distance is {distance}.", advice="Give 0.1 to 100 mm.")
    task.progress.update(0.1, "Measuring the transform")
    before = figures_of_field(field)
    task.progress.update(0.3, "Smoothing")
    smooth = _smoothed(field, request.kind, float(distance))
    task.progress.update(0.7, "Measuring the result")
    moved = np.linalg.norm(smooth.vectors - field.vectors, axis=-1)
    figures: dict[str, Any] = {
        "before": _finite(dataclasses.asdict(before)),
        "after": _finite(dataclasses.asdict(figures_of_field(smooth))),
        "mean_change_mm": float(moved.mean()),
        "largest_change_mm": float(moved.max()),
    }
    return encode_registration(Registered(SpatialTransform((smooth,)), f"smoothed by {request.kind}", figures))


def _field(task: Task) -> DisplacementField:
    from medseg.registration import DisplacementField

    volumes = task.volumes
    if len(volumes) != 3 or any(not volume.geometry.is_close(volumes[0].geometry) for volume in volumes):
        raise InputError(
            "Smoothing takes three volumes on one grid: the displacements along R, A and S.", advice="Give all three."
        )
    geometry = volumes[0].geometry
    if min(geometry.shape) < 3:
        raise InputError(
            "The field is too small to be smoothed.", advice="It needs at least 3 voxels along every axis."
        )
    return DisplacementField(np.stack([volume.array for volume in volumes], axis=-1), geometry)


def _smoothed(field: DisplacementField, kind: Any, distance: float) -> DisplacementField:
    import torch

    from medseg.losses.implicit_smoothness import ImplicitRegulariser
    from medseg.registration import DisplacementField

    gamma = distance**4 if kind == "curvature" else distance**2
    geometry = field.geometry
    regulariser = ImplicitRegulariser(kind, geometry.size, gamma, spacing=geometry.spacing)
    # Along the axes of the grid: the elastic energy mixes the directions of displacement and of difference.
    along = np.einsum("ra,kjir->aijk", geometry.direction, field.vectors)
    with torch.no_grad():
        smooth = regulariser.smooth(torch.from_numpy(np.ascontiguousarray(along))[None].double())[0].numpy()
    return DisplacementField(np.einsum("ra,aijk->kjir", geometry.direction, smooth), geometry)


def _finite(figures: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }
