"""What a run will cost, before it starts; needs neither torch nor the network."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from medseg.models.package import NNUNET
from medseg.segmentation.preparers import preparer_of
from medseg.segmentation.stacks import window_of
from medseg.segmentation.windows import SCORE_LIMIT_BYTES, Plan, make_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.models.package import ModelPackage
    from medseg.volumes import Geometry

_FEATURE_MAPS = 48
"""Full-size feature maps, float32, that a network holds at once when nothing was measured (our guess for U-Nets)."""

_MAPS_OF_NNUNET = 6
"""The same for nnU-Net's networks, in channels of their finest stage: where the decoder meets it (our estimate)."""

_SECONDS_PER_WINDOW_VOXEL = {"cpu": 3e-6, "cuda": 1e-7}
"""When nothing was measured: a U-Net of about a million weights (our guess)."""

_MULTIPLICATIONS_PER_SECOND = {"cpu": 3e10, "cuda": 1e13}
"""When nothing was measured and the work of a network is known: two CPU cores, a middling GPU (our guess)."""

_SHARE_OF_NETWORK = 0.85
_COMFORT_BYTES = 1_700_000_000
_LEAST_SCORE_BYTES = 512 << 20
"""A run is planned to stay below the first number beside its input volumes (our choice), which a network with large
windows and many classes may take for itself; the scores then get the second."""

_NO_LIMIT = 1 << 62

_SHARE_OF_MEMORY = 0.5
"""Of the memory that is free, the part that the blended scores may take (our choice)."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The cost of a run.

    Attributes
    ----------
    seconds
        Time, imports and loading left out; from the package's measurements where it has them, else a guess.
    memory_bytes
        Peak of main memory above the process with the model loaded, the input volumes left out.
    windows
        Runs of the network.
    plan
        The plan in words.
    """

    seconds: float
    memory_bytes: int
    windows: int
    plan: str


def score_limit(available_bytes: int) -> int:
    """Return how many bytes of blended scores a run may hold on a machine with ``available_bytes`` free."""
    return min(SCORE_LIMIT_BYTES, int(available_bytes * _SHARE_OF_MEMORY))


def plan_for(geometry: Geometry, package: ModelPackage, *, overlap: float | None = None, limit_bytes: int) -> Plan:
    """Return the plan of a run on an image of ``geometry`` whose scores take at most ``limit_bytes``.

    A model that is shown a part of the image only may need less: :func:`plan_shown`.
    """
    whole = preparer_of(package).whole(geometry)
    return plan_shown(whole, package, overlap=overlap, limit_bytes=limit_bytes)


def plan_shown(shown: Geometry, package: ModelPackage, *, overlap: float | None = None, limit_bytes: int) -> Plan:
    """Return :func:`plan_for` an image of which the network is shown the grid ``shown``, in the network's own axes."""
    preparer = preparer_of(package)
    network = preparer.grid(shown)
    asked = window_of(package, network.size)
    window = [min(wide, size) for wide, size in zip(asked, network.size, strict=True)]
    classes = len(package.regions) or max(package.output_channels, 2)
    others = preparer.image_bytes(network.size, shown) + _guessed_work(window, classes, package)
    return make_plan(
        network.size,
        asked,
        package.window.overlap if overlap is None else overlap,
        classes,
        preparer.sampling(network, shown),
        # Windows of whole slices cannot be run in parts.
        limit_bytes=_NO_LIMIT
        if package.instances
        else min(limit_bytes, max(_COMFORT_BYTES - others, _LEAST_SCORE_BYTES)),
        placement=package.window.placement,
        half_precision=package.window.half_precision,
    )


def memory_of(plan: Plan, geometry: Geometry, package: ModelPackage, device: str = "cpu") -> int:
    """Return the bytes of main memory that ``plan`` needs, above the process with the model and the input volumes.

    ``4 n N + S + 2 V + W``: the prepared images (``n`` inputs of ``N`` voxels on the network's grid, float32), the
    blended scores ``S`` of one slab, the labels in two orientations (``V`` voxels of the image), and the work memory of
    the network ``W``: what was measured on the reference image beyond the same sum there, and at least (or, without a
    measurement) 48 feature maps and three times the scores of one window. On a GPU ``W`` is the latter alone. A model
    with ``g`` groups of instances needs ``4 (g + 1) N`` more for their numbers.
    """
    if device == "cpu":
        return _arrays(plan, geometry, package) + _work_memory(plan, package)
    return _arrays(plan, geometry, package) + 12 * plan.classes * math.prod(plan.window)


def _arrays(plan: Plan, geometry: Geometry, package: ModelPackage) -> int:
    numbers = 4 * (len(package.instances.groups) + 1) * math.prod(plan.size) if package.instances else 0
    return preparer_of(package).image_bytes(plan.size, geometry) + plan.score_bytes + numbers


def _guessed_work(window: Sequence[int], classes: int, package: ModelPackage) -> int:
    of_nnunet = package.kind == NNUNET
    maps = _MAPS_OF_NNUNET * package.network_arguments["features"][0] if of_nnunet else _FEATURE_MAPS
    return 4 * (maps + 3 * classes) * math.prod(window)


def _work_memory(plan: Plan, package: ModelPackage) -> int:
    guess = _guessed_work(plan.window, plan.classes, package)
    measured, reference = package.measured.memory_mb_cpu, reference_geometry(package)
    if measured is None or reference is None:
        return guess
    there = plan_for(reference, package, limit_bytes=SCORE_LIMIT_BYTES)
    return max(int(measured * 1e6) - _arrays(there, reference, package), guess // 4)


def reference_geometry(package: ModelPackage) -> Geometry | None:
    """Return the grid of the image on which the package was measured, if it says so."""
    from medseg.volumes import Geometry

    size, spacing = package.measured.size, package.measured.spacing
    if size is None or spacing is None:
        return None
    return Geometry.from_spacing((size[2], size[1], size[0]), spacing, orientation=package.preprocessing.orientation)


def estimate(
    geometry: Geometry, package: ModelPackage, device: str = "cpu", *, overlap: float | None = None
) -> Estimate:
    """Return what segmenting an image of ``geometry`` with ``package`` on ``device`` will cost.

    Parameters
    ----------
    geometry
        Grid of the first input volume.
    device
        ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"auto"`` (which has to import torch to find out).
    overlap
        As in :class:`~medseg.segmentation.SegmentOptions`.
    """
    from medseg.device import available_memory, choose_device

    device = choose_device(device).device if device == "auto" else device
    plan = plan_for(geometry, package, overlap=overlap, limit_bytes=score_limit(available_memory("cpu")))
    own = Estimate(
        seconds=_seconds(plan, geometry, package, "cpu" if device == "cpu" else "cuda"),
        memory_bytes=memory_of(plan, geometry, package, device),
        windows=plan.windows,
        plan=plan.describe(),
    )
    if package.first_stage is None:
        return own
    before = estimate(geometry, package.first_stage, device, overlap=overlap)
    return Estimate(
        seconds=before.seconds + own.seconds,
        memory_bytes=max(before.memory_bytes, own.memory_bytes),
        windows=before.windows + own.windows,
        plan=f"{before.plan}, then {own.plan}",
    )


def _seconds(plan: Plan, geometry: Geometry, package: ModelPackage, kind: str) -> float:
    measured = package.measured.seconds_cpu if kind == "cpu" else package.measured.seconds_gpu
    reference = reference_geometry(package)
    if package.kind == NNUNET:
        from medseg.models.nnunet.work import work_per_voxel

        work = work_per_voxel(package.network_target, package.network_arguments) * package.passes
        return plan.windows * math.prod(plan.window) * work / _MULTIPLICATIONS_PER_SECOND[kind] / _SHARE_OF_NETWORK
    if measured is None or reference is None:
        return plan.windows * math.prod(plan.window) * _SECONDS_PER_WINDOW_VOXEL[kind] / _SHARE_OF_NETWORK
    there = plan_for(reference, package, limit_bytes=SCORE_LIMIT_BYTES)
    windows = plan.windows / there.windows
    voxels = math.prod(geometry.shape) / math.prod(reference.shape)
    return measured * (_SHARE_OF_NETWORK * windows + (1 - _SHARE_OF_NETWORK) * voxels)
