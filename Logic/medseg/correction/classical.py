"""Classical helpers without a model: a threshold in a region, and smoothing of the segment.

Not of a paper. Those that grow from scribbles are in :mod:`medseg.correction.growing`. Needs numpy and SimpleITK alone,
which every installation has.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from medseg.correction.region import Region
from medseg.correction.seeds import REGION_MM, View, connected, distance_mm, mask_of, region_of, sitk_image
from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.correction.region import Mark
    from medseg.volumes import Volume

SMOOTH_MM = 3.0
"""What is thinner is smoothed away, when the user said nothing."""

_WIDTH = 3.0
"""Standard deviations from the level of what was pointed at that still belong to it."""
_BINS = 128
_FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))
"""Of a Gaussian, in standard deviations."""


class StatelessTool:
    """A tool that remembers nothing between prompts (half of a :class:`~medseg.correction.session.Tool`)."""

    @property
    def state(self) -> None:
        """See :class:`~medseg.correction.session.Tool`."""
        return

    def restore(self, state: None) -> None:
        """See :class:`~medseg.correction.session.Tool`."""


def intensity_limits(view: View, *, positive: bool) -> tuple[float, float]:
    """Return between which intensities the tissue lies that the marks of one sign point at.

    On either side of the levels (:meth:`~medseg.correction.seeds.View.levels`) of these marks the limit is half way to
    the nearest level of a mark of the other sign, if there is one on that side, at least one standard deviation away:
    what is closer is not told apart by its intensity. Else the limit is three standard deviations
    away, but not beyond the threshold of Otsu in the region. There is no limit on the side away from that threshold
    when the levels are beyond the mean of what lies there: nothing says that what is brighter than bright bone is none.

    Raises
    ------
    ValueError
        When the view has no mark of this sign.
    """
    own, others = view.levels(view.own(positive=positive)), view.levels(view.own(positive=not positive))
    lowest, highest = min(level for level, _ in own), max(level for level, _ in own)
    deviation = max(view.noise(), *(spread for _, spread in own))
    reach = _WIDTH * deviation
    below = [level for level, _ in others if level < lowest - deviation]
    above = [level for level, _ in others if level > highest + deviation]
    low, high = lowest - reach, highest + reach
    split, values = split_at(view), view.image[view.is_known]
    if split is not None and split < lowest:
        low, high = max(low, split), math.inf if lowest >= values[values > split].mean() else high
    elif split is not None and split > highest:
        low, high = -math.inf if highest <= values[values <= split].mean() else low, min(high, split)
    if below:
        low = (max(below) + lowest) / 2
    if above:
        high = (min(above) + highest) / 2
    return low, high


def split_at(view: View) -> float | None:
    """Return the threshold that splits a region into dark and bright (Otsu, as ITK has it); ``None``: it is even."""
    import SimpleITK as sitk

    values = view.image[view.is_known]
    if values.min() == values.max():
        return None
    split = sitk.OtsuThresholdImageFilter()
    split.SetNumberOfHistogramBins(_BINS)
    split.Execute(sitk.GetImageFromArray(values[None]))
    return float(split.GetThreshold())


class ThresholdTool(StatelessTool):
    """Proposes what lies between two intensities and is connected with the prompt.

    A positive prompt adds to the segment, a negative one removes from it; both leave the rest as it is. What is nearer
    to a mark of the other sign is left out, where intensities do not tell it apart from the last mark: when they were
    given, or when the levels of both lie between them.

    Parameters
    ----------
    volume
        Of one channel.
    region_mm
        Edge of the box around a prompt in which voxels may change; a positive box is the region itself.
    low, high
        The intensities, both inclusive, in the units of the volume; with one of them there is no other limit. With
        none, they are those of :func:`intensity_limits` for the marks of the last mark's sign.
    """

    def __init__(
        self, volume: Volume, region_mm: float | None = None, *, low: float | None = None, high: float | None = None
    ) -> None:
        self._volume, self._edge_mm = volume, region_mm or REGION_MM
        self._given = None if low is None and high is None else _open_ended(low, high)

    def propose(self, mask: np.ndarray, marks: Sequence[Mark]) -> tuple[Region, np.ndarray]:
        """See :class:`~medseg.correction.session.Tool`.

        Raises
        ------
        InputError
            When no intensity around the prompt is finite.
        """
        view, positive = View.of(self._volume, marks, self._edge_mm), marks[-1].positive
        before = mask[view.region.slices]
        last = view.own(positive=positive)[-1]
        if not positive:
            # It takes away from the segment, and what is beside it is not of it.
            last = last[before[tuple(last.T)]]
        if not len(last):
            return view.region, before.copy()
        found = self._alike(view, positive=positive)
        found &= view.is_known if positive else before
        found[tuple(last.T)] = True
        found = connected(found, last)
        return view.region, before | found if positive else before & ~found

    def _alike(self, view: View, *, positive: bool) -> np.ndarray:
        low, high = self._given or intensity_limits(view, positive=positive)
        found = (view.image >= low) & (view.image <= high)
        others = view.own(positive=not positive)
        rivals = [
            voxels for voxels, (level, _) in zip(others, view.levels(others), strict=True) if low <= level <= high
        ]
        if rivals:
            shape, own = view.image.shape, view.own(positive=positive)
            found &= distance_mm(mask_of(own, shape), view.spacing) <= distance_mm(mask_of(rivals, shape), view.spacing)
        return found


def _open_ended(low: float | None, high: float | None) -> tuple[float, float]:
    low, high = -math.inf if low is None else float(low), math.inf if high is None else float(high)
    if not low <= high:
        raise InputError(
            f"No intensity lies between {low:g} and {high:g}.", advice="Give a lower limit below the upper one."
        )
    return low, high


class SmoothTool(StatelessTool):
    """Smooths the segment around a prompt; its sign says nothing, and the marked voxels need not become anything.

    The segment (1) and what is beside it (0) go through a Gaussian whose full width at half maximum is ``kernel_mm``,
    along every axis in mm, and what is above 0.5 is the segment. So a straight rod (a spike or a channel) vanishes just
    when it is thinner than that: the middle of one of diameter d has 1 - exp(-d² / 8σ²). A plane stays, and a ball of
    radius r loses about σ² / r of it.

    Parameters
    ----------
    volume
        Its grid counts alone.
    kernel_mm
        See above.
    region_mm
        Edge of the box around a prompt that is smoothed; a positive box is the region itself.
    """

    marks_bind = False

    def __init__(self, volume: Volume, kernel_mm: float = SMOOTH_MM, region_mm: float | None = None) -> None:
        self._geometry, self._sigma = volume.geometry, kernel_mm / _FWHM
        self._edge_mm = region_mm or REGION_MM

    def propose(self, mask: np.ndarray, marks: Sequence[Mark]) -> tuple[Region, np.ndarray]:
        """See :class:`~medseg.correction.session.Tool`."""
        import SimpleITK as sitk

        region = region_of(marks[-1], self._geometry, self._edge_mm)
        # What is beside the region counts, or the segment would be flattened at its border.
        corners = np.array([region.start, np.subtract(region.stop, 1)])
        around = Region.around(corners, self._geometry, 4 * self._sigma)
        image = sitk_image(mask[around.slices].astype(np.float32), np.asarray(self._geometry.spacing[::-1]))
        # Beyond the border of the volume the segment goes on: it is not rounded off where the scan ends.
        soft = sitk.GetArrayFromImage(sitk.DiscreteGaussian(image, self._sigma**2, 128, 0.001, True))
        inner = np.subtract(region.start, around.start)
        part = soft[tuple(slice(at, at + size) for at, size in zip(inner, region.shape, strict=True))]
        # A half is for what was there: nothing moves without a reason.
        return region, np.where(np.abs(part - 0.5) < 1e-6, mask[region.slices], part > 0.5)
