"""Classical helpers that grow a segment from scribbles: a random walker, and two fronts that race.

Random walker: L. Grady, "Random walks for image segmentation" (IEEE TPAMI 28(11), 2006), as scikit-image has it. Fast
marching: J. A. Sethian, "A fast marching level set method for monotonically advancing fronts" (PNAS 93(4), 1996), as
ITK has it: a front starts from each side, and who comes first has the voxel. Ours: where seeds are, the weights and the
speeds (set on hippocampi and left atria in MR and mandibles in CT), and the coarser grid of a large region.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from medseg.correction.classical import StatelessTool
from medseg.correction.region import bounding_box
from medseg.correction.seeds import MOST_REGION_MM, REGION_MM, View, connected, distance_mm, mask_of, sitk_image
from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.correction.region import Mark, Region
    from medseg.volumes import Volume

MOST_VOXELS = 70_000
"""A region of more is looked at on a coarser grid; 40 mm at 1 mm are 69,000, which take a random walker a second."""

_INSIDE, _OUTSIDE, _AROUND = 1, 2, 3
"""Seeds; 0 is to be found. Outside: by a negative mark; around: beside the segment, as nobody has said."""
_CORE = 0.25
"""How far around a mark its tissue is a seed, where it is alike and connected, in edges of the region: a walker from a
single voxel hardly gets away from it."""
_ALIKE = 1.5
"""Standard deviations from the level of a mark within which a voxel is like it."""
_INNER_MM = 3.0
"""So far from its border, an existing segment (and what is beside it) is a seed."""
_SAME = 1.0
"""Steps of so many standard deviations of the noise have the weight exp(-1/2) for a random walker."""
_WALL = 4.0
"""Steps of so many standard deviations of the noise halve the speed of a front."""
_LEAST_SPEED = 0.001
_UNLIKE = 0.02
"""Speed in tissue that is none of its own, where there is no edge."""
_LEVELS, _BLUR = 64, 3.0
"""Of the histograms of seeds, and by how many levels these are smoothed."""


def has_random_walker() -> bool:
    """Return whether the packages that a random walker needs are installed."""
    return find_spec("skimage") is not None and find_spec("scipy") is not None


class GrowTool(StatelessTool, ABC):
    """Grows from all positive against all negative marks in the region around the last one.

    A positive prompt adds to the segment what is connected with it, a negative one removes from it; both leave the rest
    as it is. Seeds are: the marks, with their like nearby; the outermost voxels of the region as they are now (where
    there are negative marks, they alone say what is outside); the inner part of an existing segment, where it is not
    nearer to a negative mark than to a positive one; after a negative mark, what is far from the segment.

    Parameters
    ----------
    volume
        Of one channel.
    region_mm
        Edge of the box around a prompt in which voxels may change; a positive box is the region itself. ``None``: as
        long as the segment, from 30 to 60 mm; 60 mm from nothing.
    """

    def __init__(self, volume: Volume, region_mm: float | None = None) -> None:
        self._volume, self._edge_mm = volume, region_mm

    @abstractmethod
    def _share(self, view: View, seeds: np.ndarray) -> np.ndarray:
        """Return for how much each voxel belongs to the segment, float (k, j, i), above 0.5 when it does.

        There are seeds of both kinds.
        """

    def propose(self, mask: np.ndarray, marks: Sequence[Mark]) -> tuple[Region, np.ndarray]:
        """See :class:`~medseg.correction.session.Tool`.

        Raises
        ------
        InputError
            When no intensity around the prompt is finite, or a package is missing.
        """
        view = View.of(self._volume, marks, self._edge_mm or self._usual_edge(mask))
        positive = marks[-1].positive
        before = mask[view.region.slices]
        inside = self._grown(view, before, positive=positive)
        last = view.own(positive=positive)[-1]
        inside[tuple(last.T)] = positive
        if positive:
            return view.region, before | connected(inside & (view.is_known | before), last)
        last = last[before[tuple(last.T)]]
        return view.region, before & ~connected(before & ~inside, last)

    def _usual_edge(self, mask: np.ndarray) -> float:
        box = bounding_box(mask)
        if box is None:
            return MOST_REGION_MM
        extent = float(np.multiply(box.shape, self._volume.geometry.spacing[::-1]).max())
        return min(max(extent, REGION_MM), MOST_REGION_MM)

    def _grown(self, view: View, before: np.ndarray, *, positive: bool) -> np.ndarray:
        factors = coarsening(before.shape, view.spacing)
        seen = coarser(view, factors).smoothed()
        seeds = seeds_of(seen, _binned(before, factors) > 0.5, positive=positive)
        if not (seeds > _INSIDE).any() or not (seeds == _INSIDE).any():
            # Nobody competes.
            return np.full(before.shape, bool((seeds == _INSIDE).any()))
        return _finer(self._share(seen, seeds), factors, before.shape) > 0.5


class RandomWalkerTool(GrowTool):
    """Where a walker that starts in a voxel, and shuns steps in intensity, more often comes to an inner seed first.

    It needs scikit-image, which is not a part of MedSeg nor of 3D Slicer; :class:`FastMarchingTool` does without.
    """

    def _share(self, view: View, seeds: np.ndarray) -> np.ndarray:
        try:
            from skimage.segmentation import random_walker
        except ImportError as error:
            raise InputError(
                "A random walker needs the Python package scikit-image, which is not installed.",
                advice="Install scikit-image, or choose the tool fast-marching.",
            ) from error

        if (seeds > 0).all():
            return (seeds == _INSIDE).astype(np.float64)
        image = view.image.astype(np.float64)
        deviation = float(image.std())
        if deviation == 0:
            # Nothing to see: what is nearer.
            inside, outside = (distance_mm(some, view.spacing) for some in (seeds == _INSIDE, seeds > _INSIDE))
            return outside / (inside + outside)
        # scikit-image weighs a step by exp(-beta step² / (10 deviation)), after we have made the deviation 1.
        image /= deviation
        beta = 10 / (2 * (_SAME * view.noise() / deviation) ** 2)
        with warnings.catch_warnings():
            # It warns of shares a little above 1, which are as good as 1 here.
            warnings.simplefilter("ignore", UserWarning)
            shares = random_walker(
                image, np.minimum(seeds, _OUTSIDE), beta=beta, mode="cg_j", return_full_prob=True,
                spacing=tuple(view.spacing / view.spacing.min()),
            )  # fmt: skip
        # A voxel that no walker of its own comes back to is outside.
        return np.nan_to_num(shares[0])


class FastMarchingTool(GrowTool):
    """Where the front from the inner seeds comes before the one from the outer seeds.

    A front is slow at edges, and in tissue that is more like the seeds of the other (by the histograms of both).
    """

    def _share(self, view: View, seeds: np.ndarray) -> np.ndarray:
        import SimpleITK as sitk

        steps = sitk.GetArrayFromImage(sitk.GradientMagnitude(sitk_image(view.image, view.spacing)))
        wall = _WALL * view.noise() / view.spacing.min()
        edge = 1 / (1 + (steps / wall) ** 2) if wall > 0 else np.where(steps > 0, _LEAST_SPEED, 1.0)
        like = likeness(view.image, seeds)
        times = [
            self._arrival(edge * (own**2 + _UNLIKE) + _LEAST_SPEED, starts, view.spacing)
            for starts, own in ((seeds == _INSIDE, like), (seeds > _INSIDE, 1 - like))
        ]
        return times[1] / np.maximum(times[0] + times[1], np.finfo(np.float32).tiny)

    @staticmethod
    def _arrival(speed: np.ndarray, starts: np.ndarray, spacing: np.ndarray) -> np.ndarray:
        import SimpleITK as sitk

        march = sitk.FastMarchingImageFilter()
        march.SetTrialPoints(np.argwhere(starts)[:, ::-1].tolist())
        return sitk.GetArrayFromImage(march.Execute(sitk_image(speed.astype(np.float32), spacing))).astype(np.float64)


def seeds_of(view: View, before: np.ndarray, *, positive: bool) -> np.ndarray:
    """Return where seeds are: (k, j, i) int64: 1 inside, 2 and 3 outside, by a mark and as it is; 0 to be found.

    Parameters
    ----------
    view
        Smoothed; the levels of marks are those that it shows.
    before
        (k, j, i) bool, the segment as it is in the region.
    positive
        What the last mark says.
    """
    shape, spacing, shell = before.shape, view.spacing, view.shell
    near, far = (distance_mm(mask_of(marked, shape), spacing) for marked in (view.positive, view.negative))
    inner = before & (shell | ((distance_mm(~before, spacing) > _INNER_MM) & (near <= far)))
    outer = ~before & shell
    if view.negative:
        outer &= near > _INNER_MM
    if not positive:
        outer |= ~before & (distance_mm(before, spacing) > _INNER_MM)
    seeds = np.zeros(shape, np.int64)
    seeds[outer], seeds[inner] = _AROUND, _INSIDE
    reach, noise = _CORE * float(np.max(shape * spacing)), view.noise()
    for label, marked, other in ((_OUTSIDE, view.negative, near), (_INSIDE, view.positive, far)):
        for voxels, (level, spread) in zip(marked, view.levels(marked), strict=True):
            like = np.abs(view.image - level) <= _ALIKE * max(spread, noise)
            like &= distance_mm(mask_of([voxels], shape), spacing) <= np.minimum(reach, other / 2)
            like[tuple(voxels.T)] = True
            seeds[connected(like, voxels)] = label
    # What was pointed at counts more than what is like it.
    for label, marked in ((_OUTSIDE, view.negative), (_INSIDE, view.positive)):
        for voxels in marked:
            seeds[tuple(voxels.T)] = label
    return seeds


def likeness(image: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Return how much more an intensity is like those of the inner seeds, from 0 to 1; 0.5 where all are the same.

    What is outside by a mark counts as much as all that is around: it may look like the segment.
    """
    low, high = np.percentile(image, [0.1, 99.9])
    if high <= low:
        return np.full(image.shape, 0.5)
    index = np.clip((image - low) / (high - low) * (_LEVELS - 1), 0, _LEVELS - 1).astype(np.int64)
    reach = int(4 * _BLUR)
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / _BLUR) ** 2)
    shares = []
    for label in (_INSIDE, _OUTSIDE, _AROUND):
        counts = np.convolve(np.bincount(index[seeds == label], minlength=_LEVELS), bell, "same")
        # An intensity that no seed has speaks for nobody.
        shares.append(counts / max(counts.sum(), 1) + 0.001)
    return (shares[0] / (shares[0] + np.maximum(shares[1], shares[2])))[index]


def coarsening(shape: Sequence[int], spacing: np.ndarray) -> np.ndarray:
    """Return by how much to coarsen a grid along (k, j, i) to at most 70,000 voxels that are as even as can be."""
    factors, size = np.ones(3, np.int64), np.asarray(shape)
    while np.prod(np.ceil(size / factors)) > MOST_VOXELS:
        # What has hardly any voxels keeps them.
        factors[np.argmin(np.where(np.ceil(size / factors) > 2, spacing * factors, np.inf))] += 1
    return factors


def coarser(view: View, factors: np.ndarray) -> View:
    """Return the same with voxels that are means over so many along (k, j, i)."""
    if (factors == 1).all():
        return view

    def marks(given: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.unique(voxels // factors, axis=0) for voxels in given]

    return replace(
        view,
        image=_binned(view.image, factors),
        is_known=_binned(view.is_known, factors) > 0.5,
        spacing=view.spacing * factors,
        positive=marks(view.positive),
        negative=marks(view.negative),
    )


def _binned(array: np.ndarray, factors: np.ndarray) -> np.ndarray:
    import SimpleITK as sitk

    fill = [(0, int(more)) for more in -np.asarray(array.shape) % factors]
    filled = np.pad(array.astype(np.float32), fill, mode="edge")
    return sitk.GetArrayFromImage(sitk.BinShrink(sitk.GetImageFromArray(filled), factors[::-1].tolist()))


def _finer(share: np.ndarray, factors: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    import SimpleITK as sitk

    if (factors == 1).all():
        return share
    image = sitk_image(share.astype(np.float32), factors)
    # The middle of the first of the large voxels, counted from the middle of the first small one.
    image.SetOrigin([(float(factor) - 1) / 2 for factor in factors[::-1]])
    work = sitk.ResampleImageFilter()
    work.SetSize([int(size) for size in shape[::-1]])
    work.SetInterpolator(sitk.sitkLinear)
    work.SetUseNearestNeighborExtrapolator(True)
    return sitk.GetArrayFromImage(work.Execute(image))
