"""All bad cases are named before the first step, and what the good ones are like."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg.errors import RecipeError
from medseg.labels import LabelTable
from medseg.training import check_data
from medseg.training.checks import CaseChecker, write_facts
from medseg.training.pairs import Pair
from medseg.training.recipe import AnnotationTable, Recipe, read_recipe
from medseg.training.summary import data_rows, label_rows
from medseg.volumes import Geometry, Volume, read_labelmap, read_volume, write_labelmap, write_volume
from support.segmentation import label_table

Change = Callable[..., Recipe]


@pytest.fixture
def a_recipe(a_small_recipe: dict, write_recipe) -> Change:
    def changed(data: dict | None = None, **package: object) -> Recipe:
        a_small_recipe["data"].update(data or {})
        a_small_recipe["package"].update(package)
        return read_recipe(write_recipe(a_small_recipe))

    return changed


@pytest.fixture
def a_folder_to_spoil(a_training_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for path in a_training_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def pair(folder: Path, number: int = 0, **options: object) -> Pair:
    return Pair(f"case_{number}", folder / f"case_{number}.nii.gz", folder / f"case_{number}_label.nii.gz", **options)


def problem_of(checker: CaseChecker, case: Pair) -> str:
    assert checker.check(case, "training") is None
    return checker.problems[-1]


@pytest.fixture
def checker(a_recipe: Change) -> CaseChecker:
    return CaseChecker(a_recipe(), label_table(1))


def test_a_good_case_is_described(checker: CaseChecker, a_folder_to_spoil: Path) -> None:
    case = checker.check(pair(a_folder_to_spoil), "validation")
    label = read_labelmap(a_folder_to_spoil / "case_0_label.nii.gz")
    facts = case.facts
    assert (facts.size, facts.split) == ((24, 24, 16), "validation")
    assert facts.spacing == pytest.approx((1.0, 1.0, 2.0))
    assert facts.voxels == {1: int(label.array.sum())}
    assert facts.intensity[0] < 60
    assert facts.intensity[1] > 200
    assert checker.problems == []


def test_grids_of_different_places_are_told_apart(checker: CaseChecker, a_folder_to_spoil: Path) -> None:
    path = a_folder_to_spoil / "case_0_label.nii.gz"
    label = read_labelmap(path)
    shifted = label.geometry.ijk_to_ras.copy()
    shifted[0, 3] += 1.0
    write_labelmap(Volume(label.array, Geometry(label.geometry.shape, shifted)), path)
    sentence = problem_of(checker, pair(a_folder_to_spoil))
    assert sentence.startswith("case_0: image and label lie on different grids (24 x 24 x 16 voxels of 1 x 1 x 2 mm")
    first, second = sentence.partition(" and 24")[::2]
    assert first.rpartition("from ")[2] != second.rpartition("from ")[2]


@pytest.mark.parametrize(
    ("values", "dtype", "sentence"),
    [
        ((0, 0), np.uint8, "the label is empty"),
        ((0, 7), np.uint8, r"the label holds the values \[7\], which the label table does not name"),
        ((-1, 1), np.int16, r"the label holds the values \[-1\], which are not 1 to 65535"),
        ((0, 70000), np.int32, r"the label holds the values \[70000\], which are not 1 to 65535"),
        ((0.0, 0.5), np.float32, "not a label map: its values are not whole numbers"),
    ],
)
def test_wrong_values_are_named(
    checker: CaseChecker, a_folder_to_spoil: Path, values: tuple, dtype: type, sentence: str
) -> None:
    path = a_folder_to_spoil / "case_0_label.nii.gz"
    label = read_labelmap(path)
    write_volume(label.with_array(np.where(label.array > 0, values[1], values[0]).astype(dtype)), path)
    found = problem_of(checker, pair(a_folder_to_spoil))
    with pytest.raises(RecipeError, match=sentence):
        raise RecipeError(found)


def test_an_image_given_as_label_has_few_of_its_values_named(checker: CaseChecker, a_folder_to_spoil: Path) -> None:
    image = read_volume(a_folder_to_spoil / "case_1.nii.gz")
    many = image.with_array(np.arange(image.array.size, dtype=np.uint16).reshape(image.array.shape))
    write_volume(many, a_folder_to_spoil / "case_0_label.nii.gz")
    assert "[2, 3, 4, 5, 6, 7, 8, 9] and 9206 more" in problem_of(checker, pair(a_folder_to_spoil))


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (lambda array: np.where(array > array.mean(), np.nan, array), "the image holds values that are not numbers"),
        (lambda array: np.full_like(array, 3), "every voxel has the value 3"),
    ],
)
def test_images_that_the_model_would_refuse_are_refused(
    checker: CaseChecker, a_folder_to_spoil: Path, array: Callable, sentence: str
) -> None:
    path = a_folder_to_spoil / "case_0.nii.gz"
    image = read_volume(path)
    write_volume(image.with_array(array(image.array).astype(np.float32)), path)
    assert sentence in problem_of(checker, pair(a_folder_to_spoil))


def test_fewer_slices_than_the_package_takes_are_refused(a_recipe: Change, a_folder_to_spoil: Path) -> None:
    checker = CaseChecker(a_recipe(minimum_slices=17), label_table(1))
    assert "only 16 slices" in problem_of(checker, pair(a_folder_to_spoil))


def test_two_cases_with_one_image_are_refused(checker: CaseChecker, a_folder_to_spoil: Path) -> None:
    assert checker.check(pair(a_folder_to_spoil), "training") is not None
    (a_folder_to_spoil / "case_1.nii.gz").write_bytes((a_folder_to_spoil / "case_0.nii.gz").read_bytes())
    assert "case_1: the image is the same as that of case_0" in problem_of(checker, pair(a_folder_to_spoil, 1))


def test_a_label_that_the_table_says_is_not_annotated_is_a_contradiction(
    a_recipe: Change, a_folder_to_spoil: Path
) -> None:
    recipe = a_recipe(data={"annotated": AnnotationTable(table="cases.csv").model_dump()})
    checker = CaseChecker(recipe, label_table(2))
    sentence = problem_of(checker, pair(a_folder_to_spoil, annotated=(2,)))
    assert "the label holds organ 1, which the table says is not annotated" in sentence
    assert checker.check(pair(a_folder_to_spoil, annotated=(1,)), "training").facts.annotated == (1,)


def test_cases_without_any_label_may_be_allowed(a_recipe: Change, a_folder_to_spoil: Path) -> None:
    path = a_folder_to_spoil / "case_0_label.nii.gz"
    label = read_labelmap(path)
    write_labelmap(label.with_array(np.zeros_like(label.array)), path)
    checker = CaseChecker(a_recipe(data={"allow_empty": True}), label_table(1))
    assert checker.check(pair(a_folder_to_spoil), "training").facts.voxels == {1: 0}


def test_a_second_image_that_lies_elsewhere_is_refused(checker: CaseChecker, a_folder_to_spoil: Path) -> None:
    image = read_volume(a_folder_to_spoil / "case_1.nii.gz")
    moved = image.geometry.ijk_to_ras.copy()
    moved[2, 3] += 500.0
    write_volume(Volume(image.array, Geometry(image.geometry.shape, moved)), a_folder_to_spoil / "far.nii.gz")
    both = pair(a_folder_to_spoil, more=(a_folder_to_spoil / "far.nii.gz",))
    assert "image 2 lies beside the first image" in problem_of(checker, both)


def test_one_sentence_names_every_bad_case(a_small_recipe: dict, write_recipe, a_folder_to_spoil: Path) -> None:
    for number in (1, 4):
        path = a_folder_to_spoil / f"case_{number}_label.nii.gz"
        label = read_labelmap(path)
        write_labelmap(label.with_array(np.zeros_like(label.array)), path)
    (a_folder_to_spoil / "case_2.nii.gz").write_bytes(b"not an image")
    with pytest.raises(RecipeError) as caught:
        check_data(write_recipe(a_small_recipe), a_folder_to_spoil)
    message = caught.value.message
    assert message.startswith("3 of 6 cases cannot be trained on: ")
    assert {part.partition(":")[0] for part in message.partition("on: ")[2].split("; ")} == {
        "case_1",
        "case_2",
        "case_4",
    }


def test_checking_writes_nothing_and_tells_what_there_is(
    a_small_recipe: dict, write_recipe, a_training_folder: Path
) -> None:
    path = write_recipe(a_small_recipe)
    before = sorted(path.parent.iterdir())
    checked = check_data(path, a_training_folder)
    assert sorted(path.parent.iterdir()) == before
    rows = dict(checked.rows())
    assert rows["Cases"] == "6: 4 to train on, 2 kept aside"
    assert rows["Size (voxels)"] == "24 x 24 x 16"
    assert rows["Voxel size (mm)"] == "1 x 1 x 2"
    head, (row,) = checked.label_table()
    assert dict(zip(head, row, strict=True))["Annotated in"] == "6 of 6"


def test_the_summary_counts_annotated_cases_and_ranges(
    a_recipe: Change, a_folder_to_spoil: Path, tmp_path: Path
) -> None:
    labels: LabelTable = label_table(2)
    checker = CaseChecker(a_recipe(), labels)
    for number in range(3):
        checker.check(pair(a_folder_to_spoil, number, annotated=(1, 2)[: 1 + number % 2]), "training")
    first, second = label_rows(checker.facts, labels)
    assert first[:3] == ("organ 1", "3 of 3", "3")
    assert second == ("organ 2", "1 of 3", "0", "–", "–", "–")
    assert dict(data_rows(checker.facts))["Orientation"] == "RAS (3)"
    write_facts(checker.facts, labels, tmp_path / "cases.csv")
    with (tmp_path / "cases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["voxels of organ 2"] for row in rows] == ["", "0", ""]
    assert int(rows[0]["voxels of organ 1"]) == checker.facts[0].voxels[1]
