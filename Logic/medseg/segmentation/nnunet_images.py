"""Images as nnU-Net v2 prepares them: crop to the body, normalise, resample; and the way back of its scores.

Source: F. Isensee et al., "nnU-Net" (Nature Methods 2021), and what its version 2 does, which this equals to within
rounding of 32-bit numbers. All channels are cropped to the box of the voxels that are not 0 in one of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import InputError
from medseg.models.intensity import moments
from medseg.models.nnunet.preparation import SMALLEST_DIVISOR
from medseg.segmentation.grids import AxisSampling, sampling_between
from medseg.segmentation.preparers import placed
from medseg.segmentation.preprocess import box_within, upright, upright_geometry
from medseg.segmentation.splines import resize

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from medseg.models.nnunet.preparation import NnunetPreparation, Normalisation, Resampling
    from medseg.progress import Progress
    from medseg.segmentation.preparers import Sampling
    from medseg.volumes import Geometry, Volume

_OUTSIDE = -1
"""What nnU-Net's label maps have outside of the body."""


class NnunetPreparer:
    """Prepares images as a :class:`NnunetPreparation` says; see :class:`medseg.segmentation.preparers.Preparer`."""

    def __init__(self, preparation: NnunetPreparation) -> None:
        self._preparation = preparation

    def whole(self, source: Geometry) -> Geometry:
        """Return the grid with its axes permuted; flipped only where the model takes images in RAS."""
        straight = upright_geometry(source)
        return straight.reoriented(self._orientation(straight))

    def shown(self, volumes: Sequence[Volume]) -> Geometry:
        """Return the box of the voxels that are not 0 in one of the volumes; all when there is none."""
        whole = self.whole(volumes[0].geometry)
        body = self._body(volumes)
        start, stop = [], []
        for axis in range(3):
            filled = np.flatnonzero(body.any(axis=tuple(other for other in range(3) if other != axis)))
            start.append(int(filled[0]) if filled.size else 0)
            stop.append(int(filled[-1]) + 1 if filled.size else body.shape[axis])
        return whole.cropped(start[::-1], stop[::-1])

    def grid(self, shown: Geometry) -> Geometry:
        """Return the grid over the same field of view with size times spacing over the new spacing voxels, rounded."""
        if self._preparation.images.keep:
            return shown
        size = [
            max(round(step / new * count), 1)
            for step, new, count in zip(shown.spacing, self._spacing(shown), shown.size, strict=True)
        ]
        if tuple(size) == shown.size:
            return shown
        steps = [length / count for length, count in zip(shown.extent_mm, size, strict=True)]
        return shown.with_spacing((steps[0], steps[1], steps[2]))

    def sampling(self, grid: Geometry, shown: Geometry) -> Sampling:
        """Return linear interpolation, or the nearest voxel where the plans ask for it along thick slices."""
        settings = self._preparation.scores
        separate = settings.separate_axis(self._spacing(shown), shown.spacing)
        orders = [settings.order_z if axis == separate else settings.order for axis in range(3)]
        axes = [
            axis if order == 1 else AxisSampling.nearest(axis.input_size, axis.output_size)
            for axis, order in zip(sampling_between(grid, shown), orders, strict=True)
        ]
        return axes[0], axes[1], axes[2]

    def image(
        self, volumes: Sequence[Volume], shown: Geometry, first_stage: Volume | None, progress: Progress
    ) -> torch.Tensor:
        """Return the channels: the normalised images, then one for each label of the first stage."""
        import torch

        preparation = self._preparation
        whole, size = self.whole(volumes[0].geometry), self.grid(shown).size
        box = _turned(box_within(whole, shown))
        needs_body = preparation.needs_body or first_stage is not None
        body = _filled(self._body(volumes)[box]) if needs_body else None
        labels: np.ndarray | None = None
        if first_stage is not None:
            assert body is not None
            labels = self._array(first_stage)[box].astype(np.int32)
            # What the first stage has found counts as body, in and outside of it.
            body |= labels != 0
            labels[~body] = _OUTSIDE
        values = preparation.first_stage_values
        tensor = torch.empty((len(volumes) + len(values), *size))
        settings, target = preparation.images, self._spacing(shown)
        axis = settings.separate_axis(shown.spacing, target)
        for channel, normalisation in enumerate(preparation.channels):
            progress.check()
            array = self._array(placed(volumes[channel], volumes[0].geometry))[box].astype(np.float32)
            normalise(array, normalisation, body)
            progress.check()
            tensor[channel] = torch.from_numpy(
                resize(
                    array, size, settings.order, separate_axis=axis, order_separate=settings.order_z, progress=progress
                )
            )
        if labels is not None:
            axis = preparation.labels.separate_axis(shown.spacing, target)
            labels = resize_labels(labels, size, preparation.labels, axis, progress)
            for number, value in enumerate(values):
                tensor[len(volumes) + number] = torch.from_numpy(labels == value)
        return tensor

    def image_bytes(self, size: Sequence[int], geometry: Geometry) -> int:
        """Return the bytes of the input, with one channel before and during resampling and the body."""
        channels = len(self._preparation.channels) + len(self._preparation.first_stage_values)
        voxels = math.prod(geometry.shape)
        return 4 * channels * math.prod(size) + max(9 * voxels, 4 * math.prod(size))

    def _spacing(self, shown: Geometry) -> tuple[float, ...]:
        return tuple(
            own if asked is None else asked for asked, own in zip(self._preparation.spacing, shown.spacing, strict=True)
        )

    def _orientation(self, geometry: Geometry) -> str:
        letters = "RAS" if self._preparation.canonical else geometry.orientation
        return "".join(letters[2 - axis] for axis in self._preparation.transpose)

    def _array(self, volume: Volume) -> np.ndarray:
        """Return a view of the voxels in the order of the network's axes."""
        straight = upright(volume)
        axes, flips = straight.geometry.axis_changes(self._orientation(straight.geometry))
        turned = straight.array_ijk.transpose(axes)
        return turned[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]

    def _body(self, volumes: Sequence[Volume]) -> np.ndarray:
        """Return where a volume is not 0, in the order of the network's axes."""
        body: np.ndarray | None = None
        for volume in volumes:
            here = self._array(placed(volume, volumes[0].geometry)) != 0
            body = here if body is None else np.logical_or(body, here, out=body)
        assert body is not None
        return body


def normalise(array: np.ndarray, normalisation: Normalisation, body: np.ndarray | None) -> None:
    """Normalise the float32 ``array`` of one channel in place; ``body`` (bool) tells where, when that is asked for.

    Raises
    ------
    InputError
        When a channel of a colour image is outside 0 to 255.
    """
    if normalisation.scheme == "zscore":
        inside = body if normalisation.masked else None
        mean, std = moments(array if inside is None else array[inside])
        where = True if inside is None else inside
        np.subtract(array, np.float32(mean), out=array, where=where)
        np.divide(array, np.float32(max(std, SMALLEST_DIVISOR)), out=array, where=where)
    elif normalisation.scheme == "ct":
        np.clip(array, np.float32(normalisation.low), np.float32(normalisation.high), out=array)
        array -= np.float32(normalisation.mean)
        array /= np.float32(max(normalisation.std, SMALLEST_DIVISOR))
    elif normalisation.scheme == "rescale":
        array -= array.min()
        array /= max(array.max(), np.float32(SMALLEST_DIVISOR))
    elif normalisation.scheme == "rgb":
        low, high = float(array.min()), float(array.max())
        if low < 0 or high > 255:
            raise InputError(
                f"The model takes colours from 0 to 255, and the image has values from {low:g} to {high:g}.",
                advice="Give the red, green and blue channels of a colour image, each as a volume.",
            )
        array /= np.float32(255.0)


def resize_labels(
    labels: np.ndarray, shape: Sequence[int], settings: Resampling, separate_axis: int | None, progress: Progress
) -> np.ndarray:
    """Return integer ``labels`` resampled to ``shape``: each voxel gets the label that is most there.

    Of labels that are there equally, it gets that of the nearest voxel, and the least one when that is not among them.
    """
    if tuple(shape) == labels.shape:
        return labels
    first = tuple(shape)
    if separate_axis is not None:
        kept = list(shape)
        kept[separate_axis] = labels.shape[separate_axis]
        first = tuple(kept)
    labels = _by_share(labels, first, settings.order, progress)
    if first != tuple(shape):
        labels = resize(labels.astype(np.float32), shape, settings.order_z, progress=progress).astype(labels.dtype)
    return labels


def _by_share(labels: np.ndarray, shape: tuple[int, ...], order: int, progress: Progress) -> np.ndarray:
    if shape == labels.shape:
        return labels
    nearest = resize(labels.astype(np.float32), shape, 0, progress=progress).astype(labels.dtype)
    if order == 0:
        return nearest
    best: np.ndarray | None = None
    won = np.empty(shape, labels.dtype)
    for value in np.unique(labels):
        share = resize((labels == value).astype(np.float32), shape, order, progress=progress)
        if best is None:
            best = share
            won[:] = value
            continue
        better = (share > best) | ((share == best) & (nearest == value))
        won[better] = value
        np.maximum(best, share, out=best)
    return won


def _filled(body: np.ndarray) -> np.ndarray:
    """Return the body with its holes filled: what the outside does not reach through the faces of voxels."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(body).view(np.uint8))
    filled = sitk.BinaryFillhole(image, True, 1)
    return sitk.GetArrayFromImage(filled).astype(bool)


def _turned(box: tuple[slice, slice, slice]) -> tuple[slice, slice, slice]:
    """Return a box of (k, j, i) in the order (i, j, k)."""
    return box[2], box[1], box[0]
