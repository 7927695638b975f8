"""How the instances of a model's labels are told apart: the section ``instances`` of a package, as data.

After Melander and Thånell, "Vision transformers for segmenting organs and tissues in CT scans of arbitrary imaging
ranges" (Lund 2024): ribs and vertebrae share a label for each side or region, and are separated into single bones, not
numbered anatomically.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError, ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medseg.labels import LabelTable
    from medseg.models.fields import Fields

METHODS = ("embedding", "components")
RULES = ("overwrite", "join")
REMAINDERS = ("remove", "nearest", "keep")
_LARGEST_MM3 = 1e9
_LARGEST_DELTA = 1e6


@dataclass(frozen=True)
class InstanceGroup:
    """One label whose voxels belong to several instances.

    Attributes
    ----------
    label
        Its value in the model's label table.
    method
        "embedding": the network's second output is clustered in every window. "components": what is not connected in
        the finished mask is separate.
    rule
        With "embedding", how windows are put together: "overwrite" (vertebrae) or "join" (ribs); see
        :mod:`medseg.analysis.stitching`.
    delta
        With "embedding", the radius of a cluster.
    connectivity
        With "components": 6 or 26 neighbours.
    minimum_voxels, minimum_mm3
        Smaller instances are removed, the larger of the two thresholds counts; voxels are those of the network's grid.
    remainder
        What becomes of voxels of the label that no instance has in the end (points between two clusters, instances
        that were removed): "remove" them, as in the paper; give them to the "nearest" instance, which the paper names
        as future work; or "keep" them under the label itself.
    name
        What one instance is called ("Thoracic vertebra"); empty: the label's own name.

    Raises
    ------
    InputError
        When a value is outside its range.
    """

    label: int
    method: str = "components"
    rule: str = "overwrite"
    delta: float = 3.0
    connectivity: int = 6
    minimum_voxels: int = 0
    minimum_mm3: float = 0.0
    remainder: str = "remove"
    name: str = ""

    def __post_init__(self) -> None:
        for what, value, known in (
            ("method", self.method, METHODS),
            ("rule", self.rule, RULES),
            ("connectivity", self.connectivity, (6, 26)),
            ("remainder", self.remainder, REMAINDERS),
        ):
            if value not in known:
                raise InputError(
                    f"The {what} of the instances of label {self.label} is {value!r}.",
                    advice=f"Use one of {', '.join(map(str, known))}.",
                )
        if not 0 < self.delta <= _LARGEST_DELTA:
            raise InputError(
                f"The radius delta of the instances of label {self.label} is {self.delta}.",
                advice="Give a positive number; the paper uses 3.",
            )
        if self.minimum_voxels < 0 or not 0 <= self.minimum_mm3 <= _LARGEST_MM3:
            raise InputError(
                f"The minimum size of the instances of label {self.label} is below 0 or not finite.",
                advice="Give 0 to keep all of them.",
            )
        if self.name and not self.name.isprintable():
            raise InputError(
                f"The name of the instances of label {self.label} is not readable.", advice="Use letters and spaces."
            )


@dataclass(frozen=True)
class Instances:
    """What the pipeline does beyond labels: the groups, and the smallest pieces that other labels may have.

    Attributes
    ----------
    groups
        At least one, each of another label.
    minimum_mm3
        By label value (not of a group): smaller connected components are removed, unless they touch the top or the
        bottom slice. In the paper a fifth of the mean volume that the class has in the training set.

    Raises
    ------
    InputError
        When there is no group, two are of one label, or a minimum belongs to a group or is out of range.
    """

    groups: tuple[InstanceGroup, ...]
    minimum_mm3: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = self.values
        if not values or len(set(values)) < len(values):
            raise InputError(
                "The instances of a model name no label, or one twice.", advice="Give each label one group."
            )
        if set(values) & set(self.minimum_mm3):
            raise InputError(
                "A label with instances has a minimum size for its pieces too.",
                advice="Give the minimum size in its group.",
            )
        if not all(math.isfinite(size) and 0 <= size <= _LARGEST_MM3 for size in self.minimum_mm3.values()):
            raise InputError(
                f"A minimum size of a label is not from 0 to {_LARGEST_MM3:g} mm³.", advice="Give 0 to keep all pieces."
            )

    @property
    def values(self) -> tuple[int, ...]:
        """The label values of the groups."""
        return tuple(group.label for group in self.groups)

    @property
    def needs_embeddings(self) -> bool:
        """Whether the network must have a second output."""
        return any(group.method == "embedding" for group in self.groups)

    def to_plain(self) -> dict[str, Any]:
        """Return the section as it goes into ``configs/metadata.json``."""
        return {
            "groups": [dict(vars(group)) for group in self.groups],
            "minimum_mm3": {str(value): size for value, size in sorted(self.minimum_mm3.items())},
        }


def check_instances(instances: Instances | None, labels: LabelTable, orientation: str) -> None:
    """Check that ``instances`` suit a model's labels and its orientation.

    Raises
    ------
    ModelError
        When a label is not in the table, or the slices of the network do not lie along its third axis.
    """
    if instances is None:
        return
    unknown = sorted({*instances.values, *instances.minimum_mm3} - set(labels.values))
    if unknown:
        raise ModelError(
            f"The instances of the model name the label {unknown[0]}, which its label table does not have.",
            advice="The package contradicts itself; ask its author for a corrected one.",
        )
    if orientation[2] not in "IS":
        raise ModelError(
            f"A model with instances works from the head to the feet, but its orientation {orientation} does not have I"
            " or S as its third letter.",
            advice="Give the model an orientation such as RAS or LPI.",
        )


def read_instances(medseg: Fields) -> Instances | None:
    """Return the section ``instances`` of a package; ``None`` when it has none.

    Raises
    ------
    ModelError, InputError
        When a field is missing, of a wrong type or out of range.
    """
    if not medseg.has("instances"):
        return None
    section = medseg.object("instances")
    sizes = section.object("minimum_mm3", required=False)
    minimum = {}
    for key in sizes.data:
        if not key.isascii() or not key.isdigit() or len(key) > 6:
            raise sizes.fail(key, "a size under a label value")
        minimum[int(key)] = sizes.number(key, low=0.0, high=_LARGEST_MM3)
    return Instances(tuple(_group(entry) for entry in section.objects("groups")), minimum)


def _group(entry: Fields) -> InstanceGroup:
    return InstanceGroup(
        label=entry.whole("label", low=1, high=65535),
        method=entry.text("method", "components", limit=20),
        rule=entry.text("rule", "overwrite", limit=20),
        delta=entry.number("delta", 3.0),
        connectivity=entry.whole("connectivity", 6),
        minimum_voxels=entry.whole("minimum_voxels", 0),
        minimum_mm3=entry.number("minimum_mm3", 0.0),
        remainder=entry.text("remainder", "remove", limit=20),
        name=entry.text("name", "", limit=100),
    )
