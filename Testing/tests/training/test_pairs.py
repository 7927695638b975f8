"""Which files belong together, and which cases are kept aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.errors import RecipeError
from medseg.training.pairs import Pair, find_pairs, split_pairs
from medseg.training.recipe import AnnotationTable, DataSection
from support.segmentation import label_table

PATTERNS = DataSection(image="{case}.nii.gz", label="{case}_label.nii.gz")
LABELS = label_table(2)


@pytest.fixture
def a_folder(tmp_path: Path) -> Path:
    for case in ("b", "a", "c"):
        (tmp_path / f"{case}.nii.gz").touch()
        (tmp_path / f"{case}_label.nii.gz").touch()
    return tmp_path


def a_table(folder: Path, *lines: str) -> Path:
    path = folder / "pairs.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def cases(pairs: list[Pair]) -> list[str]:
    return [pair.case for pair in pairs]


def test_pairs_of_a_folder_are_in_order_of_their_names(a_folder: Path) -> None:
    assert cases(find_pairs(a_folder, PATTERNS)) == ["a", "b", "c"]


def test_brackets_in_a_pattern_are_letters(tmp_path: Path) -> None:
    (tmp_path / "a[1].nii").touch()
    (tmp_path / "a[1]_l.nii").touch()
    (tmp_path / "a1.nii").touch()
    found = find_pairs(tmp_path, DataSection(image="{case}[1].nii", label="{case}[1]_l.nii"))
    assert cases(found) == ["a"]


def test_several_images_of_a_case_are_its_channels(tmp_path: Path) -> None:
    for name in ("a_t1.nii", "a_t2.nii", "a_seg.nii", "b_t1.nii", "b_seg.nii"):
        (tmp_path / name).touch()
    section = DataSection(image=["{case}_t1.nii", "{case}_t2.nii"], label="{case}_seg.nii")
    with pytest.raises(RecipeError, match=r"1 images .* have no image file '\{case\}_t2.nii': b"):
        find_pairs(tmp_path, section)
    (tmp_path / "b_t2.nii").touch()
    found = find_pairs(tmp_path, section)
    assert [path.name for path in found[1].images] == ["b_t1.nii", "b_t2.nii"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_of_pairs_has_paths_beside_it(a_folder: Path, separator: str) -> None:
    rows = [["image", "label", "case", "split"], ["b.nii.gz", "b_label.nii.gz", "second", "train"]]
    rows.append(["a.nii.gz", "a_label.nii.gz", "first", "validation"])
    table = a_table(a_folder, *(separator.join(row) for row in rows), "")
    found = find_pairs(table, DataSection())
    assert cases(found) == ["first", "second"]
    assert found[1].image == a_folder / "b.nii.gz"
    training, validation = split_pairs(found, DataSection(folds=2), seed=0)
    assert (cases(training), cases(validation)) == (["second"], ["first"])


def test_a_table_without_case_names_takes_those_of_the_images(a_folder: Path) -> None:
    table = a_table(a_folder, "image_1,image_2,label", "a.nii.gz,b.nii.gz,a_label.nii.gz")
    (pair,) = find_pairs(table, DataSection())
    assert pair.case == "a"
    assert [path.name for path in pair.images] == ["a.nii.gz", "b.nii.gz"]


def test_the_recipe_may_name_the_table(a_folder: Path) -> None:
    a_table(a_folder, "image,label", "a.nii.gz,a_label.nii.gz")
    (pair,) = find_pairs(None, DataSection(csv="pairs.csv"), recipe_folder=a_folder)
    assert pair.label == a_folder / "a_label.nii.gz"
    with pytest.raises(RecipeError, match="No data was given"):
        find_pairs(None, DataSection(), recipe_folder=a_folder)


def test_every_bad_line_of_a_table_is_named(a_folder: Path) -> None:
    table = a_table(
        a_folder,
        "image,label,case,split",
        "a.nii.gz,a_label.nii.gz,a,train",
        "none.nii.gz,b_label.nii.gz,b,train",
        ",c_label.nii.gz,c,train",
        "c.nii.gz,a_label.nii.gz,a,perhaps",
    )
    with pytest.raises(RecipeError) as caught:
        find_pairs(table, DataSection())
    message = caught.value.message
    for part in (
        "line 3: none.nii.gz does not exist",
        "line 4 lacks a file",
        "line 5: 'perhaps' is not a split",
        "the case a comes more than once",
        "a_label.nii.gz comes more than once",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("image,mask\n", "needs columns 'image' and 'label'"),
        ("image,label\n", "has no line"),
        ("image,label,image\n", "two columns of one name"),
        ("image,label\na,b,c\n", "Line 2 .* has 3 cells"),
    ],
)
def test_what_is_no_table_of_pairs_is_refused_with_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(RecipeError, match=sentence):
        find_pairs(path, DataSection())


def test_a_table_that_is_no_text_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_bytes(b"\xff\xfe\x00image")
    with pytest.raises(RecipeError, match="cannot be read"):
        find_pairs(path, DataSection())


def test_a_column_may_list_what_is_annotated(a_folder: Path) -> None:
    table = a_table(
        a_folder,
        "image,label,annotated",
        f"a.nii.gz,a_label.nii.gz,{LABELS.names[0]}; 2",
        "b.nii.gz,b_label.nii.gz,",
    )
    assert [pair.annotated for pair in find_pairs(table, DataSection(), labels=LABELS)] == [(1, 2), ()]
    table = a_table(a_folder, "image,label,annotated", "a.nii.gz,a_label.nii.gz,spleen")
    with pytest.raises(RecipeError, match="'spleen' is not a label"):
        find_pairs(table, DataSection(), labels=LABELS)


def test_a_table_beside_the_data_says_what_is_annotated(a_folder: Path) -> None:
    names = LABELS.names
    head = f"case,voxels of {names[0].lower()},second"
    (a_folder / "cases.csv").write_text(f"{head}\na,120,yes\nb,0,x\nc,7,no\n")
    section = DataSection(
        image=PATTERNS.image,
        label=PATTERNS.label,
        annotated=AnnotationTable(table="cases.csv", columns={1: f"voxels of {names[0].lower()}", 2: "second"}),
    )
    found = find_pairs(a_folder, section, labels=LABELS)
    assert [pair.annotated for pair in found] == [(1, 2), (2,), (1,)]


def test_columns_of_annotations_are_found_by_name_or_value(a_folder: Path) -> None:
    (a_folder / "cases.csv").write_text(f"case,voxels of {LABELS.names[0].upper()},2\na,0,1\nb,1,0\nc,1,1\n")
    section = DataSection(image=PATTERNS.image, label=PATTERNS.label, annotated=AnnotationTable(table="cases.csv"))
    assert [pair.annotated for pair in find_pairs(a_folder, section, labels=LABELS)] == [(2,), (1,), (1, 2)]


@pytest.mark.parametrize(
    ("text", "columns", "sentence"),
    [
        ("case,1,2\na,1,1\nb,1,1\n", None, "has no line for c"),
        ("name,1,2\na,1,1\n", None, "has no column 'case'"),
        ("case,1\na,1\nb,1\nc,1\n", None, "no column for the label"),
        ("case,1,2\na,1,maybe\nb,1,1\nc,1,1\n", None, "line 2 has 'maybe' in the column '2'"),
        ("case,1,2\na,1,1\nb,1,1\nc,1,1\n", {1: "1", 2: "two"}, "columns that the table does not have: 'two'"),
        ("case,1,2\na,1,1\nb,1,1\nc,1,1\n", {1: "1"}, "no column for the labels"),
        ("case,1,2\na,1,1\nb,1,1\nc,1,1\n", {1: "1", 2: "2", 9: "2"}, "values that are not labels: 9"),
    ],
)
def test_a_table_of_annotations_with_a_mistake_is_refused(
    a_folder: Path, text: str, columns: dict | None, sentence: str
) -> None:
    (a_folder / "cases.csv").write_text(text)
    asked = AnnotationTable(table="cases.csv", columns=columns)
    section = DataSection(image=PATTERNS.image, label=PATTERNS.label, annotated=asked)
    with pytest.raises(RecipeError, match=sentence):
        find_pairs(a_folder, section, labels=LABELS)


def some_pairs(count: int) -> list[Pair]:
    return [Pair(f"case_{number}", Path("image"), Path("label")) for number in range(count)]


def test_folds_keep_every_case_aside_once() -> None:
    pairs = some_pairs(11)
    aside = [split_pairs(pairs, DataSection(folds=4, fold=fold), seed=3)[1] for fold in range(4)]
    assert sorted(case for part in aside for case in cases(part)) == sorted(cases(pairs))
    assert {len(part) for part in aside} == {2, 3}


def test_a_recipe_may_name_the_cases_that_are_kept_aside() -> None:
    section = DataSection(validation=("case_1", "case_3"))
    training, validation = split_pairs(some_pairs(4), section, seed=0)
    assert (cases(training), cases(validation)) == (["case_0", "case_2"], ["case_1", "case_3"])
    with pytest.raises(RecipeError, match="cases that are not there: case_9"):
        split_pairs(some_pairs(4), DataSection(validation=("case_9",)), seed=0)
    with pytest.raises(RecipeError, match="none is left to train on"):
        split_pairs(some_pairs(1), DataSection(validation=("case_0",)), seed=0)
