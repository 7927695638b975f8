"""The figures of a package, what its card says of them, and where it is put."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import pytest

from medseg.models import ModelLibrary, import_zip, read_package
from medseg.training.card import training_card
from medseg.training.evaluation import (
    CaseResult,
    Spread,
    case_scores,
    evaluate,
    figures,
    mean_of_means,
    read_results,
    result_path,
    write_results,
)
from medseg.training.export import metrics_of, place_package
from medseg.training.pairs import Pair
from medseg.training.recipe import DataSection, read_recipe
from medseg.volumes import read_labelmap, write_labelmap, write_volume
from support.packages import bright_blob_case
from support.segmentation import label_table

NAN = math.nan
LABELS = label_table(2)
ONE, TWO = LABELS.names


@pytest.fixture
def results() -> list[CaseResult]:
    """Organ 1 in three cases, organ 2 in the first only, where it was missed."""
    return [
        CaseResult("a", ONE, 0.9, 1.0, 1.0, 2.0),
        CaseResult("a", TWO, 0.0, 0.0, NAN, 2.0),
        CaseResult("b", ONE, 0.8, 0.9, 3.0, 2.0),
        CaseResult("c", ONE, 0.7, 0.8, 5.0, 2.0),
    ]


def test_figures_are_mean_sample_deviation_and_worst(results: list[CaseResult]) -> None:
    first, second = figures(results, LABELS)
    assert (first.label, first.cases, first.undefined) == (ONE, 3, 0)
    assert (first.dice.mean, first.dice.deviation, first.dice.worst) == pytest.approx((0.8, 0.1, 0.7))
    assert (first.hd95_mm.mean, first.hd95_mm.deviation, first.hd95_mm.worst) == pytest.approx((3.0, 2.0, 5.0))
    assert (second.cases, second.undefined, second.dice.mean, second.dice.deviation) == (1, 1, 0.0, 0.0)
    assert math.isnan(second.hd95_mm.mean)
    assert Spread.of([], worst="min").mean != Spread.of([], worst="min").mean  # not a number


def test_structures_weigh_the_same_however_many_cases_have_them(results: list[CaseResult]) -> None:
    overlap, surface, distance = mean_of_means(figures(results, LABELS))
    # Not the mean over the four results, which is 0.6: organ 2 has one case and counts half.
    assert (overlap, surface, distance) == pytest.approx((0.4, 0.45, 3.0))


def test_the_metrics_of_a_package_name_each_structure(results: list[CaseResult]) -> None:
    assert metrics_of(results, LABELS) == {
        "mean_dice": 0.4,
        "worst_dice": 0.0,
        "mean_surface_dice": 0.45,
        "mean_hd95_mm": 3.0,
        "lowest_structure_dice": 0.0,
        f"dice {ONE}": 0.8,
        f"dice {TWO}": 0.0,
    }
    alone = metrics_of([result for result in results if result.label == ONE], label_table(1))
    assert set(alone) == {"mean_dice", "worst_dice", "mean_surface_dice", "mean_hd95_mm"}
    assert metrics_of([], LABELS) == {}


def test_cases_are_ordered_from_the_worst(results: list[CaseResult]) -> None:
    assert list(case_scores(results).items()) == [("a", pytest.approx(0.45)), ("c", 0.7), ("b", 0.8)]


def test_results_are_read_as_they_were_written(results: list[CaseResult], tmp_path: Path) -> None:
    write_results(results, tmp_path / "evaluation.csv")
    text = (tmp_path / "evaluation.csv").read_text().splitlines()
    assert text[0] == "case,label,dice,surface_dice,hd95_mm,seconds"
    assert text[2] == f"a,{TWO},0,0,,2"
    again = read_results(tmp_path / "evaluation.csv")
    assert [str(result) for result in again] == [str(result) for result in results]
    (tmp_path / "evaluation.csv").write_text("case,label,dice\na,b,0.5\n")
    assert read_results(tmp_path / "evaluation.csv") == []
    assert read_results(tmp_path / "none.csv") == []


def test_names_of_cases_become_names_of_files(tmp_path: Path) -> None:
    assert result_path(tmp_path, "a case/1:ü").name == "a_case_1__.nii.gz"


@pytest.fixture
def measured_pairs(tmp_path: Path) -> list[Pair]:
    pairs = []
    for number in range(2):
        image, truth = bright_blob_case(seed=number, shape=(20, 24, 28), spacing=(1.0, 1.0, 1.5))
        write_volume(image, tmp_path / f"{number}.nii.gz")
        write_labelmap(truth, tmp_path / f"{number}_label.nii.gz")
        pairs.append(Pair(str(number), tmp_path / f"{number}.nii.gz", tmp_path / f"{number}_label.nii.gz"))
    return pairs


def test_a_package_is_measured_as_it_is_used(bright_blob_package: Path, measured_pairs: list[Pair], tmp_path) -> None:
    labels = read_package(bright_blob_package).labels
    results = evaluate(bright_blob_package, measured_pairs, labels, DataSection(), keep=tmp_path / "kept")
    assert [result.case for result in results] == ["0", "1"]
    assert all(0.8 < result.dice <= 1 and 0.8 < result.surface_dice <= 1 for result in results)
    assert all(0 <= result.hd95_mm < 10 for result in results)
    kept = read_labelmap(result_path(tmp_path / "kept", "1"))
    truth = read_labelmap(measured_pairs[1].label)
    assert kept.geometry.is_close(truth.geometry)
    overlap = 2 * ((kept.array > 0) & (truth.array > 0)).sum() / ((kept.array > 0).sum() + (truth.array > 0).sum())
    assert results[1].dice == pytest.approx(overlap)


def test_labels_that_are_not_annotated_are_not_measured(bright_blob_package: Path, measured_pairs: list[Pair]) -> None:
    unseen = Pair("1", measured_pairs[1].image, measured_pairs[1].label, annotated=())
    labels = read_package(bright_blob_package).labels
    results = evaluate(bright_blob_package, [measured_pairs[0], unseen], labels, DataSection())
    assert [result.case for result in results] == ["0"]


def test_a_package_is_put_into_a_folder_or_an_archive_that_can_be_installed(
    bright_blob_package: Path, tmp_path: Path
) -> None:
    package = tmp_path / "bright-blob"
    package.symlink_to(bright_blob_package)
    placed = place_package(package, tmp_path / "models")
    assert placed == (tmp_path / "models" / "bright-blob").resolve()
    (placed / "models" / "model.pt").unlink()
    again = place_package(package, tmp_path / "models")
    assert read_package(again).problems() == []
    archive = place_package(package, tmp_path / "new" / "model.zip")
    assert all(name.startswith("bright-blob/") for name in zipfile.ZipFile(archive).namelist())
    installed = import_zip(archive, ModelLibrary([tmp_path / "library"]))
    assert installed.name == "bright-blob"
    installed.weights.verify()


def test_putting_a_package_where_it_is_changes_nothing(tmp_path: Path, bright_blob_package: Path) -> None:
    before = sorted(bright_blob_package.rglob("*"))
    assert place_package(bright_blob_package, bright_blob_package.parent) == bright_blob_package.resolve()
    assert sorted(bright_blob_package.rglob("*")) == before


def test_the_card_tells_split_figures_and_limits(results: list[CaseResult], a_small_recipe: dict, write_recipe) -> None:
    a_small_recipe["package"].update(limits="Not for children.", data_sources="Blobs.")
    recipe = read_recipe(write_recipe(a_small_recipe))
    card = training_card(recipe, LABELS, results, trained_on=7, kept_aside=["a", "b", "c"], picture="preview.png")
    assert "Data: Blobs." in card
    assert "7 cases, 2 epochs of 4 steps" in card
    assert "3 cases were kept aside and never trained on." in card
    assert f"| {ONE} | 3 | 0.800 ± 0.100 | 0.700 | 0.900 ± 0.100 | 0.800 | 3.0 ± 2.0 | 5.0 |" in card
    assert f"| {TWO} | 1 | 0.000 ± 0.000 | 0.000 | 0.000 ± 0.000 | 0.000 | – | – |" in card
    assert f"(no HD95): {TWO} in 1 cases" in card
    assert "![A case kept aside](preview.png)" in card
    assert "## Limits\n\nNot for children." in card
    assert "Worst cases" not in card  # names of cases may be names of patients


def test_the_card_names_cases_only_where_the_recipe_allows_it(
    results: list[CaseResult], a_small_recipe: dict, write_recipe
) -> None:
    a_small_recipe["package"]["case_names"] = True
    recipe = read_recipe(write_recipe(a_small_recipe))
    card = training_card(recipe, LABELS, results, trained_on=7, kept_aside=["a", "b", "c"])
    assert "kept aside and never trained on: a, b, c." in card
    assert "Worst cases by the mean Dice of their structures: a (0.450), c (0.700), b (0.800)." in card
