"""Where the samples of a correction recipe come from, as sections of the recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from medseg.training.section import Section
from medseg.training.synthesis import PaintingSection, ShapeSection

_Value = Annotated[int, Field(ge=1)]
_Share = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ScansSource(Section):
    """Labelled scans: every structure of every scan is one to click at, whatever it is.

    ``image`` and ``label`` are the names of the files with ``{case}`` in place of the name of the case, in ``folder``,
    which lies in the folder that ``--data`` names. ``keep_aside`` cases, drawn with the recipe's seed, are never
    trained on. ``hold_out`` lists labels that are never trained on in any scan, so that there are structures which the
    network has never seen; ``ignore`` those that are no structures. ``names`` tells what the labels are.
    """

    kind: Literal["scans"]
    share: _Share = 1.0
    folder: str = "."
    image: str = "{case}.nii.gz"
    label: str = "{case}_label.nii.gz"
    keep_aside: Annotated[int, Field(ge=0)] = 4
    hold_out: tuple[_Value, ...] = ()
    ignore: tuple[_Value, ...] = ()
    names: dict[_Value, Annotated[str, Field(min_length=1, max_length=80)]] = Field(default_factory=dict)

    @field_validator("image", "label")
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
    def _not_both(self) -> ScansSource:
        both = sorted({*self.hold_out} & {*self.ignore})
        if both:
            raise ValueError(f"hold_out names labels that are ignored: {both}")
        return self


class ShapesSource(Section):
    """Images painted on random smooth shapes, which stand for any structure; none is kept aside."""

    kind: Literal["shapes"]
    share: _Share = 1.0
    spacing: Annotated[float, Field(gt=0)] = 1.5
    shapes: ShapeSection = ShapeSection()
    painting: PaintingSection = PaintingSection()


AnySource = Annotated[ScansSource | ShapesSource, Field(discriminator="kind")]
