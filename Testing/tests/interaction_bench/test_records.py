"""Sessions in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.interaction.records import Conditions, Record, Records
from benchmarks.interaction.users import Session
from medseg.errors import ReadError

TWO_THREADS = Conditions(2, "a processor", 10)


def a_record(scan: str = "one", **changes: object) -> Record:
    session = Session(0.0, (0.5, 0.75), (1.5, 0.25), (2.0, 0.5))
    names = {"group": "organs", "scan": scan, "structure": "Liver", "method": "network", "weights": "ab"}
    return Record(**{**names, "start": "nothing", "session": session, **changes})


def test_a_record_comes_back_as_it_was(tmp_path: Path):
    path = tmp_path / "records.jsonl"
    records = Records(TWO_THREADS, path)
    records.add(a_record())
    records.add(a_record("two", start="mask"))

    again = Records(TWO_THREADS, path)
    assert again.find(a_record().key) == a_record()
    assert again.find(a_record("two", start="mask").key) == a_record("two", start="mask")
    assert again.find(a_record("two").key) is None
    assert again.find(a_record(weights="cd").key) is None


def test_what_failed_or_was_left_out_is_tried_again(tmp_path: Path):
    path = tmp_path / "records.jsonl"
    Records(TWO_THREADS, path).add(a_record(status="failed", reason="it ran away", session=None))
    again = Records(TWO_THREADS, path)
    assert again.find(a_record().key) is None
    again.add(a_record())
    assert Records(TWO_THREADS, path).find(a_record().key) == a_record()


def test_two_runs_can_write_into_one_file(tmp_path: Path):
    path = tmp_path / "records.jsonl"
    first, second = (Records(TWO_THREADS, path) for _ in range(2))
    first.add(a_record())
    second.add(a_record("two"))
    first.add(a_record("three"))
    found = Records(TWO_THREADS, path)
    assert all(found.find(a_record(scan).key) for scan in ("one", "two", "three"))


def test_records_of_other_conditions_are_not_mixed_in(tmp_path: Path):
    path = tmp_path / "records.jsonl"
    Records(TWO_THREADS, path).add(a_record())
    quick = Records(Conditions(2, "a processor", 3), path)
    assert quick.find(a_record().key) is None
    quick.add(a_record("two"))
    assert Records(TWO_THREADS, path).find(a_record().key) == a_record()


@pytest.mark.parametrize("text", ["[1]", '{"threads": 2}', "\x00", '"a"'])
def test_a_file_of_something_else_is_a_sentence(tmp_path: Path, text: str):
    path = tmp_path / "records.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ReadError, match="is not a file of records"):
        Records(TWO_THREADS, path)
