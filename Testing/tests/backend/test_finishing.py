"""A job that works in steps: its figures arrive one and all, and it can be told that the best so far will do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.backend.job_record import MAXIMUM_FIGURES, JobRecord
from support.processes import until

if TYPE_CHECKING:
    from medseg.backend import Job, WorkerClient
    from medseg.volumes import Volume

PATIENCE = 120


def told(job: Job, count: int = 1) -> Job:
    until(lambda: len(job.figures("loss")) >= count or job.is_finished, "the figures")
    assert job.state == "running", f"{job.text}\n{job.details}"
    return job


def test_a_job_that_is_told_to_finish_gives_the_best_so_far(client: WorkerClient, a_small_volume: Volume) -> None:
    job = told(client.submit("approach", "any", [a_small_volume]), 5)
    job.finish_early()
    assert job.wait(PATIENCE)
    assert job.state == "done", job.details
    steps = int(job.result().notices[0])
    assert steps >= 5
    assert any("Keeping the best" in line for line in job.log)
    losses = job.figures("loss")
    assert len(losses) == steps, "none is lost on the way"
    assert losses[:3] == [1.0, None, 1 / 3], "what is not a number arrives as nothing"
    assert job.figures("gain") == []


def test_a_job_may_be_told_to_finish_before_it_runs(client: WorkerClient, a_small_volume: Volume) -> None:
    first = told(client.submit("approach", "any", [a_small_volume]))
    second = client.submit("approach", "any", [a_small_volume], {"least": 3})
    second.finish_early()
    first.finish_early()
    assert first.wait(PATIENCE)
    assert second.wait(PATIENCE)
    assert (first.state, second.state) == ("done", "done")
    # The word to the second may overtake or be overtaken by the one to the first; without it, it would never end.
    assert int(second.result().notices[0]) >= 3


def test_a_finish_and_then_a_cancel_is_a_cancel(client: WorkerClient, a_small_volume: Volume) -> None:
    job = told(client.submit("approach", "any", [a_small_volume], {"least": 100_000}))
    job.finish_early()
    job.cancel()
    assert job.wait(PATIENCE)
    assert job.state == "cancelled"


def test_a_finish_does_nothing_to_a_job_that_has_ended_or_cannot_stop_early(
    client: WorkerClient, a_small_volume: Volume
) -> None:
    job = client.submit("threshold", "any", [a_small_volume], {"level": 3})
    job.finish_early()
    assert job.wait(PATIENCE)
    assert job.state == "done"
    job.finish_early()
    assert (job.state, job.figures("loss")) == ("done", [])


def test_figures_without_end_do_not_fill_the_memory() -> None:
    record = JobRecord("1", "approach", "any", {}, [])
    record.add_figures([("loss", 1.0)] * MAXIMUM_FIGURES)
    record.add_figures([("loss", 2.0)])
    assert record.to_dict(figures_since=MAXIMUM_FIGURES - 1)["figures"] == [("loss", 1.0)]
    assert record.to_dict()["figures_length"] == MAXIMUM_FIGURES
