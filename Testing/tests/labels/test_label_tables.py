"""Label tables: what is read is what was written, and what cannot be used is refused with its line."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import InputError, ReadError
from medseg.labels import Code, Label, LabelTable, read_labels, write_labels
from medseg.labels.codes import ANATOMICAL_STRUCTURE, LEFT, LEFT_ATRIUM, RIGHT
from medseg.labels.table import COLUMNS, distinct_color

KIDNEY = Code("SCT", "64033007", "Kidney")


@pytest.fixture
def a_table_of_two_kidneys() -> LabelTable:
    heart = Code("SCT", "80891009", "Heart")
    return LabelTable(
        [
            Label(2, "right kidney", (185, 102, 83), ANATOMICAL_STRUCTURE, KIDNEY, RIGHT),
            Label(1, "left kidney", (185, 102, 84), ANATOMICAL_STRUCTURE, KIDNEY, LEFT, heart, RIGHT),
        ]
    )


texts = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="~^|"), min_size=1)
codes = st.builds(Code, texts, texts, texts)
labels = st.builds(
    Label,
    st.integers(1, 65535),
    texts,
    st.tuples(*[st.integers(0, 255)] * 3),
    codes,
    codes,
    st.none() | codes,
    st.none() | codes,
    st.none() | codes,
)
tables = st.lists(labels, min_size=1, max_size=6, unique_by=(lambda label: label.value, lambda label: label.name)).map(
    LabelTable
)


@settings(max_examples=60, deadline=None)
@given(table=tables)
def test_a_table_that_was_written_is_read_back_the_same(
    table: LabelTable, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    write_labels(table, path)
    assert read_labels(path) == table


def test_the_file_has_the_columns_of_monai_auto3dseg_and_a_colour(
    a_table_of_two_kidneys: LabelTable, tmp_path: Path
) -> None:
    path = tmp_path / "labels.csv"
    write_labels(a_table_of_two_kidneys, path)
    header, first, second = path.read_text(encoding="utf-8").splitlines()
    assert header.split(",") == list(COLUMNS)
    assert header.startswith("LabelValue,Name,SegmentedPropertyCategoryCodeSequence.CodingSchemeDesignator,")
    assert first.startswith("1,left kidney,SCT,123037004,Anatomical Structure,SCT,64033007,Kidney,SCT,7771000,Left")
    assert second.endswith(",#b96653")


def test_a_table_of_monai_auto3dseg_without_colours_and_modifiers_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    columns = ["LabelValue", "Name", *COLUMNS[2:8], "Comment"]
    path.write_text(
        ",".join(columns) + "\n7,heart,SCT,123037004,Anatomical Structure,SCT,80891009,Heart,a note\n", "utf-8-sig"
    )
    (heart,) = read_labels(path)
    assert (heart.value, heart.name, heart.type.value) == (7, "heart", "80891009")
    assert heart.color == distinct_color(0)
    assert heart.type_modifier is None


def test_labels_are_sorted_by_value_and_found_by_value_and_name(a_table_of_two_kidneys: LabelTable) -> None:
    assert a_table_of_two_kidneys.values == (1, 2)
    assert a_table_of_two_kidneys.by_name("right kidney").value == 2
    assert a_table_of_two_kidneys.by_value(1).name == "left kidney"
    with pytest.raises(KeyError):
        a_table_of_two_kidneys.by_value(3)


@pytest.mark.parametrize("value", [0, -1, 65536, True, 1.0])
def test_a_value_that_no_labelmap_holds_is_refused(value: int) -> None:
    with pytest.raises(InputError, match="label value"):
        Label(value, "heart", (1, 2, 3), ANATOMICAL_STRUCTURE, LEFT_ATRIUM)


def test_two_labels_of_one_name_or_value_are_refused() -> None:
    one = Label(1, "heart", (1, 2, 3), ANATOMICAL_STRUCTURE, LEFT_ATRIUM)
    with pytest.raises(InputError, match="same name: heart"):
        LabelTable([one, Label(2, "heart", (1, 2, 3), ANATOMICAL_STRUCTURE, LEFT_ATRIUM)])
    with pytest.raises(InputError, match="same value: 1"):
        LabelTable([one, Label(1, "liver", (1, 2, 3), ANATOMICAL_STRUCTURE, LEFT_ATRIUM)])


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("1,left kidney", "x,left kidney", "Line 2 has 'x' as LabelValue"),
        ("1,left kidney", "1,", "no readable name"),
        ("1,left kidney", "70000,left kidney", "70000"),
        ("2,right kidney", "1,right kidney", "same value"),
        ("#b96653", "red", "Line 3 has 'red' as Color"),
        ("SCT,123037004,Anatomical Structure", ",,", "Line 2 has no category or no type"),
        ("SCT,64033007,Kidney", "SCT,64033007,Kid~ney", "character"),
        ("SCT,64033007,Kidney", "SCT,,Kidney", "no value"),
        ("LabelValue", "Value", "LabelValue"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_its_reason(
    a_table_of_two_kidneys: LabelTable, tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    path = tmp_path / "labels.csv"
    write_labels(a_table_of_two_kidneys, path)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ReadError) as caught:
        read_labels(path)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.advice


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=400) | st.text(max_size=400).map(lambda text: text.encode("utf-8", "replace")))
def test_any_file_is_a_table_or_a_read_error(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    path.write_bytes(b",".join(column.encode() for column in COLUMNS) + b"\n" + content)
    with contextlib.suppress(ReadError):
        assert len(read_labels(path)) >= 1


def test_a_missing_file_is_a_read_error(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="cannot be read"):
        read_labels(tmp_path / "labels.csv")


def test_the_first_hundred_colours_are_different() -> None:
    assert len({distinct_color(index) for index in range(100)}) == 100


def test_the_bundled_left_atrium_has_the_codes_of_slicer_and_dicom(repository: Path) -> None:
    (atrium,) = read_labels(repository / "Resources" / "recipes" / "left-atrium-mr.labels.csv")
    assert atrium.category == Code("SCT", "123037004", "Anatomical Structure")
    assert atrium.type == Code("SCT", "82471001", "Left atrium")
    assert (atrium.type_modifier, atrium.region, atrium.region_modifier) == (None, None, None)
