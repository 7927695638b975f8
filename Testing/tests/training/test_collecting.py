"""Corrected cases become a folder to train from."""

from __future__ import annotations

import csv
import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from medseg.correction.prompts import Prompt
from medseg.errors import InputError, ReadError, WriteError
from medseg.labels import Code, Label, LabelTable, read_labels, write_labels
from medseg.labels.codes import ANATOMICAL_STRUCTURE, TISSUE
from medseg.training import collecting
from medseg.training.collecting import AppendedCase, append_case, merged_labels
from medseg.volumes import Geometry, Volume, read_labelmap, read_volume

SHAPE = (6, 8, 10)
GEOMETRY = Geometry.from_spacing(SHAPE, (0.7, 0.8, 2.5), (10.0, -20.0, 30.0), "LPS")
LIVER, SPLEEN = Code("SCT", "10200004", "Liver"), Code("SCT", "78961009", "Spleen")


def label(value: int, name: str, code: Code = TISSUE) -> Label:
    return Label(value, name, (10 * value, 20, 30), ANATOMICAL_STRUCTURE if code is not TISSUE else TISSUE, code)


def an_image(seed: int = 0, name: str = "") -> Volume:
    return Volume(np.random.default_rng(seed).integers(-1000, 1000, SHAPE).astype(np.int16), GEOMETRY, name=name)


def drawn(*values: int, dtype: type = np.uint8) -> Volume:
    array = np.zeros(SHAPE, dtype)
    for place, value in enumerate(values):
        array[place, 2:5, 3:7] = value
    return Volume(array, GEOMETRY)


def append(folder: Path, seed: int, *labels: Label, **options: object) -> AppendedCase:
    return append_case(folder, an_image(seed), drawn(*(one.value for one in labels)), LabelTable(labels), **options)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".medseg-lock")


def annotated(folder: Path) -> dict[str, list[str]]:
    with (folder / "cases.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    return {row[0]: row[1:] for row in rows}


def test_a_case_is_an_image_its_labels_and_its_clicks(tmp_path: Path) -> None:
    click = Prompt("point", [1.0, 2.0, 3.0], False)
    case = append(tmp_path / "new" / "folder", 0, label(1, "Liver", LIVER), prompts={"Liver": [click]})
    folder = tmp_path / "new" / "folder"
    assert case == AppendedCase("case_0001", replaced=False, cases=1, new_labels=("Liver",))
    assert files(folder) == [
        "case_0001_clicks.json",
        "case_0001_image.nii.gz",
        "case_0001_label.nii.gz",
        "cases.csv",
        "labels.csv",
    ]
    image, labels = read_volume(folder / "case_0001_image.nii.gz"), read_labelmap(folder / "case_0001_label.nii.gz")
    assert image.array.dtype == np.int16
    assert image.geometry.is_close(GEOMETRY)
    assert np.array_equal(image.array, an_image(0).array)
    assert np.array_equal(labels.array, drawn(1).array)
    assert read_labels(folder / "labels.csv").by_value(1).type == LIVER
    (entry,) = json.loads((folder / "case_0001_clicks.json").read_text())["labels"]
    assert entry == {"value": 1, "name": "Liver", "clicks": [click.to_dict()]}


def test_known_names_keep_their_value_and_new_ones_get_the_next(tmp_path: Path) -> None:
    append(tmp_path, 0, label(4, "Liver", LIVER), label(9, "Spleen", SPLEEN))
    case = append(tmp_path, 1, label(1, "Spleen", SPLEEN), label(2, "Stomach"), label(3, "liver "))
    assert read_labels(tmp_path / "labels.csv").names == ("Liver", "Spleen", "Stomach")
    assert case.new_labels == ("Stomach",)
    first, second = (read_labelmap(tmp_path / f"case_000{number}_label.nii.gz").array for number in (1, 2))
    assert [first[place, 3, 4] for place in range(2)] == [1, 2]
    assert [second[place, 3, 4] for place in range(3)] == [2, 3, 1]


def test_a_renamed_label_is_known_by_its_codes_unless_others_share_them() -> None:
    known = LabelTable([label(1, "Liver", LIVER), label(2, "Spleen", SPLEEN)])
    assert merged_labels(known, LabelTable([label(7, "Leber", LIVER)])) == (known, {7: 1})
    table, values = merged_labels(known, LabelTable([label(1, "Lobe a", LIVER), label(2, "Lobe b", LIVER)]))
    assert values == {1: 3, 2: 4}
    assert table.names == ("Liver", "Spleen", "Lobe a", "Lobe b")
    assert merged_labels(LabelTable([label(1, "Segment_1")]), LabelTable([label(1, "Lesion")]))[1] == {1: 2}


def test_a_name_counts_more_than_codes() -> None:
    known = LabelTable([label(1, "Liver", LIVER)])
    assert merged_labels(known, LabelTable([label(1, "Copy", LIVER), label(2, "Liver", SPLEEN)]))[1] == {2: 1, 1: 2}


def test_the_same_image_comes_once_and_is_brought_up_to_date(tmp_path: Path) -> None:
    append(tmp_path, 0, label(1, "Liver"), prompts={"Liver": [Prompt("point", [0.0, 0.0, 0.0])]})
    append(tmp_path, 1, label(1, "Liver"))
    again = append(tmp_path, 0, label(1, "Spleen"), label(2, "Liver"))
    assert (again.name, again.replaced, again.cases) == ("case_0001", True, 2)
    assert read_labelmap(tmp_path / "case_0001_label.nii.gz").array[0, 3, 4] == 2
    entries = json.loads((tmp_path / "case_0001_clicks.json").read_text())["labels"]
    assert [entry["clicks"] for entry in entries] == [[], []]
    assert len([name for name in files(tmp_path) if name.endswith("_image.nii.gz")]) == 2


def test_the_numbers_go_on_after_a_case_was_taken_out(tmp_path: Path) -> None:
    for seed in range(3):
        append(tmp_path, seed, label(1, "Liver"))
    for path in tmp_path.glob("case_0002_*"):
        path.unlink()
    assert append(tmp_path, 3, label(1, "Liver")).name == "case_0004"
    assert list(annotated(tmp_path)) == ["case", "case_0001", "case_0003", "case_0004"]


def test_the_table_says_what_was_drawn_in_which_case_also_where_it_is_empty(tmp_path: Path) -> None:
    append(tmp_path, 0, label(1, "Liver"))
    nothing_of_it = LabelTable([label(1, "Liver"), label(2, "Spleen")])
    append_case(tmp_path, an_image(1), drawn(1), nothing_of_it)
    assert annotated(tmp_path) == {
        "case": ["label 1", "label 2", "any other label"],
        "case_0001": ["1", "0", "0"],
        "case_0002": ["1", "1", "0"],
    }


def test_no_name_and_no_date_is_written(tmp_path: Path) -> None:
    import gzip

    append_case(tmp_path, an_image(0, "Mueller^Anna 1961-02-03"), drawn(1), LabelTable([label(1, "Liver")]))
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        text = gzip.decompress(content) if path.suffix == ".gz" else content
        for word in (b"Mueller", b"Anna", b"1961", b"2026"):
            assert word not in text, path.name


@pytest.mark.parametrize(
    ("image", "labelmap", "sentence"),
    [
        (an_image(), drawn(), "Nothing is drawn"),
        (an_image(), drawn(5), r"values without a label: \[5\]"),
        (Volume(an_image().array, Geometry.from_spacing(SHAPE, (1, 1, 1))), drawn(1), "different grids"),
    ],
)
def test_a_case_that_cannot_be_learnt_from_is_refused_and_leaves_nothing(
    tmp_path: Path, image: Volume, labelmap: Volume, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        append_case(tmp_path / "cases", image, labelmap, LabelTable([label(1, "Liver")]))
    assert not (tmp_path / "cases").exists()


def test_a_label_table_that_cannot_be_used_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("value,name\n1,Liver\n")
    with pytest.raises(ReadError, match=r"labels.csv"):
        append(tmp_path, 0, label(1, "Liver"))
    assert files(tmp_path) == ["labels.csv"]


def test_what_fails_half_way_leaves_the_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(tmp_path, 0, label(1, "Liver"))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(collecting, "_write_cases", full)
    with pytest.raises(WriteError, match="disk is full"):
        append(tmp_path, 0, label(1, "Spleen"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_case_whose_program_was_killed_while_it_moved_the_files_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(tmp_path, 0, label(1, "Liver"))

    def killed(ready: Path, folder: Path) -> None:
        first = min(ready.iterdir())
        first.replace(folder / first.name)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(collecting, "_move_out", killed)
        with pytest.raises(KeyboardInterrupt):
            append(tmp_path, 1, label(1, "Spleen"))
    (tmp_path / ".medseg-new-leftover").mkdir()
    case = append(tmp_path, 2, label(1, "Stomach"))
    assert (case.name, case.cases) == ("case_0003", 3)
    assert read_labels(tmp_path / "labels.csv").names == ("Liver", "Spleen", "Stomach")
    assert [name for name in files(tmp_path) if name.startswith(".")] == []
    assert len(files(tmp_path)) == 3 * 3 + 2


def _append_some(folder: str, first: int) -> None:
    for seed in range(first, first + 4):
        append(Path(folder), seed, label(1, f"Organ {seed}"))


def test_two_programs_that_add_at_once_take_different_numbers_and_values(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_append_some, args=(str(tmp_path), first)) for first in (0, 100)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    table = read_labels(tmp_path / "labels.csv")
    assert sorted(table.names) == sorted(f"Organ {seed}" for seed in (0, 1, 2, 3, 100, 101, 102, 103))
    assert list(annotated(tmp_path)) == ["case", *(f"case_{number:04d}" for number in range(1, 9))]
    for number in range(1, 9):
        image = read_volume(tmp_path / f"case_{number:04d}_image.nii.gz").array
        found = set(np.unique(read_labelmap(tmp_path / f"case_{number:04d}_label.nii.gz").array)) - {0}
        (value,) = found
        seed = int(table.by_value(int(value)).name.split()[1])
        assert np.array_equal(image, an_image(seed).array)


def test_a_folder_that_another_program_keeps_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "LOCK_SECONDS", 0.2)
    with collecting._locked(tmp_path), pytest.raises(WriteError, match="Another program is adding a case"):
        append(tmp_path, 0, label(1, "Liver"))
    assert append(tmp_path, 0, label(1, "Liver")).cases == 1


def test_values_above_255_are_kept(tmp_path: Path) -> None:
    append(tmp_path, 0, label(1, "Liver"))
    far = Label(300, "Far", (1, 2, 3), TISSUE, TISSUE)
    write_labels(LabelTable([*read_labels(tmp_path / "labels.csv"), far]), tmp_path / "labels.csv")
    append_case(tmp_path, an_image(1), drawn(1), LabelTable([label(1, "Further")]))
    assert read_labelmap(tmp_path / "case_0002_label.nii.gz").array.max() == 301
