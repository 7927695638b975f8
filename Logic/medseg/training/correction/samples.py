"""Samples for a network of clicks: a structure of a labelled scan, seen in a box around it, and a bad start.

Not given in a paper, all ours. A sample is cut out of the scan in one step, turned, stretched and mirrored: the grid of
the box is laid into the scan and read off there.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from medseg.correction.intensity import normalised
from medseg.correction.window import Window
from medseg.training.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.training.synthesis import Draws
    from medseg.volumes import Volume

_Share = Annotated[float, Field(ge=0, le=1)]
FEWEST = 8
"""Voxels that a structure has, in the scan and in a sample."""
_TRIES, _SLICE_TRIES = 4, 12
_QUICK_TRIES = 64
"""A voxel of a structure is drawn at random in its box so often before all are listed."""


class SampleSection(Section):
    """What becomes of a structure before a network sees it.

    The box is a cube of ``edge_mm`` (smallest, largest), ``reach`` (from, to) times as long as the structure where that
    lies between. Turns are up to ``rotation_degrees`` about each axis, each axis is stretched by up to ``stretch``.
    ``invert`` is how often dark and bright are exchanged, ``gamma`` the largest exponent of the brightness (or its
    inverse), ``noise`` its largest standard deviation. ``from_segmentation`` is how often there is a bad segmentation
    to begin with, whose border is off by up to ``start_mm``.
    """

    edge_mm: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (32.0, 192.0)
    reach: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (1.2, 2.5)
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 15.0
    stretch: Annotated[float, Field(ge=1)] = 1.15
    invert: _Share = 0.1
    gamma: Annotated[float, Field(ge=1)] = 1.5
    noise: Annotated[float, Field(ge=0)] = 0.2
    from_segmentation: _Share = 0.35
    start_mm: Annotated[float, Field(gt=0)] = 10.0


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A label map and its structures.

    Attributes
    ----------
    labels
        (k, j, i) whole numbers.
    spacing
        Of the voxels along (k, j, i), mm.
    structures
        By label value, a box (first, last + 1) around each structure of at least 8 voxels.
    """

    labels: np.ndarray
    spacing: tuple[float, float, float]
    structures: dict[int, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of_labels(cls, labels: np.ndarray, spacing: Sequence[float]) -> LabelMap:
        """Return the label map of an array (k, j, i); ``spacing`` is that along these axes."""
        return LabelMap(np.asarray(labels), _three(spacing), _structures(labels))


@dataclass(frozen=True, eq=False)
class LabelledScan(LabelMap):
    """A scan and its structures.

    Attributes
    ----------
    image
        (k, j, i) float32.
    """

    image: np.ndarray

    @classmethod
    def of(cls, image: Volume, labels: Volume) -> LabelledScan:
        """Return the scan of two volumes of one grid."""
        return cls.of_arrays(image.array, labels.array, image.geometry.spacing[::-1])

    @classmethod
    def of_arrays(cls, image: np.ndarray, labels: np.ndarray, spacing: Sequence[float]) -> LabelledScan:
        """Return the scan of arrays (k, j, i); ``spacing`` is that along these axes."""
        found = _structures(labels)
        return cls(np.asarray(labels), _three(spacing), found, np.asarray(image, np.float32))


def _structures(labels: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    from scipy import ndimage

    found, counts = {}, np.bincount(labels.ravel())
    for value, box in enumerate(ndimage.find_objects(labels.astype(np.int32)), start=1):
        if box is not None and counts[value] >= FEWEST:
            found[value] = (np.array([part.start for part in box]), np.array([part.stop for part in box]))
    return found


def _three(spacing: Sequence[float]) -> tuple[float, float, float]:
    k, j, i = (float(step) for step in spacing)
    return k, j, i


class Sample(NamedTuple):
    """What a step takes of a structure: image, truth and start, (1, \\*size) float32; the start is 0 for "nothing"."""

    image: Tensor
    truth: Tensor
    start: Tensor


def sample_of(scan: LabelledScan, value: int, section: SampleSection, size: Sequence[int], draws: Draws) -> Sample:
    """Return a structure of a scan in a random box.

    Parameters
    ----------
    value
        The label, one of ``scan.structures``.
    size
        Voxels of the box; it is a cube in mm before it is stretched where they are equal.

    Raises
    ------
    KeyError
        When the scan has no such structure.
    """
    low, high = scan.structures[value]
    extent = float(((high - low) * scan.spacing).max())
    for _ in range(_TRIES):
        edge = _edge(extent, section, draws)
        centre = _place_in(scan, value, draws)
        window = _laid(scan, centre, edge, size, section=section, draws=draws)
        truth = (window.read_mask(scan.labels == value) > 0.5).float()
        if truth.sum() >= FEWEST:
            break
    return _cut_out(scan, window, truth, edge, section=section, draws=draws)


def slice_of(
    scan: LabelledScan,
    value: int,
    section: SampleSection,
    size: Sequence[int],
    draws: Draws,
    *,
    axes: Sequence[int] = (0, 1, 2),
) -> Sample | None:
    """Return a structure in a random slice of a scan.

    Parameters
    ----------
    value
        The label, one of ``scan.structures``.
    size
        Pixels (j, i) of the slice.
    axes
        Across which axes (k, j, i) of the scan slices lie before they are turned.

    Returns
    -------
    Sample or None
        Of (1, j, i); ``None`` when no slice that was tried shows 8 pixels of the structure.

    Raises
    ------
    KeyError
        When the scan has no such structure.
    """
    axes = slice_axes(scan, axes)
    for _ in range(_SLICE_TRIES):
        window, edge = _random_slice(scan, value, section, (1, *size), draws, axes=axes)
        truth = (_structure_in(scan, value, window) > 0.5).float()
        if truth.sum() >= FEWEST:
            cut = _cut_out(scan, window, truth, edge, section=section, draws=draws)
            return Sample(*(part.squeeze(1) for part in cut))
    return None


def random_window(
    labelled: LabelMap, value: int, section: SampleSection, size: Sequence[int], draws: Draws
) -> tuple[Window, float]:
    """Return a random box around a structure, or a random slice of it, and how long its edge is in mm.

    Unlike :func:`sample_of` it looks at few voxels, however large the structure is.

    Parameters
    ----------
    value
        The label, one of ``labelled.structures``.
    size
        Voxels (k, j, i) of the box; with 1 as the first it is a slice across any of the three axes.
    """
    if size[0] == 1:
        return _random_slice(labelled, value, section, size, draws, axes=slice_axes(labelled))
    low, high = labelled.structures[value]
    edge = _edge(float(((high - low) * labelled.spacing).max()), section, draws)
    share, voxel = draws.uniform(0, 1), _voxel_in(labelled, value, draws)
    centre = share * voxel + (1 - share) * (low + high - 1) / 2
    return _laid(labelled, centre, edge, size, section=section, draws=draws), edge


def _random_slice(
    labelled: LabelMap, value: int, section: SampleSection, size: Sequence[int], draws: Draws, *, axes: Sequence[int]
) -> tuple[Window, float]:
    axis = axes[draws.whole(0, len(axes) - 1)]
    centre, extent = _place_in_slice(labelled, value, axis, draws)
    edge = _edge(extent, section, draws)
    return _laid(labelled, centre, edge, size, section=section, draws=draws, axis=axis), edge


def slice_axes(scan: LabelMap, axes: Sequence[int] = (0, 1, 2)) -> list[int]:
    """Return those of the axes across which a slice of a scan is no line; all when there is none."""
    shape = scan.labels.shape
    return [axis for axis in axes if min(np.delete(shape, axis)) > 1] or list(axes)


def _edge(extent: float, section: SampleSection, draws: Draws) -> float:
    return min(max(extent * draws.uniform(*section.reach), section.edge_mm[0]), section.edge_mm[1])


def _cut_out(
    scan: LabelledScan, window: Window, truth: Tensor, edge: float, *, section: SampleSection, draws: Draws
) -> Sample:
    image = _repainted(normalised(window.read_image(scan.image)), section, draws)
    return with_start(image, truth, edge, section, draws)


def with_start(image: Tensor, truth: Tensor, edge_mm: float, section: SampleSection, draws: Draws) -> Sample:
    """Return a sample that begins with nothing or, as often as the recipe says, with a bad segmentation.

    Parameters
    ----------
    image, truth
        (1, \\*size), the truth 0 or 1.
    edge_mm
        How long its longest axis is.
    """
    start = torch.zeros_like(truth)
    if draws.chance(section.from_segmentation):
        start = degraded(truth, section.start_mm / edge_mm * max(truth.shape), draws)
    return Sample(image, truth, start)


def degraded(truth: Tensor, most: float, draws: Draws) -> Tensor:
    """Return a bad segmentation of a structure: its border moved in and out by up to ``most`` voxels, smoothly.

    Parameters
    ----------
    truth
        (1, \\*size), 0 or 1.
    """
    from scipy import ndimage

    inside = truth[0].numpy() > 0
    depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    size = truth.shape[1:]
    field = draws.smooth(size, draws.uniform(0.15, 0.5) * max(size))
    moved = field / field.abs().max().clamp(min=1e-6) * draws.uniform(0.2, 1.0) * most
    return ((torch.from_numpy(depth).float()[None] + moved) > 0).float()


def _place_in(scan: LabelledScan, value: int, draws: Draws) -> np.ndarray:
    """Return where the box is centred, (k, j, i): between the middle of the structure and a voxel of it."""
    low, high = scan.structures[value]
    part = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
    places = np.argwhere(scan.labels[part] == value)
    voxel = places[draws.whole(0, len(places) - 1)] + low
    share = draws.uniform(0, 1)
    return share * voxel + (1 - share) * (places.mean(0) + low)


def _voxel_in(scan: LabelMap, value: int, draws: Draws) -> np.ndarray:
    """Return a voxel (k, j, i) of a structure."""
    low, high = scan.structures[value]
    for _ in range(_QUICK_TRIES):
        voxel = np.array([draws.whole(int(start), int(stop) - 1) for start, stop in zip(low, high, strict=True)])
        if scan.labels[tuple(voxel)] == value:
            return voxel
    part = scan.labels[tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))]
    places = np.argwhere(part == value)
    return places[draws.whole(0, len(places) - 1)] + low


def _place_in_slice(scan: LabelMap, value: int, axis: int, draws: Draws) -> tuple[np.ndarray, float]:
    """Return where a slice across an axis is centred, (k, j, i), and how long the structure is in it, mm."""
    low, high = scan.structures[value]
    voxel = _voxel_in(scan, value, draws)
    part = [slice(start, stop) for start, stop in zip(low, high, strict=True)]
    part[axis] = slice(int(voxel[axis]), int(voxel[axis]) + 1)
    places = np.argwhere(scan.labels[tuple(part)] == value)
    extent = float(np.delete((np.ptp(places, axis=0) + 1) * scan.spacing, axis).max())
    share = draws.uniform(0, 1)
    middle = places.mean(0) + [each.start for each in part]
    return share * voxel + (1 - share) * middle, extent


def _structure_in(scan: LabelledScan, value: int, window: Window) -> Tensor:
    """Return what a window sees of a structure, (1, \\*size) from 0 to 1, without a look at the rest of the scan."""
    low, high = scan.structures[value]
    start = np.maximum(low - 1, 0)
    part = scan.labels[tuple(slice(at, stop + 1) for at, stop in zip(start, high, strict=True))]
    return dataclasses.replace(window, centre=window.centre - start).read_mask(part == value)


def _laid(
    scan: LabelMap,
    centre: np.ndarray,
    edge_mm: float,
    size: Sequence[int],
    *,
    section: SampleSection,
    draws: Draws,
    axis: int = 0,
) -> Window:
    """Return the box as a turned, stretched and mirrored grid in the scan; its first axis lies along the given one."""
    turn = np.eye(3)[:, [axis, *(other for other in range(3) if other != axis)]]
    for first, second in itertools.combinations(range(3), 2):
        angle = math.radians(draws.uniform(-section.rotation_degrees, section.rotation_degrees))
        step = np.eye(3)
        step[first, first] = step[second, second] = math.cos(angle)
        step[first, second], step[second, first] = -math.sin(angle), math.sin(angle)
        turn = step @ turn
    most = math.log(section.stretch)
    scale = [math.exp(draws.uniform(-most, most)) * (-1 if draws.chance(0.5) else 1) for _ in range(3)]
    k, j, i = size
    steps = np.diag(1 / np.asarray(scan.spacing)) @ turn @ np.diag(np.multiply(scale, edge_mm / max(size)))
    return Window((k, j, i), centre, steps)


def _repainted(image: Tensor, section: SampleSection, draws: Draws) -> Tensor:
    """Return an image of mean 0 and standard deviation 1 with another contrast and noise, normalised again."""
    low, high = image.aminmax()
    share = (image - low) / (high - low).clamp(min=1e-6)
    if draws.chance(section.invert):
        share = 1 - share
    share = share ** math.exp(draws.uniform(-math.log(section.gamma), math.log(section.gamma)))
    painted = normalised(share)
    return normalised(painted + draws.uniform(0, section.noise) * draws.noise(painted.shape))
