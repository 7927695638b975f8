"""The arbitrary-range recipes: they say what was published, and a small one trains two heads to a package."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from medseg.labels import read_labels
from medseg.models import FitInPlane, read_package
from medseg.networks import build_network
from medseg.training import run_training
from medseg.training.elastic_affine import ElasticAffineSection
from medseg.training.export import preprocessing_of
from medseg.training.instances import check_instances_exist
from medseg.training.recipe import Recipe, read_recipe
from medseg.volumes import Geometry, Volume, write_labelmap, write_volume

PUBLISHED = ["swin", "slice", "numbered"]
EXAMPLES = ["example-slice", "example-swin"]


@pytest.fixture
def recipe_named(repository: Path):
    def read(name: str) -> Recipe:
        return read_recipe(repository / "Resources" / "recipes" / f"arbitrary-range-ct-{name}.yaml")

    return read


@pytest.mark.parametrize("name", PUBLISHED)
def test_input_augmentation_and_optimisation_are_the_published_ones(recipe_named, name: str) -> None:
    recipe = recipe_named(name)
    preprocessing = preprocessing_of(recipe)
    assert preprocessing.orientation == "LPI"
    assert preprocessing.spacing == (None, None, 3.0)
    assert preprocessing.fit_in_plane == FitInPlane((128, 128), -200.0)
    np.testing.assert_allclose(preprocessing.apply_intensity(np.array([-700.0, 1400.0, 3500.0])), [0, 1, 2], atol=1e-6)
    assert recipe.window.size == (128, 128, 64)
    changes = recipe.augmentation
    assert changes.elastic_affine == ElasticAffineSection()
    assert (changes.noise_probability, changes.noise_std, changes.noise_random_std) == (0.9, 0.01, False)
    assert (changes.gamma_probability, changes.gamma, changes.gamma_keeps_moments) == (0.5, (0.85, 1.15), False)
    assert (changes.histogram_shift_probability, changes.histogram_control_points) == (0.25, 25)
    assert changes.flip_axes == ()
    optimisation = recipe.optimisation
    assert (optimisation.batch_size, optimisation.accumulate, optimisation.learning_rate) == (1, 32, 1e-3)


@pytest.mark.parametrize("name", PUBLISHED + EXAMPLES)
def test_the_parts_of_a_recipe_fit_its_label_table(recipe_named, repository: Path, name: str) -> None:
    recipe = recipe_named(name)
    labels = read_labels(repository / "Resources" / "recipes" / recipe.labels)
    check_instances_exist(recipe, labels)
    assert recipe.network.arguments["out_channels"] == labels.values[-1] + 1
    assert set(recipe.data.values.values()) <= set(labels.values)
    recipe.loss.build(labels.values[-1] + 1)


def test_the_label_tables_have_the_published_classes(repository: Path) -> None:
    folder = repository / "Resources" / "recipes"
    grouped = read_labels(folder / "arbitrary-range-ct.labels.csv").names
    numbered = read_labels(folder / "arbitrary-range-ct-numbered.labels.csv").names
    assert len(grouped) == 36
    assert grouped[32:] == ("Right ribs", "Left ribs", "Lumbar vertebrae", "Thoracic vertebrae")
    assert len(numbered) == 73
    assert numbered[:32] == grouped[:32]


@pytest.mark.parametrize(("name", "parameters"), [("slice", 159_746_977), ("numbered", 128_761_270)])
def test_the_slice_models_have_the_published_size(recipe_named, name: str, parameters: int) -> None:
    section = recipe_named(name).network
    with torch.device("meta"):
        network = build_network(section.target, section.arguments)
    # 74 channels instead of 37 in the last convolution of 84: 37 * 85 more than 128,758,125.
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_label_files_of_totalsegmentator_are_translated_by_name(recipe_named, repository: Path, shared_data) -> None:
    with (shared_data / "ct-totalseg" / "labels.csv").open() as stream:
        theirs = {int(row["value"]): row["name"] for row in csv.DictReader(stream)}
    folder = repository / "Resources" / "recipes"
    words = {"hip": "hip bone", "clavicula": "clavicle", "gluteus_maximus": "gluteus maximus muscle"}
    groups = {"T": "Thoracic vertebrae", "L": "Lumbar vertebrae", "C": "Cervical vertebrae", "S": "Sacrum and coccyx"}
    single = {"T": "Thoracic vertebra", "L": "Lumbar vertebra"}
    for name in ("swin", "numbered"):
        recipe = recipe_named(name)
        ours = read_labels(folder / recipe.labels)
        names = dict(zip(ours.values, ours.names, strict=True))
        for value, label in recipe.data.values.items():
            parts = theirs[value].split("_")
            if parts[0] == "vertebrae":
                region, number = parts[1][0], parts[1][1:]
                numbered = name == "numbered" and region in single
                expected = f"{single[region]} {number}" if numbered else groups[region]
            elif parts[0] == "rib":
                side = parts[1].capitalize()
                expected = f"{side} rib {parts[2]}" if name == "numbered" else f"{side} ribs"
            elif parts[0] == "lung":
                expected = f"{parts[-1].capitalize()} lung"
            elif parts[-1] in ("left", "right"):
                organ = "_".join(parts[:-1])
                expected = f"{parts[-1].capitalize()} {words.get(organ, organ.replace('_', ' '))}"
            else:
                expected = {"sacrum": "Sacrum and coccyx"}.get(
                    theirs[value], theirs[value].replace("_", " ").capitalize()
                )
            assert names[label] == expected, theirs[value]


@pytest.fixture
def a_folder_of_spines(tmp_path: Path) -> Path:
    """Two bodies in air with an organ and a column of three vertebrae, numbered 11, 12, 13 from the head."""
    folder = tmp_path / "spines"
    folder.mkdir()
    for case in range(2):
        geometry = Geometry.from_spacing((14, 20, 24), (2.0, 2.0, 3.0), orientation="RAS")
        image = np.full(geometry.shape, -1000, np.int16)
        image[:, 2:18, 3 + case : 21] = 20
        label = np.zeros(geometry.shape, np.uint8)
        label[2:12, 10:16, 5:10] = 7
        for number, top in enumerate((13, 9, 5)):
            label[top - 3 : top, 4:8, 10:15] = 11 + number
        image[label == 7] = 120
        image[label > 7] = 500
        write_volume(Volume(image, geometry), folder / f"spine_{case}.nii.gz")
        write_labelmap(Volume(label, geometry), folder / f"spine_{case}_label.nii.gz")
    return folder


@pytest.fixture
def a_tiny_recipe(repository: Path, tmp_path: Path) -> dict[str, Any]:
    """The bundled example recipe with a smaller network: what is tested is what ships."""
    folder = repository / "Resources" / "recipes"
    table = (folder / "arbitrary-range-ct.labels.csv").read_text().splitlines()
    rows = [table[0], *(f"{value},{line.split(',', 1)[1]}" for value, line in ((1, table[20]), (2, table[36])))]
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    content = yaml.safe_load((folder / "arbitrary-range-ct-example-slice.yaml").read_text())
    content["labels"] = "labels.csv"
    content["data"].update(
        image="{case}.nii.gz", label="{case}_label.nii.gz", folds=2, values={7: 1, 11: 2, 12: 2, 13: 2}, instances=[2]
    )
    content["package"].update(name="spines", minimum_slices=4)
    content["package"]["instances"] = {
        "groups": [{"label": 2, "method": "embedding", "rule": "overwrite", "minimum_voxels": 5, "name": "Vertebra"}]
    }
    content["network"]["arguments"] = {
        "out_channels": 3, "embedding_channels": 4, "slices": 8, "plane": 16, "stem_width": 4, "width": 16,
        "attention_heads": 2, "mlp_width": 16, "taps": [1, 2], "decoder_width": 8, "shallow_width": 4,
        "final_width": 6, "dropout": 0.0,
    }  # fmt: skip
    content["preprocessing"]["fit_in_plane"]["size"] = [16, 16]
    content["window"]["size"] = [16, 16, 8]
    content["loss"]["instance"]["groups"] = [2]
    content["optimisation"].update(
        epochs=5, steps_per_epoch=8, learning_rate=1e-2, warmup_steps=5, validate_every=5, precision="32"
    )
    return content


def logged(output: Path, name: str) -> list[float]:
    with (output / "logs" / "first" / "metrics.csv").open() as stream:
        return [float(row[name]) for row in csv.DictReader(stream) if row.get(name)]


def test_two_heads_are_trained_to_a_package_that_separates_bones(
    a_tiny_recipe: dict, a_folder_of_spines: Path, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(a_tiny_recipe))
    result = run_training(path, a_folder_of_spines, tmp_path / "out", device="cpu")
    for name in ("dice_loss", "instance_loss"):
        values = logged(tmp_path / "out", name)
        assert len(values) == 5
        assert values[-1] < 0.9 * values[0], name
    package = read_package(result.package)
    assert package.preprocessing.fit_in_plane == FitInPlane((16, 16), -200.0)
    assert package.instances.needs_embeddings
    assert package.instances.values == (2,)
    assert package.problems() == []
