"""How the model of a recipe tells instances apart: the recipe's ``package.instances``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from medseg.errors import InputError, ModelError, RecipeError
from medseg.models.instances import InstanceGroup, Instances, check_instances
from medseg.training.section import Section

if TYPE_CHECKING:
    from medseg.labels import LabelTable
    from medseg.training.recipe import Recipe

_Value = Annotated[int, Field(ge=1)]


class InstanceGroupSection(Section):
    """One label that has instances; see :class:`medseg.models.instances.InstanceGroup`."""

    label: _Value
    method: Literal["embedding", "components"] = "components"
    rule: Literal["overwrite", "join"] = "overwrite"
    delta: Annotated[float, Field(gt=0)] = 3.0
    connectivity: Literal[6, 26] = 6
    minimum_voxels: Annotated[int, Field(ge=0)] = 0
    minimum_mm3: Annotated[float, Field(ge=0)] = 0.0
    remainder: Literal["remove", "keep", "nearest"] = "remove"
    name: str = ""


class InstancesSection(Section):
    """The groups, and the volume in mm3 below which pieces of other labels are removed."""

    groups: Annotated[tuple[InstanceGroupSection, ...], Field(min_length=1)]
    minimum_mm3: dict[_Value, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _makes_sense(self) -> InstancesSection:
        try:
            self.build()
        except InputError as error:
            raise ValueError(error.message) from error
        return self

    def build(self) -> Instances:
        """Return the section as the model package takes it."""
        return Instances(
            tuple(InstanceGroup(**group.model_dump()) for group in self.groups), minimum_mm3=dict(self.minimum_mm3)
        )


def check_instance_labels(recipe: Recipe) -> None:
    """Check that the parts of a recipe agree on which labels have instances.

    Raises
    ------
    RecipeError
        When the loss separates instances that the data do not number, or the package clusters embeddings that the loss
        does not separate.
    """
    separated = recipe.loss.instance_labels
    unnumbered = sorted(set(separated) - set(recipe.data.instances))
    if unnumbered:
        raise RecipeError(
            f"loss.instance.groups names the labels {unnumbered}, whose instances the data do not number.",
            advice="Add them to data.instances, or take them out of the groups.",
        )
    groups = recipe.package.instances.groups if recipe.package.instances else ()
    unseparated = sorted({group.label for group in groups if group.method == "embedding"} - set(separated))
    if unseparated:
        raise RecipeError(
            f"package.instances clusters the embeddings of the labels {unseparated}, which the loss does not separate.",
            advice="Add them to loss.instance.groups, or give them the method components.",
        )


def check_instances_exist(recipe: Recipe, labels: LabelTable) -> None:
    """Check that every label that the recipe gives instances is in its label table, before anything is trained.

    Raises
    ------
    RecipeError
        When one is not, or the slices of the network do not lie along its third axis.
    """
    unknown = sorted(set(recipe.data.instances) - set(labels.values))
    if unknown:
        raise RecipeError(
            f"data.instances names the labels {unknown}, which the label table does not have.",
            advice="Name labels of the recipe's label table.",
        )
    section = recipe.package.instances
    try:
        check_instances(section.build() if section else None, labels, recipe.preprocessing.orientation)
    except ModelError as error:
        raise RecipeError(error.message, advice="Correct package.instances or preprocessing.orientation.") from error
