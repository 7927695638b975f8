"""The worker begins with its client and ends with it, whatever happens to either."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from medseg.backend import PythonInterpreter, WorkerClient
from medseg.backend.run_folder import PREFIX, RunFolder, remove_abandoned
from support.processes import is_gone, until
from support.worker_with_test_verbs import THIS

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.volumes import Volume

OWNER = """
    import sys, json, time
    from pathlib import Path
    from medseg.backend import WorkerClient, PythonInterpreter
    client = WorkerClient(PythonInterpreter(Path(sys.argv[1]), "setting"), script=Path(sys.argv[2]))
    client.start()
    while client._worker is None or client.health()["compute"]["state"] != "idle":
        time.sleep(0.02)
    worker = client._worker
    print(json.dumps({**client.health(), "folder": str(worker.folder), "launched": worker._process.pid}), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def start_owner() -> Any:
    """Start a program of its own that owns a worker; return it and what it knows about the worker."""
    started = []

    def start(python: Path = Path(sys.executable)) -> tuple[subprocess.Popen[str], dict[str, Any]]:
        owner = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(OWNER), str(python), str(THIS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(owner)
        assert owner.stdout is not None
        return owner, json.loads(owner.stdout.readline())

    yield start
    for owner in started:
        owner.kill()
        with owner:
            owner.wait()


def wait_for_end_of(facts: dict[str, Any]) -> None:
    for pid in (facts["pid"], facts["compute"]["pid"], facts["launched"]):
        until(lambda pid=pid: is_gone(pid), f"the end of process {pid}")
    assert not Path(facts["folder"]).exists()


def test_the_worker_ends_when_its_owner_is_killed(start_owner: Callable[..., Any]) -> None:
    owner, facts = start_owner()
    assert not is_gone(facts["pid"])
    owner.kill()
    owner.wait()
    wait_for_end_of(facts)


def test_the_worker_ends_when_its_owner_ends_in_peace(start_owner: Callable[..., Any]) -> None:
    owner, facts = start_owner()
    owner.stdin.close()
    owner.wait()
    wait_for_end_of(facts)


@pytest.mark.parametrize("input_of_worker", ["<&0", "</dev/null"])
def test_a_launcher_in_between_is_no_obstacle(
    start_owner: Callable[..., Any], tmp_path: Path, input_of_worker: str
) -> None:
    launcher = tmp_path / "PythonSlicer"
    launcher.write_text(f'#!/bin/sh\necho "launcher talks"\n"{sys.executable}" "$@" {input_of_worker} &\nwait\n')
    launcher.chmod(0o700)
    owner, facts = start_owner(launcher)
    assert facts["pid"] != facts["launched"]
    owner.kill()
    owner.wait()
    wait_for_end_of(facts)


def test_stopping_the_client_ends_the_worker_and_its_jobs(a_small_volume: Volume) -> None:
    client = WorkerClient(script=THIS)
    job = client.submit("sleep", "any", [a_small_volume])
    until(lambda: "Step" in job.text, "the job")
    worker, compute = client._worker, client.health()["compute"]["pid"]
    assert worker is not None
    client.stop()
    assert job.state == "cancelled"
    assert not client.is_running
    until(lambda: worker.ended.is_set() and is_gone(compute), "the end")
    assert worker.exit_code == 0
    assert not worker.folder.exists()


def test_a_launcher_that_is_stopped_takes_the_real_python_with_it(tmp_path: Path, a_small_volume: Volume) -> None:
    launcher = tmp_path / "PythonSlicer"
    launcher.write_text(f'#!/bin/sh\n"{sys.executable}" "$@" <&0 &\nwait\n')
    launcher.chmod(0o700)
    client = WorkerClient(PythonInterpreter(launcher, "PythonSlicer"), script=THIS)
    assert client.estimate("any", a_small_volume.geometry)["device"] == "cpu"
    worker = client._worker
    assert worker is not None
    worker.kill()
    until(lambda: worker.ended.is_set() and is_gone(worker.pid), "the end of the worker")
    client.stop()


def test_a_worker_ends_on_a_termination_signal_without_leaving_anything(a_small_volume: Volume) -> None:
    client = WorkerClient(script=THIS)
    client.estimate("any", a_small_volume.geometry)
    worker, compute = client._worker, client.health()["compute"]["pid"]
    assert worker is not None
    os.kill(worker.pid, signal.SIGTERM)
    until(lambda: worker.ended.is_set() and is_gone(compute), "the end")
    assert not worker.folder.exists()
    client.stop()


def test_an_idle_worker_gives_its_memory_back_and_works_again(a_small_volume: Volume) -> None:
    client = WorkerClient(script=THIS, idle_minutes=0.01)
    job = client.submit("threshold", "any", [a_small_volume])
    assert job.wait(120)
    until(lambda: client.health()["compute"]["state"] == "off", "the unloading")
    job = client.submit("threshold", "any", [a_small_volume])
    assert job.wait(120)
    assert job.state == "done"
    client.stop()


def test_another_interpreter_takes_over(a_small_volume: Volume, tmp_path: Path) -> None:
    client = WorkerClient(script=THIS)
    client.estimate("any", a_small_volume.geometry)
    first = client._worker
    assert first is not None
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    other.chmod(0o700)
    client.use_interpreter(PythonInterpreter(other, "setting"))
    assert client.estimate("any", a_small_volume.geometry)["device"] == "cpu"
    assert client.interpreter is not None
    assert client.interpreter.path == other
    until(first.ended.is_set, "the end of the first worker")
    client.stop()


def test_what_a_killed_worker_left_behind_is_removed_by_the_next(tmp_path: Path) -> None:
    alive = RunFolder(tmp_path)
    dead = RunFolder(tmp_path)
    (dead.subfolder("volumes") / "image").write_bytes(b"of a patient")
    dead._lock.close()
    foreign = tmp_path / f"{PREFIX}without-lock"
    foreign.mkdir()
    remove_abandoned(tmp_path)
    assert alive.path.is_dir()
    assert foreign.is_dir()
    assert not dead.path.exists()
    alive.remove()
    assert not alive.path.exists()
