"""Which structures are clicked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.interaction.cases import groups
from benchmarks.interaction.runner import RECIPE
from medseg.training.correction.makers import makers_of
from medseg.training.correction.recipe import CorrectionRecipe, read_correction_recipe
from medseg.volumes import Geometry, Volume, write_volume
from support.correction import a_correction_recipe

SCANS = {"kind": "scans", "folder": "blocks", "keep_aside": 2, "hold_out": [2], "names": {1: "Block", 2: "Rod"}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five scans of a block and a rod, and the hearts of another data set."""
    folder = tmp_path_factory.mktemp("data")
    geometry = Geometry.from_spacing((12, 14, 16), (2.0, 2.0, 3.0))
    labels = np.zeros(geometry.shape, np.uint8)
    labels[2:8, 2:8, 2:8], labels[9:11, 2:12, 10:13] = 1, 2
    for name in ("blocks", "mr-cardiac-cine"):
        (folder / name).mkdir()
    names = [(f"blocks/c{number}", f"blocks/c{number}_label") for number in range(5)]
    for image, label in [*names, ("mr-cardiac-cine/patient001_ed", "mr-cardiac-cine/patient001_ed_gt")]:
        write_volume(Volume(labels * 50.0, geometry), folder / f"{image}.nii.gz")
        write_volume(Volume(labels, geometry), folder / f"{label}.nii.gz")
    return folder


def a_recipe(**changes: object) -> CorrectionRecipe:
    return a_correction_recipe(sources=[{**SCANS, **changes}])


def test_structures_are_those_of_the_scans_that_the_training_keeps_aside(data: Path):
    recipe = a_recipe()
    found = groups(recipe, data)
    (maker,) = makers_of(recipe, data)

    seen, held_out = found["blocks"].load(), found["blocks-held-out"].load()
    assert [(case.scan, case.structure) for case in seen] == [(scan, "Block") for scan in maker.cases[1]]
    assert [(case.scan, case.structure) for case in held_out] == [(scan, "Rod") for scan in maker.cases[1]]
    assert {case.group for case in seen} == {"blocks"}
    assert {case.group for case in held_out} == {"blocks-held-out"}
    assert (found["blocks"].seen, found["blocks-held-out"].seen) == (True, False)


def test_the_recipes_own_limit_of_structures_is_not_one_here(data: Path):
    recipe = a_recipe()
    recipe = recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update={"structures": 1})})
    assert len(groups(recipe, data)["blocks"].load()) == 2


def test_a_case_is_a_volume_and_where_the_structure_is(data: Path):
    volume, truth = groups(a_recipe(), data)["blocks-held-out"].load()[0].build()
    assert volume.geometry.spacing == (2.0, 2.0, 3.0)
    assert truth.dtype == bool
    assert truth.sum() == 2 * 10 * 3
    assert volume.array[truth].min() == 100


def test_data_sets_that_the_recipe_does_not_name_are_held_out(data: Path):
    found = groups(a_recipe(), data)
    assert list(found) == ["blocks", "blocks-held-out", "mr-cardiac-cine"]
    hearts = found["mr-cardiac-cine"]
    assert not hearts.seen
    cases = hearts.load()
    assert [case.structure for case in cases] == ["Right ventricle", "Myocardium", "Left ventricle"]
    volume, truth = cases[1].build()
    assert (volume.array.dtype, truth.sum()) == (np.float32, 2 * 10 * 3)


def test_a_data_set_that_was_trained_on_is_not_among_the_others(data: Path):
    recipe = a_recipe(folder="mr-cardiac-cine", image="{case}_ed.nii.gz", label="{case}_ed_gt.nii.gz", hold_out=[])
    assert list(groups(recipe, data)) == ["mr-cardiac-cine"]
    assert groups(recipe, data)["mr-cardiac-cine"].seen


def test_the_bundled_recipe_keeps_real_scans_aside(shared_data: Path):
    recipe = read_correction_recipe(RECIPE)
    found = groups(recipe, shared_data)
    assert list(found)[:4] == ["left-atrium-mr", "ct-head-neck", "ct-head-neck-held-out", "mr-hippocampus"]
    larynges = found["ct-head-neck-held-out"].load()
    assert {case.structure for case in larynges} == {"Larynx"}
    assert {case.scan for case in larynges} <= {case.scan for case in found["ct-head-neck"].load()}
    for name in ("ct-totalseg", "ct-mr-pet-sarcoma", "ct-chest-tumour", "ct-lung-pair"):
        volume, truth = found[name].load()[0].build()
        assert volume.shape == truth.shape
        assert truth.any()
