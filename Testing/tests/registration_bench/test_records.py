"""Measurements in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.registration.job import Costs
from benchmarks.registration.measure import Measured, PointErrors
from benchmarks.registration.records import Conditions, Record, Records
from medseg.errors import ReadError

TWO_THREADS = Conditions(2, quick=False)


def a_record(pair: str = "one", method: str = "affine", **changes: object) -> Record:
    measured = Measured(PointErrors(1.0, 0.9, 2.0, 1.8), {17: 0.5, 53: 0.75}, 0.0, 0.01)
    return Record(pair, "brains", method, **{"measured": measured, "costs": Costs(3.0, 5.0, 10**9), **changes})


def test_a_record_comes_back_as_it_was(tmp_path: Path):
    path = tmp_path / "records.json"
    records = Records(TWO_THREADS, path)
    records.add(a_record())
    records.add(a_record("two", measured=Measured(None, {}, 0.0, 0.0)))

    again = Records(TWO_THREADS, path)

    assert again.find("brains", "one", "affine") == a_record()
    assert again.find("brains", "two", "affine") == a_record("two", measured=Measured(None, {}, 0.0, 0.0))
    assert again.find("brains", "one", "demons") is None
    assert again.find("hearts", "one", "affine") is None


def test_what_failed_or_was_left_out_is_tried_again(tmp_path: Path):
    path = tmp_path / "records.json"
    records = Records(TWO_THREADS, path)
    records.add(a_record(status="failed", reason="it ran away", measured=None, costs=None))
    records.add(a_record(method="ants-syn", status="left out", reason="not here", measured=None, costs=None))

    again = Records(TWO_THREADS, path)
    assert again.find("brains", "one", "affine") is None
    assert again.find("brains", "one", "ants-syn") is None

    again.add(a_record())
    assert Records(TWO_THREADS, path).find("brains", "one", "affine") == a_record()


def test_records_of_other_conditions_are_kept_but_not_mixed_in(tmp_path: Path):
    path = tmp_path / "records.json"
    Records(TWO_THREADS, path).add(a_record())

    quick = Records(Conditions(2, quick=True), path)
    assert quick.find("brains", "one", "affine") is None
    quick.add(a_record("two"))

    assert Records(TWO_THREADS, path).find("brains", "one", "affine") == a_record()
    assert Records(TWO_THREADS, path).find("brains", "two", "affine") is None


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"threads": 2, "quick": false}]', "\x00"])
def test_a_file_of_something_else_is_a_sentence(tmp_path: Path, text: str):
    path = tmp_path / "records.json"
    path.write_text(text, encoding="utf-8")
    if text == "{}":  # no records, and no list of them
        assert Records(TWO_THREADS, path).find("brains", "one", "affine") is None
        return
    with pytest.raises(ReadError, match="is not a file of records"):
        Records(TWO_THREADS, path)
