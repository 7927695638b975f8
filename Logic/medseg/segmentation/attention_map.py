"""Where a network looks from one point of an image: a row of its attention as a volume on the image's own place.

Importing this costs nothing; torch comes with the first call of :func:`attention_row`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import InputError, ModelError
from medseg.progress import NO_PROGRESS, Progress
from medseg.volumes import Geometry, Volume, check_image
from medseg.volumes.derived import DerivedVolume

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn

    from medseg.models.package import ModelPackage
    from medseg.networks.attention_row import AttentionRow

_SHOWING = {"medseg.networks.MPUNet": "position_attention"}
"""Networks that can tell where they look, and the argument that switches the attention off."""

_HALF = 0.5 + 1e-6


def shows_attention(package: ModelPackage) -> bool:
    """Say whether :func:`attention_row` works with ``package``, without loading it."""
    switch = _SHOWING.get(package.network_target)
    return switch is not None and package.network_arguments.get(switch, True) is not False


def attention_row(
    volumes: Sequence[Volume],
    package: ModelPackage,
    point: Sequence[float],
    *,
    device: str = "auto",
    network: nn.Module | None = None,
    progress: Progress = NO_PROGRESS,
) -> DerivedVolume:
    """Return the weights with which the network looks at its whole window from one point.

    The window is the one of those of a segmentation in which the point lies most centrally, so the weights are some of
    those that made its result.

    Parameters
    ----------
    volumes
        One volume for each input of the model, in its order, as for :func:`medseg.segmentation.segment`.
    package
        A model whose network can tell (:func:`shows_attention`).
    point
        (R, A, S) in mm, inside the first volume.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    network
        The package's network when it is loaded already.
    progress
        Asked before and after the network runs.

    Returns
    -------
    DerivedVolume
        Of the kind "attention": float32, sum 1, on the coarse grid of the network's attention, which lies in the world
        where the window lies. Its voxels are larger than the image's and it may reach beyond the image.

    Raises
    ------
    InputError
        When the number of volumes is wrong, one cannot be used, or the point lies outside.
    ModelError
        When the network cannot tell where it looks, or the package cannot be loaded.
    Cancelled
        When ``progress`` says so.
    """
    if not shows_attention(package):
        raise _cannot_tell(package)
    if len(volumes) != len(package.inputs):
        raise InputError(
            f"The model '{package.name}' takes {len(package.inputs)} volumes, and {len(volumes)} were given.",
            advice="Give one for each of its inputs.",
        )
    ras = _checked_point(point, volumes[0].geometry)
    for volume, slot in zip(volumes, package.inputs, strict=True):
        check_image(volume, minimum_slices=slot.minimum_slices)

    from medseg.device import choose_device
    from medseg.models import load_network
    from medseg.segmentation.sliding import cut_window

    progress.update(0.0, "Loading the model")
    choice = choose_device(device)
    network = network or load_network(package)
    progress.update(0.1, "Preparing the images")
    image, grid = _prepared(volumes, package, progress)
    voxel = _voxel_of(ras, grid)
    corner, size = _window_around(voxel, grid, package)
    progress.update(0.4, "Looking from the point")
    if hasattr(network, "slice_spacing"):
        network.slice_spacing = grid.spacing[int(network.slice_axis)]
    i, j, k = (index - start for index, start in zip(voxel, corner, strict=True))
    row, notices = _row(network, cut_window(image, corner, size)[None], (i, j, k), choice.device)
    if choice.fell_back:
        notices.insert(0, choice.reason)
    progress.update(1.0, "Done")
    weights = row.weights.cpu().numpy()
    where = ", ".join(f"{number:.1f}" for number in ras)
    made = (
        f"Derived, not measured: where the model '{package.name}' looks from the point ({where}) mm (RAS), one weight"
        f" for each {_extent(row.step)} voxels of its grid. The {weights.size} weights sum to 1; each would be"
        f" {1 / weights.size:.3g} if it looked everywhere alike."
    )
    return DerivedVolume(
        volume=Volume(
            np.ascontiguousarray(weights.transpose(2, 1, 0), dtype=np.float32),
            _coarse_geometry(grid, corner, row),
            name=f"{volumes[0].name} attention".strip(),
        ),
        kind="attention",
        notices=[made, *notices],
        model={"name": package.name, "version": package.version, "weights_sha256": package.weights_sha256},
    )


def _checked_point(point: Sequence[float], geometry: Geometry) -> np.ndarray:
    try:
        ras = np.asarray(point, dtype=np.float64)
    except (TypeError, ValueError):
        ras = np.empty(0)
    if ras.shape != (3,) or not np.isfinite(ras).all():
        raise InputError("A point is three numbers.", advice="Give R, A and S in mm.")
    index = geometry.ras_to_ijk_points(ras)
    if not ((index > -_HALF) & (index < np.asarray(geometry.size) - 1 + _HALF)).all():
        where = ", ".join(f"{number:.1f}" for number in ras)
        raise InputError(f"The point ({where}) mm (RAS) lies outside the volume.", advice="Choose one inside it.")
    return ras


def _prepared(volumes: Sequence[Volume], package: ModelPackage, progress: Progress) -> tuple[torch.Tensor, Geometry]:
    """Return the image (C, I, J, K) as the network takes it, and its grid."""
    import torch

    from medseg.segmentation.preprocess import shown_geometry, to_network_grid

    first = volumes[0].geometry
    shown = shown_geometry(volumes[0], package.preprocessing)
    channels, grid = [], first
    for volume in volumes:
        same = volume.geometry.is_close(first)
        placed = volume if same else volume.resample(first, interpolation="linear", fill=float(volume.array.min()))
        prepared = to_network_grid(placed, package.preprocessing, shown=shown, progress=progress)
        grid = prepared.geometry
        channels.append(torch.from_numpy(prepared.array).permute(2, 1, 0))
    return torch.stack(channels), grid


def _voxel_of(ras: np.ndarray, grid: Geometry) -> tuple[int, int, int]:
    """Return the voxel of the network's grid that holds the point.

    Half a voxel beyond counts as the outermost: resampling may move the faces of the grid that far.
    """
    index = grid.ras_to_ijk_points(ras)
    last = np.asarray(grid.size) - 1
    if not ((index > -1 - _HALF) & (index < last + 1 + _HALF)).all():
        raise InputError(
            "The point lies outside the part of the volume that the model is shown.",
            advice="Choose one inside the body.",
        )
    i, j, k = np.clip(np.rint(index), 0, last).astype(int).tolist()
    return i, j, k


def _window_around(
    voxel: tuple[int, int, int], grid: Geometry, package: ModelPackage
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return first voxel and size (i, j, k) of the window in which ``voxel`` lies most centrally."""
    from medseg.segmentation.windows import window_starts

    corner = []
    for index, length, width in zip(voxel, grid.size, package.window.size_ijk, strict=True):
        starts = window_starts(length, width, package.window.overlap)
        corner.append(min(starts, key=lambda start, middle=index - (width - 1) / 2: abs(start - middle)))  # type: ignore[misc]
    i, j, k = corner
    return (i, j, k), package.window.size_ijk


def _row(
    network: nn.Module, window: torch.Tensor, voxel: tuple[int, int, int], device: str
) -> tuple[AttentionRow, list[str]]:
    """Return where ``network`` looks from ``voxel`` of ``window`` (1, C, I, J, K), and what the user should know."""
    import torch

    from medseg.networks.attention_row import LooksAround

    if not isinstance(network, LooksAround):
        raise TypeError(f"{type(network).__name__} has no attention_row")
    module: Any = network
    with torch.inference_mode():
        try:
            return module.eval().to(device).attention_row(window.to(device), voxel), []
        except torch.cuda.OutOfMemoryError:
            row = module.cpu().attention_row(window, voxel)
            return row, [f"The device '{device}' has too little memory; the CPU was used."]


def _coarse_geometry(grid: Geometry, corner: tuple[int, int, int], row: AttentionRow) -> Geometry:
    """Return the grid of the weights in the world: every ``step``-th voxel of the window that begins at ``corner``."""
    to_network = np.diag([*row.step, 1.0])
    to_network[:3, 3] = np.asarray(corner) + np.asarray(row.first)
    i, j, k = row.weights.shape
    return Geometry((k, j, i), grid.ijk_to_ras @ to_network)


def _extent(step: Sequence[float]) -> str:
    return " x ".join(f"{math.floor(size) if size == math.floor(size) else size}" for size in step)


def _cannot_tell(package: ModelPackage) -> ModelError:
    return ModelError(
        f"The model '{package.name}' cannot tell where it looks from a point.",
        advice="Choose a model whose network compares all parts of the image with each other, such as MPU-Net.",
    )
