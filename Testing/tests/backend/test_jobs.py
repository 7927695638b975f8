"""Jobs through a real worker and a real computing process, with verbs that fail in every way."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from medseg.backend import service
from medseg.errors import Cancelled, DeviceMemoryError, InputError, MedSegError, WorkerError
from support.processes import is_gone, memory_of_family, until
from support.worker_with_test_verbs import HELD_BYTES, LABELS

if TYPE_CHECKING:
    from medseg.backend import Job, WorkerClient
    from medseg.volumes import Volume

PATIENCE = 120


def finished(job: Job) -> Job:
    assert job.wait(PATIENCE), f"the job does not end: {job.state}, {job.text}"
    return job


def running(job: Job, text: str) -> Job:
    until(lambda: text in job.text or job.is_finished, f"the text {text!r}")
    assert job.state == "running", f"{job.text}\n{job.details}"
    return job


def test_a_job_gives_its_result_on_the_grid_of_its_volume(client: WorkerClient, a_small_volume: Volume) -> None:
    job = finished(client.submit("threshold", "any", [a_small_volume], {"level": 59}))
    result = job.result()
    assert (job.state, job.progress, job.text) == ("done", 1.0, "Done.")
    np.testing.assert_array_equal(result.labelmap.array, (a_small_volume.array > 59).astype(np.uint8))
    np.testing.assert_array_equal(result.labelmap.geometry.ijk_to_ras, a_small_volume.geometry.ijk_to_ras)
    assert list(result.labels) == list(LABELS)
    result.labelmap.array[0, 0, 0] = 1


def test_the_name_of_a_volume_stays_with_the_client(client: WorkerClient, a_small_volume: Volume) -> None:
    result = finished(client.submit("threshold", "any", [a_small_volume])).result()
    assert result.notices == ["1 volumes, name '', read-only: True"]
    assert result.labelmap.name == "Doe^Jane segmentation"


def test_what_a_reader_noted_about_a_volume_is_among_the_notices(client: WorkerClient, a_small_volume: Volume) -> None:
    geometry, array = a_small_volume.geometry, a_small_volume.array
    noted = type(a_small_volume)(array, geometry, notes=("Two slices were missing.",))
    assert finished(client.submit("threshold", "any", [noted])).result().notices[0] == "Two slices were missing."


def test_a_job_tells_its_phases_in_the_log(client: WorkerClient, a_small_volume: Volume) -> None:
    log = "\n".join(finished(client.submit("threshold", "any", [a_small_volume])).log)
    places = [log.index(text) for text in ("Preparing the volume", "Comparing", "Done.")]
    assert places == sorted(places)
    assert log.count("Done.") == 1


def test_jobs_wait_for_each_other_and_both_finish(client: WorkerClient, a_small_volume: Volume) -> None:
    first = running(client.submit("sleep", "any", [a_small_volume]), "Step")
    second = client.submit("threshold", "any", [a_small_volume])
    until(lambda: second.text == "Waiting for its turn…", "waiting")
    assert (first.state, second.state) == ("running", "queued")
    assert client.health()["queued"] == 1
    first.cancel()
    assert finished(first).state == "cancelled"
    assert finished(second).state == "done"


def test_a_waiting_job_is_cancelled_without_disturbing_the_running_one(
    client: WorkerClient, a_small_volume: Volume
) -> None:
    first = running(client.submit("sleep", "any", [a_small_volume]), "Step")
    second = client.submit("threshold", "any", [a_small_volume])
    until(lambda: second.text == "Waiting for its turn…", "waiting")
    second.cancel()
    assert finished(second).state == "cancelled"
    assert first.state == "running"
    first.cancel()
    finished(first)


def test_a_cancelled_job_frees_its_memory_and_keeps_the_process(client: WorkerClient, a_small_volume: Volume) -> None:
    finished(client.submit("threshold", "any", [a_small_volume]))
    health = client.health()
    before = memory_of_family(health["pid"])
    job = running(client.submit("sleep", "any", [a_small_volume], {"hold": True}), "Step")
    assert memory_of_family(health["pid"]) > before + HELD_BYTES * 0.9
    job.cancel()
    assert job.text == "Cancelling…"
    assert finished(job).state == "cancelled"
    assert memory_of_family(health["pid"]) < before + HELD_BYTES * 0.2
    assert client.health()["compute"]["pid"] == health["compute"]["pid"]
    with pytest.raises(Cancelled):
        job.result()


def test_a_job_that_does_not_stop_is_ended_with_its_children_and_memory(
    client: WorkerClient, a_small_volume: Volume
) -> None:
    finished(client.submit("threshold", "any", [a_small_volume]))
    worker = client.health()["pid"]
    before = memory_of_family(worker)
    job = running(client.submit("stubborn", "any", [a_small_volume]), "Children")
    pids = [int(number) for number in job.text.split()[1:]]
    assert not any(is_gone(pid) for pid in pids)
    job.cancel()
    assert finished(job).state == "cancelled"
    assert all(is_gone(pid) for pid in pids)
    assert memory_of_family(worker) < before + HELD_BYTES * 0.2
    assert finished(client.submit("threshold", "any", [a_small_volume])).state == "done"


def test_the_patience_with_a_job_that_does_not_stop_leaves_time_within_two_seconds() -> None:
    assert service.CANCEL_GRACE_SECONDS <= 1.5


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ("kill", DeviceMemoryError, "ran out of memory"),
        ("segfault", WorkerError, "SIGSEGV"),
        ("exit", WorkerError, "exit code 7"),
        ("memory", DeviceMemoryError, "not enough memory"),
        ("torch memory", DeviceMemoryError, "not enough memory"),
        ("input", InputError, "The volume is odd. Use another one."),
        ("defect", MedSegError, "This is a defect of MedSeg (ZeroDivisionError)."),
    ],
)
def test_a_job_that_crashes_is_told_in_a_sentence_and_the_next_one_works(
    client: WorkerClient, a_small_volume: Volume, how: str, kind: type[MedSegError], words: str
) -> None:
    job = finished(client.submit("crash", "any", [a_small_volume], {"how": how}))
    assert job.state == "failed"
    assert type(job.error) is kind
    assert words in str(job.error)
    assert job.text == str(job.error)
    assert job.error.advice
    with pytest.raises(kind):
        job.result()
    assert finished(client.submit("threshold", "any", [a_small_volume])).state == "done"


def test_a_defect_shows_its_traceback_in_the_report_only(client: WorkerClient, a_small_volume: Volume) -> None:
    job = finished(client.submit("crash", "any", [a_small_volume], {"how": "defect"}))
    assert "a secret of the traceback" in job.report()
    assert "a secret of the traceback" not in job.text + "".join(job.log)


def test_a_crash_in_native_code_shows_where_in_the_report(client: WorkerClient, a_small_volume: Volume) -> None:
    job = finished(client.submit("crash", "any", [a_small_volume], {"how": "segfault"}))
    assert "worker_with_test_verbs.py" in job.report()


def test_what_a_library_prints_does_not_disturb_and_what_it_logs_is_in_the_log(
    client: WorkerClient, a_small_volume: Volume
) -> None:
    job = finished(client.submit("crash", "any", [a_small_volume], {"how": "print"}))
    assert job.state == "done"
    assert any("warning: said on the way" in line for line in job.log)


def test_a_crash_takes_the_children_with_it(client: WorkerClient, a_small_volume: Volume) -> None:
    job = finished(client.submit("crash", "any", [a_small_volume], {"how": "orphans"}))
    assert job.state == "failed"
    line = next(line for line in job.log if "Children" in line)
    until(lambda: is_gone(int(line.split()[-1])), "the end of the child")


def test_the_computing_process_may_be_killed_from_outside(client: WorkerClient, a_small_volume: Volume) -> None:
    job = running(client.submit("sleep", "any", [a_small_volume]), "Step")
    os.kill(client.health()["compute"]["pid"], signal.SIGKILL)
    assert isinstance(finished(job).error, DeviceMemoryError)
    assert finished(client.submit("threshold", "any", [a_small_volume])).state == "done"


def test_a_worker_that_dies_is_told_in_a_sentence_and_started_again(
    client: WorkerClient, a_small_volume: Volume
) -> None:
    job = running(client.submit("sleep", "any", [a_small_volume]), "Step")
    health = client.health()
    os.kill(health["pid"], signal.SIGKILL)
    assert finished(job).state == "failed"
    assert "worker ended unexpectedly" in str(job.error)
    until(lambda: is_gone(health["compute"]["pid"]), "the end of the computing process")
    assert finished(client.submit("threshold", "any", [a_small_volume])).state == "done"
    assert client.health()["pid"] != health["pid"]


def test_an_unknown_verb_is_refused(client: WorkerClient, a_small_volume: Volume) -> None:
    job = finished(client.submit("paint", "any", [a_small_volume]))
    assert isinstance(job.error, InputError)


def test_a_job_needs_a_volume(client: WorkerClient) -> None:
    assert isinstance(finished(client.submit("threshold", "any", [])).error, InputError)


def test_an_estimate_is_answered_while_a_job_runs(client: WorkerClient, a_small_volume: Volume) -> None:
    job = running(client.submit("sleep", "any", [a_small_volume]), "Step")
    answer = client.estimate("some-model", a_small_volume.geometry, "cpu")
    assert job.state == "running"
    assert answer["asked"]["model"] == "some-model"
    assert answer["asked"]["geometry"]["shape"] == [6, 5, 4]
    job.cancel()
    finished(job)


def test_an_estimate_that_fails_says_why(client: WorkerClient, a_small_volume: Volume) -> None:
    with pytest.raises(InputError, match="no such model"):
        client.estimate("fail", a_small_volume.geometry)
    with pytest.raises(WorkerError, match="did not answer"):
        client.estimate("die", a_small_volume.geometry)
    assert client.estimate("well", a_small_volume.geometry)["device"] == "cpu"


def test_a_finished_job_leaves_no_result_in_the_run_folder(client: WorkerClient, a_small_volume: Volume) -> None:
    finished(client.submit("threshold", "any", [a_small_volume]))
    finished(client.submit("crash", "any", [a_small_volume], {"how": "defect"}))
    worker = client._worker
    assert worker is not None
    assert list((worker.folder / "results").iterdir()) == []
    assert {path.name for path in (worker.folder / "volumes").iterdir()} != set()
    assert worker.folder.stat().st_mode & 0o077 == 0


def test_the_token_is_neither_on_a_command_line_nor_in_a_child(client: WorkerClient, a_small_volume: Volume) -> None:
    finished(client.submit("threshold", "any", [a_small_volume]))
    worker = client._worker
    assert worker is not None
    family = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
    assert len(family) >= 2
    for process in family:
        assert worker.token not in " ".join(process.cmdline())
    assert worker.token not in psutil.Process(family[1].pid).environ().values()
