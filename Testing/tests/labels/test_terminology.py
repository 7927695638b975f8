"""Terminology: the same strings and contexts as 3D Slicer's own terminology logic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import InputError
from medseg.labels import Code, Label, LabelTable, TerminologyEntry, parse_terminology_entry, write_terminology
from medseg.labels.codes import (
    ALTERED_STRUCTURE,
    ANATOMICAL_STRUCTURE,
    DICOM_CONTEXT,
    LEFT,
    LEFT_ATRIUM,
    MEDSEG_CONTEXT,
    RIGHT,
)

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

KIDNEY = Code("SCT", "64033007", "Kidney")
MASS = Code("SCT", "4147007", "Mass")


@pytest.fixture(scope="module")
def the_logic_of_slicer() -> Any:
    return slicer.vtkSlicerTerminologiesModuleLogic()


def triplet_of(coded: Any) -> Code | None:
    parts = (coded.GetCodingSchemeDesignator(), coded.GetCodeValue(), coded.GetCodeMeaning())
    return Code(*parts) if any(parts) else None


words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="~^|"), min_size=1)
codes = st.builds(Code, words, words, words)
entries = st.builds(TerminologyEntry, words, codes, codes, st.none() | codes, words, st.none() | codes)


@settings(max_examples=100, deadline=None)
@given(entry=entries)
def test_slicer_reads_an_entry_and_writes_the_same_text(entry: TerminologyEntry, the_logic_of_slicer: Any) -> None:
    read = slicer.vtkSlicerTerminologyEntry()
    assert the_logic_of_slicer.DeserializeTerminologyEntry(str(entry), read)
    assert the_logic_of_slicer.SerializeTerminologyEntry(read) == str(entry)
    assert read.GetTerminologyContextName() == entry.context
    assert triplet_of(read.GetCategoryObject()) == entry.category
    assert triplet_of(read.GetTypeObject()) == entry.type
    assert triplet_of(read.GetTypeModifierObject()) == entry.type_modifier
    assert triplet_of(read.GetRegionObject()) == entry.region


@given(entry=entries)
def test_an_entry_is_taken_apart_into_what_it_was_made_of(entry: TerminologyEntry) -> None:
    assert parse_terminology_entry(str(entry)) == entry


def test_the_left_atrium_reads_as_slicer_writes_it() -> None:
    atrium = Label(1, "left atrium", (203, 108, 81), ANATOMICAL_STRUCTURE, LEFT_ATRIUM)
    assert atrium.terminology_entry(DICOM_CONTEXT) == (
        "Segmentation category and type - DICOM master list~SCT^123037004^Anatomical Structure"
        "~SCT^82471001^Left atrium~^^~Anatomic codes - DICOM master list~^^~^^"
    )


def test_a_lesion_of_the_left_kidney_carries_its_region(the_logic_of_slicer: Any) -> None:
    lesion = Label(1, "tumour", (1, 2, 3), ALTERED_STRUCTURE, MASS, None, KIDNEY, LEFT)
    read = slicer.vtkSlicerTerminologyEntry()
    assert the_logic_of_slicer.DeserializeTerminologyEntry(lesion.terminology_entry(), read)
    assert triplet_of(read.GetRegionObject()) == KIDNEY
    assert triplet_of(read.GetRegionModifierObject()) == LEFT
    assert read.GetRegionContextName() == "Anatomic codes - DICOM master list"


@pytest.mark.parametrize("bad", ["a~b", "a^b", "a|b", "", " ", "a\nb"])
def test_a_code_that_slicer_cannot_hold_is_refused(bad: str) -> None:
    with pytest.raises(InputError):
        Code("SCT", "1", bad)


@pytest.mark.parametrize("text", ["", "a~b", "~^^~^^~^^~~^^~^^", "c~a^b~a^b^c~^^~~^^~^^"])
def test_what_is_no_entry_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_terminology_entry(text)


def test_slicer_loads_our_context_and_finds_types_and_modifiers_in_it(the_logic_of_slicer: Any, tmp_path: Path) -> None:
    table = LabelTable(
        [
            Label(1, "left kidney", (10, 20, 30), ANATOMICAL_STRUCTURE, KIDNEY, LEFT),
            Label(2, "right kidney", (40, 50, 60), ANATOMICAL_STRUCTURE, KIDNEY, RIGHT),
            Label(3, "left atrium", (203, 108, 81), ANATOMICAL_STRUCTURE, LEFT_ATRIUM),
            Label(4, "tumour", (70, 80, 90), ALTERED_STRUCTURE, MASS, None, KIDNEY),
        ]
    )
    path = tmp_path / "MedSeg.term.json"
    write_terminology(table, path)
    assert the_logic_of_slicer.LoadTerminologyFromFile(str(path)) == MEDSEG_CONTEXT
    assert the_logic_of_slicer.IsTerminologyContextLoaded(MEDSEG_CONTEXT)
    for label in table:
        entry = slicer.vtkSlicerTerminologyEntry()
        the_logic_of_slicer.DeserializeTerminologyEntry(label.terminology_entry(""), entry)
        assert the_logic_of_slicer.UpdateEntryFromLoadedTerminologies(entry, [], [])
        assert entry.GetTerminologyContextName() == MEDSEG_CONTEXT
        shown = entry.GetTypeModifierObject() if label.type_modifier else entry.GetTypeObject()
        assert tuple(shown.GetRecommendedDisplayRGBValue()) == label.color
        assert entry.GetCategoryObject().GetShowAnatomy() == (label.region is not None)
