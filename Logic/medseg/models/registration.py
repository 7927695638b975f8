"""How a network that registers is run: the section ``registration`` of a package, as data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError, ModelError
from medseg.models.intensity import ScalePercentiles
from medseg.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from medseg.models.fields import Fields
    from medseg.models.intensity import IntensityStep

REGISTER = "register"
"""The verb of a package with this section."""

PERCENTILES = (0.1, 99.9)
"""Of each volume, what becomes 0 and 1 unless a package says otherwise (our choice)."""

_LARGEST_MULTIPLE = 1024


@dataclass(frozen=True)
class Registration:
    """What a registration network needs beside its weights.

    Attributes
    ----------
    domain
        Which pairs it was trained for, as a phrase ("MR of the head, any two contrasts").
    multiple
        Sizes of the network's grid must be multiples of this.
    conditional
        Whether the network heeds the smoothness that a user asks for.
    smoothness
        The smoothness, 0 to 1, when the user does not say: for a network that is not conditional the one of its
        training.
    synthetic
        Whether it has never seen a real scan.

    Raises
    ------
    InputError
        When a value is outside its range.
    """

    domain: str
    multiple: int
    conditional: bool = False
    smoothness: float = 0.4
    synthetic: bool = False

    def __post_init__(self) -> None:
        if not self.domain.strip() or not self.domain.isprintable():
            raise InputError(
                "A model that registers does not say which pairs it was trained for.",
                advice="Name them in one line, such as 'MR of the head, any two contrasts'.",
            )
        if not 1 <= self.multiple <= _LARGEST_MULTIPLE:
            raise InputError(
                f"The grid of a model that registers is to be a multiple of {self.multiple}.",
                advice=f"Give a whole number from 1 to {_LARGEST_MULTIPLE}.",
            )
        if not (math.isfinite(self.smoothness) and 0 <= self.smoothness <= 1):
            raise InputError(
                f"The smoothness {self.smoothness} of a model that registers is not from 0 to 1.",
                advice="Give 0 to follow the images, 1 to be stiff.",
            )

    def to_plain(self, preprocessing: Preprocessing) -> dict[str, Any]:
        """Return the section as it goes into ``configs/metadata.json``, with the grid and the intensities."""
        (scale,) = preprocessing.intensity
        assert isinstance(scale, ScalePercentiles)
        return {
            **vars(self),
            "orientation": preprocessing.orientation,
            "spacing": list(preprocessing.spacing),
            "percentiles": [scale.lower, scale.upper],
        }


def registration_preprocessing(
    orientation: str, spacing: tuple[float, float, float], percentiles: tuple[float, float] = PERCENTILES
) -> Preprocessing:
    """Return what becomes of both volumes of a pair: axes, voxels in mm along them, intensities from 0 to 1."""
    steps: tuple[IntensityStep, ...] = (ScalePercentiles(*percentiles, clip=True),)
    return Preprocessing(orientation, spacing, steps)


def check_registration(registration: Registration | None, verb: str, preprocessing: Preprocessing) -> None:
    """Check that a package registers and says how, or does neither.

    Raises
    ------
    ModelError
        When it does one of the two, or its preprocessing is not what pairs are prepared with.
    """
    if (registration is not None) != (verb == REGISTER):
        raise ModelError(
            f"The model has the verb '{verb}' and {'a' if registration else 'no'} section 'registration'.",
            advice="The package contradicts itself; ask its author for a corrected one.",
        )
    if registration is None:
        return
    steps = preprocessing.intensity
    if None in preprocessing.spacing or len(steps) != 1 or not isinstance(steps[0], ScalePercentiles):
        raise ModelError(
            "A model that registers must have a voxel size along all axes and scale intensities by percentiles.",
            advice="Correct the model.",
        )


def read_registration(medseg: Fields) -> tuple[Registration, Preprocessing]:
    """Return the section ``registration`` of a package, and the preprocessing that it describes.

    Raises
    ------
    ModelError, InputError
        When the section or a field is missing, of a wrong type or out of range.
    """
    section = medseg.object("registration")
    registration = Registration(
        domain=section.text("domain", limit=300),
        multiple=section.whole("multiple", low=1, high=_LARGEST_MULTIPLE),
        conditional=section.flag("conditional", default=False),
        smoothness=section.number("smoothness", 0.4, low=0.0, high=1.0),
        synthetic=section.flag("synthetic", default=False),
    )
    spacing = section.triple("spacing", low=0.01, high=100)
    if spacing is None:
        raise section.fail("spacing", "a list of three numbers")
    limits = section.data.get("percentiles", list(PERCENTILES))
    if not isinstance(limits, list) or len(limits) != 2 or not all(is_percentile(value) for value in limits):
        raise section.fail("percentiles", "two numbers from 0 to 100")
    lower, upper = (float(value) for value in limits)
    return registration, registration_preprocessing(section.text("orientation", limit=3), spacing, (lower, upper))


def is_percentile(value: object) -> bool:
    """Say whether ``value`` is a number from 0 to 100."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 100
