"""What the marks of prompts say to a tool that looks at intensities: where it works, and how bright what was meant is.

Needs numpy and SimpleITK alone, which every installation has. Not of a paper.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.correction.region import Region
from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.correction.region import Mark
    from medseg.volumes import Geometry, Volume

REGION_MM, MOST_REGION_MM = 30.0, 60.0
"""Edge of the box around a prompt in which voxels may change, when the user chose none, and the most that a tool takes
that chooses it by the segment."""

_PATCH_MM = 1.5
"""How far from a marked voxel it is looked at how bright its tissue is."""
_MANY = 5_000
"""More marked voxels than this tell by themselves how bright their tissue is."""
_LEAST_NOISE = 0.1
_TO_SPREAD = 1.4826
"""A median absolute deviation of a normal distribution, so many times, is its standard deviation."""


def region_of(mark: Mark, geometry: Geometry, edge_mm: float) -> Region:
    """Return where a prompt may change voxels: a positive box itself, else ``edge_mm`` / 2 to each side of the mark.

    Where a box is flat, it reaches as far as another prompt.
    """
    around = Region.around(mark.voxels, geometry, edge_mm / 2)
    return around.framed(mark) if mark.is_frame else around


@dataclass(frozen=True, eq=False)
class View:
    """The part of a volume in which a prompt may change voxels, and what was marked there.

    Attributes
    ----------
    region
        Where it lies.
    image
        (k, j, i) float32; what is not finite has the median of the rest.
    is_known
        (k, j, i) bool, where the intensity is finite.
    spacing
        (3,) float64, mm along (k, j, i).
    positive, negative
        For each mark that reaches into the region, its voxels there (N, 3), counted from the first of the region. A
        frame stands for its middle, and only while it is the last mark: later ones know better.
    """

    region: Region
    image: np.ndarray
    is_known: np.ndarray
    spacing: np.ndarray
    positive: list[np.ndarray]
    negative: list[np.ndarray]

    @classmethod
    def of(cls, volume: Volume, marks: Sequence[Mark], edge_mm: float) -> View:
        """Return what there is to see around the last of the marks.

        Raises
        ------
        InputError
            When no intensity there is finite.
        """
        region = region_of(marks[-1], volume.geometry, edge_mm)
        image = volume.array[region.slices].astype(np.float32)
        is_known = np.isfinite(image)
        if not is_known.any():
            raise InputError(
                "There are no intensities where the prompt lies.", advice="Place it where the volume shows something."
            )
        if not is_known.all():
            image[~is_known] = np.median(image[is_known])
        marked: dict[bool, list[np.ndarray]] = {True: [], False: []}
        for mark in marks:
            # What a box holds is not all of the segment: what it says of intensities is in its middle.
            if mark.is_frame:
                if mark is marks[-1]:
                    marked[True].append(region.local(np.floor(mark.middle + 0.5).astype(np.int64)[None]))
                continue
            voxels = region.local(mark.voxels)
            if len(voxels):
                marked[mark.positive].append(voxels)
        spacing = np.asarray(volume.geometry.spacing[::-1], np.float64)
        return cls(region, image, is_known, spacing, marked[True], marked[False])

    def own(self, *, positive: bool) -> list[np.ndarray]:
        """Return the voxels of the marks that say this, as in :attr:`positive`."""
        return self.positive if positive else self.negative

    @property
    def shell(self) -> np.ndarray:
        """The outermost voxels, (k, j, i) bool, but for directions in which there are no others."""
        shell = np.ones(self.image.shape, bool)
        shell[tuple(slice(1, -1) if size > 2 else slice(None) for size in self.image.shape)] = False
        return shell

    def smoothed(self) -> View:
        """Return it with less noise: after a Gaussian as wide as the shortest edge of a voxel."""
        import SimpleITK as sitk

        image = sitk_image(self.image, self.spacing)
        return replace(self, image=sitk.GetArrayFromImage(sitk.DiscreteGaussian(image, float(self.spacing.min() ** 2))))

    def noise(self) -> float:
        """Return the standard deviation of the noise, from differences of neighbours; edges hardly count.

        It is at least a tenth of that of all intensities: what is less is no difference here.
        """
        axis = int(np.argmin(self.spacing + 1e9 * (np.asarray(self.image.shape) < 2)))
        steps = np.abs(np.diff(self.image, axis=axis))
        found = float(_TO_SPREAD * np.median(steps) / np.sqrt(2)) if steps.size else 0.0
        return max(found, _LEAST_NOISE * float(self.image.std(dtype=np.float64)))

    def levels(self, marked: Sequence[np.ndarray]) -> list[tuple[float, float]]:
        """Return for each mark the median of the intensities of its tissue, and their standard deviation, by medians.

        The tissue of a mark: of the voxels on it and within 1.5 mm (at least one voxel) of it, the half whose
        intensities are the most like those on the mark; so the other side of a border hardly counts.
        """
        found = []
        for voxels in marked:
            own = self.image[tuple(voxels.T)]
            around = self.image[tuple(self._with_neighbours(voxels).T)].astype(np.float64)
            away = np.abs(around - np.median(own))
            like = around[away <= np.median(away)]
            level = float(np.median(like))
            found.append((level, float(_TO_SPREAD * np.median(np.abs(like - level)))))
        return found

    def _with_neighbours(self, voxels: np.ndarray) -> np.ndarray:
        reach = np.floor(_PATCH_MM / self.spacing).astype(np.int64)
        # Thick slices add nothing, coarse voxels their next neighbours.
        reach = np.where(self.spacing <= 1.5 * self.spacing.min(), np.maximum(reach, 1), reach)
        steps = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij"), -1).reshape(-1, 3)
        if len(voxels) > _MANY:
            # A filled area: its own voxels are enough.
            steps = np.zeros((1, 3), np.int64)
        found = np.unique((voxels[:, None] + steps).reshape(-1, 3), axis=0)
        inside = ((found >= 0) & (found < self.image.shape)).all(1)
        found = found[inside]
        known = self.is_known[tuple(found.T)]
        return found[known] if known.any() else found


def sitk_image(array: np.ndarray, spacing: np.ndarray) -> Any:
    """Return a SimpleITK image of an array (k, j, i), whose voxels have a size in mm along (k, j, i)."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array.astype(np.uint8) if array.dtype == bool else array)
    image.SetSpacing([float(size) for size in spacing[::-1]])
    return image


def mask_of(voxels: Sequence[np.ndarray], shape: Sequence[int]) -> np.ndarray:
    """Return where marked voxels lie, bool, (k, j, i)."""
    marked = np.zeros(shape, bool)
    for some in voxels:
        marked[tuple(some.T)] = True
    return marked


def distance_mm(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Return how far the voxels of a grid are from a mask (k, j, i), float32, mm; infinite from an empty one."""
    import SimpleITK as sitk

    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    away = sitk.SignedMaurerDistanceMap(
        sitk_image(mask, spacing), insideIsPositive=False, squaredDistance=False, useImageSpacing=True
    )
    # Voxels of the border of the mask are not quite 0.
    return np.where(mask, np.float32(0), np.maximum(sitk.GetArrayFromImage(away), 0))


def connected(mask: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """Return the pieces (voxels that share a face) of a mask (k, j, i) in which some of the voxels (N, 3) lie."""
    import SimpleITK as sitk

    pieces = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8))))
    met = np.unique(pieces[tuple(voxels.T)])
    return np.isin(pieces, met[met > 0])
