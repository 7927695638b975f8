"""A training run in a process of its own: started, followed, stopped, found again, ended with its owner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from medseg.backend import training_process, training_run
from medseg.backend.interpreter import PythonInterpreter
from medseg.backend.training_process import ProgressReader, TrainingProcess, write_recipe
from medseg.errors import RecipeError, TrainingError, WorkerError, WriteError
from medseg.training.run_files import RunFiles, read_state
from support.fake_training import THIS
from support.processes import is_gone, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def a_run(tmp_path: Path) -> Any:
    """Start a fake run that does what its recipe says, in the folder ``output``; ended with the test."""
    started: list[TrainingProcess] = []

    def start(process: TrainingProcess | None = None, **recipe: Any) -> TrainingProcess:
        path = tmp_path / "recipe.json"
        path.write_text(json.dumps(recipe), encoding="utf-8")
        process = process or TrainingProcess(tmp_path / "output")
        process.start(path, tmp_path, script=THIS)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


def state_of(process: TrainingProcess, wanted: str) -> Callable[[], bool]:
    return lambda: process.status().state == wanted


def test_a_run_goes_through_its_states_to_the_end(a_run: Any, tmp_path: Path) -> None:
    (tmp_path / "output" / "fake").mkdir(parents=True)
    process = a_run(epochs=3, package="fake")
    assert process.status().state in ("starting", "running")
    until(state_of(process, "finished"))
    status = process.status()
    assert (status.fraction, status.seconds_left, status.is_going_on) == (1.0, None, False)
    assert status.package == tmp_path / "output" / "fake"
    assert status.report == tmp_path / "output" / "report.html"


def test_a_folder_without_a_run_says_so(tmp_path: Path) -> None:
    assert TrainingProcess(tmp_path / "nothing").status().state == "none"


def test_a_stopped_run_goes_on_where_it_was(a_run: Any, tmp_path: Path) -> None:
    process = a_run(epochs=50, seconds=0.1)
    until(lambda: process.status().fraction > 0, "the first epoch")
    process.stop()
    assert process.status().sentence == "Stopping after this step…"
    until(state_of(process, "cancelled"))
    done = read_state(tmp_path / "output").epoch
    assert done >= 1

    a_run(process, epochs=done + 1)
    assert process.status().state == "starting", "the state of the former run is not the state of this one"
    until(state_of(process, "finished"))
    assert read_state(tmp_path / "output").resumed_from_epoch == done


def test_a_run_that_is_stopped_while_it_starts_ends_at_once(a_run: Any) -> None:
    process = a_run(epochs=2, slow_start=60.0)
    process.stop()
    until(state_of(process, "cancelled"))
    assert "before it began" in process.status().sentence


def test_a_request_to_stop_is_not_lost_when_the_process_takes_it_for_an_old_one(a_run: Any, tmp_path: Path) -> None:
    process = a_run(epochs=500, seconds=0.1)
    until(lambda: process.status().fraction > 0)
    process.stop()
    (tmp_path / "output" / "stop").unlink(missing_ok=True)
    until(state_of(process, "cancelled"))


def test_a_failure_is_told_with_the_next_step(a_run: Any) -> None:
    process = a_run(epochs=3, fails=2)
    until(state_of(process, "failed"))
    assert process.status().sentence == "The loss is not a number. Lower the learning rate."


def test_a_failure_before_the_first_state_is_told_from_the_console(a_run: Any) -> None:
    process = a_run(breaks="Training needs the Python package 'lightning'.")
    until(state_of(process, "failed"))
    assert process.status().sentence == "Training needs the Python package 'lightning'."


def test_a_run_that_was_killed_says_where_and_goes_on(a_run: Any) -> None:
    process = a_run(epochs=4, dies=3)
    until(state_of(process, "interrupted"))
    assert "interrupted in epoch 3 of 4" in process.status().sentence
    a_run(process, epochs=4, dies=3)
    until(state_of(process, "finished"))


def test_another_object_finds_the_run_and_stops_it(a_run: Any, tmp_path: Path) -> None:
    """A panel that was reloaded has lost the process, but not the folder."""
    process = a_run(epochs=500, seconds=0.1)
    until(state_of(process, "running"))
    found = TrainingProcess(tmp_path / "output")
    assert found.status().state == "running"
    with pytest.raises(TrainingError, match="going on"):
        found.start(tmp_path / "recipe.json", tmp_path, script=THIS)
    found.stop()
    assert found.status().state in ("stopping", "cancelled")
    until(state_of(found, "cancelled"))


def test_a_run_of_another_computer_is_believed_while_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    files = RunFiles(tmp_path)
    files.start()
    monkeypatch.undo()
    process = TrainingProcess(tmp_path)
    assert process.status().state == "running"
    then = time.time() - 150.0
    os.utime(tmp_path / "state.json", (then, then))
    assert process.status().state == "interrupted"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(WriteError, match="could not be written"):
        TrainingProcess(tmp_path / "file" / "output").start(tmp_path, tmp_path)


def test_a_python_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    python = PythonInterpreter(tmp_path / "no-python", "test")
    with pytest.raises(WorkerError, match="could not be started"):
        TrainingProcess(tmp_path / "output").start(tmp_path, tmp_path, interpreter=python)


def test_a_run_ends_with_its_owner(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"epochs": 5000, "seconds": 0.1}), encoding="utf-8")
    code = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(THIS.parents[1])!r})
from medseg.backend.training_process import TrainingProcess
process = TrainingProcess(Path({str(tmp_path / "output")!r}))
process.start(Path({str(recipe)!r}), Path({str(tmp_path)!r}), script=Path({str(THIS)!r}))
while process.status().state != "running":
    time.sleep(0.05)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    pid = read_state(tmp_path / "output").pid
    until(lambda: is_gone(pid), "the end of the run")


def test_the_reader_gives_only_what_is_new(tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    reader = ProgressReader(tmp_path)
    assert reader.read() == (False, 0)
    files.append("start", labels={"1": "Atrium"}, colors={"1": "#c80000"})
    files.append("epoch", epoch=1, loss=0.5)
    assert reader.read() == (True, 1)
    assert (reader.labels, reader.colors) == ({"1": "Atrium"}, {"1": "#c80000"})
    assert reader.read() == (False, 0)
    files.append("epoch", epoch=2, loss=0.4)
    files.append("epoch", epoch=3, loss=0.3)
    assert reader.read() == (False, 2)
    assert [entry["epoch"] for entry in reader.epochs] == [1, 2, 3]


def test_the_reader_waits_for_the_end_of_a_line_and_passes_over_nonsense(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    reader = ProgressReader(tmp_path)
    path.write_text('nonsense\n[1]\n{"kind": "epoch", "epo', encoding="utf-8")
    assert reader.read() == (True, 0)
    with path.open("a", encoding="utf-8") as stream:
        stream.write('ch": 1}\n')
    assert reader.read() == (False, 1)


def test_the_reader_starts_over_when_epochs_are_repeated_or_the_file_is_gone(tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    for epoch in range(1, 4):
        files.append("epoch", epoch=epoch, loss=0.5)
    reader = ProgressReader(tmp_path)
    assert reader.read() == (True, 3)
    files.forget_epochs(1)
    for epoch in range(2, 6):
        files.append("epoch", epoch=epoch, loss=0.1)
    assert reader.read() == (True, 5)
    assert [entry["epoch"] for entry in reader.epochs] == [1, 2, 3, 4, 5]
    (tmp_path / "progress.jsonl").unlink()
    assert reader.read() == (True, 0)
    assert reader.epochs == []


def test_a_new_recipe_is_written_and_its_notes_are_handed_on(tmp_path: Path) -> None:
    assert write_recipe(tmp_path / "new.yaml", tmp_path, script=THIS) == ["The labels have no names yet."]
    assert (tmp_path / "new.yaml").is_file()
    with pytest.raises(RecipeError, match="There is no folder"):
        write_recipe(tmp_path / "new.yaml", tmp_path / "nothing", script=THIS)


def test_a_new_recipe_is_told_which_model_it_goes_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recipe(tmp_path / "new.yaml", tmp_path, start_from="a-model", script=THIS)
    assert json.loads((tmp_path / "new.yaml").read_text())["start_from"] == "a-model"
    monkeypatch.setattr(sys, "argv", ["launch.py"])
    with pytest.raises(SystemExit):
        training_run.main(["new", str(tmp_path / "other.yaml"), str(tmp_path), "--from", "nobody"])
    assert "There is no model 'nobody'" in capsys.readouterr().err.splitlines()[-1]


def test_the_runner_tells_that_a_folder_has_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["launch.py"])
    with pytest.raises(SystemExit) as caught:
        training_run.main(["new", str(tmp_path / "new.yaml"), str(tmp_path)])
    assert caught.value.code == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert str(tmp_path) in last
    assert "defect" not in last


def test_the_runner_tells_a_bad_recipe_in_one_sentence(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("seed: [\n", encoding="utf-8")
    process = TrainingProcess(tmp_path / "output")
    process.start(recipe, tmp_path)
    until(state_of(process, "failed"))
    assert "is not valid YAML" in process.status().sentence
    assert "Traceback" not in process.status().sentence


@pytest.mark.skipif(os.name == "nt", reason="processes are never forked there, so the loaders of training show it")
def test_a_process_that_is_not_forked_gets_this_copy_of_medseg(tmp_path: Path) -> None:
    """Loaders of training data, where processes are started anew, unpickle objects of medseg."""
    package = tmp_path / "elsewhere" / "medseg"
    (package / "backend").mkdir(parents=True)
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "backend" / "__init__.py").write_text("", encoding="utf-8")
    launch = training_process.Path(training_process.__file__).with_name("launch.py")
    (package / "backend" / "launch.py").write_text(launch.read_text(encoding="utf-8"), encoding="utf-8")
    (package / "job.py").write_text(
        "import multiprocessing, medseg\n"
        "def where(): return medseg.__file__\n"
        "def main(_):\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool: print(pool.apply(where))\n",
        encoding="utf-8",
    )
    command = [sys.executable, str(package / "backend" / "launch.py"), "medseg.job"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(package / "__init__.py")
