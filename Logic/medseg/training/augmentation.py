"""Random training patches: one interpolation for crop, affine and elastic change, then MONAI's intensity changes.

Doing the spatial changes in a single resampling of the whole volume costs less than cropping first, blurs once instead
of twice and leaves no empty corners inside the patch where the volume goes on.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import monai.transforms as mt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medseg.training.data import owners_of, within_owner
from medseg.training.elastic_affine import drawn_change

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.training.data import PreparedCase
    from medseg.training.recipe import AugmentationSection, WindowSection

# Control points of the elastic change per axis: bumps of about a quarter of the window, the size of organ variation.
_CONTROL_POINTS = 5

# Above this many labels in a case they are sampled by the nearest neighbour: the smooth way costs one pass for each.
_MOST_SMOOTH_CLASSES = 16


class PatchSampler:
    """Draws augmented patches of the window's size.

    Parameters
    ----------
    window, augmentation
        Sections of the recipe.
    foreground_patches
        Share of patches centred on a labelled voxel; the label is drawn first, so small ones are met as often as large.
    slice_groups
        Axis (0, 1, 2 for I, J, K) and size of groups of slices: patches begin at whole groups, and along this axis
        nothing is scaled or moved.
    """

    def __init__(
        self,
        window: WindowSection,
        augmentation: AugmentationSection,
        foreground_patches: float,
        slice_groups: tuple[int, int] | None = None,
    ) -> None:
        self._groups = slice_groups
        self._size = torch.tensor(window.size)
        self._settings = augmentation
        self._foreground_patches = foreground_patches
        self._intensity = _intensity_transforms(augmentation)

    def draw(self, case: PreparedCase, seed: int) -> dict[str, Tensor]:
        """Return a patch; the same seed, the same patch.

        Returns
        -------
        dict[str, Tensor]
            A :class:`~medseg.training.objectives.Batch` without its batch axis.
        """
        generator = torch.Generator().manual_seed(seed)
        coordinates, flips = self._coordinates(case, generator)
        box = self._box_around(coordinates, case.label.shape)
        label = case.label[box]
        # One grid for all: where a patch lies half-way between voxels, rounding decides what they are.
        grid = _grid_of(coordinates - torch.tensor([part.start for part in box]), label.shape)
        outside = self._settings.outside
        i, j, k = box
        image = case.image[:, i, j, k][None]
        image = F.grid_sample(image, grid, mode="bilinear", padding_mode=outside, align_corners=True)[0]
        swaps = self._settings.swap_on_flip if flips % 2 else ()
        unswapped = self._sample_label(label, grid)
        classes = _swapped(unswapped, swaps)
        if case.instances is None:
            instances = torch.zeros(classes.shape, dtype=torch.int16)
        else:
            numbers = case.instances[box]
            instances = within_owner(_nearest(numbers, grid, outside), owners_of(numbers, label), unswapped)
        self._intensity.set_random_state(seed % 2**32)
        changed = self._intensity(image)
        # A plain tensor: MONAI's MetaTensor would send every operation of the network through Python once more.
        plain = changed.as_tensor().to(torch.float32) if hasattr(changed, "as_tensor") else changed
        annotated = case.annotated.clone()
        for first, second in swaps:
            annotated[[first, second]] = case.annotated[[second, first]]
        return {
            "image": plain,
            "classes": classes,
            "annotated": annotated,
            "instances": instances,
            "spacing": torch.tensor(case.spacing),
        }

    def _box_around(self, coordinates: Tensor, shape: Sequence[int]) -> tuple[slice, slice, slice]:
        """Return the part of the case that the patch needs; labels are gone through once for each value."""
        low, high = coordinates.flatten(0, 2).amin(0).floor() - 1, coordinates.flatten(0, 2).amax(0).ceil() + 2
        last = torch.tensor(shape, dtype=torch.float32)
        if self._settings.outside == "reflection" and bool(((low < 0) | (high > last)).any()):
            return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])
        # Two voxels at least: on an axis of one, every coordinate means that one, also those beyond the scan.
        start = torch.minimum(low, last - 2).clamp(min=0)
        stop = torch.minimum(torch.maximum(high, start + 2), last)
        i, j, k = (slice(int(first), int(end)) for first, end in zip(start, stop, strict=True))
        return i, j, k

    def _sample_label(self, label: Tensor, grid: Tensor) -> Tensor:
        present = [value for value in label.unique().tolist() if value]
        if len(present) > _MOST_SMOOTH_CLASSES:
            return _nearest(label, grid, self._settings.outside)
        best, share = torch.zeros(grid.shape[1:4], dtype=torch.uint8), torch.full(grid.shape[1:4], 0.5)
        for index in present:
            mask = (label == index).to(torch.float32)[None, None]
            value = F.grid_sample(mask, grid, mode="bilinear", padding_mode=self._settings.outside, align_corners=True)[
                0, 0
            ]
            wins = value > share
            best[wins] = index
            share[wins] = value[wins]
        return best

    def _coordinates(self, case: PreparedCase, generator: torch.Generator) -> tuple[Tensor, int]:
        """Return (I, J, K, 3) coordinates in the case's voxels, one for each voxel of the patch, and how many flips."""
        settings, size = self._settings, self._size

        def uniform(low: float, high: float) -> float:
            return low + (high - low) * float(torch.rand((), generator=generator))

        spacing = torch.tensor(case.spacing, dtype=torch.float32)
        axes = [torch.arange(int(n), dtype=torch.float32) - (int(n) - 1) / 2 for n in size]
        offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        centre = self._centre(case, generator)
        if settings.elastic_affine is not None:
            offsets = drawn_change(offsets, settings.elastic_affine, generator)
        elif uniform(0, 1) < settings.affine_probability:
            angles = [math.radians(uniform(-limit, limit)) for limit in settings.rotation_degrees]
            factors = [uniform(1 - settings.scale, 1 + settings.scale) for _ in range(3)]
            if not settings.anisotropic_scale:
                factors = [factors[0]] * 3
            shift = torch.tensor([uniform(-1, 1) for _ in range(3)]) * settings.translation_mm / spacing
            if self._groups is not None:
                factors[self._groups[0]], shift[self._groups[0]] = 1.0, 0.0
            # Rotation happens in millimetres: a rotation of anisotropic voxels would shear the anatomy.
            in_mm = _rotation(angles) @ torch.diag(torch.tensor(factors))
            matrix = torch.diag(1 / spacing) @ in_mm @ torch.diag(spacing)
            offsets = offsets @ matrix.T
            centre = centre + shift
        flips = 0
        for axis in settings.flip_axes:
            if uniform(0, 1) < 0.5:
                flips += 1
                offsets[..., axis] = -offsets[..., axis]
        if settings.elastic_affine is None and uniform(0, 1) < settings.elastic_probability:
            control = torch.randn((1, 3, *[_CONTROL_POINTS] * 3), generator=generator) * settings.elastic_mm / 2
            smooth = F.interpolate(control, size=tuple(size.tolist()), mode="trilinear", align_corners=True)[0]
            offsets = offsets + smooth.movedim(0, -1) / spacing
        return offsets + centre, flips

    def _centre(self, case: PreparedCase, generator: torch.Generator) -> Tensor:
        centre = self._any_centre(case, generator)
        if self._groups is not None:
            axis, size = self._groups
            half = (float(self._size[axis]) - 1) / 2
            centre[axis] = torch.round((centre[axis] - half) / size) * size + half
        return centre

    def _any_centre(self, case: PreparedCase, generator: torch.Generator) -> Tensor:
        extent = torch.tensor(case.label.shape, dtype=torch.float32)
        half = (self._size.to(torch.float32) - 1) / 2
        low = torch.minimum(half, (extent - 1) / 2)
        high = torch.maximum(extent - 1 - half, (extent - 1) / 2)
        if len(case.foreground) and float(torch.rand((), generator=generator)) < self._foreground_patches:
            voxels = case.foreground[int(torch.randint(len(case.foreground), (), generator=generator))]
            voxel = voxels[int(torch.randint(len(voxels), (), generator=generator))]
            return torch.minimum(torch.maximum(voxel.to(torch.float32), low), high)
        return low + (high - low) * torch.rand(3, generator=generator)


def _grid_of(coordinates: Tensor, shape: Sequence[int]) -> Tensor:
    """Return voxel coordinates as ``grid_sample`` wants them: (x, y, z) = (K, J, I), -1 .. 1 over the voxel centres."""
    extent = torch.tensor(shape, dtype=torch.float32)
    return (2 * coordinates / (extent - 1).clamp(min=1) - 1).flip(-1)[None]


def _nearest(numbers: Tensor, grid: Tensor, outside: str) -> Tensor:
    found = F.grid_sample(
        numbers.to(torch.float32)[None, None], grid, mode="nearest", padding_mode=outside, align_corners=True
    )
    return found[0, 0].to(numbers.dtype)


def _swapped(classes: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    if not pairs:
        return classes
    swapped = classes.clone()
    for first, second in pairs:
        swapped[classes == first] = second
        swapped[classes == second] = first
    return swapped


def _rotation(angles: list[float]) -> Tensor:
    matrix = torch.eye(3)
    for axis, angle in enumerate(angles):
        first, second = [(1, 2), (0, 2), (0, 1)][axis]
        turn = torch.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    return matrix


def _intensity_transforms(settings: AugmentationSection) -> mt.Compose:
    low, high = settings.gamma
    steps = [
        _noise(settings),
        mt.RandGaussianSmooth(
            prob=settings.smooth_probability, sigma_x=(0.3, 1.0), sigma_y=(0.3, 1.0), sigma_z=(0.3, 1.0)
        ),
        mt.RandBiasField(prob=settings.bias_probability, degree=2, coeff_range=(-0.25, 0.25)),
        mt.RandScaleIntensity(factors=settings.intensity_scale, prob=0.5),
        mt.RandShiftIntensity(offsets=settings.intensity_shift, prob=0.5),
        mt.RandAdjustContrast(
            prob=settings.gamma_probability, gamma=(low, high), retain_stats=settings.gamma_keeps_moments
        ),
        mt.RandSimulateLowResolution(prob=settings.low_resolution_probability, zoom_range=(0.5, 1.0)),
    ]
    if settings.histogram_shift_probability:
        # Last, and only where it is asked for: every step draws from a state that depends on its place.
        steps.append(
            mt.RandHistogramShift(settings.histogram_control_points, prob=settings.histogram_shift_probability)
        )
    return mt.Compose(steps)


def _noise(settings: AugmentationSection) -> mt.RandGaussianNoise:
    if settings.noise_random_std:
        return mt.RandGaussianNoise(prob=settings.noise_probability, std=settings.noise_std)
    return mt.RandGaussianNoise(prob=settings.noise_probability, std=settings.noise_std, sample_std=False)
