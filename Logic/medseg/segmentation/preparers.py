"""How a model's images become its network's input, and its scores labels on their grid: one interface for all kinds.

The pipeline asks a :class:`Preparer` and knows no kind of model. A kind of model that prepares images in a way of its
own describes it in its package (:attr:`ModelPackage.preparation`), and has a preparer here that does it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from medseg.segmentation.grids import sampling_between
from medseg.segmentation.preprocess import network_geometry, shown_geometry, to_network_grid, upright_geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from medseg.models.package import ModelPackage
    from medseg.progress import Progress
    from medseg.segmentation.grids import AxisSampling
    from medseg.volumes import Geometry, Volume

Sampling = tuple["AxisSampling", "AxisSampling", "AxisSampling"]


class Preparer(Protocol):
    """Prepares the images of one model. Grids follow from grids: the cost of a run is known before its voxels are.

    Three grids share their axes, which are those of the network, i, j, k: the *whole* image; the part of its voxels
    that is *shown* to the network, outside of which all is background; and the network's own grid over that part.
    """

    def whole(self, source: Geometry) -> Geometry:
        """Return the grid of an image in the order of the network's axes: its own voxels, unless it is sheared."""

    def shown(self, volumes: Sequence[Volume]) -> Geometry:
        """Return the part of the first volume's whole grid that the network is shown."""

    def grid(self, shown: Geometry) -> Geometry:
        """Return the network's grid over what is shown."""

    def sampling(self, grid: Geometry, shown: Geometry) -> Sampling:
        """Return for the axes i, j, k how scores on the network's grid are interpolated onto the shown part."""

    def image(
        self, volumes: Sequence[Volume], shown: Geometry, first_stage: Volume | None, progress: Progress
    ) -> torch.Tensor:
        """Return the network's input, float32 (C, I, J, K), on its grid.

        Parameters
        ----------
        volumes
            One for each input of the model; those on another grid than the first are resampled onto it. Not changed.
        first_stage
            The labels of the model's first stage on the grid of the first volume, when it has one.
        progress
            Asked to stop between slices.
        """

    def image_bytes(self, size: Sequence[int], geometry: Geometry) -> int:
        """Return the bytes that input (of ``size`` voxels) and labels of an image on ``geometry`` take at most."""


def preparer_of(package: ModelPackage) -> Preparer:
    """Return what prepares the images of ``package``."""
    if package.preparation is not None:
        from medseg.segmentation.nnunet_images import NnunetPreparer

        return NnunetPreparer(package.preparation)
    return GridPreparer(package)


def placed(volume: Volume, first: Geometry) -> Volume:
    """Return ``volume`` on the grid of the first: itself, or resampled linearly with its least value outside."""
    if volume.geometry.is_close(first):
        return volume
    return volume.resample(first, interpolation="linear", fill=float(volume.array.min()))


class GridPreparer:
    """Does what a package's ``preprocessing`` describes: orientation, spacing, then intensities, each image alone."""

    def __init__(self, package: ModelPackage) -> None:
        self._preprocessing = package.preprocessing
        self._inputs = len(package.inputs)

    def whole(self, source: Geometry) -> Geometry:
        """See :class:`Preparer`."""
        return upright_geometry(source).reoriented(self._preprocessing.orientation)

    def shown(self, volumes: Sequence[Volume]) -> Geometry:
        """See :class:`Preparer`."""
        return shown_geometry(volumes[0], self._preprocessing)

    def grid(self, shown: Geometry) -> Geometry:
        """See :class:`Preparer`."""
        return network_geometry(shown, self._preprocessing)

    def sampling(self, grid: Geometry, shown: Geometry) -> Sampling:
        """See :class:`Preparer`."""
        return sampling_between(grid, shown)

    def image(
        self, volumes: Sequence[Volume], shown: Geometry, _first_stage: Volume | None, progress: Progress
    ) -> torch.Tensor:
        """See :class:`Preparer`."""
        import torch

        first = volumes[0].geometry
        tensor: torch.Tensor | None = None
        for channel, volume in enumerate(volumes):
            progress.check()
            one = volume if channel == 0 else placed(volume, first)
            prepared = to_network_grid(one, self._preprocessing, shown=shown, progress=progress)
            here = torch.from_numpy(prepared.array).permute(2, 1, 0)
            if len(volumes) == 1:
                return here[None]
            if tensor is None:
                tensor = torch.empty((len(volumes), *prepared.array.shape)).permute(0, 3, 2, 1)
            tensor[channel] = here
        assert tensor is not None
        return tensor

    def image_bytes(self, size: Sequence[int], geometry: Geometry) -> int:
        """See :class:`Preparer`: float32 inputs, and labels in two orientations."""
        return 4 * self._inputs * math.prod(size) + 2 * math.prod(geometry.shape)
