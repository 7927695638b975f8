"""The body's box in a recipe: into the package, and onto the training cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from medseg.errors import RecipeError
from medseg.labels import LabelTable
from medseg.models import FitInPlane
from medseg.training.data import prepare
from medseg.training.export import preprocessing_of
from medseg.training.pairs import Pair
from medseg.training.recipe import read_recipe
from medseg.volumes import Geometry, Volume
from support.segmentation import label_table


@pytest.fixture
def a_fitting_recipe(a_small_recipe: dict) -> dict:
    a_small_recipe["preprocessing"] = {
        "orientation": "LPI",
        "spacing": [None, None, 3.0],
        "fit_in_plane": {"size": [20, 10], "largest_component": True},
        "intensity": [{"kind": "scale_range", "a_min": -700, "a_max": 1400, "b_min": 0, "b_max": 1}],
    }
    return a_small_recipe


def test_the_package_gets_the_fit_of_the_recipe(a_fitting_recipe: dict, write_recipe) -> None:
    preprocessing = preprocessing_of(read_recipe(write_recipe(a_fitting_recipe)))
    assert preprocessing.fit_in_plane == FitInPlane((20, 10), -200.0, largest_component=True)
    assert preprocessing.intensity[0].clip is False


def test_a_training_case_is_the_body_stretched_with_its_labels(a_fitting_recipe: dict, write_recipe) -> None:
    recipe = read_recipe(write_recipe(a_fitting_recipe))
    geometry = Geometry.from_spacing((6, 30, 40), (1.0, 1.0, 3.0), orientation="LPS")
    image = np.full(geometry.shape, -1000, np.int16)
    image[:, 5:25, 10:20] = 350
    label = np.zeros(geometry.shape, np.uint8)
    label[5, 5:15, 10:20] = 1
    labels: LabelTable = label_table(1)
    case = prepare(
        Pair("case", Path("image"), Path("label")),
        Volume(image, geometry),
        Volume(label, geometry),
        labels=labels,
        section=recipe.data,
        preprocessing=preprocessing_of(recipe),
        seed=0,
    )
    assert case.image.shape == (1, 20, 10, 6)
    np.testing.assert_allclose(case.image, 0.5, atol=1e-6)
    assert case.spacing == pytest.approx((0.5, 2.0, 3.0))
    # The topmost slice is the last of the file and the first of the network; the front half of the body is labelled.
    assert case.label[:, :5, 0].all()
    assert int(case.label.sum()) == 20 * 5


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"spacing": [1.0, None, 3.0]}, "with fit_in_plane the first two spacings must be null"),
        ({"fit_in_plane": {"size": [128]}}, "preprocessing.fit_in_plane.size"),
        ({"fit_in_plane": {"size": [128, 0]}}, "preprocessing.fit_in_plane.size"),
        ({"fit_in_plane": {"size": [128, 128], "treshold": 3}}, "fit_in_plane.treshold' is not a key"),
    ],
)
def test_a_wrong_fit_is_named(a_fitting_recipe: dict, write_recipe, changes: dict, sentence: str) -> None:
    a_fitting_recipe["preprocessing"].update(changes)
    path = write_recipe(a_fitting_recipe)
    assert yaml.safe_load(path.read_text())["preprocessing"]["fit_in_plane"]
    with pytest.raises(RecipeError, match=sentence):
        read_recipe(path)
