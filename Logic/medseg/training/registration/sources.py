"""Where the pairs of a registration recipe come from, as sections of the recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from medseg.training.section import Section
from medseg.training.synthesis import ShapeSection
from medseg.training.synthesis.painting import Tissue

_Code = Annotated[int, Field(ge=1)]
_Share = Annotated[float, Field(gt=0, allow_inf_nan=False)]
TissueName = Literal["air", "fat", "fluid", "soft", "bone"]


class LabelMapsSource(Section):
    """Pairs painted on label maps of real anatomy, of one subject or of two.

    ``labels`` is the name of the files with ``{case}`` in place of the name of the case, in the folder that ``--data``
    names or in ``folder`` (relative to the recipe). ``keep_aside`` cases, drawn with the recipe's seed, are never
    trained on.

    ``outside`` lists the labels that skull-stripping takes away, ``ignore`` those that become background. ``scored``
    are the labels whose overlap is trained and measured; without it, those of the recipe's label table, or all that are
    not outside. ``alike`` lists groups of labels that always get the same paint, such as the two sides of the brain.
    ``tissues`` says which labels are air, fat, fluid or bone for the contrast of CT; the others are soft tissue.

    Of all pairs, a source makes its ``share`` over the sum of the shares.
    """

    kind: Literal["label_maps"]
    share: _Share = 1.0
    folder: str | None = None
    labels: str = "{case}.nii.gz"
    keep_aside: Annotated[int, Field(ge=0)] = 2
    ignore: tuple[_Code, ...] = ()
    outside: tuple[_Code, ...] = ()
    scored: tuple[_Code, ...] | None = None
    alike: tuple[Annotated[tuple[_Code, ...], Field(min_length=2)], ...] = ()
    tissues: dict[TissueName, tuple[_Code, ...]] = Field(default_factory=dict)

    @field_validator("labels")
    @classmethod
    def _has_case(cls, pattern: str) -> str:
        if pattern.count("{case}") != 1:
            raise ValueError("must hold {case} exactly once, for example '{case}.nii.gz'")
        return pattern

    @model_validator(mode="after")
    def _each_once(self) -> LabelMapsSource:
        for name, groups in (("alike", self.alike), ("tissues", tuple(self.tissues.values()))):
            codes = [code for group in groups for code in group]
            if len(set(codes)) < len(codes):
                raise ValueError(f"{name} names a label twice")
        both = sorted({*(self.scored or ())} & {*self.outside, *self.ignore})
        if both:
            raise ValueError(f"scored names labels that are outside or ignored: {both}")
        return self

    def tissue_of(self, code: int) -> Tissue:
        """Return what a label is in CT; the background is air."""
        if code == 0:
            return Tissue.AIR
        named = next((name for name, codes in self.tissues.items() if code in codes), "soft")
        return Tissue[named.upper()]


class ShapesSource(ShapeSection):
    """Pairs painted on random smooth shapes; ``share`` as for label maps."""

    kind: Literal["shapes"]
    share: _Share = 1.0


class TableSource(Section):
    """Real pairs, aligned already, with or without label maps.

    ``csv`` (relative to the recipe, or what ``--data`` names) is a table with the columns ``fixed`` and ``moving``, and
    if you like ``fixed_label``, ``moving_label``, ``case`` and ``split`` ("training" or "validation"); paths are
    relative to it. Without a split, every ``folds``-th pair is kept aside; with ``folds`` 1 none.

    ``scored`` are the labels whose overlap is trained and measured, as for label maps. ``flips`` mirrors both volumes
    of a pair along axes of I, J, K, each with probability 1/2.
    """

    kind: Literal["pairs"]
    share: _Share = 1.0
    csv: str | None = None
    folds: Annotated[int, Field(ge=1)] = 5
    scored: tuple[_Code, ...] | None = None
    flips: tuple[Annotated[int, Field(ge=0, le=2)], ...] = ()


AnySource = Annotated[LabelMapsSource | ShapesSource | TableSource, Field(discriminator="kind")]
