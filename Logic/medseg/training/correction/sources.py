"""Where the samples of a correction recipe come from, as sections of the recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from medseg.training.section import Section
from medseg.training.synthesis import PaintingSection, ShapeSection

_Value = Annotated[int, Field(ge=1)]
_Share = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Probability = Annotated[float, Field(ge=0, le=1)]


class LabelledSource(Section):
    """Files with labels, every one a structure to click at, whatever it is.

    They lie in ``folder``, which lies in the folder that ``--data`` names. ``keep_aside`` cases, drawn with the
    recipe's seed, are never trained on. ``hold_out`` lists labels that are never trained on in any case, so that there
    are structures which the network has never seen; ``ignore`` those that are no structures. ``names`` tells what the
    labels are.
    """

    share: _Share = 1.0
    folder: str = "."
    keep_aside: Annotated[int, Field(ge=0)] = 4
    hold_out: tuple[_Value, ...] = ()
    ignore: tuple[_Value, ...] = ()
    names: dict[_Value, Annotated[str, Field(min_length=1, max_length=80)]] = Field(default_factory=dict)

    @field_validator("image", "label", "labels", check_fields=False)
    @classmethod
    def _has_case(cls, pattern: str) -> str:
        if pattern.count("{case}") != 1:
            raise ValueError("must hold {case} exactly once, for example '{case}.nii.gz'")
        return pattern

    @field_validator("folder")
    @classmethod
    def _stays_inside(cls, folder: str) -> str:
        if folder.startswith(("/", "\\")) or ".." in folder.replace("\\", "/").split("/"):
            raise ValueError("must lie in the folder of the data")
        return folder

    @model_validator(mode="after")
    def _not_both(self) -> LabelledSource:
        both = sorted({*self.hold_out} & {*self.ignore})
        if both:
            raise ValueError(f"hold_out names labels that are ignored: {both}")
        return self

    def name_of(self, value: int) -> str:
        """Return what a label is called."""
        return self.names.get(value, f"{self.folder} {value}")


class ScansSource(LabelledSource):
    """Labelled scans.

    ``image`` and ``label`` are the names of the files with ``{case}`` in place of the name of the case; the rest is as
    for all labels (:class:`LabelledSource`).
    """

    kind: Literal["scans"]
    image: str = "{case}.nii.gz"
    label: str = "{case}_label.nii.gz"

    @property
    def pattern(self) -> str:
        """The names of the files that hold the labels."""
        return self.label

    @property
    def about(self) -> str:
        """What its samples are, in a phrase."""
        return f"structures of {self.folder}"


class LabelMapsSource(LabelledSource):
    """Label maps without scans, on which images are painted as for registration, anew for every sample.

    ``labels`` is the name of the files with ``{case}`` in place of the name of the case; the rest is as for all labels
    (:class:`LabelledSource`). Labels in ``ignore`` are painted like the others.

    The maps are brought to voxels of ``spacing`` mm. Images have voxels of ``voxels_mm`` (from, to), or those of the
    window where these are larger. The maps are read through a smooth deformation of up to ``bend`` times the distance
    of its control points, so that no two samples show the same shape. With the probability ``unions`` a structure and
    one or two of its neighbours get the same paint and are one structure.
    """

    kind: Literal["label_maps"]
    labels: str = "{case}.nii.gz"
    spacing: Annotated[float, Field(ge=0.1, le=20)] = 1.0
    voxels_mm: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (1.0, 2.5)
    bend: Annotated[float, Field(ge=0, le=0.2)] = 0.15
    unions: _Probability = 0.25
    painting: PaintingSection = PaintingSection()

    @field_validator("voxels_mm")
    @classmethod
    def _rising(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if limits[0] > limits[1]:
            raise ValueError("must be the smallest and the largest value, in this order")
        return limits

    @property
    def pattern(self) -> str:
        """The names of the files that hold the labels."""
        return self.labels

    @property
    def about(self) -> str:
        """What its samples are, in a phrase."""
        return f"structures of {self.folder}, label maps that were painted anew each time"


class ShapesSource(Section):
    """Images painted on random smooth shapes, which stand for any structure; none is kept aside."""

    kind: Literal["shapes"]
    share: _Share = 1.0
    spacing: Annotated[float, Field(gt=0)] = 1.5
    shapes: ShapeSection = ShapeSection()
    painting: PaintingSection = PaintingSection()

    @property
    def about(self) -> str:
        """What its samples are, in a phrase."""
        return "random shapes, painted"


AnySource = Annotated[ScansSource | LabelMapsSource | ShapesSource, Field(discriminator="kind")]
