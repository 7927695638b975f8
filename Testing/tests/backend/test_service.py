"""The service without HTTP, over computing processes that misbehave from the start."""

from __future__ import annotations

import io
import json
import sys
import textwrap
import threading
from typing import TYPE_CHECKING, Any

import pytest

from medseg.backend import service as service_module
from medseg.backend.encoding import encode_volume
from medseg.backend.service import Refusal, Service
from medseg.errors import DeviceMemoryError, InputError, WorkerError, error_from_dict
from support.processes import is_gone, until
from support.worker_with_test_verbs import THIS, VERBS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from medseg.volumes import Volume

READY = {"event": "ready", "versions": {}, "python": "3.12", "problem": None, "details": ""}


@pytest.fixture
def a_service(tmp_path: Path, a_small_volume: Volume) -> Iterator[Callable[..., tuple[Service, dict[str, Any]]]]:
    """Make a service over a Python program and the request of a job whose volume is stored."""
    made = []

    def make(program: str | None = None, **options: Any) -> tuple[Service, dict[str, Any]]:
        command = (
            [sys.executable, "-u", "-c", textwrap.dedent(program)]
            if program
            else [sys.executable, str(THIS), "compute"]
        )
        service = Service(tmp_path, command, verbs=tuple(VERBS), **options)
        made.append(service)
        parcel = encode_volume(a_small_volume)
        data = b"".join(parcel.chunks())
        service.put_volume(parcel.sha256(), len(data), io.BytesIO(data).read)
        return service, {"verb": "threshold", "model": "m", "volumes": [parcel.sha256()]}

    yield make
    for service in made:
        service.close()


def last(service: Service, job: str) -> dict[str, Any]:
    """The final state of a job, waited for as a client does."""
    state: dict[str, Any] = {"revision": -1, "state": ""}
    while state["state"] not in ("done", "failed", "cancelled"):
        state = service.job(job, revision=state["revision"], wait=20)
    return state


def test_a_job_is_done_and_its_result_is_a_file_until_it_is_forgotten(a_service: Callable[..., Any]) -> None:
    service, request = a_service()
    job = service.submit(request)["job"]
    assert last(service, job)["state"] == "done"
    path = service.result(job)
    assert path.stat().st_size > 120
    service.cancel(job)
    assert not path.exists()
    with pytest.raises(Refusal) as refusal:
        service.job(job)
    assert refusal.value.status == 404


def test_only_the_last_results_are_kept(a_service: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "KEPT_JOBS", 2)
    service, request = a_service()
    jobs = []
    for _ in range(4):
        jobs.append(service.submit(request)["job"])
        last(service, jobs[-1])
    with pytest.raises(Refusal):
        service.result(jobs[0])
    assert service.result(jobs[-1]).exists()


def test_a_job_is_cancelled_while_the_process_still_loads(a_service: Callable[..., Any]) -> None:
    service, request = a_service("import time; time.sleep(600)")
    job = service.submit(request)["job"]
    until(lambda: service.job(job)["text"] == "Loading PyTorch…", "the loading")
    service.cancel(job)
    assert last(service, job)["state"] == "cancelled"
    # What was loading goes on, for the next job.
    assert service.health()["compute"]["state"] == "starting"


def test_a_process_that_never_gets_ready_is_given_up(
    a_service: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "START_SECONDS", 0.2)
    service, request = a_service("import time; time.sleep(600)")
    state = last(service, service.submit(request)["job"])
    assert "was not ready" in state["error"]["message"]
    assert service.health()["compute"]["state"] == "off"


def test_a_process_that_ends_at_once_is_told_with_its_last_words(a_service: Callable[..., Any]) -> None:
    service, request = a_service("raise SystemExit('no libcudart here')")
    state = last(service, service.submit(request)["job"])
    assert state["state"] == "failed"
    assert "exit code 1" in state["error"]["message"]
    assert "no libcudart here" in state["details"]


def test_a_program_that_is_not_there_is_told(a_service: Callable[..., Any]) -> None:
    service, request = a_service()
    service._command = ["/nowhere/python"]
    state = last(service, service.submit(request)["job"])
    assert "could not be started" in state["error"]["message"]
    with pytest.raises(Refusal, match="could not be started"):
        service.estimate({})


def test_a_process_without_torch_says_so_and_is_tried_anew(a_service: Callable[..., Any], tmp_path: Path) -> None:
    problem = WorkerError("torch is not installed.", advice="Install it.").to_dict()
    bad = json.dumps({**READY, "problem": problem, "details": "Traceback: no torch"})
    marker = tmp_path / "installed"
    service, request = a_service(
        f"""
        import pathlib, sys
        line = {bad!r} if not pathlib.Path({str(marker)!r}).exists() else {json.dumps(READY)!r}
        print(line, flush=True)
        sys.stdin.read()
        """
    )
    state = last(service, service.submit(request)["job"])
    assert error_from_dict(state["error"]).args == WorkerError("torch is not installed.", advice="Install it.").args
    assert "no torch" in state["details"]
    marker.touch()
    job = service.submit(request)["job"]
    until(lambda: service.job(job)["state"] == "running", "the run after the installation")


def test_a_process_that_talks_nonsense_does_not_disturb(a_service: Callable[..., Any]) -> None:
    service, request = a_service(
        f"""
        import json, sys
        for line in ["", "hello", "[]", "{{}}", '{{"event": 5}}', '{{"event": "done", "job": "unknown"}}', "\\x00"]:
            print(line)
        print({json.dumps(READY)!r})
        job = json.loads(sys.stdin.readline())
        print(json.dumps({{"event": "answer", "call": 77, "result": {{}}}}))
        print(json.dumps({{"event": "failed", "job": job["job"], "details": "",
                           "error": {{"kind": "Imaginary", "message": "What?"}}}}))
        sys.stdin.read()
        """
    )
    state = last(service, service.submit(request)["job"])
    assert str(error_from_dict(state["error"])) == "What?"


def test_a_process_that_ignores_everything_is_ended_by_a_cancellation(a_service: Callable[..., Any]) -> None:
    service, request = a_service(f"import time; print({json.dumps(READY)!r}); time.sleep(600)")
    job = service.submit(request)["job"]
    until(lambda: service.job(job)["state"] == "running", "the run")
    pid = service.health()["compute"]["pid"]
    service.cancel(job)
    service.cancel(job)
    assert last(service, job)["state"] == "cancelled"
    assert is_gone(pid)
    assert service.health()["compute"]["state"] == "off"
    assert service.health()["compute"]["pid"] is None


def test_a_job_that_is_done_after_all_stays_cancelled_for_who_cancelled_it(a_service: Callable[..., Any]) -> None:
    service, request = a_service(
        f"""
        import json, sys
        print({json.dumps(READY)!r})
        job = json.loads(sys.stdin.readline())
        sys.stdin.readline()
        print(json.dumps({{"event": "done", "job": job["job"]}}))
        sys.stdin.read()
        """
    )
    job = service.submit(request)["job"]
    until(lambda: service.job(job)["state"] == "running", "the run")
    service.cancel(job)
    assert last(service, job)["state"] == "cancelled"


def test_the_queue_has_an_end(a_service: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "MAXIMUM_QUEUE", 1)
    service, request = a_service(f"import time; print({json.dumps(READY)!r}); time.sleep(600)")
    job = service.submit(request)["job"]
    until(lambda: service.job(job)["state"] == "running", "the run")
    service.submit(request)
    with pytest.raises(Refusal) as refusal:
        service.submit(request)
    assert refusal.value.status == 503


def test_a_result_is_not_there_before_the_end(a_service: Callable[..., Any]) -> None:
    service, request = a_service("import time; time.sleep(600)")
    job = service.submit(request)["job"]
    with pytest.raises(Refusal) as refusal:
        service.result(job)
    assert refusal.value.status == 409


def test_a_waiting_question_is_answered_as_soon_as_something_changes(a_service: Callable[..., Any]) -> None:
    service, request = a_service("import time; time.sleep(600)")
    job = service.submit(request)["job"]
    until(lambda: service.job(job)["text"] == "Loading PyTorch…", "the loading")
    before = service.job(job)
    answers: list[dict[str, Any]] = []
    question = threading.Thread(target=lambda: answers.append(service.job(job, revision=before["revision"], wait=20)))
    question.start()
    service.cancel(job)
    question.join(15)
    assert answers
    assert answers[0]["revision"] > before["revision"]


def test_the_log_is_given_from_the_line_that_was_asked_for(a_service: Callable[..., Any]) -> None:
    service, request = a_service()
    job = service.submit(request)["job"]
    whole = last(service, job)
    assert whole["log_length"] == len(whole["log"]) > 2
    assert service.job(job, since=2)["log"] == whole["log"][2:]
    assert service.job(job, since=999)["log"] == []
    assert service.job(job, since=-5)["log"] == whole["log"]


def test_a_closed_service_takes_nothing_and_ends_its_process(a_service: Callable[..., Any]) -> None:
    service, request = a_service("import time; time.sleep(600)")
    service.warm_up()
    pid = service.health()["compute"]["pid"]
    service.close()
    assert is_gone(pid)
    for question in (lambda: service.submit(request), lambda: service.estimate({})):
        with pytest.raises(Refusal):
            question()


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", DeviceMemoryError, "ran out of memory"),
        ("import os; os.abort()", WorkerError, "SIGABRT"),
        ("raise SystemExit(9)", WorkerError, "exit code 9"),
    ],
)
def test_the_end_of_a_process_is_explained(
    a_service: Callable[..., Any], code: str, kind: type[Exception], words: str
) -> None:
    service, request = a_service(f"import sys; print({json.dumps(READY)!r}); sys.stdin.readline(); {code}")
    error = error_from_dict(last(service, service.submit(request)["job"])["error"])
    assert type(error) is kind
    assert words in str(error)


@pytest.mark.parametrize(
    "request_fields",
    [
        None,
        [],
        {},
        {"verb": "threshold"},
        {"verb": ["threshold"], "model": "m", "volumes": ["0" * 64]},
        {"verb": "threshold", "model": "", "volumes": ["0" * 64]},
        {"verb": "threshold", "model": "m" * 5000, "volumes": ["0" * 64]},
        {"verb": "threshold", "model": "m", "volumes": []},
        {"verb": "threshold", "model": "m", "volumes": ["0" * 64] * 9},
        {"verb": "threshold", "model": "m", "volumes": ["../../etc/passwd"]},
        {"verb": "threshold", "model": "m", "volumes": ["0" * 64], "options": []},
    ],
)
def test_a_request_that_makes_no_sense_is_refused(a_service: Callable[..., Any], request_fields: object) -> None:
    service, _ = a_service()
    with pytest.raises(Refusal) as refusal:
        service.submit(request_fields)
    assert refusal.value.status == 422
    assert isinstance(refusal.value.error, InputError)
