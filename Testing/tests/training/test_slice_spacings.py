"""A trained package carries the slice spacings that it has seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.labels import read_labels
from medseg.models import read_package
from medseg.networks import build_network
from medseg.training.export import export_package, slice_spacings_of
from medseg.training.recipe import read_recipe

SPACINGS = [(1.0, 1.0, 2.5), (1.0, 1.0, 0.625), (1.0, 1.0, 5.0)]


def test_the_exported_package_has_the_range_of_the_training_cases(a_small_recipe, write_recipe, tmp_path: Path):
    path = write_recipe(a_small_recipe)
    recipe = read_recipe(path)
    network = build_network(recipe.network.target, recipe.network.arguments)
    labels = read_labels(path.parent / recipe.labels)
    folder = export_package(network, recipe, labels, tmp_path / "blobs", spacings=SPACINGS)
    assert read_package(folder).slice_spacing_range == (0.625, 5.0)


@pytest.mark.parametrize(("axis", "expected"), [(-1, (0.625, 5.0)), (-2, (1.0, 1.0))])
def test_the_range_is_that_of_the_axis_of_slices(a_small_recipe, write_recipe, axis: int, expected: tuple):
    a_small_recipe["network"]["arguments"]["slice_axis"] = axis
    assert slice_spacings_of(read_recipe(write_recipe(a_small_recipe)), SPACINGS) == expected


def test_a_network_without_an_axis_of_slices_and_a_run_without_cases_have_none(a_small_recipe, write_recipe):
    recipe = read_recipe(write_recipe(a_small_recipe))
    assert slice_spacings_of(recipe, []) is None
    a_small_recipe["network"] = {"target": "monai.networks.nets.DynUNet", "arguments": {}}
    assert slice_spacings_of(read_recipe(write_recipe(a_small_recipe)), SPACINGS) is None
