"""A recipe with a mistake is refused with the name of the wrong key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from medseg.errors import RecipeError
from medseg.training.recipe import read_recipe


@pytest.fixture
def a_recipe(repository: Path) -> dict:
    return yaml.safe_load((repository / "Resources" / "recipes" / "left-atrium-mr.yaml").read_text())


def written(content: dict, folder: Path) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_bundled_recipes_are_valid(repository: Path) -> None:
    recipes = sorted((repository / "Resources" / "recipes").glob("*.yaml"))
    assert len(recipes) >= 2
    for path in recipes:
        recipe = read_recipe(path)
        assert (path.parent / recipe.labels).is_file(), path


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        (("optimisation", "epochs"), 0, "optimisation.epochs"),
        (("optimisation", "learning_rate"), "fast", "optimisation.learning_rate"),
        (("data", "image"), "*.nii.gz", "data.image"),
        (("data", "fold"), 99, "fold must be below folds"),
        (("preprocessing", "orientation"), "XYZ", "preprocessing.orientation"),
        (("preprocessing", "spacing"), [1, -1, 1], "preprocessing.spacing"),
        (("window", "overlap"), 1.0, "window.overlap"),
        (("window", "size"), [64, 64], "window.size"),
        (("package", "name"), "Left Atrium", "package.name"),
        (("augmentation", "noise_probability"), 2, "augmentation.noise_probability"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(
    a_recipe: dict, tmp_path: Path, place: tuple[str, str], value: object, named: str
) -> None:
    a_recipe[place[0]][place[1]] = value
    with pytest.raises(RecipeError, match=named):
        read_recipe(written(a_recipe, tmp_path))


def test_a_misspelt_key_is_an_error_and_not_ignored(a_recipe: dict, tmp_path: Path) -> None:
    a_recipe["optimisation"]["learning_rat"] = 1e-3
    with pytest.raises(RecipeError, match=r"'optimisation.learning_rat' is not a key"):
        read_recipe(written(a_recipe, tmp_path))


def test_a_missing_part_is_named(a_recipe: dict, tmp_path: Path) -> None:
    del a_recipe["network"]
    with pytest.raises(RecipeError, match="'network' is missing"):
        read_recipe(written(a_recipe, tmp_path))


@pytest.mark.parametrize("text", ["", "just words", "a: [1, 2", "- 1\n- 2\n", "a: b: c", "\x00"])
def test_what_is_not_a_recipe_is_refused_with_a_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"recipe\.yaml"):
        read_recipe(path)


def test_a_recipe_that_is_not_there_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        read_recipe(tmp_path / "none.yaml")


def test_yaml_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"a: !!python/object/apply:pathlib.Path.touch [{tmp_path / 'ran'}]\n")
    with pytest.raises(RecipeError):
        read_recipe(path)
    assert not (tmp_path / "ran").exists()


def test_two_recipes_differ_in_their_digest(a_recipe: dict, tmp_path: Path) -> None:
    first = read_recipe(written(a_recipe, tmp_path)).digest()
    assert read_recipe(written(a_recipe, tmp_path)).digest() == first
    a_recipe["optimisation"]["epochs"] += 1
    assert read_recipe(written(a_recipe, tmp_path)).digest() != first
