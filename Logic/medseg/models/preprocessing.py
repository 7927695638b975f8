"""How images become the input of a network: the grid, the intensities, and the window that slides over them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from medseg.errors import InputError
from medseg.models.intensity import IntensityStep, apply_steps

BLENDS = ("gaussian", "constant", "nnunet")
PLACEMENTS = ("monai", "nnunet")
"""How windows are weighted and placed: as MONAI's ``SlidingWindowInferer`` does it, or as nnU-Net's predictor."""

_AXIS_PAIRS = ("LR", "PA", "IS")


@dataclass(frozen=True)
class FitInPlane:
    """Show the network the box of the body in the plane of i and j, stretched to a fixed number of voxels.

    The box holds every voxel above the threshold, over all slices; the stretch differs from image to image and between
    i and j. Melander and Thånell 2024 (master's thesis 2024:E46), preprocessing; that the box is not cut along k is our
    choice, as is the whole plane where nothing is above the threshold.

    Attributes
    ----------
    size
        Voxels along i and j of the network's orientation.
    threshold
        In the unit of the image; -200 HU in the thesis.
    largest_component
        Take only the largest connected part above the threshold, which leaves out the couch (not in the thesis).

    Raises
    ------
    InputError
        When the size is not two numbers from 1 to 4096 or the threshold is not finite.
    """

    size: tuple[int, int]
    threshold: float = -200.0
    largest_component: bool = False

    def __post_init__(self) -> None:
        if len(self.size) != 2 or not all(isinstance(size, int) and 1 <= size <= 4096 for size in self.size):
            raise InputError(
                f"The in-plane size {self.size} of the model is not two sizes from 1 to 4096 voxels.",
                advice="Correct the model.",
            )
        if not math.isfinite(self.threshold):
            raise InputError(
                f"The body threshold {self.threshold} of the model is not a finite number.", advice="Correct the model."
            )


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of the network, in this order.

    Attributes
    ----------
    orientation
        Letters of the i, j, k axes, the direction in which the index increases ("RAS").
    spacing
        Voxel size along i, j, k of that orientation in mm; ``None`` keeps the image's own. Linear interpolation.
    intensity
        Steps that follow the resampling.
    fit_in_plane
        When given, what decides the field of view and the voxel size along i and j, whose ``spacing`` is then ``None``.

    Raises
    ------
    InputError
        When the orientation does not name three axes, a spacing is not positive, or i or j has both a spacing and a
        fixed number of voxels.
    """

    orientation: str = "RAS"
    spacing: tuple[float | None, float | None, float | None] = (None, None, None)
    intensity: tuple[IntensityStep, ...] = ()
    fit_in_plane: FitInPlane | None = None

    def __post_init__(self) -> None:
        pairs = sorted(next((pair for pair in _AXIS_PAIRS if letter in pair), "") for letter in self.orientation)
        if pairs != sorted(_AXIS_PAIRS):
            raise InputError(
                f"'{self.orientation}' is not an orientation.",
                advice="Name each of left/right, posterior/anterior and inferior/superior once, such as RAS.",
            )
        if len(self.spacing) != 3 or any(size is not None and not 0.01 <= size <= 100 for size in self.spacing):
            raise InputError(
                f"The spacing {self.spacing} of the model is not three sizes from 0.01 to 100 mm.",
                advice="Correct the model.",
            )
        if self.fit_in_plane is not None and self.spacing[:2] != (None, None):
            raise InputError(
                "The model gives the plane both a spacing and a fixed number of voxels.",
                advice="Leave the first two spacings open (null) with fit_in_plane.",
            )

    def apply_intensity(self, array: Any) -> Any:
        """Return ``array`` (any axis order) as a new float32 array after the intensity steps."""
        return apply_steps(self.intensity, array)


@dataclass(frozen=True)
class Window:
    """The sliding window: size in voxels along i, j, k, overlap as a part of the size (0 to 0.95), blending, placement.

    The axes are those of the network's grid.
    """

    size_ijk: tuple[int, int, int]
    overlap: float = 0.5
    blend: str = "gaussian"
    placement: str = "monai"

    @property
    def half_precision(self) -> bool:
        """Whether blended scores are 16-bit numbers, as nnU-Net's predictor keeps them."""
        return self.blend == "nnunet"

    def __post_init__(self) -> None:
        if len(self.size_ijk) != 3 or not all(isinstance(size, int) and 1 <= size <= 4096 for size in self.size_ijk):
            raise InputError(
                f"The window {self.size_ijk} is not three sizes from 1 to 4096 voxels.", advice="Correct the model."
            )
        if not 0 <= self.overlap <= 0.95 or self.blend not in BLENDS or self.placement not in PLACEMENTS:
            raise InputError(
                f"The window overlap {self.overlap}, blending '{self.blend}' or placement '{self.placement}' is not one"
                " that MedSeg knows.",
                advice=f"Use an overlap from 0 to 0.95, {' or '.join(BLENDS)}, and {' or '.join(PLACEMENTS)}.",
            )
