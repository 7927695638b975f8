"""The client keeps its promises to the main thread: it asks nothing there, and a job is never left hanging."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from medseg.backend import PythonInterpreter, WorkerClient
from medseg.backend import client as client_module
from medseg.backend import prepared as prepared_module
from medseg.backend.job import Job, RemainingTime
from medseg.backend.report import redact
from medseg.backend.running_worker import Answer, ConnectionLostError, RunningWorker
from medseg.errors import Cancelled, InputError, MedSegError, WorkerError
from support.worker_with_test_verbs import THIS

if TYPE_CHECKING:
    from medseg.volumes import Volume


def test_the_client_needs_only_the_standard_library_and_numpy() -> None:
    code = (
        "import sys, medseg.backend\n"
        "heavy = 'torch monai SimpleITK scipy psutil fastapi httpx pydantic yaml rich typer vtk'.split()\n"
        "print(sorted(set(heavy) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_process_and_no_network_is_touched_on_the_callers_thread(
    a_small_volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = set()

    def on_this_thread(kind: type, name: str) -> None:
        original = getattr(kind, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            used.add((name, threading.get_ident()))
            return original(*args, **kwargs)

        monkeypatch.setattr(kind, name, watched)

    on_this_thread(RunningWorker, "__init__")
    on_this_thread(RunningWorker, "request")
    on_this_thread(prepared_module, "encode_volume")
    client = WorkerClient(script=THIS)
    client.start()
    estimate = client.submit_estimate("any", a_small_volume.geometry)
    job = client.submit("threshold", "any", [a_small_volume])
    assert job.poll() is job
    assert job.wait(120)
    assert estimate.wait(120)
    slow = client.submit("sleep", "any", [a_small_volume])
    while "Step" not in slow.text:
        threading.Event().wait(0.02)
    slow.cancel()
    assert slow.wait(120)
    client.stop()
    assert {name for name, _ in used} == {"__init__", "request", "encode_volume"}
    assert threading.get_ident() not in {thread for _, thread in used}


def test_a_volume_may_be_made_in_a_thread_of_the_client(a_small_volume: Volume) -> None:
    threads = []

    def make() -> Volume:
        threads.append(threading.get_ident())
        return a_small_volume

    def fail() -> Volume:
        raise InputError("The volume is odd.", advice="Use another one.")

    client = WorkerClient(script=THIS)
    job = client.submit("threshold", "any", [make])
    failed = client.submit("threshold", "any", [fail])
    assert job.wait(120)
    assert failed.wait(120)
    client.stop()
    assert job.state == "done"
    assert "Input: CT, 4 x 5 x 6 voxels" in job.report()
    assert threads
    assert threading.get_ident() not in threads
    assert str(failed.error) == "The volume is odd. Use another one."


@pytest.fixture
def a_start_that_hangs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Starting a worker waits until the event is set."""
    release = threading.Event()

    class HangingWorker(RunningWorker):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            release.wait(120)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(client_module, "RunningWorker", HangingWorker)
    yield release
    release.set()


def test_a_job_exists_before_its_worker(a_start_that_hangs: threading.Event, a_small_volume: Volume) -> None:
    client = WorkerClient(script=THIS)
    job = client.submit("threshold", "any", [a_small_volume])
    assert (job.state, job.progress, job.seconds_left, job.error) == ("queued", 0.0, None, None)
    assert job.text == "Starting the worker…"
    assert not client.is_running
    with pytest.raises(WorkerError, match="not finished"):
        job.result()
    a_start_that_hangs.set()
    assert job.wait(120)
    assert job.state == "done"
    client.stop()


def test_a_job_is_cancelled_at_once_while_its_worker_starts(
    a_start_that_hangs: threading.Event, a_small_volume: Volume
) -> None:
    client = WorkerClient(script=THIS)
    job = client.submit("threshold", "any", [a_small_volume])
    job.cancel()
    assert job.state == "cancelled"
    with pytest.raises(Cancelled):
        job.result()
    a_start_that_hangs.set()
    again = client.submit("threshold", "any", [a_small_volume])
    assert again.wait(120)
    assert again.state == "done"
    client.stop()


def test_a_client_that_is_stopped_while_its_worker_starts_leaves_none(
    a_start_that_hangs: threading.Event, a_small_volume: Volume
) -> None:
    client = WorkerClient(script=THIS)
    job = client.submit("threshold", "any", [a_small_volume])
    client.stop()
    assert job.state == "cancelled"
    a_start_that_hangs.set()
    with client._start_lock:
        assert not client.is_running


def test_several_jobs_at_once_start_one_worker(a_small_volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    original = RunningWorker.__init__

    def counted(self: RunningWorker, *args: Any, **kwargs: Any) -> None:
        started.append(self)
        original(self, *args, **kwargs)

    monkeypatch.setattr(RunningWorker, "__init__", counted)
    client = WorkerClient(script=THIS)
    jobs = [client.submit("threshold", "any", [a_small_volume]) for _ in range(6)]
    assert all(job.wait(120) for job in jobs)
    assert [job.state for job in jobs] == ["done"] * 6
    client.stop()
    assert len(started) == 1


def test_the_same_volume_is_sent_once(a_small_volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    original = RunningWorker.request

    def watched(self: RunningWorker, method: str, path: str, **options: Any) -> Answer:
        sent.append((method, path.split("/")[1]))
        return original(self, method, path, **options)

    monkeypatch.setattr(RunningWorker, "request", watched)
    client = WorkerClient(script=THIS)
    other = a_small_volume.with_array(a_small_volume.array + 1)
    for volumes in ([a_small_volume], [a_small_volume], [a_small_volume, other], [a_small_volume, a_small_volume]):
        job = client.submit("threshold", "any", volumes)
        assert job.wait(120)
        assert job.state == "done"
    client.stop()
    assert sent.count(("PUT", "volumes")) == 2
    assert sent.count(("POST", "jobs")) == 4


class FakeWorker:
    """A worker that answers what the test says."""

    is_alive = True

    def __init__(self, *_: Any, **__: Any) -> None:
        self.interpreter = PythonInterpreter(Path(sys.executable), "this Python")
        self.killed = False
        self.stored: set[str] = set()
        self.forgetful = 0

    def request(self, method: str, path: str, **options: Any) -> Answer:
        if method == "HEAD":
            return Answer(200 if path in self.stored else 404, b"")
        if method == "PUT":
            b"".join(bytes(chunk) for chunk in options["chunks"])
            self.stored.add(path)
            return Answer(201, b"{}")
        if path == "/jobs" and self.forgetful:
            self.forgetful -= 1
            self.stored.clear()
            return Answer(409, b'{"error": {"kind": "InputError", "message": "again"}, "missing": []}')
        if path == "/jobs":
            return Answer(202, b'{"job": "0123456789abcdef"}')
        return self.answer(method, path)

    def answer(self, method: str, path: str) -> Answer:
        raise NotImplementedError

    def cause_of_end(self) -> MedSegError:
        return WorkerError("It is gone.")

    def last_words(self) -> str:
        return ""

    def kill(self) -> None:
        self.killed = True

    stop = kill


def job_of(worker: FakeWorker, volume: Volume, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr(client_module, "RunningWorker", lambda *_, **__: worker)
    return WorkerClient().submit("segment", "m", [volume])


def test_a_volume_that_the_worker_has_dropped_is_sent_again(
    a_small_volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Worker(FakeWorker):
        def answer(self, method: str, path: str) -> Answer:  # noqa: ARG002
            return Answer(422, b'{"error": {"kind": "InputError", "message": "reached"}}')

    worker = Worker()
    worker.forgetful = 2
    job = job_of(worker, a_small_volume, monkeypatch)
    assert job.wait(120)
    assert str(job.error) == "reached"


def test_a_worker_without_room_is_not_asked_for_ever(a_small_volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = FakeWorker()
    worker.forgetful = 1000
    job = job_of(worker, a_small_volume, monkeypatch)
    assert job.wait(120)
    assert "no room" in str(job.error)


@pytest.mark.parametrize("answer", [b"", b"[]", b"not json", b'{"state": "running"}', b'{"revision": 1}'])
def test_an_answer_that_makes_no_sense_ends_the_job(
    a_small_volume: Volume, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    class Worker(FakeWorker):
        def answer(self, method: str, path: str) -> Answer:  # noqa: ARG002
            return Answer(200, answer)

    job = job_of(Worker(), a_small_volume, monkeypatch)
    assert job.wait(120)
    assert job.state == "failed"
    assert "defect" in str(job.error) or "makes no sense" in str(job.error)


def test_a_result_that_is_damaged_ends_the_job_with_a_sentence(
    a_small_volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Worker(FakeWorker):
        def answer(self, method: str, path: str) -> Answer:  # noqa: ARG002
            if path.endswith("/result"):
                return Answer(200, b"MEDSEG1\n too short")
            if path == "/health":
                return Answer(200, b'{"compute": {"versions": {}}}')
            fields = b'"log": [], "log_length": 0, "figures": [], "figures_length": 0'
            return Answer(200, b'{"state": "done", "revision": 1, ' + fields + b"}")

    job = job_of(Worker(), a_small_volume, monkeypatch)
    assert job.wait(120)
    assert isinstance(job.error, InputError)


def test_a_worker_that_does_not_hear_a_cancellation_is_ended(
    a_small_volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    class Worker(FakeWorker):
        def answer(self, method: str, path: str) -> Answer:  # noqa: ARG002
            asked.set()
            while not self.killed:
                threading.Event().wait(0.02)
                if method == "DELETE":
                    raise ConnectionLostError
            raise ConnectionLostError

    worker = Worker()
    job = job_of(worker, a_small_volume, monkeypatch)
    assert asked.wait(120)
    job.cancel()
    assert job.wait(120)
    assert job.state == "cancelled"
    assert worker.killed


def test_a_report_tells_versions_and_log_but_not_the_patient(a_small_volume: Volume, tmp_path: Path) -> None:
    client = WorkerClient(script=THIS)
    model = tmp_path / "Doe^Jane" / "kidney-ct"
    job = client.submit("threshold", str(model), [a_small_volume], {"level": 3})
    assert job.wait(120)
    report = job.report()
    assert "Doe" not in report
    for text in (
        "MedSeg 0.",
        "test verbs 1",
        "this Python",
        "kidney-ct, done at 100%",
        "Device: cpu",
        "Options: {'level': 3}",
        "Comparing",
    ):
        assert text in report
    assert "CT, 4 x 5 x 6 voxels, 0.806 x 0.831 x 3.01 mm, int16" in report
    client.stop()


def test_a_report_hides_the_home_folder_and_the_run_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/jane.doe"))
    text = redact("/home/jane.doe/venv/bin/python, /var/tmp/medseg-run-abc_1/volumes/x")
    assert text == "~/venv/bin/python, /var/tmp/medseg-run-…/volumes/x"


def test_the_remaining_time_is_silent_at_first_and_right_for_a_steady_run() -> None:
    remaining = RemainingTime()
    assert remaining.seconds_left(0.0) is None
    for second in range(40):
        remaining.report(second / 100, float(second))
        if second < 3:
            assert remaining.seconds_left(float(second)) is None
    assert remaining.seconds_left(39.0) == pytest.approx(61.0)
    assert remaining.seconds_left(49.0) == pytest.approx(51.0)
    assert remaining.seconds_left(1000.0) == 0.0


def test_the_remaining_time_follows_a_run_that_gets_slower() -> None:
    remaining = RemainingTime()
    progress, now = 0.0, 0.0
    for speed, seconds in ((0.02, 20), (0.005, 60)):
        for _ in range(seconds):
            progress, now = progress + speed, now + 1.0
            remaining.report(progress, now)
    assert remaining.seconds_left(now) == pytest.approx((1 - progress) / 0.005, rel=0.05)


def test_the_remaining_time_is_not_misled_by_the_jump_of_an_earlier_phase() -> None:
    remaining = RemainingTime()
    for step, phase in enumerate(["loading", "checking", "preparing"]):
        remaining.report(0.1 * step, step * 0.1, phase)
    for second in range(1, 11):
        remaining.report(0.3 + second * 0.001, float(second), "windows")
    assert remaining.seconds_left(10.0) == pytest.approx(0.69 / 0.001, rel=0.01)
    # A short last phase without a guess of its own lets the last one run down.
    remaining.report(0.9, 12.0, "measuring")
    assert remaining.seconds_left(12.0) == pytest.approx(688, rel=0.01)


def test_the_remaining_time_bears_a_clock_that_stands_and_progress_that_repeats() -> None:
    remaining = RemainingTime()
    for _ in range(20):
        remaining.report(0.5, 7.0)
    for step in range(20):
        remaining.report(0.5 + step / 100, 7.0)
    assert remaining.seconds_left(7.0) is None
