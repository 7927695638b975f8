"""A recipe with a mistake is refused with the name of the wrong key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from medseg.errors import RecipeError
from medseg.training.recipe import read_recipe
from medseg.training.setup import stored_recipe
from medseg.training.tasks import read_any_recipe


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
        recipe = read_any_recipe(path)
        # A recipe of the task correction has no label table: its network knows no names.
        labels = getattr(recipe, "labels", None)
        assert labels is None or (path.parent / labels).is_file(), path


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
        (("augmentation", "gamma"), [-1, 2], "augmentation.gamma"),
        (("augmentation", "gamma"), [1.5, 0.7], "augmentation.gamma.*the smallest and the largest"),
        (("preprocessing", "orientation"), "RRA", "preprocessing.orientation.*'RRA' is not an orientation"),
        (("preprocessing", "spacing"), [1, 1, 1000], "preprocessing.spacing.*from 0.01 to 100 mm"),
        (("window", "overlap"), 0.97, "window.overlap.*from 0 to 0.95"),
        (("window", "size"), [64, 64, 5000], "window.size.*from 1 to 4096 voxels"),
        (("package", "name"), "a--b-", "package.name"),
        (("package", "name"), "a" * 65, "'name'"),
        (("package", "title"), " ", "'title'"),
        (("package", "title"), "a" * 201, "'title'"),
        (("package", "description"), "", "'description'"),
        (("package", "license"), "", "'license'"),
        (("package", "modality"), "magnetic resonance", "'modality'"),
        (("package", "input_name"), "a" * 101, "'name' in 'inputs"),
        (("package", "minimum_slices"), 20_000, "'minimum_slices'"),
        (("network", "arguments"), {"spatial_dims": 3, "act": "$print()"}, r"would run '\$print\(\)'"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(
    a_recipe: dict, tmp_path: Path, place: tuple[str, str], value: object, named: str
) -> None:
    a_recipe[place[0]][place[1]] = value
    with pytest.raises(RecipeError, match=named):
        read_recipe(written(a_recipe, tmp_path))


def test_what_the_package_would_refuse_is_told_without_the_folder_of_the_trial(a_recipe: dict, tmp_path: Path) -> None:
    a_recipe["package"]["title"] = ""
    path = written(a_recipe, tmp_path)
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    assert caught.value.message == (
        f"The recipe {path} leads to a model package that MedSeg would not take: 'title' must be a text that is not "
        "empty, and is ''."
    )
    assert list(tmp_path.iterdir()) == [path]


RANGE = {"kind": "scale_range", "a_min": 0, "a_max": 1, "b_min": 0, "b_max": 1}
PERCENTILES = {"kind": "scale_percentiles", "lower": 1, "upper": 99, "b_min": 0, "b_max": 1}


@pytest.mark.parametrize(
    ("step", "sentences"),
    [
        ({"kind": "scale_range", "a_min": 0, "a_max": 1}, ["range.b_min' is missing", "range.b_max' is missing"]),
        ({"kind": "scale_percentiles"}, [f".{key}' is missing" for key in ("lower", "upper", "b_min", "b_max")]),
        ({"kind": "normalize", "a_min": 0, "clip": True}, ["normalize.a_min' is not a key", "clip' is not a key"]),
        ({**RANGE, "lower": 1}, ["scale_range.lower' is not a key"]),
        ({**RANGE, "a_max": 0}, ["intensity range of the model is empty"]),
        ({**RANGE, "a_max": float("inf")}, ["a_max is inf"]),
        ({**PERCENTILES, "upper": 101}, ["not rising within 0 to 100"]),
        ({"a_min": 0}, ["preprocessing.intensity.1.kind' is missing"]),
        ({"kind": "scale"}, ["preprocessing.intensity.1.kind'", "'scale_range', 'scale_percentiles', 'normalize'"]),
        ("normalize", ["preprocessing.intensity.1'"]),
    ],
)
def test_a_wrong_step_of_the_intensities_is_named_with_its_place(
    a_recipe: dict, tmp_path: Path, step: object, sentences: list[str]
) -> None:
    a_recipe["preprocessing"]["intensity"].append(step)
    with pytest.raises(RecipeError) as caught:
        read_recipe(written(a_recipe, tmp_path))
    assert "preprocessing.intensity.1" in caught.value.message
    for sentence in sentences:
        assert sentence in caught.value.message


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


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seed: 1\nwindow:\n  overlap: 0.5\n  size: [1, 1, 1]\n  overlap: 0.6\n", "'overlap' is there twice.* line 5,"),
        ("seed: 1\nseed: 1\n", "'seed' is there twice.* line 2,"),
        ("package: {version: 2020-13-45}\n", "'2020-13-45' cannot be read: month must be in 1..12.* line 1, column 20"),
        ("seed: !!int one\n", "'one' cannot be read.* line 1,"),
        ("seed: !!bool one\n", "'one' cannot be read.* line 1,"),
    ],
)
def test_what_yaml_would_take_silently_or_break_at_is_told_with_its_line(
    text: str, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=sentence):
        read_recipe(path)


def test_a_key_beside_merged_ones_is_not_there_twice(a_recipe: dict, tmp_path: Path) -> None:
    path = written(a_recipe, tmp_path)
    text = path.read_text()
    start = text.index("window:")
    end = text.index("\n", text.index("- 48", start)) + 1
    path.write_text(
        f"{text[:start]}{text[end:]}\nwindow:\n  <<: {{overlap: 0.25, size: [64, 64, 64]}}\n  overlap: 0.75\n"
    )
    window = read_recipe(path).window
    assert (window.size, window.overlap) == ((64, 64, 64), 0.75)


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


@pytest.fixture
def an_old_recipe() -> dict:
    about = dict.fromkeys(("title", "description", "authors", "copyright", "license", "data_sources"), "A")
    return {
        "labels": "labels.csv",
        "package": {"name": "old", "version": "1.0.0", "anatomy": [], "modality": "CT", **about},
        "data": {"image": "{case}.nii.gz", "label": "{case}_label.nii.gz"},
        "network": {"target": "monai.networks.nets.UNet", "arguments": {"spatial_dims": 3}},
        "preprocessing": {
            "spacing": [1, 1, None],
            "intensity": [
                {"kind": "scale_range", "a_min": -100, "a_max": 300, "b_min": 0, "b_max": 1, "clip": True},
                {"kind": "scale_percentiles", "lower": 1, "upper": 99, "b_min": -1, "b_max": 1},
                {"kind": "normalize", "mean": 0.5},
                {"kind": "normalize", "nonzero": True},
            ],
        },
        "window": {"size": [32, 32, 16]},
        "optimisation": {"epochs": 1, "steps_per_epoch": 1},
    }


OLD_DIGEST = "4374b5f6e780837b8699881fe08acef7fc5aa504c28c26d7d95791fe2c86acb6"
"""Of ``an_old_recipe``, from when all steps of the intensities had one section."""


def test_the_digest_of_an_old_recipe_stays_so_that_its_run_goes_on(an_old_recipe: dict, tmp_path: Path) -> None:
    assert read_recipe(written(an_old_recipe, tmp_path)).digest() == OLD_DIGEST


def test_the_recipe_that_an_old_run_has_kept_is_understood(an_old_recipe: dict, tmp_path: Path) -> None:
    keys = ("a_min", "a_max", "b_min", "b_max", "lower", "upper", "mean", "std")
    blank = {**dict.fromkeys(keys), "nonzero": False, "clip": False}
    intensity = [{**blank, **step} for step in an_old_recipe["preprocessing"]["intensity"]]
    an_old_recipe["preprocessing"]["intensity"] = intensity
    (tmp_path / "recipe.json").write_text(json.dumps({"digest": OLD_DIGEST, "recipe": an_old_recipe}))
    stored = stored_recipe(tmp_path)
    assert stored is not None
    assert stored.digest() == OLD_DIGEST
    (tmp_path / "recipe.json").write_text('{"recipe": {"preprocessing": {"intensity": "none"}}}')
    assert stored_recipe(tmp_path) is None
