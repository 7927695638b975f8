"""Which slices informed which: the attention of TSFMUNet between the slices of an image, as a table.

Importing this costs nothing; torch comes with the first call of :func:`slice_attention`.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import InputError, ModelError
from medseg.files import atomic_path
from medseg.progress import NO_PROGRESS, Progress
from medseg.segmentation.stacks import slice_axis_of, slice_notices, window_of
from medseg.volumes import check_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import torch
    from torch import nn

    from medseg.models.package import ModelPackage
    from medseg.volumes import Geometry, Volume


@dataclasses.dataclass(frozen=True)
class SliceAttention:
    """Which slices of an image informed which.

    Attributes
    ----------
    weights
        (S, S) float32, slices of the network's grid in the order of the image's own; row = the slice that was informed,
        column = the slice that informed it. Every row sums to 1; slices that never lay in one window have weight 0.
    slices
        (S,) where each of them lies among the slices of the first volume: its index along ``axis``, ascending. Whole
        numbers unless the model resamples along the slices.
    axis
        Axis of the first volume along which the model takes slices: "i", "j" or "k".
    notices
        Sentences for the user.
    """

    weights: np.ndarray
    slices: np.ndarray
    axis: str
    notices: tuple[str, ...] = ()

    def informants_of(self, index: int) -> np.ndarray:
        """Return (S,) with what each slice gave to the one nearest to ``index``, an index along :attr:`axis` from 0.

        Raises
        ------
        InputError
            When there is no such slice.
        """
        nearest = int(np.argmin(np.abs(self.slices - index)))
        # Resampled slices lie up to half of their distance, and half of one of the image's, from the outermost ones.
        reach = max(1.0, *np.diff(self.slices)) if len(self.slices) > 1 else 1.0
        if abs(self.slices[nearest] - index) > reach:
            raise InputError(
                f"The image has no slice {index} along its {self.axis} axis.",
                advice=f"Slices are counted from 0; the last one is {round(self.slices[-1])}.",
            )
        return self.weights[nearest]


def shows_slice_attention(package: ModelPackage) -> bool:
    """Say whether :func:`slice_attention` works with ``package``, without loading it."""
    return (
        package.network_target == "medseg.networks.TSFMUNet"
        and package.network_arguments.get("inter_slice", "attention") == "attention"
    )


def slice_attention(
    volumes: Sequence[Volume],
    package: ModelPackage,
    *,
    device: str = "auto",
    network: nn.Module | None = None,
    progress: Progress = NO_PROGRESS,
) -> SliceAttention:
    """Return which slices of an image inform which when ``package`` segments it.

    The weights are those of the attention layer at the bottleneck, averaged over its heads (and, in mode "location",
    over the positions in the plane), and over the windows of a segmentation: where several hold a slice, its row is
    their mean, weighted as their scores are (our choice; not given in the paper).

    Parameters
    ----------
    volumes
        One volume for each input of the model, in its order, as for :func:`medseg.segmentation.segment`.
    package
        A model that can tell (:func:`shows_slice_attention`).
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    network
        The package's network when it is loaded already.
    progress
        Told after every window.

    Raises
    ------
    InputError
        When the number of volumes is wrong or one cannot be used.
    ModelError
        When the network has no attention between slices, or the package cannot be loaded.
    Cancelled
        When ``progress`` says so.
    """
    axis = slice_axis_of(package)
    if not shows_slice_attention(package) or axis is None:
        raise ModelError(
            f"The model '{package.name}' cannot tell which slices informed which.",
            advice="Choose a model with attention between slices, TSFMUNet.",
        )
    if len(volumes) != len(package.inputs):
        raise InputError(
            f"The model '{package.name}' takes {len(package.inputs)} volumes, and {len(volumes)} were given.",
            advice="Give one for each of its inputs.",
        )
    for volume, slot in zip(volumes, package.inputs, strict=True):
        check_image(volume, minimum_slices=slot.minimum_slices)

    from medseg.device import choose_device
    from medseg.models import load_network

    progress.update(0.0, "Loading the model")
    choice = choose_device(device)
    network = (network or load_network(package)).eval().to(choice.device)
    image, grid = _prepared(volumes, package, progress)
    network.slice_spacing = grid.spacing[axis]
    weights = _blended(network, image.to(choice.device), axis, package, progress.part(0.1, 1.0))
    notices = [choice.reason] if choice.fell_back else []
    slices, name = _slices_of(volumes[0].geometry, grid, axis)
    order = np.argsort(slices)
    return SliceAttention(
        weights=np.ascontiguousarray(weights[np.ix_(order, order)], dtype=np.float32),
        slices=slices[order],
        axis=name,
        notices=(*notices, *slice_notices(package, grid)),
    )


def write_slice_attention(found: SliceAttention, path: Path, index: int | None = None) -> None:
    """Write ``found`` as CSV (UTF-8): a line for each slice that was informed, a column for each that informed it.

    With ``index``, only what informed that slice: a line for each slice with its weight.

    Raises
    ------
    InputError
        When there is no slice of that index.
    WriteError
        When the file cannot be written.
    """
    whole = np.allclose(found.slices, np.rint(found.slices), atol=1e-3)
    names = [f"{place:.0f}" if whole else f"{place:.2f}" for place in found.slices]
    lines: list[list[str]]
    if index is None:
        lines = [["slice", *names]]
        lines += [[name, *(f"{weight:.6g}" for weight in row)] for name, row in zip(names, found.weights, strict=True)]
    else:
        informants = found.informants_of(index)
        lines = [["slice", "weight"], *([name, f"{w:.6g}"] for name, w in zip(names, informants, strict=True))]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows(lines)


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


def _blended(
    network: nn.Module, image: torch.Tensor, axis: int, package: ModelPackage, progress: Progress
) -> np.ndarray:
    """Return the (S, S) attention over the slices of ``image`` (C, I, J, K), rows averaged over the windows."""
    import torch

    from medseg.networks import TSFMUNet
    from medseg.segmentation.sliding import cut_window
    from medseg.segmentation.windows import importance_map

    if not isinstance(network, TSFMUNet):
        raise TypeError(f"{type(network).__name__} has no attention_matrix")
    size = image.shape[1:]
    window = window_of(package, size)
    plane = tuple(other for other in range(3) if other != axis)
    importance = importance_map(window, package.window.blend).sum(axis=plane)
    total = np.zeros((size[axis], size[axis]))
    corners = list(_corners(size, window, package.window.overlap))
    with torch.inference_mode():
        for done, corner in enumerate(corners, start=1):
            matrix = network.attention_matrix(cut_window(image, corner, window)[None])[0].float().cpu().numpy()
            held = slice(corner[axis], corner[axis] + window[axis])
            total[held, held] += importance[:, None] * matrix
            progress.update(done / len(corners), f"Window {done} of {len(corners)}")
    return total / total.sum(axis=1, keepdims=True)


def _corners(size: Sequence[int], window: Sequence[int], overlap: float) -> Iterator[tuple[int, int, int]]:
    from medseg.segmentation.windows import window_starts

    yield from itertools.product(*(window_starts(n, w, overlap) for n, w in zip(size, window, strict=True)))


def _slices_of(source: Geometry, grid: Geometry, axis: int) -> tuple[np.ndarray, str]:
    """Return where the slices of ``grid`` along ``axis`` lie among those of ``source``, and along which of its axes."""
    count = grid.size[axis]
    points = np.tile((np.asarray(grid.size) - 1) / 2.0, (count + 1, 1))
    points[:, axis] = np.arange(count + 1)  # one beyond the end, so that a single slice has a direction too
    places = source.ras_to_ijk_points(grid.ijk_to_ras_points(points))
    along = int(np.argmax(np.abs(places[-1] - places[0])))
    return places[:-1, along], "ijk"[along]
