"""A recipe that fits the data, from the data alone."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from medseg.errors import RecipeError, WriteError
from medseg.labels import read_labels
from medseg.training import check_data, run_training, start_recipe
from medseg.training.recipe import read_recipe
from medseg.training.starter.labels import table_of
from medseg.training.starter.patterns import Files, guess_files
from medseg.training.starter.plan import Plan, plan_for
from medseg.training.starter.survey import SurveyedCase
from medseg.volumes import Geometry, read_labelmap, write_labelmap


def test_two_commands_lead_from_data_to_a_model(a_training_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "blobs.yaml"
    notes = start_recipe(path, a_training_folder, name="My Blobs (MR)")
    assert notes[0] == "6 cases of MR; the network sees them at 1 x 1 x 2 mm, about 24 x 24 x 16 voxels."
    recipe = read_recipe(path)
    assert (recipe.package.name, recipe.package.title) == ("my-blobs-mr", "My blobs MR")
    assert recipe.window.size == (24, 24, 16)
    assert check_data(path, a_training_folder).labels.names == ("Label 1",)
    content = yaml.safe_load(path.read_text())
    content["optimisation"].update(epochs=2, steps_per_epoch=2, workers=0)
    path.write_text(yaml.safe_dump(content))
    result = run_training(path, a_training_folder, tmp_path / "out", device="cpu")
    assert len(result.cases) == 2


def test_a_recipe_that_is_there_is_not_overwritten(a_training_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "blobs.labels.csv").write_text("mine")
    with pytest.raises(WriteError, match=r"blobs.labels.csv exists already"):
        start_recipe(tmp_path / "blobs.yaml", a_training_folder)
    assert not (tmp_path / "blobs.yaml").exists()


def test_bad_cases_are_named_all_at_once(a_training_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(a_training_folder, data)
    for number in (1, 3):
        (data / f"case_{number}.nii.gz").write_bytes(b"nothing")
    with pytest.raises(RecipeError, match=r"2 of 6 cases cannot be used: case_1: .*; case_3: "):
        start_recipe(tmp_path / "blobs.yaml", data)


def test_labels_that_some_cases_lack_and_large_values_are_pointed_out(a_training_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(a_training_folder, data)
    for number in range(6):
        path = data / f"case_{number}_label.nii.gz"
        label = read_labelmap(path)
        other = np.where(label.array > 0, 502 if number < 2 else 41, 0).astype(np.uint16)
        other[0, 0, 0] = 41
        write_labelmap(label.with_array(other), path)
    notes = start_recipe(tmp_path / "blobs.yaml", data)
    assert any("Label 502 in 4 of 6 cases lack it" in note for note in notes)
    recipe = read_recipe(tmp_path / "blobs.yaml")
    assert recipe.data.values == {41: 1, 502: 2}
    assert recipe.network.arguments["out_channels"] == 3
    assert check_data(tmp_path / "blobs.yaml", data).facts[0].voxels[1] >= 1


def test_a_table_of_pairs_is_enough(a_training_folder: Path, tmp_path: Path) -> None:
    lines = ["image,label,split"]
    for number in range(3):
        image = a_training_folder / f"case_{number}.nii.gz"
        label = a_training_folder / f"case_{number}_label.nii.gz"
        lines.append(f"{image},{label},{'validation' if number == 1 else 'training'}")
    table = tmp_path / "pairs.csv"
    table.write_text("\n".join(lines))
    start_recipe(tmp_path / "blobs.yaml", table)
    facts = check_data(tmp_path / "blobs.yaml", table).facts
    assert [(fact.case, fact.split) for fact in facts] == [
        ("case_0", "training"),
        ("case_2", "training"),
        ("case_1", "validation"),
    ]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.nii.gz", "a_seg.nii.gz"], Files(("{case}.nii.gz",), "{case}_seg.nii.gz")),
        (["images/a.nrrd", "labels/a.nrrd"], Files(("images/{case}.nrrd",), "labels/{case}.nrrd")),
        (["images/a.nii", "labels/a_label.nii"], Files(("images/{case}.nii",), "labels/{case}_label.nii")),
        (["a_image.nii.gz", "a_label.nii.gz"], Files(("{case}_image.nii.gz",), "{case}_label.nii.gz")),
        (["a/image.mha", "a/label.mha"], Files(("{case}/image.mha",), "{case}/label.mha")),
        (["imagesTr/a.nii.gz", "labelsTr/a.nii.gz"], Files(("imagesTr/{case}.nii.gz",), "labelsTr/{case}.nii.gz")),
        (
            ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz", "imagesTs/b_0000.nii.gz"],
            Files(("imagesTr/{case}_0000.nii.gz", "imagesTr/{case}_0001.nii.gz"), "labelsTr/{case}.nii.gz"),
        ),
    ],
)
def test_the_usual_names_of_files_are_recognised(tmp_path: Path, names: list[str], expected: Files) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert guess_files(tmp_path) == expected


def test_a_folder_without_pairs_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").touch()
    with pytest.raises(RecipeError, match="No images with labels were recognised"):
        guess_files(tmp_path)
    with pytest.raises(RecipeError, match="does not exist"):
        guess_files(tmp_path / "none")


def surveyed(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], *, lowest: float = 0.0, values: tuple = (1,)
) -> SurveyedCase:
    inside = np.linspace(20, 85, 1000, dtype=np.float32)
    geometry = Geometry.from_spacing(shape, spacing, orientation="LPS")
    return SurveyedCase("case", geometry, 1, lowest, inside, dict.fromkeys(values, 10))


def fits(plan: Plan) -> bool:
    """Whether the network can halve the window as often as the plan says."""
    factors = np.prod(plan.strides, axis=0)
    return all(size % factor == 0 for size, factor in zip(plan.window, factors, strict=True))


def test_the_window_is_as_cubic_as_the_voxels_allow() -> None:
    plan = plan_for([surveyed((300, 512, 512), (0.8, 0.8, 1.6), lowest=-1024)])
    assert plan.modality == "CT"
    millimetres = np.array(plan.window) * plan.spacing
    assert millimetres.max() / millimetres.min() < 1.5
    assert fits(plan)
    assert math.prod(plan.window) <= 600_000
    assert plan.coarsened
    assert math.prod(plan.size) < 16_500_000


def test_thick_slices_are_not_halved_before_they_are_as_fine_as_the_rest() -> None:
    plan = plan_for([surveyed((20, 256, 256), (1.0, 1.0, 6.0))])
    assert plan.strides[:3] == ((1, 1, 1), (2, 2, 1), (2, 2, 1))
    assert plan.kernels[:3] == ((3, 3, 1), (3, 3, 1), (3, 3, 3))
    assert plan.window[2] >= 20
    assert fits(plan)
    assert not plan.coarsened


def test_a_small_image_is_one_window_and_several_are_a_batch() -> None:
    plan = plan_for([surveyed((35, 50, 36), (1.0, 1.0, 1.0))])
    assert plan.window == (40, 56, 40)
    assert plan.batch_size == 3
    assert len(plan.filters) == len(plan.strides) == len(plan.kernels) == 4


def test_the_median_of_the_voxel_sizes_is_taken_along_the_axes_of_most_cases() -> None:
    cases = [surveyed((30, 40, 50), (1.0, 1.5, step)) for step in (2.0, 3.0, 5.0)]
    other = SurveyedCase("other", cases[0].geometry.reoriented("SLP"), 1, 0.0, cases[0].inside, {1: 1})
    plan = plan_for([*cases, other])
    assert plan.orientation == "LPS"
    assert plan.spacing == (1.0, 1.5, 2.5)


def test_hounsfield_units_are_those_of_the_structures() -> None:
    plan = plan_for([surveyed((30, 40, 50), (1, 1, 1), lowest=-1000)])
    assert plan.intensity == (-30.0, 140.0)  # 20 to 90 HU is too narrow a window
    assert plan_for([surveyed((30, 40, 50), (1, 1, 1), lowest=-1000)], "MR").intensity is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [((1, 2, 3), {1: 1, 2: 2, 3: 3}), ((1, 3), {1: 1, 3: 3}), ((2, 41, 502), {2: 1, 41: 2, 502: 3})],
)
def test_values_with_gaps_are_numbered_anew(values: tuple, expected: dict) -> None:
    plan = plan_for([surveyed((30, 40, 50), (1, 1, 1), values=values)])
    assert plan.values == expected
    assert plan.renumbered == (values[-1] > 3)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.csv", "value,name\n1,left_kidney\n4,spleen\n"),
        ("dataset.json", json.dumps({"labels": {"0": "background", "1": "left_kidney", "4": "spleen"}})),
        ("dataset.json", json.dumps({"labels": {"background": 0, "left_kidney": 1, "spleen": 4}})),
    ],
)
def test_names_beside_the_data_are_taken(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    table, found = table_of(tmp_path, {1: 1, 4: 2})
    assert found
    assert (table.values, table.names) == ((1, 2), ("Left kidney", "Spleen"))


def test_a_label_table_with_codes_is_taken_as_it_is(repository: Path, tmp_path: Path) -> None:
    source = repository / "Resources" / "recipes" / "head-neck-ct.labels.csv"
    shutil.copy(source, tmp_path / "labels.csv")
    table, found = table_of(tmp_path, {1: 1, 3: 3})
    assert found
    assert list(table) == [label for label in read_labels(source) if label.value in (1, 3)]


@pytest.mark.parametrize("content", ["{", "[]", '{"labels": 3}', '{"labels": {"1": [1]}}'])
def test_damaged_names_are_no_names(tmp_path: Path, content: str) -> None:
    (tmp_path / "dataset.json").write_text(content)
    table, found = table_of(tmp_path, {1: 1})
    assert not found
    assert table.names == ("Label 1",)
