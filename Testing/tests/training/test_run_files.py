"""What others can read of a run while it goes on."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import medseg.files
from medseg.errors import WriteError
from medseg.training import run_files
from medseg.training.run_files import RunFiles, read_progress, read_state, request_stop
from support.processes import until


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
    assert (state.pid, state.host) == (os.getpid(), socket.gethostname())
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


def rewritten(output: Path, **changes: object) -> None:
    content = json.loads((output / "state.json").read_text())
    (output / "state.json").write_text(json.dumps({**content, **changes}))


def silent_for(output: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(output / "state.json", (then, then))


def test_a_killed_run_is_known_to_be_dead(files: RunFiles, tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    rewritten(tmp_path, pid=child.pid, a_later_key=1)
    assert read_state(tmp_path).alive is True
    silent_for(tmp_path, 150.0)  # the number may be that of somebody else's process, after the machine was started anew
    assert read_state(tmp_path).alive is False
    silent_for(tmp_path, 90.0)
    assert read_state(tmp_path).alive is True
    child.kill()
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert read_state(tmp_path).alive is False  # also while nobody has asked how it ended
    child.wait()
    assert read_state(tmp_path).alive is False


def test_a_run_of_another_computer_is_alive_while_its_heart_beats(files: RunFiles, tmp_path: Path) -> None:
    rewritten(tmp_path, host="elsewhere")
    assert read_state(tmp_path).alive is True
    silent_for(tmp_path, 150.0)
    assert read_state(tmp_path).alive is False


def test_what_this_process_finds_is_no_run_of_its_own(files: RunFiles, tmp_path: Path) -> None:
    assert read_state(tmp_path).alive is False  # a container that is started again has the same host and number


def test_the_heart_beats_until_the_run_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_files, "HEARTBEAT_SECONDS", 0.05)
    files = RunFiles(tmp_path)
    files.start()
    (tmp_path / "state.json").rename(tmp_path / "aside")  # what cannot be touched for a while ends no heart
    time.sleep(0.2)
    (tmp_path / "aside").rename(tmp_path / "state.json")
    before = (tmp_path / "state.json").read_text()
    silent_for(tmp_path, 150.0)
    until(lambda: read_state(tmp_path).silent_seconds < 100.0, "a beat")
    assert (tmp_path / "state.json").read_text() == before
    files.end("cancelled", "Stopped.")
    time.sleep(0.2)
    silent_for(tmp_path, 150.0)
    time.sleep(0.2)
    assert read_state(tmp_path).silent_seconds > 100.0


def test_the_state_is_read_with_pythons_own_library(files: RunFiles, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from medseg.training.run_files import read_state;"
        f"assert read_state(Path({str(tmp_path)!r})).alive is True;"
        "assert not {'numpy', 'torch', 'yaml', 'pydantic'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(medseg.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_a_state_that_somebody_is_just_reading_is_replaced_a_little_later(
    files: RunFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(medseg.files, "REPLACE_SECONDS", 0.5)  # as on Windows, where a file that is open stays
    replace, refused = Path.replace, []

    def refuse(path: Path, target: Path) -> Path:
        if len(refused) < 3:
            refused.append(path)
            raise PermissionError(errno.EACCES, "in use")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    files.update(stage="training")
    assert (len(refused), read_state(tmp_path).stage) == (3, "training")
    refused.clear()
    monkeypatch.setattr(medseg.files, "REPLACE_SECONDS", 0.0)
    with pytest.raises(WriteError, match="no permission"):
        files.update(stage="evaluating")
    assert (len(refused), read_state(tmp_path).stage) == (1, "training")
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


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
