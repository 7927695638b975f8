"""What others can read of a run while it goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medseg.training import run_files
from medseg.training.run_files import RunFiles, read_progress, read_state, request_stop


@pytest.fixture
def files(tmp_path: Path) -> RunFiles:
    files = RunFiles(tmp_path)
    files.start()
    return files


def test_a_run_tells_where_it_is(files: RunFiles, tmp_path: Path) -> None:
    files.update(stage="training", epoch=2, epochs=5, message="Epoch 3 of 5", fraction=0.4)
    state = read_state(tmp_path)
    assert state is not None
    assert (state.state, state.stage, state.epoch, state.fraction) == ("running", "training", 2, 0.4)
    assert state.pid == os.getpid()
    assert state.alive is True
    files.append("start", epochs=5)
    files.end("finished", "Done")
    state = read_state(tmp_path)
    assert (state.state, state.stage, state.fraction, state.alive) == ("finished", "done", 1.0, False)
    assert read_progress(tmp_path)[-1]["state"] == "finished"


def test_the_state_is_not_written_at_every_step(files: RunFiles, tmp_path: Path) -> None:
    files.update(stage="training", step=1)
    files.update(step=2)
    assert read_state(tmp_path).step == 1
    files.flush()
    assert read_state(tmp_path).step == 2


def test_a_killed_run_is_known_to_be_dead(files: RunFiles, tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    content = json.loads((tmp_path / "state.json").read_text())
    (tmp_path / "state.json").write_text(json.dumps({**content, "pid": child.pid, "a_later_key": 1}))
    assert read_state(tmp_path).alive is True
    child.kill()
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert read_state(tmp_path).alive is False  # also while nobody has asked how it ended
    child.wait()
    assert read_state(tmp_path).alive is False
    (tmp_path / "state.json").write_text(json.dumps({**content, "host": "elsewhere"}))
    assert read_state(tmp_path).alive is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1', "null"])
def test_a_damaged_state_is_no_state(text: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(text)
    assert read_state(tmp_path) is None
    assert read_state(tmp_path / "nowhere") is None


def test_numbers_that_are_not_finite_become_null(files: RunFiles, tmp_path: Path) -> None:
    files.append("epoch", epoch=1, loss=float("nan"), dice_per_label={1: 0.5, 2: float("inf")})
    text = (tmp_path / "progress.jsonl").read_text()
    entry = json.loads(text, parse_constant=pytest.fail)
    assert entry["loss"] is None
    assert entry["dice_per_label"] == {"1": 0.5, "2": None}


def test_a_line_that_is_being_written_is_left_out(files: RunFiles, tmp_path: Path) -> None:
    files.append("epoch", epoch=1)
    with (tmp_path / "progress.jsonl").open("a") as stream:
        stream.write('{"kind": "epoch", "epo')
    assert [entry["epoch"] for entry in read_progress(tmp_path)] == [1]


def test_epochs_that_are_repeated_are_forgotten(files: RunFiles, tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        files.append("epoch", epoch=epoch, total_seconds=10.0 * epoch)
    assert files.forget_epochs(after=2) == 20.0
    assert [entry["epoch"] for entry in read_progress(tmp_path)] == [1, 2]
    assert files.forget_epochs(after=0) == 0.0
    assert read_progress(tmp_path) == []


def test_a_request_to_stop_is_seen_once_and_does_not_stop_the_next_run(
    files: RunFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_files, "_STOP_SECONDS", 0.0)
    assert not files.stop_requested()
    request_stop(tmp_path)
    assert files.stop_requested()
    files.end("cancelled", "Stopped.")
    assert not (tmp_path / "stop").exists()
    request_stop(tmp_path)
    later = RunFiles(tmp_path)
    later.start()
    assert not later.stop_requested()


def test_a_run_that_failed_before_it_began_leaves_the_progress_of_the_one_before(tmp_path: Path) -> None:
    earlier = RunFiles(tmp_path)
    earlier.start()
    earlier.append("epoch", epoch=1)
    later = RunFiles(tmp_path)
    later.start()
    later.fail("The recipe is wrong.", "Correct it.")
    state = read_state(tmp_path)
    assert (state.state, state.message, state.advice) == ("failed", "The recipe is wrong.", "Correct it.")
    assert [entry["kind"] for entry in read_progress(tmp_path)] == ["epoch"]


def test_a_helping_process_writes_nothing_but_its_failure(tmp_path: Path) -> None:
    files = RunFiles(tmp_path, writes=False)
    files.start()
    files.update(stage="training")
    files.append("epoch", epoch=1)
    files.end("finished", "Done")
    assert list(tmp_path.iterdir()) == []
    files.fail("The loss is not a number.")
    assert read_state(tmp_path).state == "failed"
