"""Thin volumes with thin truth and what would be drawn of it on thick slices: phantoms, left atria, organs in CT."""

from __future__ import annotations

import functools
import importlib.util
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk

from medseg.training.thin_thick import thick_copy
from medseg.volumes import Geometry, Volume, read_labelmap, read_volume

Rule = Literal["majority", "any touch"]

_CONTRAST, _TEXTURE, _NOISE = 1.0, 0.35, 0.5
_TRUNK_ORGANS = (1, 2, 3, 4, 5, 6, 20, 52, 63)
_HEAD_AND_NECK_CASES = ("hn_003", "hn_007")
_ATRIA = ("la_002", "la_006", "la_010")
_CT_WINDOW = (-200.0, 300.0)  # HU: soft tissue, as a user would have it on the screen


@dataclass(frozen=True)
class Drawing:
    """A thin image and its truth, and what is drawn on its slices of ``ratio`` thin ones along k.

    Attributes
    ----------
    thin, truth, drawn
        Image; labels on its grid; labels on the grid of its thick copy.
    values
        The labels that were drawn.
    """

    thin: Volume
    truth: np.ndarray
    drawn: Volume
    ratio: int
    values: tuple[int, ...]

    @property
    def covered(self) -> int:
        """The number of thin slices that belong to a thick one; only they are judged."""
        return self.drawn.shape[0] * self.ratio


def draw(thin: Volume, truth: np.ndarray, ratio: int, rule: Rule) -> Drawing:
    """Draw the truth on thick slices: voxels of which more than half, or any part, belongs to a label."""
    drawn = np.zeros((thin.shape[0] // ratio, *thin.shape[1:]), np.uint8)
    best = np.zeros(drawn.shape, np.float32)
    copy = thick_copy(thin, factor=ratio)
    for value in np.unique(truth).tolist():
        if value:
            share = thick_copy(thin.with_array((truth == value).astype(np.uint8)), factor=ratio).array
            # Where two labels touch a voxel, the larger share has it.
            wins = (share > (0.5 if rule == "majority" else 0.0)) & (share > best)
            drawn[wins] = value
            best[wins] = share[wins]
    values = tuple(value for value in np.unique(drawn).tolist() if value)
    return Drawing(thin, truth, Volume(drawn, copy.geometry), ratio, values)


@lru_cache(maxsize=4)
def phantom(seed: int, edge: int = 64, slices: int = 60) -> tuple[Volume, np.ndarray]:
    """Return an image and its labels: ellipsoids, cones and tilted cylinders in texture and noise, 1 mm voxels."""
    rng = np.random.default_rng(seed)
    k, j, i = np.indices((slices, edge, edge)).astype(np.float32)
    truth = np.zeros(k.shape, np.uint8)

    def place() -> tuple[float, float, float]:
        z, y, x = rng.uniform(0.2, 0.8, 3) * (slices, edge, edge)
        return float(z), float(y), float(x)

    for _ in range(3):
        (z, y, x), (a, b, c) = place(), rng.uniform(0.08, 0.2, 3) * edge
        truth[((k - z) / a) ** 2 + ((j - y) / b) ** 2 + ((i - x) / c) ** 2 < 1] = 1
    for _ in range(2):
        (z, y, x), height, radius = place(), rng.uniform(0.25, 0.5) * slices, rng.uniform(0.1, 0.18) * edge
        up = (k - z) * rng.choice([-1.0, 1.0])
        truth[(up > 0) & (up < height) & (np.hypot(j - y, i - x) < radius * (1 - up / height))] = 1
    for _ in range(2):
        (z, y, x), length, radius = place(), rng.uniform(0.3, 0.6) * slices, rng.uniform(0.04, 0.08) * edge
        tilt = rng.uniform(-1.2, 1.2, 2)
        truth[(abs(k - z) < length / 2) & (np.hypot(j - y - tilt[0] * (k - z), i - x - tilt[1] * (k - z)) < radius)] = 1
    texture = sitk.GetArrayFromImage(
        sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(rng.normal(size=k.shape).astype(np.float32)), 2.0)
    )
    image = _CONTRAST * truth + _TEXTURE * texture / texture.std() + rng.normal(0, _NOISE, k.shape)
    return Volume(image.astype(np.float32), Geometry.from_spacing(k.shape)), truth


@lru_cache(maxsize=2)
def atrium(folder: Path, case: str) -> tuple[Volume, np.ndarray]:
    """Return a left atrium of slices of 0.625 mm."""
    return (
        read_volume(folder / "left-atrium-mr" / f"{case}.nii.gz"),
        (read_labelmap(folder / "left-atrium-mr" / f"{case}_label.nii.gz").array > 0).astype(np.uint8),
    )


@lru_cache(maxsize=1)
def trunk(folder: Path) -> tuple[Volume, np.ndarray]:
    """Return part of a trunk in CT, slices of 3 mm, with nine organs (labelled by another tool)."""
    image = read_volume(folder / "ct-totalseg" / "example_ct_sm.nii.gz")
    labels = read_labelmap(folder / "ct-totalseg" / "example_seg.nii.gz").array
    return _windowed(image), np.where(np.isin(labels, _TRUNK_ORGANS), labels, 0).astype(np.uint8)


@lru_cache(maxsize=2)
def head_and_neck(folder: Path, case: str) -> tuple[Volume, np.ndarray]:
    """Return a planning CT, slices of 2.5 to 3 mm, with the organs that were contoured in it."""
    image = read_volume(folder / "ct-head-neck" / f"{case}.nii.gz")
    return _windowed(image), read_labelmap(folder / "ct-head-neck" / f"{case}_label.nii.gz").array.astype(np.uint8)


def _windowed(image: Volume) -> Volume:
    return image.with_array(np.clip(image.array.astype(np.float32), *_CT_WINDOW))


def atria(folder: Path) -> tuple[str, ...]:
    """Return the left atria of the experiment that are there."""
    return tuple(case for case in _ATRIA if (folder / "left-atrium-mr" / f"{case}.nii.gz").is_file())


def heads_and_necks(folder: Path) -> tuple[str, ...]:
    """Return the planning CT of the experiment that are there."""
    return tuple(case for case in _HEAD_AND_NECK_CASES if (folder / "ct-head-neck" / f"{case}.nii.gz").is_file())


def has_trunk(folder: Path) -> bool:
    """Return whether the trunk is there."""
    return (folder / "ct-totalseg" / "example_seg.nii.gz").is_file()


def staircase(drawing: Drawing) -> np.ndarray:
    """Return the drawn labels repeated on the thin slices of each thick one."""
    steps = np.zeros_like(drawing.truth)
    steps[: drawing.covered] = np.repeat(drawing.drawn.array, drawing.ratio, axis=0)
    return steps


def fill_between_slices(drawing: Drawing) -> np.ndarray | None:
    """Return what 3D Slicer's "Fill between slices" makes of the drawing; ``None`` without slicer-core.

    That is ITK's morphological contour interpolation of the drawn labels, each in the middle of its slices. It fills
    between slices only and does not close a shape beyond its last one.
    """
    if importlib.util.find_spec("slicer") is None:
        return None
    sparse = np.zeros(drawing.truth.shape, np.int16)
    sparse[(drawing.ratio - 1) // 2 : drawing.covered : drawing.ratio] = drawing.drawn.array
    return _slicers_process().submit(_interpolated, sparse).result().astype(np.uint8)


@functools.cache
def _slicers_process() -> ProcessPoolExecutor:
    """A process for Slicer's libraries alone: one that has trained with PyTorch too dies when it ends."""
    return ProcessPoolExecutor(1, get_context("spawn"))


def _interpolated(sparse: np.ndarray) -> np.ndarray:
    """Return labels (k, j, i) int16 with the slices between the labelled ones filled."""
    import slicer
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

    image = vtk.vtkImageData()
    image.SetDimensions(*sparse.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(sparse.reshape(-1), deep=True, array_type=vtk.VTK_SHORT))
    interpolator: Any = slicer.vtkITKMorphologicalContourInterpolator()
    interpolator.SetInputData(image)
    interpolator.SetAxis(2)
    interpolator.Update()
    found = vtk_to_numpy(interpolator.GetOutput().GetPointData().GetScalars())
    return found.reshape(sparse.shape).copy()


def distance_along_slices(first: np.ndarray, second: np.ndarray, spacing: float) -> float:
    """Return the 95th percentile of the distances between two surfaces along k, in mm; NaN when one is empty.

    On each line of voxels along k, every place where one mask begins or ends is measured to the nearest such place of
    the other, both ways. Where the other has none on the line, it counts as many slices as the mask has there.
    """
    distances = np.concatenate([_one_way(first, second), _one_way(second, first)])
    if not (first.any() and second.any()):
        return float("nan")
    return float(np.percentile(distances, 95)) * spacing


def _one_way(mask: np.ndarray, other: np.ndarray) -> np.ndarray:
    own, theirs = _borders(mask), _borders(other)
    nearest = np.full(own.shape, np.inf)
    for order in (range(len(own)), range(len(own) - 1, -1, -1)):
        away = np.full(own.shape[1:], np.inf)
        for place in order:
            away = np.where(theirs[place], 0, away + 1)
            np.minimum(nearest[place], away, out=nearest[place])
    length = np.broadcast_to(mask.sum(0), own.shape)
    return np.where(np.isinf(nearest), length, nearest)[own]


def _borders(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask.astype(np.int8), [(1, 1), (0, 0), (0, 0)])
    return np.diff(padded, axis=0) != 0
