"""What a recipe says about instances reaches the package, and what does not fit is refused before the first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medseg.errors import RecipeError
from medseg.models.instances import InstanceGroup, Instances
from medseg.training.instances import check_instances_exist
from medseg.training.recipe import read_recipe
from support.segmentation import label_table


@pytest.fixture
def a_recipe_with_instances(a_small_recipe: dict) -> dict:
    a_small_recipe["data"]["instances"] = [2, 3]
    a_small_recipe["loss"] = {"kind": "two_headed", "instance": {"groups": [2]}}
    a_small_recipe["preprocessing"]["orientation"] = "LPI"
    a_small_recipe["package"]["instances"] = {
        "groups": [
            {"label": 2, "method": "embedding", "rule": "overwrite", "minimum_voxels": 1873, "name": "Vertebra"},
            {"label": 3, "method": "components", "connectivity": 26, "minimum_mm3": 500},
        ],
        "minimum_mm3": {1: 250.0},
    }
    return a_small_recipe


def test_the_package_gets_the_instances_of_the_recipe(a_recipe_with_instances: dict, write_recipe) -> None:
    recipe = read_recipe(write_recipe(a_recipe_with_instances))
    assert recipe.package.instances.build() == Instances(
        (
            InstanceGroup(2, "embedding", "overwrite", minimum_voxels=1873, name="Vertebra"),
            InstanceGroup(3, "components", connectivity=26, minimum_mm3=500.0),
        ),
        minimum_mm3={1: 250.0},
    )
    assert recipe.loss.instance_labels == (2,)
    check_instances_exist(recipe, label_table(3))


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (("data", "instances"), [3], r"the labels \[2\], whose instances the data do not number"),
        (("loss", "instance", "groups"), [3], r"embeddings of the labels \[2\], which the loss does not separate"),
        (("loss", "instance"), None, r"embeddings of the labels \[2\], which the loss does not separate"),
        (("package", "instances", "groups"), [], "package.instances.groups"),
        (("package", "instances", "minimum_mm3"), {2: 5}, "package.instances.*minimum size"),
        (("package", "instances", "groups", 0, "method"), "guess", "package.instances.groups.0.method"),
        (("package", "instances", "groups", 1, "label"), 2, "package.instances.*one twice"),
    ],
)
def test_parts_that_do_not_agree_are_refused(
    a_recipe_with_instances: dict, write_recipe, place: tuple[Any, ...], value: object, sentence: str
) -> None:
    part: Any = a_recipe_with_instances
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    path = write_recipe(a_recipe_with_instances)
    with pytest.raises(RecipeError, match=sentence):
        read_recipe(path)


def test_labels_that_are_not_in_the_table_are_refused(a_recipe_with_instances: dict, write_recipe) -> None:
    recipe = read_recipe(write_recipe(a_recipe_with_instances))
    with pytest.raises(RecipeError, match=r"data.instances names the labels \[3\]"):
        check_instances_exist(recipe, label_table(2))
    a_recipe_with_instances["data"]["instances"] = [2]
    recipe = read_recipe(write_recipe(a_recipe_with_instances))
    with pytest.raises(RecipeError, match="name the label 3"):
        check_instances_exist(recipe, label_table(2))


def test_slices_along_another_axis_are_refused(a_recipe_with_instances: dict, write_recipe) -> None:
    a_recipe_with_instances["preprocessing"]["orientation"] = "SPL"
    path = write_recipe(a_recipe_with_instances)
    with pytest.raises(RecipeError, match="third letter"):
        read_recipe(path)


def test_a_run_refuses_them_before_it_reads_the_data(
    a_recipe_with_instances: dict, write_recipe, tmp_path: Path
) -> None:
    from medseg.training import run_training

    # The table of this recipe has one label.
    with pytest.raises(RecipeError, match=r"data.instances names the labels \[2, 3\]"):
        run_training(write_recipe(a_recipe_with_instances), tmp_path / "nowhere", tmp_path / "out", device="cpu")
